/* SPDX-License-Identifier: Apache-2.0
 *
 * handoffctl check: the configuration and its key ring, as the roles would read them.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "ctl.h"
#include "daemon/common/role.h"
#include "lib/keyring.h"

static int check_keys(const struct config *config)
{
	const struct config_user *gate = &config->user[ROLE_GATE];
	struct keyring *ring;
	char error[512];

	uid_t reader = role_expected_uid(gate);
	if (keyring_load(&ring, config->key_file, reader, error, sizeof(error)) != 0) {
		fprintf(stderr, "%s\n", error);
		return CTL_FAILED;
	}
	keyring_free(ring);
	return CTL_OK;
}

int ctl_check(int argc, char **argv)
{
	const char *file = HANDOFFD_CONFIG;
	char *errors = NULL;
	int option;

	opterr = 0;
	while ((option = getopt(argc, argv, "c:")) != -1) {
		if (option != 'c')
			return ctl_usage("check takes -c FILE");
		file = optarg;
	}
	if (optind != argc)
		return ctl_usage("check takes -c FILE");
	const struct config *config = config_load(file, &errors);
	if (!config) {
		fputs(errors ? errors : "out of memory\n", stderr);
		free(errors);
		return CTL_FAILED;
	}
	if (check_keys(config) != CTL_OK)
		return CTL_FAILED;
	puts("ok");
	return CTL_OK;
}
