/* SPDX-License-Identifier: Apache-2.0
 *
 * The cages at work: for each role a child applies the shipped policy and makes one system call with harmless
 * arguments. Bad descriptors and pointers are the probe: EBADF or EFAULT means that the call reached the kernel. The
 * tables are written by hand, from what the roles must and must not be able to do, not from the policies.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <seccomp.h>
#include <stddef.h>

#include "policy_support.h"

#ifdef HANDOFF_SANITIZE

int main(void)
{
	puts("skipped: a sanitizer build leaves the cages out");
	return 0;
}

#else

struct probe {
	int roles;
	const char *what;
	long number;
	long args[6];
	int expected;
};

static int try_call(const char *role, const struct probe *probe)
{
	pid_t child = fork();

	assert_return_code(child, errno);
	if (child == 0) {
		const long *a = probe->args;

		apply(role);
		if (syscall(probe->number, a[0], a[1], a[2], a[3], a[4], a[5]) >= 0)
			_exit(OK);
		_exit(errno);
	}
	return outcome(child);
}

static void run_probes(const struct probe *probes, size_t n)
{
	size_t failures = 0;

	for (size_t i = 0; i < n; i++) {
		for (size_t r = 0; r < N_ROLES; r++) {
			int result;

			if ((probes[i].roles & roles[r].bit) == 0)
				continue;
			result = try_call(roles[r].name, &probes[i]);
			if (result == probes[i].expected)
				continue;
			print_error("%s: %s: %s instead of %s\n", roles[r].name, probes[i].what, result_name(result),
			            result_name(probes[i].expected));
			failures++;
		}
	}
	assert_int_equal(failures, 0);
}
#define RUN(probes) run_probes((probes), sizeof(probes) / sizeof((probes)[0]))

#define P(pointer) ((long)(pointer))

/* ---------------------------------------------------------------- what must work */

static const struct timespec no_time;

