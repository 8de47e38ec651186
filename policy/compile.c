/* SPDX-License-Identifier: Apache-2.0
 *
 * From rules to a seccomp program, through libseccomp. Three tiers: what the policy allows; what it or the list of
 * unknown numbers answers with an errno; everything else, foreign architectures and x32 included, kills the process.
 */
#include <errno.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "language.h"
#include "lib/fdpass.h"

/* Numbers that libseccomp has no name for belong to calls newer than it, for which libc has a fallback. The kernel's
 * own numbers end below this; above it x32 has numbers of its own. */
#define UNKNOWN_NUMBER_MAX 511

static int add_rule(scmp_filter_ctx context, const struct policy_rule *rule, uint32_t kill)
{
	/* libseccomp takes native numbers, or its own negative ones for calls that only other architectures have, and
	 * leaves a rule out where an architecture does without the call. */
	int number = seccomp_syscall_resolve_name(rule->call);
	uint32_t action = rule->error == POLICY_KILL ? kill
	                  : rule->error == 0         ? SCMP_ACT_ALLOW
	                                             : SCMP_ACT_ERRNO((uint32_t)rule->error);
	struct scmp_arg_cmp compare[POLICY_ARGS];
	unsigned n = 0;

	for (unsigned arg = 0; arg < POLICY_ARGS; arg++) {
		const struct policy_condition *condition = &rule->conditions[arg];

		if (condition->mask != 0)
			compare[n++] = (struct scmp_arg_cmp){.arg = arg,
			                                     .op = SCMP_CMP_MASKED_EQ,
			                                     .datum_a = condition->mask,
			                                     .datum_b = condition->value};
	}
	return seccomp_rule_add_array(context, action, number, n, compare);
}

static int add_unknown(scmp_filter_ctx context)
{
	int rc = 0;

	for (int number = 0; rc == 0 && number <= UNKNOWN_NUMBER_MAX; number++) {
		char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, number);

		if (name == NULL)
			rc = seccomp_rule_add(context, SCMP_ACT_ERRNO(ENOSYS), number, 0);
		free(name);
	}
	return rc;
}

static int set_up(scmp_filter_ctx context, uint32_t arch)
{
	int rc = 0;

	if (arch != SCMP_ARCH_NATIVE && arch != seccomp_arch_native()) {
		rc = seccomp_arch_add(context, arch);
		if (rc == 0)
			rc = seccomp_arch_remove(context, SCMP_ARCH_NATIVE);
	}
	if (rc == 0)
		rc = seccomp_attr_set(context, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	/* A binary tree: the cost of a call does not depend on its number. */
	if (rc == 0)
		rc = seccomp_attr_set(context, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	return rc;
}

/* libseccomp writes programs to descriptors only. */
static int export_program(scmp_filter_ctx context, struct sock_fprog *program)
{
	int fd FD_CLEANUP = memfd_create("seccomp", MFD_CLOEXEC);
	struct stat status;
	int rc;

	if (fd < 0)
		return -errno;
	rc = seccomp_export_bpf(context, fd);
	if (rc != 0)
		return rc;
	if (fstat(fd, &status) != 0)
		return -errno;
	if (status.st_size <= 0 || (size_t)status.st_size > BPF_MAXINSNS * sizeof(*program->filter))
		return -E2BIG;
	program->filter = malloc((size_t)status.st_size);
	if (program->filter == NULL)
		return -ENOMEM;
	program->len = (unsigned short)((size_t)status.st_size / sizeof(*program->filter));
	if (pread(fd, program->filter, (size_t)status.st_size, 0) == status.st_size)
		return 0;
	free(program->filter);
	program->filter = NULL;
	return -EIO;
}

int policy_compile(const struct policy *policy, uint32_t arch, enum policy_mode mode, struct sock_fprog *program,
                   char *error, size_t error_size)
{
	static const uint32_t rest[] = {
	    [POLICY_ENFORCE] = SCMP_ACT_KILL_PROCESS, [POLICY_LOG] = SCMP_ACT_LOG, [POLICY_TRAP] = SCMP_ACT_TRAP};
	scmp_filter_ctx context = seccomp_init(policy->allows_the_rest ? SCMP_ACT_ALLOW : rest[mode]);
	const char *step = "set up";
	int rc = context == NULL ? -ENOMEM : set_up(context, arch);

	*program = (struct sock_fprog){0};
	for (size_t i = 0; rc == 0 && i < policy->n_rules; i++) {
		/* It stands there for its reason: libseccomp takes no rule that does what the default does. */
		if (policy->allows_the_rest && policy->rules[i].error == 0)
			continue;
		step = policy->rules[i].call;
		rc = add_rule(context, &policy->rules[i], rest[mode]);
	}
	/* Numbers without a name cannot be translated: a program for another architecture is for reading only. */
	if (rc == 0 && (arch == SCMP_ARCH_NATIVE || arch == seccomp_arch_native())) {
		step = "unknown numbers";
		rc = add_unknown(context);
	}
	if (rc == 0) {
		step = "export";
		rc = export_program(context, program);
	}
	if (rc != 0)
		snprintf(error, error_size, "seccomp (%s): %s", step, strerror(-rc));
	if (context != NULL)
		seccomp_release(context);
	return rc;
}
