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

/* Linux 6.3, newer than Debian 12's headers. */
#ifndef PR_SET_MDWE
#define PR_SET_MDWE              65
#define PR_GET_MDWE              66
#define PR_MDWE_REFUSE_EXEC_GAIN 1
#endif

void policy_off_add(char *off, size_t off_size, const char *name)
{
	size_t len = strlen(off);

	snprintf(off + len, off_size - len, "%s%s", len == 0 ? "" : ",", name);
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

static int apply_rlimits(const struct policy *policy)
{
	for (int resource = 0; resource < RLIMIT_NLIMITS; resource++) {
		const struct policy_rlimit *wanted = &policy->rlimits[resource];
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

static int apply_mdwe(enum policy_need need, char *off, size_t off_size)
{
	if (prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) == 0)
		return prctl(PR_GET_MDWE, 0, 0, 0, 0) == PR_MDWE_REFUSE_EXEC_GAIN ? 0 : -EIO;
	/* EINVAL: a kernel that does not know it. */
	if (errno != EINVAL || need == NEED_REQUIRED)
		return -errno;
	policy_off_add(off, off_size, "mdwe");
	return 0;
}

static int apply_seccomp(struct sock_fprog *program)
{
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
		return -EPERM;
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, program) == 0 ? 0 : -errno;
}

static int put_in_force(const struct policy *policy, struct sock_fprog *program, struct policy_report *report,
                        char *error, size_t error_size)
{
	int rc;

	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 || prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0) {
		snprintf(error, error_size, "dumpable: %m");
		return -EPERM;
	}
	rc = apply_rlimits(policy);
	if (rc != 0) {
		snprintf(error, error_size, "rlimits: %s", strerror(-rc));
		return rc;
	}
	rc = apply_mdwe(policy->mdwe, report->off, sizeof(report->off));
	if (rc != 0) {
		snprintf(error, error_size, "mdwe: %s", strerror(-rc));
		return rc;
	}
	rc = landlock_apply(policy, report->landlock_abi, report->off, sizeof(report->off), error, error_size);
	if (rc != 0)
		return rc;
	rc = apply_seccomp(program);
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