static const struct probe working[] = {
    {ALL, "read", SYS_read, {-1, 0, 0}, EBADF},
    {ALL, "write", SYS_write, {-1, 0, 0}, EBADF},
    {ALL, "close", SYS_close, {-1}, EBADF},
    {ALL, "clock_gettime", SYS_clock_gettime, {CLOCK_MONOTONIC, 0}, EFAULT},
    {ALL, "getrandom", SYS_getrandom, {0, 0, 0}, OK},
    {ALL, "brk", SYS_brk, {0}, OK},
    {ALL, "munmap", SYS_munmap, {1, 0}, EINVAL},
    {ALL, "mremap", SYS_mremap, {1, 0, 0, 0}, EINVAL},
    {ALL, "madvise", SYS_madvise, {1, 0, MADV_DONTNEED}, EINVAL},
    {ALL, "madvise of sodium_malloc", SYS_madvise, {1, 0, MADV_DONTDUMP}, EINVAL},
    {ALL, "mlock", SYS_mlock, {0, 0}, OK},
    {ALL, "munlock", SYS_munlock, {0, 0}, OK},
    {ALL, "gettimeofday", SYS_gettimeofday, {0, 0}, OK},
#ifdef SYS_time
    {ALL, "time", SYS_time, {0}, OK},
#endif
    {ALL, "futex", SYS_futex, {1, 0 /* FUTEX_WAIT */, 0, 0, 0, 0}, EINVAL},
    {ALL, "rseq", SYS_rseq, {0, 0, 0, 0}, EINVAL},
    {ALL, "restart_syscall", SYS_restart_syscall, {0}, EINTR},
    {ALL, "rt_sigaction", SYS_rt_sigaction, {0, 0, 0, 8}, EINVAL},
    {ALL, "rt_sigprocmask", SYS_rt_sigprocmask, {0, 0, 0, 8}, OK},
    {ALL, "getpid", SYS_getpid, {0}, OK},
    {ALL, "geteuid", SYS_geteuid, {0}, OK},
    {ALL, "fstat", SYS_fstat, {-1, 0}, EBADF},
    {ALL, "fstat by newfstatat", SYS_newfstatat, {-1, P(""), 0, AT_EMPTY_PATH}, EBADF},
    {ALL, "epoll_create1", SYS_epoll_create1, {-1}, EINVAL},
#ifdef SYS_epoll_wait
    {ALL, "epoll_wait", SYS_epoll_wait, {-1, P("012345678901"), 1, 0}, EBADF},
    {ALL, "poll", SYS_poll, {0, 0, 0}, OK},
#endif
    {ALL, "ppoll", SYS_ppoll, {0, 0, P(&no_time), 0, 0}, OK},
    {ALL, "eventfd2", SYS_eventfd2, {0, -1}, EINVAL},
    {ALL, "exit_group", SYS_exit_group, {OK}, OK},
    {ALL, "memory", SYS_mmap, {0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0}, OK},
    {ALL, "guard pages", SYS_mprotect, {1, 4096, PROT_NONE}, EINVAL},
    {ALL, "epoll_ctl", SYS_epoll_ctl, {-1, 1, -1, P("012345678901")}, EBADF},
    {ALL, "epoll_pwait", SYS_epoll_pwait, {-1, P("012345678901"), 1, 0, 0, 0}, EBADF},
    {ALL, "fcntl F_GETFL", SYS_fcntl, {-1, F_GETFL}, EBADF},
    {ALL, "accept4", SYS_accept4, {-1, 0, 0, SOCK_CLOEXEC | SOCK_NONBLOCK}, EBADF},
    {ALL, "recvmsg", SYS_recvmsg, {-1, 0, MSG_CMSG_CLOEXEC | MSG_DONTWAIT}, EBADF},
    {ALL, "sendmsg", SYS_sendmsg, {-1, 0, MSG_NOSIGNAL | MSG_DONTWAIT}, EBADF},
    {ALL, "send", SYS_sendto, {-1, 0, 0, MSG_NOSIGNAL | MSG_DONTWAIT, 0, 0}, EBADF},
    {ALL, "SO_PEERCRED", SYS_getsockopt, {-1, SOL_SOCKET, SO_PEERCRED}, EBADF},
    {GATE, "unix socket", SYS_socket, {AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0}, OK},
    {GATE, "connect", SYS_connect, {-1, 0, 0}, EBADF},
    {GATE, "socketpair", SYS_socketpair, {AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, 0}, EFAULT},
    {GATE, "SO_NETNS_COOKIE", SYS_getsockopt, {-1, SOL_SOCKET, 71}, EBADF},
    {GATE | STREAMER, "getpeername", SYS_getpeername, {-1, 0, 0}, EBADF},
    {STREAMER | DIALER, "getsockname", SYS_getsockname, {-1, 0, 0}, EBADF},
    {GATE | STREAMER, "F_GET_SEALS", SYS_fcntl, {-1, F_GET_SEALS}, EBADF},
    {GATE, "counters of others", SYS_pread64, {-1, 0, 0, 0}, EBADF},
    {STREAMER, "memfd map", SYS_mmap, {0, 4096, PROT_READ, MAP_PRIVATE, -1, 0}, EBADF},
    {STREAMER | DIALER, "TCP_NODELAY", SYS_setsockopt, {-1, SOL_TCP, TCP_NODELAY}, EBADF},
    {STREAMER | DIALER, "SO_KEEPALIVE", SYS_setsockopt, {-1, SOL_SOCKET, SO_KEEPALIVE}, EBADF},
    {DIALER, "TCP_KEEPIDLE", SYS_setsockopt, {-1, SOL_TCP, TCP_KEEPIDLE}, EBADF},
    {DIALER, "TCP_KEEPINTVL", SYS_setsockopt, {-1, SOL_TCP, TCP_KEEPINTVL}, EBADF},
    {STREAMER | DIALER, "TCP_USER_TIMEOUT", SYS_setsockopt, {-1, SOL_TCP, TCP_USER_TIMEOUT}, EBADF},
    {STREAMER, "SO_SNDBUF", SYS_setsockopt, {-1, SOL_SOCKET, SO_SNDBUF}, EBADF},
    {STREAMER, "recv", SYS_recvfrom, {-1, 0, 0, MSG_DONTWAIT, 0, 0}, EBADF},
    {STREAMER, "shutdown", SYS_shutdown, {-1, SHUT_WR}, EBADF},
    {DIALER, "TCP socket", SYS_socket, {AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0}, OK},
    {DIALER, "unix socket of an upstream", SYS_socket, {AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0}, OK},
    {DIALER, "DNS socket", SYS_socket, {AF_INET, SOCK_DGRAM, 0}, OK},
    {DIALER, "connect", SYS_connect, {-1, 0, 0}, EBADF},
    {DIALER, "DNS question over TCP", SYS_writev, {-1, 0, 0}, EBADF},
    {DIALER, "DNS answer", SYS_recvfrom, {-1, 0, 0, 0, P("x"), P("x")}, EBADF},
    {DIALER, "hosts file", SYS_openat, {AT_FDCWD, P("/etc/hosts"), O_RDONLY | O_CLOEXEC}, OK},
};

static void test_working(void **state)
{
	(void)state;
	RUN(working);
}

/* ---------------------------------------------------------------- what is answered with an errno */

