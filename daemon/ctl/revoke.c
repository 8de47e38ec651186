/* SPDX-License-Identifier: Apache-2.0
 *
 * handoffctl revoke: a key that must not sign any longer, at once.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "ctl.h"
#include "daemon/common/config.h"
#include "lib/keyring.h"

struct options {
	const char *config;
	const char *file; /* NULL: the gate's */
	const char *kid;
};

static const char help[] =
    "Usage: handoffctl revoke [-c FILE | --keys FILE] KID\n"
    "\n"
    "Give the key KID the state revoked in the gate's key ring, in one step, and make the running\n"
    "handoffd read it. When the command has ended with 0, the gate refuses the key.\n"
    "\n"
    "  -c, --config FILE  configuration (default: " CONFIG_DEFAULT_FILE ")\n"
    "  --keys FILE        another key ring, such as Apache's; nobody is told to read it\n"
    "  --help             this text\n";

/* Returns CTL_CONTINUE or an enum ctl_exit. */
static int parse(const struct command *command, int argc, char **argv, struct options *options)
{
	static const struct option long_options[] = {{"config", required_argument, NULL, 'c'},
	                                             {"keys", required_argument, NULL, 'k'},
	                                             {"help", no_argument, NULL, 'h'},
	                                             {0}};
	int c;

	while ((c = getopt_long(argc, argv, "c:h", long_options, NULL)) != -1) {
		switch (c) {
		case 'c':
			options->config = optarg;
			break;
		case 'k':
			options->file = optarg;
			break;
		case 'h':
			return ctl_help(command);
		default:
			return ctl_usage("wrong option");
		}
	}
	if (optind + 1 != argc)
		return ctl_usage("which key?");
	if (!ctl_kid_valid(argv[optind]))
		return ctl_usage("a kid is 1 to %d of a-z, 0-9, _ and -", KEYRING_KID_MAX);
	options->kid = argv[optind];
	return CTL_CONTINUE;
}

static int revoke_at_the_gate(const struct options *options)
{
	/* Lives as long as the process; the leak checker must still see it at exit. */
	static const struct config *config;
	char *errors = NULL;
	int result;

	config = config_load(options->config, &errors);
	if (!config)
		fputs(errors ? errors : "out of memory\n", stderr);
	free(errors);
	if (!config)
		return CTL_FAILED;
	result = key_file_revoke(config->key_file, options->kid);
	return result ? result : daemon_reload(config);
}

static int run(const struct command *command, int argc, char **argv)
{
	struct options options = {.config = CONFIG_DEFAULT_FILE};
	int result = parse(command, argc, argv, &options);

	if (result != CTL_CONTINUE)
		return result;
	result = options.file ? key_file_revoke(options.file, options.kid) : revoke_at_the_gate(&options);
	if (result)
		return result;
	return ctl_print(
	    SPAN_LITERAL("revoked. Apache reads its own key rings when it is restarted (apachectl graceful).\n"));
}

const struct command command_revoke = {
    .name = "revoke",
    .title = "handoffctl revoke",
    .summary = "make a key worthless, at once",
    .help = help,
    .run = run,
};
