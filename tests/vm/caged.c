/* SPDX-License-Identifier: Apache-2.0
 *
 * caged ROLE NUMBER...: closes the cage of a role, as the role does, then makes each system call by its number and
 * prints what the kernel said of it, `NUMBER 0` or `NUMBER ERRNO-NAME`. Runs in the guest inside the settings of the
 * role's unit, so that both filters are asked.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "policy/policy.h"

int main(int argc, char **argv)
{
	struct policy_report report;
	struct policy *policy;
	char error[512];

	if (argc < 3)
		return 2;
	policy = policy_load(argv[1], NULL, error, sizeof(error));
	if (policy == NULL || policy_apply(policy, POLICY_ENFORCE, &report, error, sizeof(error)) != 0) {
		fprintf(stderr, "%s: %s\n", argv[1], error);
		return 1;
	}
	for (int i = 2; i < argc; i++) {
		long rc = syscall(atol(argv[i]), -1L, 0L, 0L, 0L, 0L, 0L);

		printf("%s %s\n", argv[i], rc >= 0 ? "0" : strerrorname_np(errno));
		fflush(stdout);
	}
	return 0;
}