static const struct probe answered[] = {
    {ALL, "clone3", 435, {0, 0}, ENOSYS},
    {ALL, "a number nobody has", 500, {0}, ENOSYS},
    {ALL, "a number newer than libseccomp", 463, {0}, ENOSYS},
    {ALL, "is it a terminal", SYS_ioctl, {-1, TCGETS}, ENOTTY},
    {ALL, "sendto MSG_FASTOPEN", SYS_sendto, {-1, 0, 0, MSG_FASTOPEN, P("x"), 16}, EPERM},
    {ALL, "sendto MSG_FASTOPEN and others", SYS_sendto, {-1, 0, 0, MSG_FASTOPEN | MSG_NOSIGNAL, 0, 0}, EPERM},
    {ALL, "sendmsg MSG_FASTOPEN", SYS_sendmsg, {-1, 0, MSG_FASTOPEN}, EPERM},
    {ALL, "sendmmsg MSG_FASTOPEN", SYS_sendmmsg, {-1, 0, 1, MSG_FASTOPEN}, EPERM},
    {STREAMER, "connect", SYS_connect, {-1, 0, 0}, EINPROGRESS},
    {STREAMER, "open to read", SYS_openat, {AT_FDCWD, P("/etc/hosts"), O_RDONLY}, ENOENT},
    {STREAMER, "open to write", SYS_openat, {AT_FDCWD, P("/tmp/handoff-test"), O_WRONLY | O_CREAT, 0600}, ENOENT},
    {DIALER, "TCP_FASTOPEN_CONNECT", SYS_setsockopt, {-1, SOL_TCP, TCP_FASTOPEN_CONNECT}, EPERM},
    {DIALER, "file outside the cage", SYS_openat, {AT_FDCWD, P("/etc/passwd"), O_RDONLY | O_CLOEXEC}, EACCES},
    {DIALER, "directory outside the cage", SYS_openat, {AT_FDCWD, P("/"), O_RDONLY | O_CLOEXEC}, EACCES},
};

/* A signal handler that mends what it was called for and returns: rt_sigreturn has no harmless arguments. */
static void *guarded;

static void on_fault(int number)
{
	(void)number;
	if (mprotect(guarded, 4096, PROT_READ | PROT_WRITE) != 0)
		_exit(EXIT_BROKEN);
}

static void test_handler_returns(void **state)
{
	(void)state;
	guarded = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(guarded, MAP_FAILED);
	for (size_t r = 0; r < N_ROLES; r++) {
		pid_t child = fork();

		assert_return_code(child, errno);
		if (child == 0) {
			signal(SIGSEGV, on_fault);
			apply(roles[r].name);
			*(volatile char *)guarded = 1;
			_exit(OK);
		}
		assert_int_equal(outcome(child), OK);
	}
	munmap(guarded, 4096);
}

static void test_answered(void **state)
{
	(void)state;
	RUN(answered);
}

/* ---------------------------------------------------------------- what kills */

