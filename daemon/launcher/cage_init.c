/* SPDX-License-Identifier: Apache-2.0
 *
 * The init of a run: our own code, forked from the launcher and never executed. It makes the cage around itself, starts
 * the program below it, waits, and takes everything of the run with it when it ends. In namespaces it is process 1;
 * else it is the subreaper of all that the program starts.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cage_internal.h"

/* Where descriptors wait before they are put in their places. */
#define OUT_OF_THE_WAY 64

/* The program, before it is one: written by it in the init's memory (vfork). */
struct birth {
	enum cage_step step;
	int error;
};

static void report(const struct cage_report *written)
{
	/* One that cannot be written has no reader any more: the launcher is gone, and so are we, soon. */
	if (write(REPORT_FD, written, sizeof(*written)) < 0)
		return;
}

__attribute__((noreturn)) static void fail(enum cage_step step, int error)
{
	report(&(struct cage_report){.kind = REPORT_FAILED, .step = step, .error = error});
	_exit(127);
}

/* ---------------------------------------------------------------- a clean start */

static int place_descriptors(const struct cage *cage, const struct cage_io *io, int report_fd)
{
	const int wanted[FIRST_FREE_FD] = {cage->null_fd,
	                                   io != NULL ? io->stdout_fd : cage->null_fd,
	                                   io != NULL ? io->stderr_fd : cage->null_fd,
	                                   io != NULL ? io->data_fd : cage->null_fd,
	                                   report_fd,
	                                   cage->launcher_fd};
	int moved[FIRST_FREE_FD];

	for (int i = 0; i < FIRST_FREE_FD; i++) {
		moved[i] = fcntl(wanted[i], F_DUPFD_CLOEXEC, OUT_OF_THE_WAY);
		if (moved[i] < 0)
			return -errno;
	}
	for (int i = 0; i < FIRST_FREE_FD; i++)
		if (dup3(moved[i], i, i > DATA_FD ? O_CLOEXEC : 0) < 0)
			return -errno;
	/* The launcher's channels, and the pipes of other runs. */
	return close_range(FIRST_FREE_FD, ~0U, 0) == 0 ? 0 : -errno;
}

/* All are blocked, by the launcher before it forked, and come by the descriptor. Its handlers must never run here, and
 * what it ignores the program would ignore too. Returns the descriptor. */
static int take_signals(const struct cage *cage)
{
	/* The kernel's struct sigaction, all of it zero: SIG_DFL, no flags, an empty mask. libc would leave its own two
	 * signals as they are, ignored for all that we know. */
	const uint64_t by_default[4] = {0};
	sigset_t watched;
	int fd;

	for (int number = 1; number < NSIG; number++)
		syscall(SYS_rt_sigaction, number, by_default, NULL, sizeof(uint64_t)); /* not of SIGKILL, SIGSTOP */
	sigemptyset(&watched);
	sigaddset(&watched, SIGCHLD);
	sigaddset(&watched, SIGTERM);
	/* Without a pid namespace SIGKILL would leave the others behind: cage_signal(). */
	if (!cage->namespaces)
		sigaddset(&watched, SIGUSR1);
	fd = signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

/* The launcher may have died before this asked to be told; that shows at its descriptor. */
static bool launcher_is_gone(void)
{
	struct pollfd gone = {.fd = LAUNCHER_FD, .events = POLLIN};

	return poll(&gone, 1, 0) != 0;
}

/* Nobody of this uid may look into what was forked from the launcher, and all goes when it goes: at once with the pid
 * namespace, else by the init's own hand. */
static int close_up(const struct cage *cage)
{
	int on_death = cage->namespaces ? SIGKILL : SIGUSR1;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 ||
	    prctl(PR_SET_PDEATHSIG, on_death, 0, 0, 0) != 0)
		return -errno;
	if (!cage->namespaces && prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0)
		return -errno;
	return launcher_is_gone() ? -ECHILD : 0;
}

/* ---------------------------------------------------------------- the program */

__attribute__((noreturn)) static void give_up(struct birth *birth, enum cage_step step, int error)
{
	*birth = (struct birth){step, error};
	_exit(127);
}

/* In a trial: what no grant names is denied. */
static int prove(const struct cage *cage)
{
	int fd;

	for (size_t i = 0; i < cage->n_grants; i++)
		if (strcmp(cage->grants[i].path, "/") == 0)
			return 0;
	fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 && errno == EACCES ? 0 : -EIO;
}

__attribute__((noreturn)) static void become_program(const struct cage *cage, const struct cage_io *io,
                                                     struct birth *birth)
{
	const struct config_handler *handler = cage->handler;
	static const enum cage_step steps[] = {[POLICY_LAYER_RLIMITS] = STEP_RLIMITS,
	                                       [POLICY_LAYER_MDWE] = STEP_MDWE,
	                                       [POLICY_LAYER_LANDLOCK] = STEP_LANDLOCK,
	                                       [POLICY_LAYER_SECCOMP] = STEP_SECCOMP};
	enum policy_layer layer = POLICY_LAYER_RLIMITS;
	sigset_t none;
	int rc;

