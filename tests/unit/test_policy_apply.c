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

#include <cmocka.h>
#include <linux/sockios.h>
#include <stddef.h>

#include "policy/language.h"

#ifdef HANDOFF_SANITIZE

int main(void)
{
	puts("skipped: a sanitizer build leaves the cages out");
	return 0;
}

#else

enum { GATE = 1, STREAMER = 2, DIALER = 4, ALL = 7 };
static const struct {
	int bit;
	const char *name;
} roles[] = {{GATE, "gate"}, {STREAMER, "streamer"}, {DIALER, "dialer"}};

/* What a child reports: the errno of the call, OK, or how the child ended. */
enum { OK = 0, KILLED = 1000, BROKEN = 1001 };
#define EXIT_BROKEN 255

struct probe {
	int roles;
	const char *what;
	long number;
	long args[6];
	int expected;
};

static const char *result_name(int result)
{
	switch (result) {
	case OK:
		return "success";
	case KILLED:
		return "killed";
	case BROKEN:
		return "a broken child";
	default:
		return strerrorname_np(result);
	}
}

static void apply(const char *role)
{
	char error[256];
	struct policy_report report;
	struct policy *policy = policy_load(role, NULL, error, sizeof(error));

	if (policy == NULL || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    policy_apply(policy, POLICY_ENFORCE, &report, error, sizeof(error)) != 0) {
		fprintf(stderr, "%s\n", error);
		_exit(EXIT_BROKEN);
	}
	policy_free(policy);
}

