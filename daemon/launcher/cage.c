/* SPDX-License-Identifier: Apache-2.0
 *
 * Cage: see cage.h.
 */
#include "cage.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cage_internal.h"
#include "lib/fdpass.h"

#define NAMESPACES                                                                                                     \
	(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)

/* For a trial at start. */
#define TRIAL_MS 10000

const char *cage_step_name(uint32_t step)
{
	static const char *const names[] = {
#define STEP_NAME(symbol, name) name,
	    CAGE_STEPS(STEP_NAME)
#undef STEP_NAME
	};

	return step < sizeof(names) / sizeof(names[0]) ? names[step] : "";
}

/* ---------------------------------------------------------------- start */

/* No signal at its end: whoever waits for all children (libev) does not see it, only whoever waits for it. */
static pid_t clone_into(int cgroup_fd, uint64_t flags, int *pidfd)
{
	struct clone_args args = {.flags = flags | CLONE_PIDFD | CLONE_INTO_CGROUP,
	                          .pidfd = (uintptr_t)pidfd,
	                          .cgroup = (uint64_t)(unsigned)cgroup_fd};

	if (cgroup_fd >= 0)
		return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
	return (pid_t)syscall(SYS_clone, flags | CLONE_PIDFD, NULL, pidfd, NULL, NULL);
}

static int start(const struct cage *cage, const struct cage_io *io, struct cage_run *run)
{
	int ends[2];
	sigset_t all, before;
	pid_t pid;
	int rc = 0;

	run->step = cage_step_name(STEP_CLONE);
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	/* The launcher's handlers are not to run in the child. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid = clone_into(run->cgroup_fd, cage->namespaces ? NAMESPACES : 0, &run->pidfd);
	if (pid == 0)
		cage_init(cage, io, ends[1]);
	if (pid < 0)
		rc = -errno;
	sigprocmask(SIG_SETMASK, &before, NULL);
	close(ends[1]);
	if (rc != 0) {
		close(ends[0]);
		return rc;
	}
	run->pid = pid;
	run->report_fd = ends[0];
	run->step = NULL;
	return 0;
}

static int begin(struct cage *cage, const struct cage_io *io, struct cage_run *run)
{
	int rc;

	*run = (struct cage_run){.pidfd = -1, .report_fd = -1, .cgroup_fd = -1, .number = ++cage->runs};
	if (cage->cgroup_fd >= 0) {
		run->step = cage_step_name(STEP_CGROUP);
		run->cgroup_fd = cage_cgroup_make(cage, run->number);
		if (run->cgroup_fd < 0)
			return run->cgroup_fd;
	}
	rc = start(cage, io, run);
	if (rc != 0 && run->cgroup_fd >= 0) {
		fd_close(&run->cgroup_fd);
		cage_cgroup_remove(cage, run->number);
	}
	return rc;
}

int cage_start(struct cage *cage, const struct cage_io *io, struct cage_run *run)
{
	return begin(cage, io, run);
}

static bool next_report(const struct cage_run *run, struct cage_report *report)
{
	return read(run->report_fd, report, sizeof(*report)) == (ssize_t)sizeof(*report);
}

int cage_started(struct cage_run *run)
{
	struct cage_report report;
	ssize_t len = read(run->report_fd, &report, sizeof(report));

	if (len < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (len == (ssize_t)sizeof(report) && report.kind == REPORT_STARTED)
		return 1;
	run->step = cage_step_name(STEP_CLONE);
	/* Its init was killed before it could say anything. */
	if (len != (ssize_t)sizeof(report) || report.kind != REPORT_FAILED || report.error >= 0)
		return -ECHILD;
	run->step = cage_step_name(report.step);
	return report.error;
}

/* ---------------------------------------------------------------- end */

