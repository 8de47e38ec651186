/* SPDX-License-Identifier: Apache-2.0
 *
 * handoffctl: finds the command and runs it.
 */
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "ctl.h"

static const struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *usage;
} commands[] = {
    {"keygen", ctl_keygen,
     "keygen [--kid KID] [--path SOCKET]... [FILE]\n"
     "    Make a key that signs for the sockets (default *, all). Without FILE its line goes to standard\n"
     "    output; with FILE it is added to that key ring, which is made with mode 0600 when there is none.\n"},
    {"sign", ctl_sign,
     "sign --keys FILE --socket SOCKET --binding BINDING [--subject S] [--lifetime SECONDS] [--kid KID] [--headers]\n"
     "    Read the data from standard input and print a token for it, or with --headers the headers to answer with.\n"},
    {"check", ctl_check,
     "check [-c FILE]\n"
     "    Check the configuration and the key ring it names; each fault as FILE:LINE: what is wrong.\n"},
};

static void help(FILE *stream)
{
	fputs("usage: handoffctl COMMAND ...\n\n", stream);
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		fprintf(stream, "%s\n", commands[i].usage);
	fputs("handoffctl --version\n", stream);
}

int main(int argc, char **argv)
{
	/* Keys pass through here: no core file has them. */
	const struct rlimit none = {0, 0};

	if (argc < 2) {
		help(stderr);
		return CTL_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
		help(stdout);
		return CTL_OK;
	}
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
		puts("handoffctl " HANDOFFD_VERSION);
		return CTL_OK;
	}
	if (setrlimit(RLIMIT_CORE, &none) != 0 || sodium_init() < 0)
		return ctl_error("libsodium cannot be initialised");
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(argv[1], commands[i].name) == 0)
			return commands[i].run(argc - 1, argv + 1);
	return ctl_usage("there is no command '%s'", argv[1]);
}
