/* SPDX-License-Identifier: Apache-2.0
 *
 * Attacks that run code which is not the role's: memory that is written and then executed, other programs, a part of
 * the kernel's interface that the filter does not look at, and what keeps a process from being looked into.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "attack.h"

#define PAGE 4096

#ifdef __x86_64__

/* mov eax, NUMBER; ret */
static void write_code(unsigned char *page)
{
	uint32_t number = (uint32_t)attack_number("number");

	page[0] = 0xb8;
	memcpy(page + 1, &number, sizeof(number));
	page[5] = 0xc3;
}

static void run_code(const void *page)
{
	uint32_t (*code)(void);
	char text[16];

	memcpy(&code, &page, sizeof(code));
	snprintf(text, sizeof(text), "%u", code());
	attack_give(text, strlen(text));
}

static void *map(int protection, int flags, int fd)
{
	void *page;

	TRY(mmap, (page = mmap(NULL, PAGE, protection, flags, fd, 0)) == MAP_FAILED ? -1 : 0);
	return page == MAP_FAILED ? NULL : page;
}

static void write_and_execute(void)
{
	void *page = map(PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1);

	if (page == NULL)
		return;
	write_code(page);
	run_code(page);
}

static void change_to_executable(void)
{
	void *page = map(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);

	if (page == NULL)
		return;
	write_code(page);
	if (TRY(mprotect, mprotect(page, PAGE, PROT_READ | PROT_EXEC)) == 0)
		run_code(page);
}

static void change_by_key(void)
{
	void *page = map(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);

	if (page == NULL)
		return;
	write_code(page);
	if (TRY(pkey_mprotect, syscall(SYS_pkey_mprotect, page, PAGE, PROT_READ | PROT_EXEC, -1)) == 0)
		run_code(page);
}