static const struct probe killing[] = {
    {ALL, "exit of a thread", SYS_exit, {0}, KILLED},
    {ALL, "madvise MADV_FREE", SYS_madvise, {1, 0, MADV_FREE}, KILLED},
    {GATE, "unix socket that blocks", SYS_socket, {AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0}, KILLED},
    {GATE, "socketpair that blocks", SYS_socketpair, {AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, 0}, KILLED},
    {GATE, "SO_ERROR", SYS_getsockopt, {-1, SOL_SOCKET, SO_ERROR}, KILLED},
/* programs and processes */
#ifdef SYS_fork
    {ALL, "fork", SYS_fork, {0}, KILLED},
    {ALL, "vfork", SYS_vfork, {0}, KILLED},
#endif
    {ALL, "execve", SYS_execve, {0, 0, 0}, KILLED},
    {ALL, "execveat", SYS_execveat, {-1, 0, 0, 0, 0}, KILLED},
    {ALL, "clone", SYS_clone, {SIGCHLD, 0, 0, 0, 0}, KILLED},
    {ALL, "clone of a thread", SYS_clone, {0x3d0f00, 0, 0, 0, 0}, KILLED},
    {ALL, "kill", SYS_kill, {0, 0}, KILLED},
    {ALL, "tgkill", SYS_tgkill, {1, 1, 0}, KILLED},
    {ALL, "pidfd_open", SYS_pidfd_open, {1, 0}, KILLED},
    {ALL, "pidfd_getfd", SYS_pidfd_getfd, {-1, 0, 0}, KILLED},
    {ALL, "pidfd_send_signal", SYS_pidfd_send_signal, {-1, 0, 0, 0}, KILLED},
    {ALL, "ptrace", SYS_ptrace, {16, 1, 0, 0}, KILLED},
    {ALL, "process_vm_readv", SYS_process_vm_readv, {1, 0, 0, 0, 0, 0}, KILLED},
    {ALL, "process_vm_writev", SYS_process_vm_writev, {1, 0, 0, 0, 0, 0}, KILLED},
    {ALL, "prlimit64", SYS_prlimit64, {0, RLIMIT_NOFILE, 0, 0}, KILLED},
    {ALL, "setuid", SYS_setuid, {0}, KILLED},
    {ALL, "capset", SYS_capset, {0, 0}, KILLED},
    {ALL, "prctl PR_SET_DUMPABLE", SYS_prctl, {PR_SET_DUMPABLE, 1}, KILLED},
    {ALL, "prctl PR_SET_NAME", SYS_prctl, {PR_SET_NAME, P("x")}, KILLED},
    {ALL, "seccomp", SYS_seccomp, {0, 0, 0}, KILLED},
    /* the kernel's other doors */
    {ALL, "io_uring_setup", SYS_io_uring_setup, {1, 0}, KILLED},
    {ALL, "io_uring_enter", SYS_io_uring_enter, {-1, 0, 0, 0, 0, 0}, KILLED},
    {ALL, "io_uring_register", SYS_io_uring_register, {-1, 0, 0, 0}, KILLED},
    {ALL, "io_setup", SYS_io_setup, {1, 0}, KILLED},
    {ALL, "bpf", SYS_bpf, {0, 0, 0}, KILLED},
    {ALL, "perf_event_open", SYS_perf_event_open, {0, 0, 0, 0, 0}, KILLED},
    {ALL, "userfaultfd", SYS_userfaultfd, {0}, KILLED},
    {ALL, "keyctl", SYS_keyctl, {0, 0, 0, 0, 0}, KILLED},
    {ALL, "add_key", SYS_add_key, {0, 0, 0, 0, 0}, KILLED},
    {ALL, "unshare", SYS_unshare, {0}, KILLED},
    {ALL, "setns", SYS_setns, {-1, 0}, KILLED},
    {ALL, "mount", SYS_mount, {0, 0, 0, 0, 0}, KILLED},
    {ALL, "personality", SYS_personality, {0xffffffff}, KILLED},
    {ALL, "landlock_create_ruleset", 444, {0, 0, 1}, KILLED},
    {ALL, "memfd_secret", 447, {0}, KILLED},
    {ALL, "a number above all", 600, {0}, KILLED},
    {ALL, "a number far above all", 1 << 20, {0}, KILLED},
    /* files */
    {GATE, "openat", SYS_openat, {AT_FDCWD, P("/etc/hosts"), O_RDONLY}, KILLED},
    {DIALER, "open to write", SYS_openat, {AT_FDCWD, P("/etc/hosts"), O_WRONLY}, KILLED},
    {DIALER, "create", SYS_openat, {AT_FDCWD, P("/tmp/handoff-test"), O_RDONLY | O_CREAT, 0600}, KILLED},
    {DIALER, "truncate", SYS_openat, {AT_FDCWD, P("/etc/hosts"), O_RDONLY | O_TRUNC}, KILLED},
    {ALL, "openat2", SYS_openat2, {-1, 0, 0, 0}, KILLED},
#ifdef SYS_open
    {ALL, "open", SYS_open, {P("/etc/hosts"), O_RDONLY}, KILLED},
    {ALL, "creat", SYS_creat, {0, 0}, KILLED},
    {ALL, "unlink", SYS_unlink, {0}, KILLED},
    {ALL, "rename", SYS_rename, {0, 0}, KILLED},
    {ALL, "chmod", SYS_chmod, {0, 0}, KILLED},
#endif
    {ALL, "unlinkat", SYS_unlinkat, {-1, 0, 0}, KILLED},
    {ALL, "fchmod", SYS_fchmod, {-1, 0}, KILLED},
    {ALL, "fchown", SYS_fchown, {-1, 0, 0}, KILLED},
    {ALL, "chdir", SYS_chdir, {0}, KILLED},
    {ALL, "getdents64", SYS_getdents64, {-1, 0, 0}, KILLED},
    {ALL, "ftruncate", SYS_ftruncate, {-1, 0}, KILLED},
    {ALL, "newfstatat by name", SYS_newfstatat, {AT_FDCWD, P("/"), 0, 0}, KILLED},
    {ALL, "statx", SYS_statx, {AT_FDCWD, P("/"), 0, 0, 0}, KILLED},
    {ALL, "setxattr", SYS_fsetxattr, {-1, 0, 0, 0, 0}, KILLED},
    {ALL, "memfd_create", SYS_memfd_create, {0, 0}, KILLED},
    {ALL, "dup", SYS_dup, {-1}, KILLED},
    {ALL, "dup3", SYS_dup3, {-1, -1, 0}, KILLED},
    {ALL, "F_DUPFD", SYS_fcntl, {-1, F_DUPFD, 0}, KILLED},
    {ALL, "F_SETOWN", SYS_fcntl, {-1, F_SETOWN, 1}, KILLED},
    {ALL, "F_SETLEASE", SYS_fcntl, {-1, F_SETLEASE, 0}, KILLED},
    {ALL, "TIOCSTI", SYS_ioctl, {-1, TIOCSTI, 0}, KILLED},
    {ALL, "TIOCLINUX", SYS_ioctl, {-1, 0x541c, 0}, KILLED},
    {ALL, "SIOCGIFCONF", SYS_ioctl, {-1, SIOCGIFCONF, 0}, KILLED},
    {DIALER, "F_GET_SEALS", SYS_fcntl, {-1, F_GET_SEALS}, KILLED},
    {STREAMER | DIALER, "counters of others", SYS_pread64, {-1, 0, 0, 0}, KILLED},
    {ALL, "write at an offset", SYS_pwrite64, {-1, 0, 0, 0}, KILLED},
    {GATE, "shared mapping of a file", SYS_mmap, {0, 4096, PROT_READ, MAP_SHARED, -1, 0}, KILLED},
    /* memory */
    {ALL, "executable memory", SYS_mmap, {0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0}, KILLED},
    {ALL, "shared memory", SYS_mmap, {0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0}, KILLED},
    {ALL,
     "memory in place of other",
     SYS_mmap,
     {4096, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0},
     KILLED},
    {ALL, "writable file mapping", SYS_mmap, {0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, -1, 0}, KILLED},
    {ALL, "executable file mapping", SYS_mmap, {0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, -1, 0}, KILLED},
    {GATE | DIALER, "file mapping", SYS_mmap, {0, 4096, PROT_READ, MAP_PRIVATE, -1, 0}, KILLED},
    {ALL, "making memory executable", SYS_mprotect, {0, 4096, PROT_READ | PROT_EXEC}, KILLED},
    {ALL, "pkey_mprotect", SYS_pkey_mprotect, {0, 4096, PROT_READ | PROT_EXEC, -1}, KILLED},
    {ALL, "remap_file_pages", SYS_remap_file_pages, {0, 0, 0, 0, 0}, KILLED},
    {ALL, "mremap in place of other", SYS_mremap, {0, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, 0}, KILLED},
    /* sockets */
    {ALL, "bind", SYS_bind, {-1, 0, 0}, KILLED},
    {ALL, "listen", SYS_listen, {-1, 1}, KILLED},
    {ALL, "accept without flags' checks", SYS_accept, {-1, 0, 0}, KILLED},
    {ALL, "accept4 with other flags", SYS_accept4, {-1, 0, 0, 1}, KILLED},
    {ALL, "recvmsg without CLOEXEC", SYS_recvmsg, {-1, 0, MSG_DONTWAIT}, KILLED},
    {ALL, "recvmsg MSG_OOB", SYS_recvmsg, {-1, 0, MSG_CMSG_CLOEXEC | MSG_OOB}, KILLED},
    {ALL, "recvmmsg", SYS_recvmmsg, {-1, 0, 0, 0, 0}, KILLED},
    {ALL, "sendmmsg", SYS_sendmmsg, {-1, 0, 0, 0}, KILLED},
    {ALL, "sendto MSG_ZEROCOPY", SYS_sendto, {-1, 0, 0, MSG_ZEROCOPY, 0, 0}, KILLED},
    {ALL, "sendmsg MSG_OOB", SYS_sendmsg, {-1, 0, MSG_OOB}, KILLED},
    {ALL, "sendto an address", SYS_sendto, {-1, 0, 0, MSG_NOSIGNAL, P("x"), 16}, KILLED},
    {STREAMER, "recvfrom with an address", SYS_recvfrom, {-1, 0, 0, 0, P("x"), P("x")}, KILLED},
    {ALL, "splice", SYS_splice, {-1, 0, -1, 0, 0, 0}, KILLED},
    {GATE | STREAMER, "TCP socket", SYS_socket, {AF_INET, SOCK_STREAM, 0}, KILLED},
    {GATE | STREAMER, "TCP socket over IPv6", SYS_socket, {AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0}, KILLED},
    {GATE | STREAMER, "UDP socket", SYS_socket, {AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0}, KILLED},
    {ALL, "raw socket", SYS_socket, {AF_INET, SOCK_RAW, IPPROTO_ICMP}, KILLED},
    {ALL, "ICMP socket", SYS_socket, {AF_INET, SOCK_DGRAM, IPPROTO_ICMP}, KILLED},
    {ALL, "SCTP socket", SYS_socket, {AF_INET, SOCK_STREAM, IPPROTO_SCTP}, KILLED},
    {ALL, "MPTCP socket", SYS_socket, {AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 262}, KILLED},
    {ALL, "netlink socket", SYS_socket, {AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0}, KILLED},
    {ALL, "packet socket", SYS_socket, {17, SOCK_RAW, 0}, KILLED},
    {ALL, "vsock", SYS_socket, {40, SOCK_STREAM, 0}, KILLED},
    {ALL, "crypto socket", SYS_socket, {38, SOCK_SEQPACKET | SOCK_CLOEXEC, 0}, KILLED},
    {ALL, "unix stream socket", SYS_socket, {AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0}, KILLED},
    {ALL, "unix datagram socket", SYS_socket, {AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0}, KILLED},
    {STREAMER | DIALER, "unix socket", SYS_socket, {AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0}, KILLED},
    {STREAMER | DIALER, "socketpair", SYS_socketpair, {AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, 0}, KILLED},
    {GATE, "socketpair of streams", SYS_socketpair, {AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, 0}, KILLED},
    {GATE, "setsockopt", SYS_setsockopt, {-1, SOL_SOCKET, SO_KEEPALIVE}, KILLED},
    {GATE | STREAMER, "TCP_FASTOPEN_CONNECT", SYS_setsockopt, {-1, SOL_TCP, TCP_FASTOPEN_CONNECT}, KILLED},
    {ALL, "TCP_ULP", SYS_setsockopt, {-1, SOL_TCP, TCP_ULP}, KILLED},
    {ALL, "TCP_REPAIR", SYS_setsockopt, {-1, SOL_TCP, TCP_REPAIR}, KILLED},
    {GATE | DIALER, "SO_SNDBUF", SYS_setsockopt, {-1, SOL_SOCKET, SO_SNDBUF}, KILLED},
    {STREAMER, "SO_RCVBUF", SYS_setsockopt, {-1, SOL_SOCKET, SO_RCVBUF}, KILLED},
    {STREAMER, "SO_SNDBUFFORCE", SYS_setsockopt, {-1, SOL_SOCKET, SO_SNDBUFFORCE}, KILLED},
    {ALL, "SO_MARK", SYS_setsockopt, {-1, SOL_SOCKET, SO_MARK}, KILLED},
    {ALL, "SO_BINDTODEVICE", SYS_setsockopt, {-1, SOL_SOCKET, SO_BINDTODEVICE}, KILLED},
    {ALL, "SO_ATTACH_FILTER", SYS_setsockopt, {-1, SOL_SOCKET, SO_ATTACH_FILTER}, KILLED},
    {GATE | DIALER, "shutdown", SYS_shutdown, {-1, SHUT_WR}, KILLED},
    {GATE | STREAMER, "writev", SYS_writev, {-1, 0, 0}, KILLED},
    {STREAMER, "shared file mapping", SYS_mmap, {0, 4096, PROT_READ, MAP_SHARED, -1, 0}, KILLED},
    {STREAMER | DIALER, "SO_LINGER", SYS_setsockopt, {-1, SOL_SOCKET, SO_LINGER}, KILLED},
    {DIALER, "TCP_KEEPCNT", SYS_setsockopt, {-1, SOL_TCP, TCP_KEEPCNT}, KILLED},
    {ALL, "SO_PASSCRED", SYS_setsockopt, {-1, SOL_SOCKET, SO_PASSCRED}, KILLED},
};

