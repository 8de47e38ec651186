/* SPDX-License-Identifier: Apache-2.0
 *
 * Cage: what a handler program runs in. Prepared once when the launcher starts: the seccomp program is compiled, the
 * paths are opened, and a run of nothing through the whole cage shows what this system can do. Then each run is one
 * cage_start(). A run is an init of our own (never executed, so nothing of it can be replaced) and the program below
 * it; when the init is gone, everything that the program has started is gone.
 *
 * It knows nothing of channels, messages and event loops: the caller watches two descriptors of a run.
 */
#ifndef LAUNCHER_CAGE_H
#define LAUNCHER_CAGE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/common/config.h"
#include "policy/policy.h"

struct cage;

/* Prepare the cage of a handler section as the user who runs this, who may not be root and has no capability. handler
 * and policy must live as long as the cage. Returns 0, or -errno with what is missing in error: what the section calls
 * required, or what no cage can do without. Forks; the caller has one thread and no Landlock domain (a process in one
 * cannot mount). */
int cage_prepare(struct cage **cage, const struct config_handler *handler, const struct policy *policy,
                 enum policy_mode mode, char *error, size_t error_size);
void cage_free(struct cage *cage);

/* What this system does not have of a where-available cage, comma-separated ("namespaces,cgroup,..."); "" when all is
 * on. For the start line in the log. */
const char *cage_off(const struct cage *cage);

/* What the program gets. The caller keeps its descriptors, all of them close-on-exec, and closes them. */
struct cage_io {
	int stdout_fd; /* write ends of pipes */
	int stderr_fd;
	int data_fd;              /* becomes descriptor 3 */
	char *const *environment; /* NULL-terminated, whole */
};

struct cage_run {
	pid_t pid;       /* of the init; libev does not reap it, since its end raises no SIGCHLD */
	int pidfd;       /* readable once everything of the run is gone: cage_finish() */
	int report_fd;   /* readable once it is known whether the program runs: cage_started(); then watch it no more */
	int cgroup_fd;   /* the run's own cgroup; -1: none */
	uint64_t number; /* of the run in this cage, from 1 */
	const char *step; /* static storage: where it failed, when it did */
};

enum cage_limit { CAGE_LIMIT_NONE, CAGE_LIMIT_CPU_TIME, CAGE_LIMIT_MEMORY };

/* How a run ended. */
struct cage_result {
	int error;  /* -errno: the program was never executed, see run->step; else 0 */
	int status; /* the program's, as of wait(2): SIGKILL when the whole run was killed */
	enum cage_limit limit;
	uint64_t user_us, system_us; /* of the program and all that it left behind */
	uint64_t max_rss_kib;        /* of its largest process */
};

/* Begin a run; never waits for it. Returns 0, or -errno with run->step when not even its init could be started (then
 * there is nothing to finish). */
int cage_start(struct cage *cage, const struct cage_io *io, struct cage_run *run);

/* Ask when report_fd is readable. Returns 1 when the program was executed, 0 when that is not known yet, -errno with
 * run->step when it was not and will not be; the run must still be finished when its pidfd is readable. */
int cage_started(struct cage_run *run);

/* SIGTERM goes to the program's process group. SIGKILL kills everything of the run. Does nothing after the end. */
void cage_signal(const struct cage *cage, const struct cage_run *run, int signal);

/* Once pidfd is readable (or to wait, after SIGKILL): takes the result, reaps the init, removes the cgroup, closes the
 * run's descriptors. */
void cage_finish(struct cage *cage, struct cage_run *run, struct cage_result *result);

#endif