static int outcome(pid_t child)
{
	int status;

	assert_int_equal(waitpid(child, &status, 0), child);
	if (WIFSIGNALED(status))
		return WTERMSIG(status) == SIGSYS ? KILLED : BROKEN;
	return WEXITSTATUS(status) == EXIT_BROKEN ? BROKEN : WEXITSTATUS(status);
}

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
		for (size_t r = 0; r < sizeof(roles) / sizeof(roles[0]); r++) {
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

static const struct probe working[] = {
    {ALL, "read", SYS_read, {-1, 0, 0}, EBADF},
    {ALL, "write", SYS_write, {-1, 0, 0}, EBADF},
    {ALL, "close", SYS_close, {-1}, EBADF},
    {ALL, "clock_gettime", SYS_clock_gettime, {CLOCK_MONOTONIC, 0}, EFAULT},
    {ALL, "getrandom", SYS_getrandom, {0, 0, 0}, OK},
    {ALL, "memory", SYS_mmap, {0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0}, OK},
    {ALL, "guard pages", SYS_mprotect, {1, 4096, PROT_NONE}, EINVAL},
    {ALL, "epoll_ctl", SYS_epoll_ctl, {-1, 1, -1, P("012345678901")}, EBADF},
    {ALL, "epoll_pwait", SYS_epoll_pwait, {-1, P("012345678901"), 1, 0, 0, 0}, EBADF},
    {ALL, "fcntl F_GETFL", SYS_fcntl, {-1, F_GETFL}, EBADF},
    {ALL, "listen", SYS_listen, {-1, 1}, EBADF},
    {ALL, "accept4", SYS_accept4, {-1, 0, 0, SOCK_CLOEXEC | SOCK_NONBLOCK}, EBADF},
    {ALL, "recvmsg", SYS_recvmsg, {-1, 0, MSG_CMSG_CLOEXEC | MSG_DONTWAIT}, EBADF},
    {ALL, "sendmsg", SYS_sendmsg, {-1, 0, MSG_NOSIGNAL | MSG_DONTWAIT}, EBADF},
    {ALL, "send", SYS_sendto, {-1, 0, 0, MSG_NOSIGNAL | MSG_DONTWAIT, 0, 0}, EBADF},
    {ALL, "SO_PEERCRED", SYS_getsockopt, {-1, SOL_SOCKET, SO_PEERCRED}, EBADF},
    {GATE, "unix socket", SYS_socket, {AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0}, OK},
    {GATE, "connect", SYS_connect, {-1, 0, 0}, EBADF},
    {GATE, "socketpair", SYS_socketpair, {AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, 0}, EFAULT},
    {GATE, "SO_NETNS_COOKIE", SYS_getsockopt, {-1, SOL_SOCKET, 71}, EBADF},
    {GATE | STREAMER, "F_GET_SEALS", SYS_fcntl, {-1, F_GET_SEALS}, EBADF},
    {GATE, "counters of others", SYS_pread64, {-1, 0, 0, 0}, EBADF},
    {STREAMER, "memfd map", SYS_mmap, {0, 4096, PROT_READ, MAP_PRIVATE, -1, 0}, EBADF},
    {STREAMER, "TCP_NODELAY", SYS_setsockopt, {-1, SOL_TCP, TCP_NODELAY}, EBADF},
    {STREAMER, "SO_KEEPALIVE", SYS_setsockopt, {-1, SOL_SOCKET, SO_KEEPALIVE}, EBADF},
    {STREAMER, "recv", SYS_recvfrom, {-1, 0, 0, MSG_DONTWAIT, 0, 0}, EBADF},
    {STREAMER, "shutdown", SYS_shutdown, {-1, SHUT_WR}, EBADF},
    {DIALER, "TCP socket", SYS_socket, {AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0}, OK},
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

static void test_answered(void **state)
{
	(void)state;
	RUN(answered);
}

/* ---------------------------------------------------------------- what kills */

static const struct probe killing[] = {
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
    {ALL, "SO_MARK", SYS_setsockopt, {-1, SOL_SOCKET, SO_MARK}, KILLED},
    {ALL, "SO_BINDTODEVICE", SYS_setsockopt, {-1, SOL_SOCKET, SO_BINDTODEVICE}, KILLED},
    {ALL, "SO_ATTACH_FILTER", SYS_setsockopt, {-1, SOL_SOCKET, SO_ATTACH_FILTER}, KILLED},
    {GATE | DIALER, "shutdown", SYS_shutdown, {-1, SHUT_WR}, KILLED},
    {GATE | STREAMER, "writev", SYS_writev, {-1, 0, 0}, KILLED},
    {STREAMER, "shared file mapping", SYS_mmap, {0, 4096, PROT_READ, MAP_SHARED, -1, 0}, KILLED},
    {STREAMER, "SO_LINGER", SYS_setsockopt, {-1, SOL_SOCKET, SO_LINGER}, KILLED},
    {ALL, "SO_PASSCRED", SYS_setsockopt, {-1, SOL_SOCKET, SO_PASSCRED}, KILLED},
};

static void test_killing(void **state)
{
	(void)state;
	RUN(killing);
}

/* The kernel looks at 32 bits of an int and so does the filter: noise above them neither opens nor closes anything. */
static const struct probe upper_halves[] = {
    {GATE, "unix socket, noise above", SYS_socket, {0x7700000000 | AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0}, OK},
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
		for (size_t r = 0; r < sizeof(roles) / sizeof(roles[0]); r++)
			assert_int_equal(try_foreign(roles[r].name, false), KILLED);
	for (size_t r = 0; r < sizeof(roles) / sizeof(roles[0]); r++)
		assert_int_equal(try_foreign(roles[r].name, true), KILLED);
}
#else
static void test_foreign_entries(void **state)
{
	(void)state;
	print_message("skipped: this architecture has no second entry to try\n");
}
#endif

/* ---------------------------------------------------------------- the other layers */

/* A line of a file in /proc that begins with name, without the name and blanks. */
static void proc_line(pid_t pid, const char *file, const char *name, char *out, size_t size)
{
	char path[64];
	char line[256];
	FILE *stream;

	out[0] = '\0';
	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
	stream = fopen(path, "r");
	assert_non_null(stream);
	while (fgets(line, sizeof(line), stream) != NULL)
		if (strncmp(line, name, strlen(name)) == 0)
			snprintf(out, size, "%s", line + strlen(name) + strspn(line + strlen(name), " \t"));
	fclose(stream);
}

static void test_state_of_a_caged_process(void **state)
{
	(void)state;
	for (size_t r = 0; r < sizeof(roles) / sizeof(roles[0]); r++) {
		int ready[2], stay[2];
		char text[256];
		pid_t child;

		assert_return_code(pipe2(ready, 0) | pipe2(stay, 0), errno);
		child = fork();
		assert_return_code(child, errno);
		if (child == 0) {
			close(stay[1]);
			apply(roles[r].name);
			if (write(ready[1], "r", 1) == 1)
				(void)!read(stay[0], text, 1);
			_exit(0);
		}
		close(ready[1]);
		assert_int_equal(read(ready[0], text, 1), 1);
		proc_line(child, "status", "Seccomp:", text, sizeof(text));
		assert_string_equal(text, "2\n");
		proc_line(child, "status", "Seccomp_filters:", text, sizeof(text));
		assert_string_equal(text, "1\n");
		proc_line(child, "status", "NoNewPrivs:", text, sizeof(text));
		assert_string_equal(text, "1\n");
		proc_line(child, "limits", "Max core file size", text, sizeof(text));
		assert_memory_equal(text, "0 ", 2);
		proc_line(child, "limits", "Max processes", text, sizeof(text));
		assert_memory_equal(text, "0 ", 2);
		close(ready[0]);
		close(stay[0]);
		close(stay[1]);
		assert_int_equal(outcome(child), OK);
	}
}

static void test_needs_no_new_privs(void **state)
{
	char error[256];
	pid_t child = fork();

	(void)state;
	assert_return_code(child, errno);
	if (child == 0) {
		struct policy_report report;
		struct policy *policy = policy_load("gate", NULL, error, sizeof(error));
		int rc = policy_apply(policy, POLICY_ENFORCE, &report, error, sizeof(error));

		_exit(-rc);
	}
	assert_int_equal(outcome(child), EPERM);
}

/* ---------------------------------------------------------------- Landlock, each right as a pair */

/* All rights denied, or one of them open, and one file readable; without seccomp, so that the call gets there. */
static void restrict_self(const char *open_right)
{
	char text[1024] = "role t\ndefault kill\nunknown ENOSYS\ncapabilities none\ndumpable no\nexec no\nfork no\n"
	                  "mdwe where-available\nrlimit core 0\n";
	char off[256] = "", error[256];
	struct policy *policy;

	for (size_t i = 0; i < RIGHT_COUNT; i++) {
		size_t len = strlen(text);

		if (open_right != NULL && strcmp(landlock_rights[i].name, open_right) == 0)
			snprintf(text + len, sizeof(text) - len, "landlock %s open # test\n", open_right);
		else
			snprintf(text + len, sizeof(text) - len, "landlock %s deny abi %d where-available\n",
			         landlock_rights[i].name, landlock_rights[i].abi);
	}
	if (open_right == NULL)
		strcat(text, "landlock path read-file /etc/hosts # test\n");
	policy = policy_parse("t.policy", span_of_string(text), error, sizeof(error));
	if (policy == NULL || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    landlock_apply(policy, landlock_abi(), off, sizeof(off), error, sizeof(error)) != 0) {
		fprintf(stderr, "%s\n", error);
		_exit(EXIT_BROKEN);
	}
	policy_free(policy);
}

static int errno_of(int rc)
{
	return rc < 0 ? errno : OK;
}

static int try_read(void)
{
	return errno_of(open("/etc/passwd", O_RDONLY | O_CLOEXEC));
}

static int try_granted(void)
{
	return errno_of(open("/etc/hosts", O_RDONLY | O_CLOEXEC));
}

static int try_list(void)
{
	return errno_of(open("/etc", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

static char scratch[64];

static int try_truncate(void)
{
	return errno_of(truncate(scratch, 0));
}

static int try_tcp(bool do_bind)
{
	struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (do_bind)
		return errno_of(bind(fd, (struct sockaddr *)&name, sizeof(name)));
	/* Nobody listens on port 1: ECONNREFUSED is the answer of the network. */
	name.sin_port = htons(1);
	return errno_of(connect(fd, (struct sockaddr *)&name, sizeof(name)));
}

static int try_bind(void)
{
	return try_tcp(true);
}

static int try_connect(void)
{
	return try_tcp(false);
}

static int try_abstract(void)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int n = snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, "handoff-test-%d", (int)getppid());

	return errno_of(
	    connect(fd, (struct sockaddr *)&name, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n)));
}

static int try_signal(void)
{
	return errno_of(kill(getppid(), 0));
}

static int try_own_signal(void)
{
	return errno_of(kill(getpid(), 0));
}

static int landlocked(const char *open_right, int (*attempt)(void))
{
	pid_t child = fork();

	assert_return_code(child, errno);
	if (child == 0) {
		restrict_self(open_right);
		_exit(attempt());
	}
	return outcome(child);
}

static const struct {
	const char *what;
	const char *right; /* NULL: a right that stays, while all others are denied */
	int abi;
	int (*attempt)(void);
	int denied;
	int open;
} pairs[] = {
    {"read a file", "fs", 1, try_read, EACCES, OK},
    {"list a directory", "fs", 1, try_list, EACCES, OK},
    {"read the granted file", NULL, 1, try_granted, OK, OK},
    {"truncate", "fs-truncate", 3, try_truncate, EACCES, OK},
    {"bind a TCP port", "net-bind", 4, try_bind, EACCES, OK},
    {"connect to a TCP port", "net-connect", 4, try_connect, EACCES, ECONNREFUSED},
    {"connect to an abstract socket", "scope-abstract-unix", 6, try_abstract, EPERM, OK},
    {"signal a process outside", "scope-signal", 6, try_signal, EPERM, OK},
    {"signal itself", NULL, 6, try_own_signal, OK, OK},
};

static int abstract_listener(void)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int n = snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, "handoff-test-%d", (int)getpid());

	assert_return_code(
	    bind(fd, (struct sockaddr *)&name, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n)),
	    errno);
	assert_return_code(listen(fd, 16), errno);
	return fd;
}

