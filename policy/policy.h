/* SPDX-License-Identifier: Apache-2.0
 *
 * Policy: the cage of one role, as a text file (ROLE.policy, built into the binaries) that says everything the role may
 * do; this is the code that reads and applies it. handoffd.policy(5) describes the language.
 */
#ifndef HANDOFFD_POLICY_H
#define HANDOFFD_POLICY_H

#include <stddef.h>

struct policy;

/* Parse the policy of a role ("gate"...), includes resolved: DIRECTORY/ROLE.policy when that exists, which nobody but
 * root may be able to write to, else the built-in one (always when directory is NULL). NULL and "FILE:LINE: what is
 * wrong" in error when it is faulty; policy_free() the result. */
struct policy *policy_load(const char *role, const char *directory, char *error, size_t error_size);
void policy_free(struct policy *policy);
/* The file that replaces the built-in policy, NULL when none does. */
const char *policy_override(const struct policy *policy);

/* What becomes of a system call that no line allows or answers with an errno. */
enum policy_mode {
	POLICY_ENFORCE, /* it kills the process */
	POLICY_LOG,  /* it is made, and is in the kernel's audit log: no protection, for finding out what is missing */
	POLICY_TRAP, /* it ends the process too, but the role's own log names it */
};

/* What policy_apply() put in force, for the start line in the log. */
struct policy_report {
	int landlock_abi; /* of the kernel; 0 when it has none */
	char off[512]; /* comma-separated where-available layers that this kernel does not have; "" when all are on */
	size_t instructions; /* of the seccomp program; 0 in a sanitizer build, which leaves it out */
};

/* Apply to this process, for good: rlimits, MDWE, Landlock, seccomp, in this order. no_new_privs must be set.
 * Returns 0, or -errno with the layer in error: the caller must exit. */
int policy_apply(const struct policy *policy, enum policy_mode mode, struct policy_report *report, char *error,
                 size_t error_size);

#endif