/* Two views of one memory: none is writable and executable. */
static void map_memfd_twice(void)
{
	int fd = (int)TRY(memfd_create, memfd_create("code", 0));
	void *writable, *executable;

	if (fd < 0 || TRY(ftruncate, ftruncate(fd, PAGE)) < 0)
		return;
	writable = map(PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	if (writable == NULL)
		return;
	write_code(writable);
	executable = map(PROT_READ | PROT_EXEC, MAP_SHARED, fd);
	if (executable != NULL)
		run_code(executable);
}

static uint32_t harmless(void) __attribute__((noinline));
static uint32_t harmless(void)
{
	__asm__ volatile("nop; nop; nop; nop; nop; nop; nop; nop");
	return 0;
}

/* By /proc/self/mem it can be written to, whatever its protection. */
static void write_own_text(void)
{
	unsigned char fresh[8];
	int fd = (int)TRY(openat, open("/proc/self/mem", O_RDWR));

	write_code(fresh);
	if (fd >= 0 && TRY(pwrite64, pwrite(fd, fresh, 6, (off_t)(uintptr_t)harmless)) == 6)
		run_code((const void *)(uintptr_t)harmless);
}

static void read_implies_execute(void)
{
	void *page;

	if (TRY(personality, personality(READ_IMPLIES_EXEC)) < 0)
		return;
	page = map(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	if (page == NULL)
		return;
	write_code(page);
	run_code(page);
}

static void map_file(void)
{
	int fd = (int)TRY(openat, open(attack_text("code"), O_RDONLY));
	void *page = fd < 0 ? NULL : map(PROT_READ | PROT_EXEC, MAP_PRIVATE, fd);

	if (page != NULL)
		run_code(page);
}

/* The 32-bit table of system calls: mkdir is 39 there. */
static void call_by_int80(void)
{
	long result;
	char *path;

	/* Its arguments have 32 bits, so the name must lie low. */
	TRY(mmap, (path = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0)) ==
	                  MAP_FAILED
	              ? -1
	              : 0);
	if (path == MAP_FAILED)
		return;
	snprintf(path, PAGE, "%s", attack_text("new"));
	attack_step("mkdir");
	__asm__ volatile("int $0x80"
	                 : "=a"(result)
	                 : "a"(39L), "b"(path), "c"(0755L)
	                 : "memory", "r8", "r9", "r10", "r11");
	errno = result < 0 ? (int)-result : 0;
	attack_result(result < 0 ? -1 : 0);
}

/* One that needs no memory: getpid is 20. */
static void ask_by_int80(void)
{
	long result;
	char text[32];

	attack_step("getpid");
	__asm__ volatile("int $0x80" : "=a"(result) : "a"(20L) : "memory", "r8", "r9", "r10", "r11");
	attack_result(result < 0 ? -1 : 0);
	snprintf(text, sizeof(text), "pid %ld.", result);
	attack_give(text, strlen(text));
}

#endif

/* Roles have an empty environment: the proof is put there by the attacker. */
static char *proof_environment[2];

static void execute(void)
{
	static char proof[600];
	char *arguments[] = {(char *)(uintptr_t)attack_text("program"), "prove", NULL};

	snprintf(proof, sizeof(proof), "REDTEAM_PROOF=%s", attack_text("path"));
	proof_environment[0] = proof;
	TRY(execve, execve(arguments[0], arguments, proof_environment));
}

static int program_in_memory(void)
{
	char buffer[16384];
	int from = (int)TRY(openat, open(attack_text("program"), O_RDONLY));
	int to = from < 0 ? -1 : (int)TRY(memfd_create, memfd_create("program", 0));
	ssize_t n;

	while (to >= 0 && (n = read(from, buffer, sizeof(buffer))) > 0)
		if (write(to, buffer, (size_t)n) != n)
			return -1;
	return to;
}

static void execute_memory(void)
{
	static char proof[600];
	char *arguments[] = {"program", "prove", NULL};
	int fd = program_in_memory();

	snprintf(proof, sizeof(proof), "REDTEAM_PROOF=%s", attack_text("path"));
	proof_environment[0] = proof;
	if (fd >= 0)
		TRY(execveat, syscall(SYS_execveat, fd, "", arguments, proof_environment, AT_EMPTY_PATH));
}

static void catch_faults(void)
{
	TRY(userfaultfd, syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
}

/* One read of a file by a ring, without read() and without open(): openat and read are operations of the ring. */
struct ring {
	int fd;
	unsigned char *queue, *entries;
	struct io_uring_params params;
};

static int ring_set_up(struct ring *ring)
{
	memset(ring, 0, sizeof(*ring));
	ring->fd = (int)TRY(io_uring_setup, syscall(SYS_io_uring_setup, 4, &ring->params));
	if (ring->fd < 0)
		return -1;
	ring->queue = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, IORING_OFF_SQ_RING);
	ring->entries = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, IORING_OFF_SQES);
	return ring->queue == MAP_FAILED || ring->entries == MAP_FAILED ? -1 : 0;
}

static int ring_do(struct ring *ring, const struct io_uring_sqe *what)
{
	unsigned *tail = (unsigned *)(void *)(ring->queue + ring->params.sq_off.tail);
	unsigned mask = *(unsigned *)(void *)(ring->queue + ring->params.sq_off.ring_mask);
	unsigned *array = (unsigned *)(void *)(ring->queue + ring->params.sq_off.array);
	unsigned *head = (unsigned *)(void *)(ring->queue + ring->params.cq_off.head);
	unsigned cq_mask = *(unsigned *)(void *)(ring->queue + ring->params.cq_off.ring_mask);
	struct io_uring_cqe *done = (struct io_uring_cqe *)(void *)(ring->queue + ring->params.cq_off.cqes);
	int result;

	memcpy(ring->entries + (*tail & mask) * sizeof(*what), what, sizeof(*what));
	array[*tail & mask] = *tail & mask;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	if (TRY(io_uring_enter, syscall(SYS_io_uring_enter, ring->fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0)) != 1)
		return -1;
	result = done[*head & cq_mask].res;
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	return result;
}