static void test_landlock_pairs(void **state)
{
	int listener = abstract_listener();
	int file;

	(void)state;
	snprintf(scratch, sizeof(scratch), "/tmp/handoff-test-XXXXXX");
	file = mkstemp(scratch);
	assert_return_code(file, errno);
	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		if (landlock_abi() < pairs[i].abi) {
			print_message("skipped: %s: needs Landlock ABI %d, the kernel has %d\n", pairs[i].what,
			              pairs[i].abi, landlock_abi());
			continue;
		}
		if (landlocked(NULL, pairs[i].attempt) != pairs[i].denied)
			fail_msg("%s, denied: %s", pairs[i].what, result_name(landlocked(NULL, pairs[i].attempt)));
		if (landlocked(pairs[i].right, pairs[i].attempt) != pairs[i].open)
			fail_msg("%s, open: %s", pairs[i].what,
			         result_name(landlocked(pairs[i].right, pairs[i].attempt)));
	}
	close(file);
	unlink(scratch);
	close(listener);
}

/* What an old kernel lacks is named where the policy lets it go, and an error where it does not. */
static void test_older_abi(void **state)
{
	char off[256] = "", error[256] = "";
	struct policy *policy = policy_load("gate", NULL, error, sizeof(error));
	pid_t child;

	(void)state;
	assert_non_null(policy);
	if (landlock_abi() < 2) {
		print_message("skipped: needs Landlock ABI 2, the kernel has %d\n", landlock_abi());
		policy_free(policy);
		return;
	}
	child = fork();
	assert_return_code(child, errno);
	if (child == 0) {
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
		    landlock_apply(policy, 2, off, sizeof(off), error, sizeof(error)) != 0)
			_exit(EXIT_BROKEN);
		_exit(strcmp(off, "landlock-fs-truncate,landlock-net-bind,landlock-net-connect,landlock-fs-ioctl-dev,"
		                  "landlock-scope-abstract-unix,landlock-scope-signal") == 0
		          ? try_read()
		          : EXIT_BROKEN);
	}
	assert_int_equal(outcome(child), EACCES);
	assert_int_equal(landlock_apply(policy, 0, off, sizeof(off), error, sizeof(error)), -EOPNOTSUPP);
	assert_string_equal(error, "landlock-fs needs Landlock ABI 1, the kernel has 0");
	policy_free(policy);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_working),
	    cmocka_unit_test(test_answered),
	    cmocka_unit_test(test_killing),
	    cmocka_unit_test(test_upper_halves),
	    cmocka_unit_test(test_foreign_entries),
	    cmocka_unit_test(test_state_of_a_caged_process),
	    cmocka_unit_test(test_needs_no_new_privs),
	    cmocka_unit_test(test_landlock_pairs),
	    cmocka_unit_test(test_older_abi),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