	sigemptyset(&none);
	umask(077);
	if (setsid() < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
		give_up(birth, STEP_SESSION, -errno);
	if (chdir(handler->directory) < 0)
		give_up(birth, STEP_DIRECTORY, -errno);
	rc = cage_limits_apply(cage);
	if (rc != 0)
		give_up(birth, STEP_LIMITS, rc);
	if (sigprocmask(SIG_SETMASK, &none, NULL) < 0)
		give_up(birth, STEP_SIGNALS, -errno);
	rc = policy_enter(cage->policy, cage->grants, cage->n_grants, &layer);
	if (rc != 0)
		give_up(birth, steps[layer], rc);
	if (io == NULL)
		give_up(birth, STEP_PROOF, prove(cage));
	execve(handler->command.item[0], (char *const *)(uintptr_t)handler->command.item, io->environment);
	give_up(birth, STEP_EXECUTE, -errno);
}

/* Shares its memory until it executes, so that neither is a table of pages copied nor a pipe needed for what went
 * wrong. Returns its pid, or -errno. */
static pid_t start_program(const struct cage *cage, const struct cage_io *io, struct birth *birth)
{
	pid_t pid;

	*birth = (struct birth){STEP_NONE, 0};
	pid = vfork(); /* NOLINT: a second copy of the launcher's memory is what this avoids */
	if (pid == 0)
		become_program(cage, io, birth); /* NOLINT: it makes system calls only, and ends by execve or _exit */
	return pid < 0 ? -errno : pid;
}

/* ---------------------------------------------------------------- until it ends */

struct life {
	const struct cage *cage;
	pid_t program;
	bool ended;
	int status;
	struct rusage usage;
};

static void reap(struct life *life)
{
	struct rusage usage;
	int status;
	pid_t pid;

	while ((pid = wait4(-1, &status, WNOHANG, &usage)) > 0) {
		if (pid != life->program)
			continue;
		life->ended = true;
		life->status = status;
		life->usage = usage;
	}
}

static void on_signals(struct life *life, int signal_fd, bool *killed)
{
	struct signalfd_siginfo info;

	while (read(signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo == SIGCHLD)
			reap(life);
		else if (info.ssi_signo == SIGUSR1)
			*killed = true;
		else if (!life->ended && kill(-life->program, SIGTERM) < 0)
			kill(life->program, SIGTERM);
	}
}

/* Returns when the program has ended, or nobody wants it any more. */
static void watch(struct life *life, int signal_fd)
{
	bool killed = false;

	while (!life->ended && !killed) {
		struct pollfd watched[] = {{.fd = signal_fd, .events = POLLIN}, {.fd = LAUNCHER_FD, .events = POLLIN}};

		if (poll(watched, 2, -1) < 0 && errno != EINTR)
			return;
		if (watched[0].revents != 0)
			on_signals(life, signal_fd, &killed);
		if (watched[1].revents != 0)
			killed = true;
	}
}

/* What the program left behind. */
static void end_the_rest(struct life *life)
{
	int status;

	if (!life->cage->namespaces) {
		cage_tree_kill();
		return;
	}
	kill(-1, SIGKILL);
	while (waitpid(-1, &status, 0) > 0 || errno == EINTR)
		;
}

static uint64_t microseconds(const struct timeval *time)
{
	return (uint64_t)time->tv_sec * 1000000 + (uint64_t)time->tv_usec;
}

static enum cage_limit limit_of(const struct life *life)
{
	uint64_t used = microseconds(&life->usage.ru_utime) + microseconds(&life->usage.ru_stime);

	if (!WIFSIGNALED(life->status))
		return CAGE_LIMIT_NONE;
	if (WTERMSIG(life->status) == SIGXCPU)
		return CAGE_LIMIT_CPU_TIME;
	return WTERMSIG(life->status) == SIGKILL && used >= (uint64_t)life->cage->handler->cpu_time_s * 1000000
	           ? CAGE_LIMIT_CPU_TIME
	           : CAGE_LIMIT_NONE;
}

__attribute__((noreturn)) static void live(const struct cage *cage, pid_t program, int signal_fd)
{
	struct life life = {.cage = cage, .program = program, .status = SIGKILL};
	struct cage_report ended = {.kind = REPORT_ENDED};
	struct rusage all;

	watch(&life, signal_fd);
	end_the_rest(&life);
	ended.status = life.status;
	ended.limit = limit_of(&life);
	if (getrusage(RUSAGE_CHILDREN, &all) == 0) {
		ended.user_us = microseconds(&all.ru_utime);
		ended.system_us = microseconds(&all.ru_stime);
		ended.max_rss_kib = (uint64_t)all.ru_maxrss;
	}
	report(&ended);
	_exit(0);
}

void cage_init(const struct cage *cage, const struct cage_io *io, int report_fd)
{
	enum cage_step step = STEP_NONE;
	struct birth birth;
	int signal_fd;
	pid_t program;
	int rc = place_descriptors(cage, io, report_fd);

	if (rc != 0) {
		/* Not in its place yet. */
		dup3(report_fd, REPORT_FD, O_CLOEXEC);
		fail(STEP_DESCRIPTORS, rc);
	}
	signal_fd = take_signals(cage);
	if (signal_fd < 0)
		fail(STEP_SIGNALS, signal_fd);
	if (cage->namespaces && (rc = cage_root_enter(cage, &step)) != 0)
		fail(step, rc);
	rc = close_up(cage);
	if (rc != 0)
		fail(STEP_PRIVILEGES, rc);
	program = start_program(cage, io, &birth);
	if (program < 0)
		fail(STEP_FORK, program);
	if (birth.error != 0)
		fail(birth.step, birth.error);
	report(&(struct cage_report){.kind = REPORT_STARTED});
	/* The ends of the pipes are the program's alone. */
	close_range(0, DATA_FD, 0);
	live(cage, program, signal_fd);
}