static void read_by_ring(void)
{
	struct ring ring;
	struct io_uring_sqe sqe = {.opcode = IORING_OP_OPENAT, .fd = AT_FDCWD};
	static char buffer[256];
	int fd;

	if (ring_set_up(&ring) < 0)
		return;
	sqe.addr = (uint64_t)(uintptr_t)attack_text("path");
	fd = ring_do(&ring, &sqe);
	if (fd < 0)
		return;
	sqe = (struct io_uring_sqe){.opcode = IORING_OP_READ, .fd = fd, .len = sizeof(buffer)};
	sqe.addr = (uint64_t)(uintptr_t)buffer;
	fd = ring_do(&ring, &sqe);
	if (fd > 0)
		attack_give(buffer, (size_t)fd);
}

static void become_dumpable(void)
{
	TRY(prctl, prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
}

/* Its memory may hold keys. */
static void dump_core(void)
{
	struct rlimit much = {RLIM_INFINITY, RLIM_INFINITY};

	TRY(prlimit64, setrlimit(RLIMIT_CORE, &much));
	TRY(prctl, prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
	attack_step("a fault");
	*(volatile int *)(uintptr_t)(attack_number("nowhere") + 8) = 1;
}

/* The limit as it is. */
static void dump_core_at_once(void)
{
	attack_step("a fault");
	*(volatile int *)(uintptr_t)(attack_number("nowhere") + 8) = 1;
}

static void choose_tracer(void)
{
	TRY(prctl, prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0));
}

const struct attack attacks_memory[] = {
#ifdef __x86_64__
    {"code-in-writable-memory", 7, "own-code", "mmap writable and executable", BASE_ROOT, NULL, write_and_execute},
    {"code-by-mprotect", 7, "own-code", "mprotect to executable", BASE_ROOT, NULL, change_to_executable},
    {"code-by-pkey-mprotect", 7, "own-code", "pkey_mprotect to executable", BASE_ROOT, NULL, change_by_key},
    {"code-in-two-views", 7, "own-code", "memfd mapped twice", BASE_ROOT, NULL, map_memfd_twice},
    {"code-by-proc-self-mem", 7, "own-code", "write to /proc/self/mem", BASE_ROOT, NULL, write_own_text},
    {"code-by-personality", 7, "own-code", "personality READ_IMPLIES_EXEC", BASE_ROOT, NULL, read_implies_execute},
    {"code-from-file", 7, "own-code", "mmap of a file, executable", BASE_ROOT, NULL, map_file},
    {"int80-mkdir", 9, "web-directory", "int 0x80: mkdir", BASE_ROOT, NULL, call_by_int80},
    {"int80-getpid", 9, "int80", "int 0x80: getpid", BASE_ROOT, NULL, ask_by_int80},
#endif
    {"execve-program", 11, "program", "execve", BASE_ROOT, NULL, execute},
    {"execve-setuid", 15, "setuid-program", "execve of a setuid program", BASE_USER, NULL, execute},
    {"execve-setgid", 15, "setgid-program", "execve of a setgid program", BASE_USER, NULL, execute},
    {"execve-capable", 15, "capable-program", "execve of a program with file capabilities", BASE_USER, NULL, execute},
    {"execveat-memfd", 11, "program", "memfd_create and execveat", BASE_ROOT, NULL, execute_memory},
    {"userfaultfd", 8, "userfaultfd", "userfaultfd", BASE_ROOT, NULL, catch_faults},
    {"io-uring-read-key-ring", 10, "key-ring", "io_uring: open and read", BASE_ROOT, NULL, read_by_ring},
    {"io-uring-read-shadow", 10, "shadow", "io_uring: open and read", BASE_ROOT, NULL, read_by_ring},
    {"dumpable", 6, "dumpable", "prctl PR_SET_DUMPABLE", BASE_USER, NULL, become_dumpable},
    {"ptracer", 6, "reached", "prctl PR_SET_PTRACER", BASE_USER, NULL, choose_tracer},
    {"core-with-limit-raised", 6, "core", "setrlimit, PR_SET_DUMPABLE and a fault", BASE_USER, NULL, dump_core},
    {"core-at-once", 6, "core", "a fault", BASE_ROOT, NULL, dump_core_at_once},
    {0},
};
