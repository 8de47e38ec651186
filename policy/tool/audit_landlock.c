/* SPDX-License-Identifier: Apache-2.0
 *
 * Audit: Landlock. Nothing of the kernel's shows a process' Landlock domain, and the roles' filters leave no call by
 * which they could try it themselves. So the stopped process is made to try: one call at a time that its policy denies,
 * with its filter suspended for that call (PTRACE_O_SUSPEND_SECCOMP), after which its registers and stack are as
 * before. The answer is the kernel's own, whatever the process would like to say. Should this tool die meanwhile, the
 * process dies with it and is started again. See audit.h.
 */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "audit.h"

#ifdef __x86_64__

#define CODE_SYSCALL 0x050f /* the instruction, little endian */
#define RED_ZONE     512    /* below the stack pointer: what the interrupted function may still use */
#define DATA_MAX     128

/* The process while it is made to do something. */
struct borrowed {
	pid_t pid;
	int signal;                        /* that it was stopped for, 0: none */
	struct user_regs_struct registers; /* as they were */
	long stack[DATA_MAX / sizeof(long)];
	unsigned long data; /* address of the borrowed bytes */
};

static int words_write(const struct borrowed *borrowed, const long words[DATA_MAX / sizeof(long)])
{
	for (size_t i = 0; i < DATA_MAX / sizeof(long); i++)
		if (ptrace(PTRACE_POKEDATA, borrowed->pid, borrowed->data + i * sizeof(long), words[i]) != 0)
			return -errno;
	return 0;
}

/* -EBUSY: stopped while it does something; it will soon wait again. */
static int borrow_once(struct borrowed *borrowed, pid_t pid)
{
	int rc = audit_stop(pid, PTRACE_O_SUSPEND_SECCOMP | PTRACE_O_EXITKILL, &borrowed->signal);

	borrowed->pid = pid;
	if (rc != 0)
		return rc;
	if (ptrace(PTRACE_GETREGS, pid, NULL, &borrowed->registers) != 0)
		return -errno;
	/* An idle role waits in a call: the instruction that made it lies just behind. */
	errno = 0;
	if ((ptrace(PTRACE_PEEKTEXT, pid, borrowed->registers.rip - 2, NULL) & 0xffff) != CODE_SYSCALL || errno != 0)
		return -EBUSY;
	borrowed->data = (borrowed->registers.rsp - RED_ZONE - DATA_MAX) & ~15UL;
	for (size_t i = 0; i < DATA_MAX / sizeof(long); i++) {
		borrowed->stack[i] = ptrace(PTRACE_PEEKDATA, pid, borrowed->data + i * sizeof(long), NULL);
		if (errno != 0)
			return -errno;
	}
	return 0;
}

static int borrow(struct borrowed *borrowed, pid_t pid)
{
	int rc = borrow_once(borrowed, pid);

	for (int patience = 50; rc == -EBUSY && patience > 0; patience--) {
		audit_go_on(pid, borrowed->signal);
		usleep(10000);
		rc = borrow_once(borrowed, pid);
	}
	return rc;
}

static int give_back(const struct borrowed *borrowed)
{
	int rc = words_write(borrowed, borrowed->stack);

	if (ptrace(PTRACE_SETREGS, borrowed->pid, NULL, &borrowed->registers) != 0)
		rc = -errno;
	return rc;
}

/* One call of the process; *result is what the kernel answers. data is put at borrowed->data. 0 or -errno. */
static int call(struct borrowed *borrowed, const void *data, size_t len, long number, const unsigned long args[3],
                long *result)
{
	struct user_regs_struct registers = borrowed->registers;
	long words[DATA_MAX / sizeof(long)] = {0};
	int status, rc;

	memcpy(words, data, len);
	rc = words_write(borrowed, words);
	if (rc != 0)
		return rc;
	registers.rip -= 2;
	registers.rax = (unsigned long)number;
	registers.orig_rax = (unsigned long)-1; /* no call to be started again */
	registers.rdi = args[0];
	registers.rsi = args[1];
	registers.rdx = args[2];
	registers.r10 = registers.r8 = registers.r9 = 0;
	if (ptrace(PTRACE_SETREGS, borrowed->pid, NULL, &registers) != 0 ||
	    ptrace(PTRACE_SINGLESTEP, borrowed->pid, NULL, NULL) != 0)
		return -EIO;
	rc = audit_wait(borrowed->pid, &status);
	if (rc != 0)
		return rc;
	if (WSTOPSIG(status) != SIGTRAP) {
		borrowed->signal = WSTOPSIG(status); /* one from outside, for when it goes on */
		return -EINTR;
	}
	if (ptrace(PTRACE_GETREGS, borrowed->pid, NULL, &registers) != 0)
		return -EIO;
	*result = (long)registers.rax;
	return 0;
}

static int try_open(struct borrowed *borrowed, long *result)
{
	long closed;
	int rc = call(borrowed, "/", 2, SYS_openat,
	              (const unsigned long[3]){(unsigned)AT_FDCWD, borrowed->data, O_RDONLY | O_DIRECTORY | O_CLOEXEC},
	              result);

	if (rc == 0 && *result >= 0)
		rc = call(borrowed, "", 1, SYS_close, (const unsigned long[3]){(unsigned long)*result}, &closed);
	return rc;
}

