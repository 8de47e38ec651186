/* SPDX-License-Identifier: Apache-2.0
 *
 * Policy: the cage of one role, as a text file (ROLE.policy, built into the binaries) that says everything the role may
 * do; this is the code that reads and applies it. handoffd.policy(5) describes the language.
 */
#ifndef HANDOFFD_POLICY_H
#define HANDOFFD_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct policy;

/* Parse the policy of a role ("gate"...), includes resolved: DIRECTORY/ROLE.policy when that exists, which nobody but
 * root may be able to write to, else the built-in one (always when directory is NULL). NULL and "FILE:LINE: what is
 * wrong" in error when it is faulty; policy_free() the result. */
struct policy *policy_load(const char *role, const char *directory, char *error, size_t error_size);
/* The policy of a role in this file, which is subject to the same. */
struct policy *policy_load_file(const char *role, const char *path, char *error, size_t error_size);
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

/* ---- for whoever forks and executes: prepared once, put in force in each child */

/* Access to a file or to the tree below a directory, the bits of Landlock's. */
#define PATH_EXECUTE    (1u << 0)
#define PATH_WRITE_FILE (1u << 1)
#define PATH_READ_FILE  (1u << 2)
#define PATH_READ_DIR   (1u << 3)
#define PATH_READ       (PATH_READ_FILE | PATH_READ_DIR)
/* Write, truncate, make (no sockets, no devices), remove, rename. */
#define PATH_WRITE      (PATH_WRITE_FILE | 1u << 4 | 1u << 5 | 1u << 7 | 1u << 8 | 1u << 10 | 1u << 12 | 1u << 13 | 1u << 14)

struct policy_grant {
	const char *path;
	uint64_t access;
};

/* The policy's own path number i, with the policy's string; false after the last. */
bool policy_path(const struct policy *policy, size_t i, struct policy_grant *grant);

/* Everything of a policy that a child needs, so that nothing is parsed, compiled or allocated in it. */
struct policy_prepared;

/* 0, or -errno with what is missing in error; report as for policy_apply(), for the children. */
int policy_prepare(const struct policy *policy, enum policy_mode mode, struct policy_prepared **prepared,
                   struct policy_report *report, char *error, size_t error_size);
void policy_prepared_free(struct policy_prepared *prepared);

enum policy_layer { POLICY_LAYER_RLIMITS, POLICY_LAYER_MDWE, POLICY_LAYER_LANDLOCK, POLICY_LAYER_SECCOMP };

/* In the child, with async-signal-safe calls only: dumpable and rlimits, MDWE, Landlock with these paths (and not the
 * policy's own: the caller decides where they are; those that are not there are left out), seccomp. no_new_privs must
 * be set; what follows is execve, and what the policy allows. Returns 0, or -errno with the layer in *layer. */
int policy_enter(const struct policy_prepared *prepared, const struct policy_grant *grants, size_t n_grants,
                 enum policy_layer *layer);

#endif