static void test_killing(void **state)
{
	(void)state;
	RUN(killing);
}

/* ---------------------------------------------------------------- every system call there is */

/* Besides what the tables above try for a role, nothing may get through, whatever its arguments. */
static bool is_in(const struct probe *probes, size_t n, int role, long number)
{
	for (size_t i = 0; i < n; i++)
		if ((probes[i].roles & role) != 0 && probes[i].number == number)
			return true;
	return false;
}
#define IS_IN(probes, role, number) is_in((probes), sizeof(probes) / sizeof((probes)[0]), (role), (number))

static struct sock_fprog compile(const char *role)
{
	char error[256];
	struct sock_fprog program;
	struct policy *policy = policy_load(role, NULL, error, sizeof(error));

	assert_non_null(policy);
	assert_int_equal(policy_compile(policy, SCMP_ARCH_NATIVE, POLICY_ENFORCE, &program, error, sizeof(error)), 0);
	policy_free(policy);
	return program;
}

/* All arguments the same: what is compared is met by neither 0 nor -1, or a table above has the call. */
static int try_number(const struct sock_fprog *program, long number, long argument)
{
	pid_t child = fork();

	assert_return_code(child, errno);
	if (child == 0) {
		alarm(10);
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
		    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, program) != 0)
			_exit(EXIT_BROKEN);
		if (syscall(number, argument, argument, argument, argument, argument, argument) >= 0)
			_exit(OK);
		_exit(errno == ENOSYS ? ENOSYS : OK);
	}
	return outcome(child);
}

