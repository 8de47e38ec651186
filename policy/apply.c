/* SPDX-License-Identifier: Apache-2.0
 *
 * Putting a policy in force: see policy.h. Everything is prepared before the first restriction, and the seccomp filter
 * comes last, since it forbids the calls that set up the other layers.
 */
#include <errno.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "language.h"

void policy_off_add(char *off, size_t off_size, const char *name)
{
	size_t len = strlen(off);

	snprintf(off + len, off_size - len, "%s%s", len == 0 ? "" : ",", name);
}

int rlimits_apply(const struct policy_rlimit rlimits[RLIMIT_NLIMITS])
{
	for (int resource = 0; resource < RLIMIT_NLIMITS; resource++) {
		const struct policy_rlimit *wanted = &rlimits[resource];
		struct rlimit limit;

		if (!wanted->stated)
			continue;
		if (getrlimit((__rlimit_resource_t)resource, &limit) != 0)
			return -errno;
		if (!wanted->hard && limit.rlim_max > wanted->value)
			limit.rlim_max = wanted->value;
		limit.rlim_cur = limit.rlim_max;
		if (setrlimit((__rlimit_resource_t)resource, &limit) != 0)
			return -errno;
	}
	return 0;
}

int mdwe_apply(enum policy_need need, bool *off)
{
	*off = false;
	if (prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) == 0)
		return prctl(PR_GET_MDWE, 0, 0, 0, 0) == PR_MDWE_REFUSE_EXEC_GAIN ? 0 : -EIO;
	/* EINVAL: a kernel that does not know it. */
	if (errno != EINVAL || need == NEED_REQUIRED)
		return -errno;
	*off = true;
	return 0;
}

int seccomp_apply(const struct sock_fprog *program)
{
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
		return -EPERM;
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, program) == 0 ? 0 : -errno;
}

/* A sanitizer's run time needs what every cage takes away (maps, threads, ptrace of itself), so such a build has none.
 */
#ifdef HANDOFF_SANITIZE

static int put_in_force(const struct policy *policy, struct sock_fprog *program, struct policy_report *report,
                        char *error, size_t error_size)
{
	(void)policy;
	(void)program;
	(void)error;
	(void)error_size;
	policy_off_add(report->off, sizeof(report->off), "everything-for-sanitizers");
	return 0;
}

#else

static int put_in_force(const struct policy *policy, struct sock_fprog *program, struct policy_report *report,
                        char *error, size_t error_size)
{
	bool mdwe_off;
	int rc;

	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 || prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0) {
		snprintf(error, error_size, "dumpable: %m");
		return -EPERM;
	}
	rc = rlimits_apply(policy->rlimits);
	if (rc != 0) {
		snprintf(error, error_size, "rlimits: %s", strerror(-rc));
		return rc;
	}
	rc = mdwe_apply(policy->mdwe, &mdwe_off);
	if (mdwe_off)
		policy_off_add(report->off, sizeof(report->off), "mdwe");
	if (rc != 0) {
		snprintf(error, error_size, "mdwe: %s", strerror(-rc));
		return rc;
	}
	rc = landlock_apply(policy, report->landlock_abi, report->off, sizeof(report->off), error, error_size);
	if (rc != 0)
		return rc;
	rc = seccomp_apply(program);
	if (rc != 0) {
		snprintf(error, error_size, "seccomp: %s", strerror(-rc));
		return rc;
	}
	report->instructions = program->len;
	return 0;
}

#endif

int policy_apply(const struct policy *policy, enum policy_mode mode, struct policy_report *report, char *error,
                 size_t error_size)
{
	struct sock_fprog program;
	int rc;

	*report = (struct policy_report){.landlock_abi = landlock_abi()};
	rc = policy_compile(policy, SCMP_ARCH_NATIVE, mode, &program, error, error_size);
	if (rc == 0 && mode == POLICY_TRAP && (rc = policy_trap_prepare()) != 0)
		snprintf(error, error_size, "trap: %s", strerror(-rc));
	if (rc == 0)
		rc = put_in_force(policy, &program, report, error, error_size);
	free(program.filter);
	return rc;
}
