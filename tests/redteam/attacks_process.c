/* SPDX-License-Identifier: Apache-2.0
 *
 * Attacks on other processes. `pid` is the victim, `address` where it has its secret, `fd` a descriptor of it that has
 * the secret too.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "attack.h"

#define SECRET_SIZE 32

static pid_t victim(void)
{
	return (pid_t)attack_number("pid");
}

static void *address(void)
{
	return (void *)(uintptr_t)attack_number("address"); // NOLINT: an address of another process
}

static int open_of_victim(const char *file, int flags)
{
	char path[128];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)victim(), file);
	return (int)TRY(openat, open(path, flags));
}

static void attach(void)
{
	TRY(ptrace, ptrace(PTRACE_ATTACH, victim(), NULL, NULL));
}

/* And read a word of its memory. */
static void seize(void)
{
	long words[SECRET_SIZE / sizeof(long)];
	int status;

	if (TRY(ptrace, ptrace(PTRACE_SEIZE, victim(), NULL, NULL)) != 0)
		return;
	if (TRY(ptrace, ptrace(PTRACE_INTERRUPT, victim(), NULL, NULL)) != 0)
		return;
	waitpid(victim(), &status, __WALL);
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		words[i] = ptrace(PTRACE_PEEKDATA, victim(), (char *)address() + i * sizeof(long), NULL);
	attack_give(words, sizeof(words));
}

static void read_memory(void)
{
	char buffer[SECRET_SIZE];
	struct iovec here = {buffer, sizeof(buffer)}, there = {address(), sizeof(buffer)};

	if (TRY(process_vm_readv, process_vm_readv(victim(), &here, 1, &there, 1, 0)) > 0)
		attack_give(buffer, sizeof(buffer));
}

static void write_memory(void)
{
	char buffer[] = "rogue";
	struct iovec here = {buffer, sizeof(buffer)}, there = {address(), sizeof(buffer)};

	TRY(process_vm_writev, process_vm_writev(victim(), &here, 1, &there, 1, 0));
}

static void read_proc_mem(void)
{
	char buffer[SECRET_SIZE];
	int fd = open_of_victim("mem", O_RDONLY);

	if (fd >= 0 && TRY(pread64, pread(fd, buffer, sizeof(buffer), (off_t)attack_number("address"))) > 0)
		attack_give(buffer, sizeof(buffer));
}

static void write_proc_mem(void)
{
	int fd = open_of_victim("mem", O_RDWR);

	if (fd >= 0)
		TRY(pwrite64, pwrite(fd, "rogue", 6, (off_t)attack_number("address")));
}

static void read_environment(void)
{
	int fd = open_of_victim("environ", O_RDONLY);

	if (fd >= 0)
		attack_give_file(fd);
}

static void read_arguments(void)
{
	int fd = open_of_victim("cmdline", O_RDONLY);

	if (fd >= 0)
		attack_give_file(fd);
}

static void read_maps(void)
{
	char word[32];
	int fd = open_of_victim("maps", O_RDONLY);

	/* The first mapping's address is what randomisation hides. */
	if (fd >= 0 && TRY(read, read(fd, word, 12)) == 12)
		attack_give(word, 12);
}

static void reopen_descriptor(void)
{
	char file[64], buffer[SECRET_SIZE];
	int fd;

	snprintf(file, sizeof(file), "fd/%s", attack_text("fd"));
	fd = open_of_victim(file, O_RDONLY);
	if (fd >= 0 && TRY(pread64, pread(fd, buffer, sizeof(buffer), 0)) > 0)
		attack_give(buffer, sizeof(buffer));
}

static void steal_descriptor(void)
{
	char buffer[SECRET_SIZE];
	int pidfd = (int)TRY(pidfd_open, syscall(SYS_pidfd_open, victim(), 0));
	int fd = pidfd < 0 ? -1 : (int)TRY(pidfd_getfd, syscall(SYS_pidfd_getfd, pidfd, (int)attack_number("fd"), 0));

	if (fd >= 0 && TRY(pread64, pread(fd, buffer, sizeof(buffer), 0)) > 0)
		attack_give(buffer, sizeof(buffer));
}