/* ENOSYS for numbers that libseccomp has no name for; those of the kernel end at 511. */
static int expected_for(long number)
{
	char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, (int)number);
	int expected = name == NULL && number <= 511 ? ENOSYS : KILLED;

	free(name);
	return expected;
}

/* rt_sigreturn is tried above. The other two the kernel lets pass every filter since 6.14: uretprobe and uprobe, which
 * do nothing unless a tracer has put them there. */
static bool is_exempt(long number)
{
#ifdef __x86_64__
	if (number == 335 || number == 336)
		return true;
#endif
	return number == SYS_rt_sigreturn;
}

static void test_every_number(void **state)
{
	size_t failures = 0;

	(void)state;
	for (size_t r = 0; r < N_ROLES; r++) {
		struct sock_fprog program = compile(roles[r].name);

		for (long number = 0; number < 600; number++) {
			if (IS_IN(working, roles[r].bit, number) || IS_IN(answered, roles[r].bit, number) ||
			    is_exempt(number))
				continue;
			for (long argument = -1; argument <= 0; argument++) {
				int result = try_number(&program, number, argument);

				if (result == expected_for(number))
					continue;
				print_error("%s: call %ld, arguments %ld: %s, and no table has it\n", roles[r].name,
				            number, argument, result_name(result));
				failures++;
			}
		}
		free(program.filter);
	}
	assert_int_equal(failures, 0);
}

