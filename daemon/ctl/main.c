/* SPDX-License-Identifier: Apache-2.0
 *
 * handoffctl: makes and revokes keys, signs, checks the configuration. It needs no privilege but to read (or write) the
 * files it is given, and secrets never stand in its arguments.
 */
#include <sodium.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "ctl.h"

static const struct command *const commands[] = {&command_keygen, &command_revoke, &command_sign, &command_check};

#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void usage(FILE *out)
{
	fputs("Usage: handoffctl COMMAND [OPTION]...\n\n", out);
	for (size_t i = 0; i < COMMANDS; i++)
		fprintf(out, "  %-8s %s\n", commands[i]->name, commands[i]->summary);
	fputs("\nhandoffctl COMMAND --help tells more. Exit status: 0 done, 1 failed, 2 wrong usage.\n", out);
}

/* Keys pass through this process: no core dump, and no other process of this user may look. */
static int protect_memory(void)
{
	const struct rlimit none = {0, 0};

	return setrlimit(RLIMIT_CORE, &none) == 0 && prctl(PR_SET_DUMPABLE, 0) == 0 ? 0 : -1;
}

int main(int argc, char **argv)
{
	if (protect_memory() != 0 || sodium_init() < 0)
		return ctl_error("cannot start safely");
	if (argc < 2) {
		usage(stderr);
		return CTL_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
		usage(stdout);
		return fflush(stdout) == 0 ? CTL_OK : CTL_FAILED;
	}
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)
		return ctl_print(SPAN_LITERAL("handoffctl " HANDOFFD_VERSION "\n"));
	for (size_t i = 0; i < COMMANDS; i++) {
		if (strcmp(argv[1], commands[i]->name) != 0)
			continue;
		argv[1] = (char *)commands[i]->title;
		return commands[i]->run(commands[i], argc - 1, argv + 1);
	}
	return ctl_usage("there is no command '%s'", argv[1]);
}