void cage_signal(const struct cage *cage, const struct cage_run *run, int number)
{
	if (number != SIGKILL) {
		pidfd_send_signal(run->pidfd, number, NULL, 0);
		return;
	}
	if (run->cgroup_fd >= 0)
		cage_cgroup_kill(run->cgroup_fd);
	/* Without a pid namespace the init has to see to the others before it ends. */
	pidfd_send_signal(run->pidfd, cage->namespaces ? SIGKILL : SIGUSR1, NULL, 0);
}

static uint64_t microseconds(const struct timeval *time)
{
	return (uint64_t)time->tv_sec * 1000000 + (uint64_t)time->tv_usec;
}

/* What is known of a run whose init said nothing at its end. */
static void take_init(const struct cage_run *run, struct cage_result *result)
{
	struct rusage usage = {0};
	siginfo_t info;

	/* By the raw call, which gives the usage too. __WALL: it sends no SIGCHLD. */
	while (syscall(SYS_waitid, P_PIDFD, run->pidfd, &info, WEXITED | __WALL, &usage) < 0 && errno == EINTR)
		;
	*result = (struct cage_result){.status = SIGKILL,
	                               .user_us = microseconds(&usage.ru_utime),
	                               .system_us = microseconds(&usage.ru_stime),
	                               .max_rss_kib = (uint64_t)usage.ru_maxrss};
}

static void take_reports(struct cage_run *run, struct cage_result *result)
{
	struct cage_report report;

	while (next_report(run, &report)) {
		if (report.kind == REPORT_FAILED) {
			run->step = cage_step_name(report.step);
			result->error = report.error < 0 ? report.error : -ECHILD;
		} else if (report.kind == REPORT_ENDED) {
			result->status = report.status;
			result->limit = (enum cage_limit)report.limit;
			result->user_us = report.user_us;
			result->system_us = report.system_us;
			result->max_rss_kib = report.max_rss_kib;
		}
	}
}

void cage_finish(struct cage *cage, struct cage_run *run, struct cage_result *result)
{
	take_init(run, result);
	take_reports(run, result);
	if (run->cgroup_fd >= 0) {
		if (cage_cgroup_ran_out_of_memory(run->cgroup_fd))
			result->limit = CAGE_LIMIT_MEMORY;
		/* Whatever an init that was killed left behind. */
		cage_cgroup_kill(run->cgroup_fd);
		fd_close(&run->cgroup_fd);
		cage_cgroup_remove(cage, run->number);
	}
	fd_close(&run->report_fd);
	fd_close(&run->pidfd);
}

/* ---------------------------------------------------------------- preparation */

static void add_off(struct cage *cage, const char *names)
{
	size_t len = strlen(cage->off);

	snprintf(cage->off + len, sizeof(cage->off) - len, "%s%s", len == 0 ? "" : ",", names);
}

/* A run of nothing through the whole cage. 0, or -errno with the step. */
static int try_cage(struct cage *cage, const char **step)
{
	struct cage_run run;
	struct cage_result result;
	int started;
	int rc = begin(cage, NULL, &run);

	*step = run.step;
	if (rc != 0)
		return rc;
	struct pollfd gone = {.fd = run.pidfd, .events = POLLIN};
	if (poll(&gone, 1, TRIAL_MS) <= 0)
		cage_signal(cage, &run, SIGKILL);
	started = cage_started(&run);
	*step = run.step;
	cage_finish(cage, &run, &result);
	return started == 1 ? 0 : started < 0 ? started : -ETIMEDOUT;
}

static int try_namespaces(struct cage *cage, char *error, size_t error_size)
{
	const char *step;
	int rc;

	if (cage->handler->namespaces == LAYER_OFF) {
		add_off(cage, "namespaces");
		return 0;
	}
	cage->namespaces = true;
	cage->proc = cage->handler->proc == PROC_PRIVATE;
	cage_grants_make(cage);
	rc = try_cage(cage, &step);
	if (rc == 0)
		return 0;
	if (cage->handler->namespaces == LAYER_REQUIRED) {
		snprintf(error, error_size, "namespaces are required, and fail at %s: %s", step, strerror(-rc));
		return rc;
	}
	/* Some containers hide parts of /proc, and so every new one. */
	if (cage->proc && strcmp(step, cage_step_name(STEP_PROC)) == 0) {
		cage->proc = false;
		cage_grants_make(cage);
		if (try_cage(cage, &step) == 0) {
			add_off(cage, "proc");
			return 0;
		}
	}
	cage->namespaces = cage->proc = false;
	add_off(cage, "namespaces");
	return 0;
}