static void terminate(void)
{
	TRY(kill, kill(victim(), SIGTERM));
}

static void kill_it(void)
{
	TRY(kill, kill(victim(), SIGKILL));
}

static void stop(void)
{
	TRY(kill, kill(victim(), SIGSTOP));
}

static void kill_group(void)
{
	TRY(kill, kill(-victim(), SIGKILL));
}

static void kill_thread(void)
{
	TRY(tgkill, tgkill(victim(), victim(), SIGKILL));
}

static void kill_by_tkill(void)
{
	TRY(tkill, syscall(SYS_tkill, victim(), SIGKILL));
}

static void kill_by_queue(void)
{
	TRY(rt_sigqueueinfo, sigqueue(victim(), SIGKILL, (union sigval){0}));
}

static void kill_by_thread_queue(void)
{
	siginfo_t info = {.si_signo = SIGKILL, .si_code = SI_QUEUE};

	info.si_pid = getpid();
	TRY(rt_tgsigqueueinfo, syscall(SYS_rt_tgsigqueueinfo, victim(), victim(), SIGKILL, &info));
}

static void kill_by_pidfd(void)
{
	int pidfd = (int)TRY(pidfd_open, syscall(SYS_pidfd_open, victim(), 0));

	if (pidfd >= 0)
		TRY(pidfd_send_signal, syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0));
}

/* A descriptor that is ready sends a signal to whoever it was given to. */
static void kill_by_owner(void)
{
	TRY(fcntl, fcntl(ATTACK_FD_OBJECT, F_SETSIG, SIGUSR1));
	if (TRY(fcntl, fcntl(ATTACK_FD_OBJECT, F_SETOWN, victim())) < 0)
		return;
	if (TRY(fcntl, fcntl(ATTACK_FD_OBJECT, F_SETFL, O_RDWR | O_ASYNC)) == 0)
		TRY(write, write(ATTACK_FD_SECOND, "x", 1));
}

static void renice(void)
{
	TRY(setpriority, setpriority(PRIO_PROCESS, (id_t)victim(), 19));
}

static void limit(void)
{
	struct rlimit few = {7, 7};

	TRY(prlimit64, prlimit(victim(), RLIMIT_NOFILE, &few, NULL));
}

static void pin(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(0, &set);
	TRY(sched_setaffinity, sched_setaffinity(victim(), sizeof(set), &set));
}

static void make_idle(void)
{
	struct sched_param param = {0};

	TRY(sched_setscheduler, sched_setscheduler(victim(), SCHED_IDLE, &param));
}

static void offer_to_oom_killer(void)
{
	int fd = open_of_victim("oom_score_adj", O_WRONLY);

	if (fd >= 0)
		TRY(write, write(fd, "777", 3));
}

static void enter_namespace(void)
{
	int fd = open_of_victim("ns/uts", O_RDONLY);

	if (fd >= 0)
		TRY(setns, setns(fd, 0));
}

static void enter_by_pidfd(void)
{
	int pidfd = (int)TRY(pidfd_open, syscall(SYS_pidfd_open, victim(), 0));

	if (pidfd >= 0)
		TRY(setns, setns(pidfd, CLONE_NEWUTS));
}

