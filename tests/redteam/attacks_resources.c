/* SPDX-License-Identifier: Apache-2.0
 *
 * Attacks on what all processes share: processes, memory outside of one, queues. Each takes a little and stops: that it
 * could is what counts.
 */
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "attack.h"

#define BOMB 20

static void wait_to_be_seen(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;)
		pause();
}

static void bomb_of_forks(void)
{
	for (int i = 0; i < BOMB; i++) {
		long pid = TRY(clone, fork());

		if (pid < 0)
			return;
		if (pid == 0)
			wait_to_be_seen();
	}
}

static void fork_by_call(void)
{
#ifdef SYS_fork
	if (TRY(fork, syscall(SYS_fork)) == 0)
		wait_to_be_seen();
#endif
}

static void fork_by_vfork(void)
{
#ifdef SYS_vfork
	/* The parent goes on when the child has ended, so the child says what there is to see. */
	attack_step("vfork");
	pid_t pid = vfork();

	if (pid == 0) {
		attack_give(attack_text("token"), strlen(attack_text("token")));
		_exit(0);
	}
	attack_result(pid < 0 ? -1 : 0);
#endif
}

static void *idle(void *unused)
{
	pause();
	return unused;
}

static void bomb_of_threads(void)
{
	pthread_t thread;

	for (int i = 0; i < BOMB; i++) {
		if (TRY(clone, (errno = pthread_create(&thread, NULL, idle, NULL)) == 0 ? 0 : -1) < 0)
			return;
	}
}

/* Away from whoever would end it. */
static void outlive(void)
{
	long pid = TRY(clone, syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));

	if (pid != 0)
		return;
	TRY(setsid, setsid());
	for (;;)
		pause();
}

static void leave_session(void)
{
	TRY(setsid, setsid());
}

static void read_shared_memory(void)
{
	int id = (int)TRY(shmget, shmget((key_t)attack_number("key"), 0, 0));
	void *memory;

	if (id >= 0 && TRY(shmat, (memory = shmat(id, NULL, SHM_RDONLY)) == (void *)-1 ? -1 : 0) == 0)
		attack_give(memory, 64);
}

static void make_shared_memory(void)
{
	TRY(shmget, shmget((key_t)attack_number("new-key"), 1 << 20, IPC_CREAT | 0600));
}

static void remove_shared_memory(void)
{
	int id = (int)TRY(shmget, shmget((key_t)attack_number("key"), 0, 0));

	if (id >= 0)
		TRY(shmctl, shmctl(id, IPC_RMID, NULL));
}

static void make_queue(void)
{
	TRY(msgget, msgget((key_t)attack_number("new-key"), IPC_CREAT | 0600));
}

static void send_to_queue(void)
{
	struct {
		long type;
		char text[8];
	} message = {.type = 1, .text = "rogue"};
	int id = (int)TRY(msgget, msgget((key_t)attack_number("key"), 0));

	if (id >= 0)
		TRY(msgsnd, msgsnd(id, &message, sizeof(message.text), IPC_NOWAIT));
}

static void make_semaphores(void)
{
	TRY(semget, semget((key_t)attack_number("new-key"), 32, IPC_CREAT | 0600));
}

static void make_posix_queue(void)
{
	TRY(mq_open, mq_open(attack_text("queue"), O_CREAT | O_RDWR, 0600, NULL));
}

static void raise_limit(void)
{
	rlim_t above = attack_number("limit");
	struct rlimit limit = {above, above};

	TRY(prlimit64, setrlimit(RLIMIT_MSGQUEUE, &limit));
}

static void many_timers(void)
{
	timer_t timer;
	struct sigevent event = {.sigev_notify = SIGEV_NONE};

	for (int i = 0; i < 100; i++)
		if (TRY(timer_create, timer_create(CLOCK_MONOTONIC, &event, &timer)) < 0)
			return;
}

static void many_watches(void)
{
	TRY(inotify_init1, syscall(SYS_inotify_init1, 0));
}

static void memory_in_files(void)
{
	int fd = (int)TRY(memfd_create, memfd_create("rogue", 0));

	if (fd >= 0)
		TRY(fallocate, fallocate(fd, 0, 0, 16 << 20));
}

static void large_pipe(void)
{
	int ends[2];

	if (TRY(pipe2, pipe2(ends, 0)) == 0)
		TRY(fcntl, fcntl(ends[0], F_SETPIPE_SZ, 1 << 20));
}

static void lock_all_memory(void)
{
	TRY(mlockall, mlockall(MCL_CURRENT | MCL_FUTURE));
}

const struct attack attacks_resources[] = {
    {"fork-bomb", 39, "children", "fork", BASE_USER, NULL, bomb_of_forks},
    {"fork-call", 39, "children", "fork as a system call", BASE_USER, NULL, fork_by_call},
    {"vfork", 39, "vforked", "vfork", BASE_USER, NULL, fork_by_vfork},
    {"thread-bomb", 39, "threads", "clone of threads", BASE_USER, NULL, bomb_of_threads},
    {"outlive", 38, "children", "clone and setsid", BASE_USER, NULL, outlive},
    {"setsid", 38, "session", "setsid", BASE_USER, NULL, leave_session},
    {"shm-read", 43, "shared-memory", "shmget and shmat", BASE_ROOT, NULL, read_shared_memory},
    {"shm-remove", 43, "shared-memory", "shmctl IPC_RMID", BASE_ROOT, NULL, remove_shared_memory},
    {"shm-create", 43, "ipc-objects", "shmget IPC_CREAT", BASE_USER, NULL, make_shared_memory},
    {"msg-create", 43, "ipc-objects", "msgget IPC_CREAT", BASE_USER, NULL, make_queue},
    {"sem-create", 43, "ipc-objects", "semget IPC_CREAT", BASE_USER, NULL, make_semaphores},
    {"msg-send", 43, "message-queue", "msgget and msgsnd", BASE_ROOT, NULL, send_to_queue},
    {"mq-create", 43, "posix-queue", "mq_open O_CREAT", BASE_USER, NULL, make_posix_queue},
    {"raise-limit", 39, "limits", "setrlimit above the hard limit", BASE_ROOT, NULL, raise_limit},
    {"timers", 43, "timers", "timer_create", BASE_USER, NULL, many_timers},
    {"inotify", 43, "inotify", "inotify_init1", BASE_USER, NULL, many_watches},
    {"memfd-bomb", 40, "memfd", "memfd_create and fallocate", BASE_USER, NULL, memory_in_files},
    {"pipe-size", 40, "pipe", "pipe2 and F_SETPIPE_SZ", BASE_USER, NULL, large_pipe},
    {"mlockall", 40, "locked-memory", "mlockall", BASE_ROOT, NULL, lock_all_memory},
    {0},
};
