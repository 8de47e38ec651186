/* SPDX-License-Identifier: Apache-2.0
 *
 * handoff-policy: see tool.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/fdpass.h"
#include "tool.h"

const char *const tool_roles[] = {"gate", "streamer", "dialer", "launcher", "handler", "supervisor", NULL};

static const struct {
	const char *name;
	int (*run)(const struct tool_options *options, int argc, char **argv);
	const char *help;
} commands[] = {
    {"show", tool_show, "show ROLE                       the policy in force, each line with its place"},
    {"explain", tool_explain,
     "explain ROLE CALL [ARGUMENT...] which line decides; arguments in their order, or NAME=VALUE"},
    {"lint", tool_lint, "lint [FILE...]                  what a reviewer would ask; of all roles' policies by default"},
    {"check", tool_check,
     "check [PLACE...]                units, AppArmor profiles (directories), SELinux module (FILE.pp) against the "
     "policies"},
    {"unused", tool_unused,
     "unused ROLE                     what of the policy a list of system calls makes no use of"},
    {"audit", tool_audit, "audit [--json]                  the running processes against the policies"},
};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

int tool_error(const char *format, ...)
{
	va_list arguments;

	fputs("handoff-policy: ", stderr);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	return TOOL_ERROR;
}

struct policy *tool_policy(const struct tool_options *options, const char *role)
{
	char error[512];
	struct policy *policy = policy_load(role, options->policy_dir, error, sizeof(error));

	if (policy == NULL)
		tool_error("%s", error);
	return policy;
}

char *tool_text(const char *file)
{
	const char *name = strrchr(file, '/');
	char base[64];
	struct span text = SPAN_EMPTY;
	char *copy;
	ssize_t len;

	if (name == NULL) {
		snprintf(base, sizeof(base), "%.*s", (int)strcspn(file, "."), file);
		text = policy_builtin(base, &name);
		return text.data != NULL ? strndup((const char *)text.data, text.len) : NULL;
	}
	int fd FD_CLEANUP = open(file, O_RDONLY | O_CLOEXEC);
	copy = fd >= 0 ? calloc(1, 65537) : NULL;
	if (copy == NULL)
		return NULL;
	len = read(fd, copy, 65536);
	if (len >= 0)
		return copy;
	free(copy);
	return NULL;
}

struct span tool_line(const char *text, unsigned line)
{
	while (line > 1 && *text != '\0') {
		text += strcspn(text, "\n");
		text += *text == '\n';
		line--;
	}
	return span_of(text, strcspn(text, "\n"));
}

static int usage(FILE *stream, int status)
{
	fputs("usage: handoff-policy [-c FILE | -b] COMMAND\n", stream);
	for (size_t i = 0; i < COMMANDS; i++)
		fprintf(stream, "  %s\n", commands[i].help);
	fprintf(stream,
	        "  -c, --config FILE   configuration, default %s\n"
	        "  -b, --built-in      as if there were no policy-dir\n"
	        "Exit status: 0 as it should be, 1 not so, 2 it could not be found out.\n",
	        CONFIG_DEFAULT_FILE);
	return status;
}

static int run(const struct tool_options *options, int argc, char **argv)
{
	for (size_t i = 0; i < COMMANDS; i++)
		if (strcmp(argv[0], commands[i].name) == 0)
			return commands[i].run(options, argc, argv);
	tool_error("there is no command %s", argv[0]);
	return usage(stderr, TOOL_ERROR);
}

int main(int argc, char **argv)
{
	static const struct option long_options[] = {
	    {"config", required_argument, NULL, 'c'},
	    {"built-in", no_argument, NULL, 'b'},
	    {"help", no_argument, NULL, 'h'},
	    {"version", no_argument, NULL, 'V'},
	    {NULL, 0, NULL, 0},
	};
	struct tool_options options = {.config_file = CONFIG_DEFAULT_FILE, .policy_dir = HANDOFFD_POLICY_DIR};
	int option;

	while ((option = getopt_long(argc, argv, "+c:bhV", long_options, NULL)) != -1) {
		switch (option) {
		case 'c':
			options.config_file = optarg;
			break;
		case 'b':
			options.policy_dir = NULL;
			break;
		case 'h':
			return usage(stdout, TOOL_OK);
		case 'V':
			puts("handoff-policy " HANDOFFD_VERSION);
			return TOOL_OK;
		default:
			return usage(stderr, TOOL_ERROR);
		}
	}
	if (optind == argc)
		return usage(stderr, TOOL_ERROR);
	int status = run(&options, argc - optind, argv + optind);
	/* What did not reach its reader was not shown. */
	return fflush(stdout) == 0 ? status : TOOL_ERROR;
}