#define ON_PROCESS(victim)                                                                                             \
	{"ptrace-attach-" victim, 1, victim, "ptrace PTRACE_ATTACH", BASE_ROOT, NULL, attach},                         \
	    {"ptrace-seize-" victim, 1, victim, "ptrace PTRACE_SEIZE and PEEKDATA", BASE_ROOT, NULL, seize},           \
	    {"vm-readv-" victim, 2, victim, "process_vm_readv", BASE_ROOT, NULL, read_memory},                         \
	    {"vm-writev-" victim, 2, victim, "process_vm_writev", BASE_ROOT, NULL, write_memory},                      \
	    {"proc-mem-read-" victim, 3, victim, "read /proc/PID/mem", BASE_ROOT, NULL, read_proc_mem},                \
	    {"proc-mem-write-" victim, 3, victim, "write /proc/PID/mem", BASE_ROOT, NULL, write_proc_mem},             \
	    {"proc-environ-" victim, 3, victim, "read /proc/PID/environ", BASE_ROOT, NULL, read_environment},          \
	    {"proc-cmdline-" victim, 3, victim, "read /proc/PID/cmdline", BASE_ROOT, NULL, read_arguments},            \
	    {"proc-maps-" victim, 3, victim, "read /proc/PID/maps", BASE_ROOT, NULL, read_maps},                       \
	    {"proc-fd-" victim, 3, victim, "open /proc/PID/fd/N", BASE_ROOT, NULL, reopen_descriptor},                 \
	    {"pidfd-getfd-" victim, 4, victim, "pidfd_getfd", BASE_ROOT, NULL, steal_descriptor},                      \
	    {"kill-term-" victim, 5, victim, "kill SIGTERM", BASE_ROOT, NULL, terminate},                              \
	    {"kill-kill-" victim, 5, victim, "kill SIGKILL", BASE_ROOT, NULL, kill_it},                                \
	    {"kill-stop-" victim, 5, victim, "kill SIGSTOP", BASE_ROOT, NULL, stop},                                   \
	    {"kill-group-" victim, 5, victim, "kill of its process group", BASE_ROOT, NULL, kill_group},               \
	    {"tgkill-" victim, 5, victim, "tgkill", BASE_ROOT, NULL, kill_thread},                                     \
	    {"tkill-" victim, 5, victim, "tkill", BASE_ROOT, NULL, kill_by_tkill},                                     \
	    {"sigqueue-" victim, 5, victim, "rt_sigqueueinfo", BASE_ROOT, NULL, kill_by_queue},                        \
	    {"tgsigqueue-" victim, 5, victim, "rt_tgsigqueueinfo", BASE_ROOT, NULL, kill_by_thread_queue},             \
	    {"pidfd-signal-" victim, 5, victim, "pidfd_send_signal", BASE_ROOT, NULL, kill_by_pidfd},                  \
	    {"fcntl-setown-" victim, 5, victim, "fcntl F_SETOWN and O_ASYNC", BASE_ROOT, NULL, kill_by_owner},         \
	    {"setpriority-" victim, 5, victim, "setpriority", BASE_ROOT, NULL, renice},                                \
	    {"affinity-" victim, 5, victim, "sched_setaffinity", BASE_ROOT, NULL, pin},                                \
	    {"scheduler-" victim, 5, victim, "sched_setscheduler SCHED_IDLE", BASE_ROOT, NULL, make_idle},             \
	    {"oom-" victim, 3, victim, "write /proc/PID/oom_score_adj", BASE_ROOT, NULL, offer_to_oom_killer},         \
	    {"setns-" victim, 13, victim, "setns by /proc/PID/ns/uts", BASE_ROOT, NULL, enter_namespace},              \
	{                                                                                                              \
		"setns-pidfd-" victim, 13, victim, "setns by pidfd", BASE_ROOT, NULL, enter_by_pidfd                   \
	}

const struct attack attacks_process[] = {
    ON_PROCESS("sibling"),
    ON_PROCESS("worker"),
    ON_PROCESS("apache"),
    /* Others' limits want CAP_SYS_RESOURCE, which a container's root may not have. */
    {"prlimit-sibling", 5, "sibling", "prlimit64", BASE_ROOT, NULL, limit},
    {"prlimit-worker", 5, "worker", "prlimit64", BASE_USER, NULL, limit},
    {0},
};
