/* SPDX-License-Identifier: Apache-2.0
 *
 * A policy for children: what policy_apply() does for a process itself, split into the part that is done once and the
 * part that is safe between fork and exec. See policy.h.
 */
#include <errno.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>

#include "language.h"

struct policy_prepared {
	struct sock_fprog program;
	struct landlock_handled landlock;
	struct policy_rlimit rlimits[RLIMIT_NLIMITS];
	enum policy_need mdwe;
	bool dumpable;
};

bool policy_path(const struct policy *policy, size_t i, struct policy_grant *grant)
{
	if (i >= policy->n_paths)
		return false;
	*grant = (struct policy_grant){.path = policy->paths[i].path, .access = policy->paths[i].access};
	return true;
}

int policy_prepare(const struct policy *policy, enum policy_mode mode, struct policy_prepared **prepared,
                   struct policy_report *report, char *error, size_t error_size)
{
	struct policy_prepared *made = calloc(1, sizeof(*made));
	int rc = 0;

	*report = (struct policy_report){.landlock_abi = landlock_abi()};
	if (made == NULL) {
		snprintf(error, error_size, "out of memory");
		return -ENOMEM;
	}
	memcpy(made->rlimits, policy->rlimits, sizeof(made->rlimits));
	made->mdwe = policy->mdwe;
	made->dumpable = policy->facts[FACT_DUMPABLE] == FACT_WIDE;
	if (prctl(PR_GET_MDWE, 0, 0, 0, 0) < 0) {
		if (policy->mdwe == NEED_REQUIRED)
			rc = -EOPNOTSUPP;
		policy_off_add(report->off, sizeof(report->off), "mdwe");
	}
	if (rc != 0)
		snprintf(error, error_size, "mdwe is required, the kernel has none");
	if (rc == 0)
		rc = landlock_prepare(policy, report->landlock_abi, &made->landlock, report->off, sizeof(report->off),
		                      error, error_size);
	if (rc == 0)
		rc = policy_compile(policy, SCMP_ARCH_NATIVE, mode, &made->program, error, error_size);
	if (rc != 0) {
		policy_prepared_free(made);
		return rc;
	}
	report->instructions = made->program.len;
	*prepared = made;
	return 0;
}

void policy_prepared_free(struct policy_prepared *prepared)
{
	if (prepared == NULL)
		return;
	free(prepared->program.filter);
	free(prepared);
}

int policy_enter(const struct policy_prepared *prepared, const struct policy_grant *grants, size_t n_grants,
                 enum policy_layer *layer)
{
	bool off;
	int rc = 0;

	*layer = POLICY_LAYER_RLIMITS;
	if (!prepared->dumpable && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
		rc = -errno;
	if (rc == 0)
		rc = rlimits_apply(prepared->rlimits);
	if (rc == 0) {
		*layer = POLICY_LAYER_MDWE;
		rc = mdwe_apply(prepared->mdwe, &off);
	}
	if (rc == 0) {
		*layer = POLICY_LAYER_LANDLOCK;
		rc = landlock_enter(&prepared->landlock, grants, n_grants);
	}
	if (rc == 0) {
		*layer = POLICY_LAYER_SECCOMP;
		rc = seccomp_apply(&prepared->program);
	}
	return rc;
}