/* ---------------------------------------------------------------- the spawners, whose children inherit */

static const long denied_to_all[] = {
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_process_madvise,
    SYS_pidfd_getfd,
    SYS_kcmp,
    SYS_io_uring_setup,
    SYS_io_uring_enter,
    SYS_io_uring_register,
    SYS_bpf,
    SYS_perf_event_open,
    SYS_userfaultfd,
    SYS_init_module,
    SYS_finit_module,
    SYS_delete_module,
    SYS_kexec_load,
    SYS_kexec_file_load,
    SYS_reboot,
    SYS_swapon,
    SYS_swapoff,
    SYS_acct,
    SYS_syslog,
    SYS_quotactl,
    SYS_settimeofday,
    SYS_clock_settime,
    SYS_clock_adjtime,
    SYS_adjtimex,
    SYS_chroot,
    SYS_move_mount,
    SYS_fsopen,
    SYS_fsmount,
    SYS_open_tree,
    SYS_setns,
    SYS_name_to_handle_at,
    SYS_open_by_handle_at,
    SYS_add_key,
    SYS_request_key,
    SYS_keyctl,
#ifdef __x86_64__
    SYS_iopl,
    SYS_ioperm,
#endif
};

/* What programs of handlers may try. */
static const long refused_to_all[] = {
    SYS_personality,
    SYS_mknodat,
#ifdef __x86_64__
    SYS_mknod,
#endif
};
static const long refused_to_programs[] = {SYS_socket, SYS_bind, SYS_connect};

#define HOLDS(list, number) holds((list), sizeof(list) / sizeof((list)[0]), (number))

static bool holds(const long *list, size_t n, long number)
{
	for (size_t i = 0; i < n; i++)
		if (list[i] == number)
			return true;
	return false;
}

static void check_spawner(const char *role)
{
	struct sock_fprog program = compile(role);
	bool is_launcher = strcmp(role, "launcher") == 0;

	for (long number = 0; number < 600; number++) {
		struct seccomp_data data = {.arch = seccomp_arch_native(), .nr = (int)number};

		if (is_exempt(number))
			continue;
		if (HOLDS(denied_to_all, number)) {
			assert_int_equal(try_number(&program, number, -1), KILLED);
			assert_int_equal(try_number(&program, number, 0), KILLED);
		} else if (HOLDS(refused_to_all, number) || (is_launcher && HOLDS(refused_to_programs, number))) {
			assert_int_equal(policy_program_run(&program, &data), SECCOMP_RET_ERRNO | EPERM);
		} else if (expected_for(number) == ENOSYS) {
			assert_int_equal(try_number(&program, number, 0), ENOSYS);
		} else if (policy_program_run(&program, &data) != SECCOMP_RET_ALLOW) {
			fail_msg("call %ld is denied to the children of the %s", number, role);
		}
	}
	free(program.filter);
}

