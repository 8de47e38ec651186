/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of the cage share. Between clone and execve there are async-signal-safe calls only: nothing allocates,
 * nothing writes to a log. What a child needs is in struct cage, made beforehand.
 */
#ifndef LAUNCHER_CAGE_INTERNAL_H
#define LAUNCHER_CAGE_INTERNAL_H

#include <stdbool.h>
#include <sys/resource.h>

#include "cage.h"

/* Descriptors of an init. The program has those up to DATA_FD, the others are close-on-exec. */
enum { DATA_FD = 3, REPORT_FD, LAUNCHER_FD, FIRST_FREE_FD };

/*      symbol           what stands in messages when it fails */
#define CAGE_STEPS(X)                                                                                                  \
	X(STEP_NONE, "")                                                                                               \
	X(STEP_CLONE, "clone")                                                                                         \
	X(STEP_DESCRIPTORS, "descriptors")                                                                             \
	X(STEP_SIGNALS, "signals")                                                                                     \
	X(STEP_CGROUP, "cgroup")                                                                                       \
	X(STEP_USER, "user namespace")                                                                                 \
	X(STEP_ROOT, "root")                                                                                           \
	X(STEP_MOUNT, "mount of a path")                                                                               \
	X(STEP_DEV, "dev")                                                                                             \
	X(STEP_TMP, "tmp")                                                                                             \
	X(STEP_PROC, "proc")                                                                                           \
	X(STEP_PIVOT, "pivot_root")                                                                                    \
	X(STEP_CAPABILITIES, "capabilities")                                                                           \
	X(STEP_PRIVILEGES, "no_new_privs")                                                                             \
	X(STEP_FORK, "fork")                                                                                           \
	X(STEP_SESSION, "session")                                                                                     \
	X(STEP_DIRECTORY, "directory")                                                                                 \
	X(STEP_LIMITS, "limits")                                                                                       \
	X(STEP_RLIMITS, "policy: rlimits")                                                                             \
	X(STEP_MDWE, "policy: mdwe")                                                                                   \
	X(STEP_LANDLOCK, "policy: landlock")                                                                           \
	X(STEP_SECCOMP, "policy: seccomp")                                                                             \
	X(STEP_PROOF, "proof")                                                                                         \
	X(STEP_EXECUTE, "execve")

enum cage_step {
#define STEP_ENUM(symbol, name) symbol,
	CAGE_STEPS(STEP_ENUM)
#undef STEP_ENUM
};

/* Written by the init, whole, into its end of the run's pipe: STARTED or FAILED first, ENDED after STARTED. */
enum cage_report_kind { REPORT_STARTED = 1, REPORT_FAILED, REPORT_ENDED };
struct cage_report {
	uint32_t kind;
	uint32_t step; /* enum cage_step, of a failure */
	int32_t error;
	int32_t status;
	uint32_t limit; /* enum cage_limit */
	uint32_t zero;
	uint64_t user_us, system_us, max_rss_kib;
};

/* A file or directory of the private root. */
struct cage_path {
	const char *path;
	char *real;      /* without links in it */
	uint64_t access; /* PATH_* */
	bool directory;
	bool mounted;    /* else it lies below another one */
	bool executable; /* something on this mount may be executed */
};

struct cage {
	const struct config_handler *handler;
	struct policy_prepared *policy;
	struct cage_path *paths; /* shortest real path first */
	size_t n_paths;
	struct policy_grant *grants; /* of Landlock's, with the strings of paths */
	size_t n_grants;
	bool namespaces;
	bool proc;
	char tmp_options[96]; /* of the private /tmp */
	char user_map[48], group_map[48];
	int null_fd;
	int launcher_fd; /* pidfd of the process that prepared the cage */
	int cgroup_fd;   /* below which each run has one; -1: none */
	bool stale_cgroups;
	uint64_t runs;
	char off[512];
};

const char *cage_step_name(uint32_t step);

/* cage_paths.c: the paths and grants of the handler and its policy; 0, or -errno with what is wrong in error. The
 * second sets the grants for a private root or for the system's own. */
int cage_paths_make(struct cage *cage, const struct policy *policy, char *error, size_t error_size);
void cage_grants_make(struct cage *cage);
void cage_paths_free(struct cage *cage);

/* cage_cgroup.c: 0 or -errno. Of a run: its descriptor or -errno. */
int cage_cgroup_prepare(struct cage *cage);
int cage_cgroup_make(struct cage *cage, uint64_t number);
bool cage_cgroup_ran_out_of_memory(int cgroup_fd);
void cage_cgroup_kill(int cgroup_fd);
void cage_cgroup_remove(struct cage *cage, uint64_t number);

/* In the child, by its own code only. */

/* cage_init.c: the init of a run; io NULL: a trial, which executes nothing. */
__attribute__((noreturn)) void cage_init(const struct cage *cage, const struct cage_io *io, int report_fd);

/* cage_root.c: from the namespaces' creation to the end of all capabilities. 0, or -errno with the step. */
int cage_root_enter(const struct cage *cage, enum cage_step *step);

/* cage_limits.c */
int cage_limits_apply(const struct cage *cage);

/* cage_tree.c: kill and reap everything below this process, which is a subreaper. */
void cage_tree_kill(void);

#endif
