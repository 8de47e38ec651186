/* SPDX-License-Identifier: Apache-2.0
 *
 * handoffctl check: the configuration and the gate's key ring, read as the daemons read them.
 */
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "ctl.h"
#include "daemon/common/role.h"
#include "lib/keyring.h"

static const char help[] = "Usage: handoffctl check [-c FILE]\n"
                           "\n"
                           "Read the configuration and the key ring it names. Print each error as FILE:LINE and exit\n"
                           "with 1, or print ok.\n"
                           "\n"
                           "  -c, --config FILE  configuration (default: " CONFIG_DEFAULT_FILE ")\n"
                           "  --help             this text\n";

/* Returns CTL_CONTINUE or an enum ctl_exit. */
static int parse(const struct command *command, int argc, char **argv, const char **file)
{
	static const struct option long_options[] = {
	    {"config", required_argument, NULL, 'c'}, {"help", no_argument, NULL, 'h'}, {0}};
	int c;

	while ((c = getopt_long(argc, argv, "c:h", long_options, NULL)) != -1) {
		switch (c) {
		case 'c':
			*file = optarg;
			break;
		case 'h':
			return ctl_help(command);
		default:
			return ctl_usage("wrong option");
		}
	}
	if (optind != argc)
		return ctl_usage("the file is given with -c");
	return CTL_CONTINUE;
}

/* Whether the gate can find any token for this listener genuine. */
static bool listener_has_key(const struct keyring *ring, const char *path)
{
	for (size_t i = 0; i < keyring_count(ring); i++) {
		const struct keyring_key *key = keyring_at(ring, i);
		if (key->state != KEY_REVOKED && keyring_key_allows(key, span_of_string(path)))
			return true;
	}
	return false;
}

/* The key ring must be right for the gate, whoever runs this. */
static int check_keys(const struct config *config)
{
	const struct config_user *gate = &config->user[ROLE_GATE];
	uid_t reader = role_expected_uid(gate);
	struct keyring *ring;
	char error[PATH_MAX + 128];
	int result = CTL_OK;

	if (keyring_load(&ring, config->key_file, reader, error, sizeof(error)) != 0) {
		fprintf(stderr, "%s\n", error);
		return CTL_FAILED;
	}
	for (size_t i = 0; i < config->n_listens; i++) {
		if (listener_has_key(ring, config->listens[i].path))
			continue;
		fprintf(stderr, "%s: no key for %s\n", config->key_file, config->listens[i].path);
		result = CTL_FAILED;
	}
	keyring_free(ring);
	return result;
}

static int run(const struct command *command, int argc, char **argv)
{
	/* Lives as long as the process; the leak checker must still see it at exit. */
	static const struct config *config;
	const char *file = CONFIG_DEFAULT_FILE;
	char *errors = NULL;

	int result = parse(command, argc, argv, &file);
	if (result != CTL_CONTINUE)
		return result;
	config = config_load(file, &errors);
	if (!config)
		fputs(errors ? errors : "out of memory\n", stderr);
	free(errors);
	if (!config || check_keys(config) != CTL_OK)
		return CTL_FAILED;
	return ctl_print(SPAN_LITERAL("ok\n"));
}

const struct command command_check = {
    .name = "check",
    .title = "handoffctl check",
    .summary = "find errors in the configuration and the key ring",
    .help = help,
    .run = run,
};