static void test_spawners(void **state)
{
	(void)state;
	check_spawner("supervisor");
	check_spawner("launcher");
}

static const struct probe spawner_probes[] = {
    {ALL, "sendto MSG_FASTOPEN", SYS_sendto, {-1, 0, 0, MSG_FASTOPEN, P("x"), 16}, EPERM},
    {ALL, "sendmsg MSG_FASTOPEN", SYS_sendmsg, {-1, 0, MSG_FASTOPEN}, EPERM},
    {ALL, "sendmmsg MSG_FASTOPEN", SYS_sendmmsg, {-1, 0, 1, MSG_FASTOPEN}, EPERM},
    {ALL, "sendto", SYS_sendto, {-1, 0, 0, 0, 0, 0}, EBADF},
    {ALL, "bpf", SYS_bpf, {0, 0, 0}, KILLED},
    {ALL, "setuid", SYS_setuid, {-1}, EINVAL},
    {ALL, "wait", SYS_wait4, {-1, 0, 0, 0}, ECHILD},
    {ALL, "execve", SYS_execve, {0, 0, 0}, EFAULT},
    /* What a cage is made of: it reaches the kernel. */
    {ALL, "mount", SYS_mount, {0, 0, 0, 0, 0}, EFAULT},
    {ALL, "umount2", SYS_umount2, {0, 0}, EFAULT},
    {ALL, "pivot_root", SYS_pivot_root, {0, 0}, EFAULT},
    {ALL, "unshare", SYS_unshare, {0}, OK},
};

static void test_spawner_probes(void **state)
{
	static const char *const spawners[] = {"supervisor", "launcher"};

	(void)state;
	for (size_t i = 0; i < sizeof(spawner_probes) / sizeof(spawner_probes[0]); i++)
		for (size_t k = 0; k < 2; k++)
			if (try_call(spawners[k], &spawner_probes[i]) != spawner_probes[i].expected)
				fail_msg("%s, %s: %s", spawners[k], spawner_probes[i].what,
				         result_name(try_call(spawners[k], &spawner_probes[i])));
}

/* The kernel looks at 32 bits of an int and so does the filter: noise above them neither opens nor closes anything. */
static const struct probe upper_halves[] = {
    {GATE,
     "unix socket, noise above",
     SYS_socket,
     {0x7700000000 | AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0},
     OK},
    {GATE, "TCP socket, noise above", SYS_socket, {0x100000000 | AF_INET, SOCK_STREAM, 0}, KILLED},
    {ALL, "MSG_FASTOPEN, noise above", SYS_sendto, {-1, 0, 0, 0x100000000 | MSG_FASTOPEN, 0, 0}, EPERM},
    {ALL, "PROT_EXEC and noise", SYS_mprotect, {0, 4096, 0x100000000 | PROT_EXEC}, KILLED},
    {STREAMER, "sendto an address above 4 GiB", SYS_sendto, {-1, 0, 0, 0, 0x100000000, 16}, KILLED},
};

static void test_upper_halves(void **state)
{
	(void)state;
	RUN(upper_halves);
}

#ifdef __x86_64__
/* getpid() by the 32-bit entry; and by x32's numbers, which a kernel without x32 answers with ENOSYS. */
static int try_foreign(const char *role, bool x32)
{
	pid_t child = fork();

	assert_return_code(child, errno);
	if (child == 0) {
		long result = 20;

		if (role != NULL)
			apply(role);
		if (x32)
			result = syscall(0x40000000 | SYS_getpid);
		else
			__asm__ volatile("int $0x80" : "+a"(result) : : "memory");
		_exit(result > 0 ? OK : ENOSYS);
	}
	return outcome(child);
}

static void test_foreign_entries(void **state)
{
	(void)state;
	if (try_foreign(NULL, false) != OK)
		print_message("skipped: the kernel has no 32-bit entry\n");
	else
		for (size_t r = 0; r < N_ROLES; r++)
			assert_int_equal(try_foreign(roles[r].name, false), KILLED);
	for (size_t r = 0; r < N_ROLES; r++)
		assert_int_equal(try_foreign(roles[r].name, true), KILLED);
}
#else
static void test_foreign_entries(void **state)
{
	(void)state;
	print_message("skipped: this architecture has no second entry to try\n");
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_working),         cmocka_unit_test(test_answered),
	    cmocka_unit_test(test_killing),         cmocka_unit_test(test_handler_returns),
	    cmocka_unit_test(test_every_number),    cmocka_unit_test(test_spawners),
	    cmocka_unit_test(test_spawner_probes),  cmocka_unit_test(test_upper_halves),
	    cmocka_unit_test(test_foreign_entries),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