static int try_without_namespaces(struct cage *cage, char *error, size_t error_size)
{
	const char *step;
	int rc;

	cage_grants_make(cage);
	rc = try_cage(cage, &step);
	if (rc != 0)
		snprintf(error, error_size, "the cage fails at %s: %s", step, strerror(-rc));
	return rc;
}

static int try_cgroup(struct cage *cage, char *error, size_t error_size)
{
	int rc = cage->handler->cgroup == LAYER_OFF ? -ENOENT : cage_cgroup_prepare(cage);

	if (rc == 0)
		return 0;
	if (cage->handler->cgroup == LAYER_REQUIRED) {
		snprintf(error, error_size, "a cgroup is required, and none is given to this process: %s",
		         strerror(-rc));
		return rc;
	}
	add_off(cage, "cgroup");
	return 0;
}

static int set_up(struct cage *cage, const struct policy *policy, enum policy_mode mode, char *error, size_t error_size)
{
	struct policy_report report;
	uid_t uid = geteuid();
	gid_t gid = getegid();
	size_t inodes = cage->handler->temporary / 4096;
	int rc;

	if (uid == 0 || gid == 0) {
		snprintf(error, error_size, "root is no user for handlers");
		return -EPERM;
	}
	snprintf(cage->user_map, sizeof(cage->user_map), "%u %u 1", (unsigned)uid, (unsigned)uid);
	snprintf(cage->group_map, sizeof(cage->group_map), "%u %u 1", (unsigned)gid, (unsigned)gid);
	snprintf(cage->tmp_options, sizeof(cage->tmp_options), "size=%zu,nr_inodes=%zu,mode=0700",
	         cage->handler->temporary, inodes < 64 ? (size_t)64 : inodes);
	cage->null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	cage->launcher_fd = pidfd_open(getpid(), 0);
	if (cage->null_fd < 0 || cage->launcher_fd < 0) {
		rc = -errno;
		snprintf(error, error_size, "/dev/null or a pidfd: %m");
		return rc;
	}
	rc = policy_prepare(policy, mode, &cage->policy, &report, error, error_size);
	if (rc == 0)
		rc = cage_paths_make(cage, policy, error, error_size);
	if (rc == 0)
		rc = try_cgroup(cage, error, error_size);
	if (rc == 0)
		rc = try_namespaces(cage, error, error_size);
	if (rc == 0 && !cage->namespaces)
		rc = try_without_namespaces(cage, error, error_size);
	if (rc == 0 && report.off[0] != '\0')
		add_off(cage, report.off);
	return rc;
}

int cage_prepare(struct cage **cage, const struct config_handler *handler, const struct policy *policy,
                 enum policy_mode mode, char *error, size_t error_size)
{
	struct cage *made = calloc(1, sizeof(*made));
	int rc;

	if (made == NULL) {
		snprintf(error, error_size, "out of memory");
		return -ENOMEM;
	}
	*made = (struct cage){.handler = handler, .null_fd = -1, .launcher_fd = -1, .cgroup_fd = -1};
	rc = set_up(made, policy, mode, error, error_size);
	if (rc != 0) {
		cage_free(made);
		return rc;
	}
	*cage = made;
	return 0;
}

void cage_free(struct cage *cage)
{
	if (cage == NULL)
		return;
	cage_paths_free(cage);
	policy_prepared_free(cage->policy);
	fd_close(&cage->null_fd);
	fd_close(&cage->launcher_fd);
	fd_close(&cage->cgroup_fd);
	free(cage);
}

const char *cage_off(const struct cage *cage)
{
	return cage->off;
}