/* What an attempt returns when the process may not even make the socket: SELinux's domains make none for TCP. */
#define NO_SOCKET 1

/* Connect a new socket of the process to where nobody listens. */
static int try_address(struct borrowed *borrowed, const void *address, size_t len, long *result)
{
	int family = ((const struct sockaddr *)address)->sa_family;
	long fd, closed;
	int rc = call(borrowed, "", 1, SYS_socket,
	              (const unsigned long[3]){(unsigned)family, SOCK_STREAM | SOCK_CLOEXEC, 0}, &fd);

	if (rc != 0 || fd < 0)
		return rc != 0 ? rc : fd == -EACCES ? NO_SOCKET : (int)fd;
	rc = call(borrowed, address, len, SYS_connect, (const unsigned long[3]){(unsigned long)fd, borrowed->data, len},
	          result);
	if (rc == 0)
		rc = call(borrowed, "", 1, SYS_close, (const unsigned long[3]){(unsigned long)fd}, &closed);
	return rc;
}

static int try_port(struct borrowed *borrowed, long *result)
{
	/* The discard port, which has no server. */
	struct sockaddr_in address = {
	    .sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	return try_address(borrowed, &address, sizeof(address), result);
}

static struct sockaddr_un abstract = {.sun_family = AF_UNIX};

static int try_abstract(struct borrowed *borrowed, long *result)
{
	return try_address(borrowed, &abstract,
	                   offsetof(struct sockaddr_un, sun_path) + 1 + strlen(abstract.sun_path + 1), result);
}

/* A socket of the process's network namespace, in which alone its abstract names are looked up; -errno. */
static int socket_where(pid_t pid)
{
	char path[64];
	int fd, back;

	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)pid);
	int theirs FD_CLEANUP = open(path, O_RDONLY | O_CLOEXEC);
	int ours FD_CLEANUP = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);

	if (theirs < 0 || ours < 0)
		return -errno;
	if (setns(theirs, CLONE_NEWNET) != 0)
		return -errno;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	back = fd < 0 ? -errno : fd;
	if (setns(ours, CLONE_NEWNET) != 0)
		err(2, "cannot return to the network namespace");
	return back;
}

/* A name that somebody listens on: only then the kernel asks Landlock. The tool's own socket, or -errno. */
static int abstract_listen(pid_t pid)
{
	int fd FD_CLEANUP = socket_where(pid);
	int n = snprintf(abstract.sun_path + 1, sizeof(abstract.sun_path) - 1, "handoff-policy-%d", (int)getpid());
	int listener;

	if (fd < 0)
		return fd;
	if (bind(fd, (struct sockaddr *)&abstract,
	         (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n)) != 0 ||
	    listen(fd, 16) != 0)
		return -errno;
	listener = fd;
	fd = -1;
	return listener;
}

static const struct {
	enum landlock_right right;
	int (*attempt)(struct borrowed *borrowed, long *result);
	int denied;
} attempts[] = {{RIGHT_FS, try_open, -EACCES},
                {RIGHT_NET_CONNECT, try_port, -EACCES},
                {RIGHT_SCOPE_ABSTRACT_UNIX, try_abstract, -EPERM}};

static int try_all(struct process *process, struct borrowed *borrowed, char *tried, size_t size)
{
	int abi = landlock_abi();

	for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++) {
		const struct landlock_right_info *right = &landlock_rights[attempts[i].right];
		size_t len = strlen(tried);
		long result;
		int rc;

		if (process->policy->landlock[attempts[i].right] == NEED_OPEN || right->abi > abi)
			continue;
		rc = attempts[i].attempt(borrowed, &result);
		if (rc < 0)
			return rc;
		if (rc != NO_SOCKET && result != attempts[i].denied)
			found(process, "landlock", VERDICT_FAULT, "%s is not denied: %s", right->name,
			      result < 0 ? strerror((int)-result) : "it works");
		snprintf(tried + len, size - len, "%s%s%s", len > 0 ? ", " : "", right->name,
		         rc == NO_SOCKET ? " (not even a socket)" : "");
	}
	return 0;
}

void audit_landlock(struct process *process)
{
	int listener FD_CLEANUP = abstract_listen(process->pid);
	struct borrowed borrowed = {0};
	char tried[128] = "";
	size_t before = process->n_findings;
	int rc;

	if (process->policy->landlock[RIGHT_FS] == NEED_OPEN)
		return;
	rc = listener < 0 ? listener : borrow(&borrowed, process->pid);
	if (rc == 0) {
		int back;

		rc = try_all(process, &borrowed, tried, sizeof(tried));
		back = give_back(&borrowed);
		rc = rc != 0 ? rc : back;
	}
	audit_go_on(process->pid, borrowed.signal);
	if (rc != 0)
		found(process, "landlock", VERDICT_UNSEEN, "%s", strerror(-rc));
	else if (process->n_findings == before)
		found(process, "landlock", VERDICT_OK, "tried and denied: %s", tried);
}

#else

void audit_landlock(struct process *process)
{
	if (process->policy->landlock[RIGHT_FS] != NEED_OPEN)
		found(process, "landlock", VERDICT_UNSEEN, "only tried on x86-64");
}

#endif
