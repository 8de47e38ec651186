/* SPDX-License-Identifier: Apache-2.0
 *
 * Every constant that a policy may name, by the name the manual pages use.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/memfd.h>
#include <linux/prctl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <time.h>

#include <linux/futex.h>

#include "language.h"

/* Newer than Debian 12's headers. */
#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8
#endif
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#endif

/* An int's bits, so that AT_FDCWD is 0xffffff9c in a 32-bit argument and sign-extended in none. */
#define C(name)                                                                                                        \
	{                                                                                                              \
#name, (uint64_t)(uint32_t)(name)                                                                      \
	}

static const struct {
	const char *name;
	uint64_t value;
} constants[] = {
    {"NULL", 0},
    /* errno */
    C(EPERM),
    C(ENOENT),
    C(EACCES),
    C(EBADF),
    C(EINVAL),
    C(ENOSYS),
    C(ENOTTY),
    C(EINPROGRESS),
    C(EAFNOSUPPORT),
    C(EOPNOTSUPP),
    C(ENOPROTOOPT),
    C(EPROTONOSUPPORT),
    /* socket */
    C(AF_UNIX),
    C(AF_INET),
    C(AF_INET6),
    C(AF_NETLINK),
    C(AF_UNSPEC),
    C(SOCK_STREAM),
    C(SOCK_DGRAM),
    C(SOCK_SEQPACKET),
    C(SOCK_RAW),
    C(SOCK_CLOEXEC),
    C(SOCK_NONBLOCK),
    C(IPPROTO_IP),
    C(IPPROTO_IPV6),
    C(IPPROTO_TCP),
    C(IPPROTO_UDP),
    /* send, recv, shutdown */
    C(MSG_DONTWAIT),
    C(MSG_NOSIGNAL),
    C(MSG_CMSG_CLOEXEC),
    C(MSG_PEEK),
    C(MSG_TRUNC),
    C(MSG_WAITALL),
    C(MSG_MORE),
    C(MSG_EOR),
    C(MSG_OOB),
    C(MSG_FASTOPEN),
    C(MSG_ZEROCOPY),
    C(SHUT_RD),
    C(SHUT_WR),
    C(SHUT_RDWR),
    /* sockopt */
    C(SOL_SOCKET),
    C(SOL_TCP),
    C(SOL_IP),
    C(SOL_IPV6),
    C(SO_ACCEPTCONN),
    C(SO_DOMAIN),
    C(SO_ERROR),
    C(SO_KEEPALIVE),
    C(SO_LINGER),
    C(SO_NETNS_COOKIE),
    C(SO_PEERCRED),
    C(SO_PROTOCOL),
    C(SO_RCVBUF),
    C(SO_REUSEADDR),
    C(SO_SNDBUF),
    C(SO_TYPE),
    C(SO_MARK),
    C(SO_BINDTODEVICE),
    C(TCP_NODELAY),
    C(TCP_CORK),
    C(TCP_KEEPIDLE),
    C(TCP_KEEPINTVL),
    C(TCP_KEEPCNT),
    C(TCP_USER_TIMEOUT),
    C(TCP_NOTSENT_LOWAT),
    C(TCP_INFO),
    C(TCP_QUICKACK),
    C(TCP_FASTOPEN),
    C(TCP_FASTOPEN_CONNECT),
    C(TCP_ULP),
    C(TCP_REPAIR),
    C(IP_RECVERR),
    C(IP_BIND_ADDRESS_NO_PORT),
    C(IP_TOS),
    C(IPV6_RECVERR),
    C(IPV6_V6ONLY),
    /* fcntl, ioctl */
    C(F_GETFD),
    C(F_SETFD),
    C(F_GETFL),
    C(F_SETFL),
    C(F_GET_SEALS),
    C(F_ADD_SEALS),
    C(F_DUPFD),
    C(F_DUPFD_CLOEXEC),
    C(F_GETLK),
    C(F_SETLK),
    C(F_SETLKW),
    C(F_OFD_GETLK),
    C(F_OFD_SETLK),
    C(F_OFD_SETLKW),
    C(F_GETPIPE_SZ),
    C(F_SETPIPE_SZ),
    C(F_SETOWN),
    C(FD_CLOEXEC),
    C(O_RDONLY),
    C(O_WRONLY),
    C(O_RDWR),
    C(O_CLOEXEC),
    C(O_NONBLOCK),
    C(O_APPEND),
    C(O_NOCTTY),
    C(O_DIRECTORY),
    C(O_NOFOLLOW),
    C(O_CREAT),
    C(O_EXCL),
    C(O_TRUNC),
    C(O_DSYNC),
    C(O_SYNC),
    C(O_DIRECT),
    C(O_NOATIME),
    C(O_PATH),
    C(O_TMPFILE),
    C(FIONREAD),
    C(FIONBIO),
    C(FIOCLEX),
    C(FIONCLEX),
    C(FICLONE),
    C(TCGETS),
    C(TCSETS),
    C(TCSETSW),
    C(TCSETSF),
    C(TIOCGPGRP),
    C(TIOCSPGRP),
    C(TIOCNOTTY),
    C(TIOCGWINSZ),
    C(TIOCSTI),
    C(SIOCOUTQ),
    C(SIOCOUTQNSD),
    C(SIOCGIFINDEX),
    /* memory */
    C(PROT_NONE),
    C(PROT_READ),
    C(PROT_WRITE),
    C(PROT_EXEC),
    C(MAP_PRIVATE),
    C(MAP_SHARED),
    C(MAP_ANONYMOUS),
    C(MAP_FIXED),
    C(MAP_FIXED_NOREPLACE),
    C(MAP_GROWSDOWN),
    C(MAP_HUGETLB),
    C(MAP_NORESERVE),
    C(MAP_STACK),
    C(MAP_POPULATE),
    C(MAP_DENYWRITE),
    C(MREMAP_MAYMOVE),
    C(MREMAP_FIXED),
    C(MADV_NORMAL),
    C(MADV_RANDOM),
    C(MADV_SEQUENTIAL),
    C(MADV_DONTFORK),
    C(MADV_DOFORK),
    C(MADV_DONTNEED),
    C(MADV_FREE),
    C(MADV_WILLNEED),
    C(MADV_DONTDUMP),
    C(MADV_DODUMP),
    C(MADV_NOHUGEPAGE),
    C(MADV_HUGEPAGE),
    C(MADV_WIPEONFORK),
    C(MFD_CLOEXEC),
    C(MFD_ALLOW_SEALING),
    C(MFD_NOEXEC_SEAL),
    /* files */
    C(AT_FDCWD),
    C(AT_EMPTY_PATH),
    C(AT_NO_AUTOMOUNT),
    C(AT_SYMLINK_NOFOLLOW),
    C(SEEK_SET),
    C(SEEK_CUR),
    C(SEEK_END),
    C(S_ISUID),
    C(S_ISGID),
    /* events, clocks, threads, signals */
    C(EPOLL_CLOEXEC),
    C(EPOLL_CTL_ADD),
    C(EPOLL_CTL_DEL),
    C(EPOLL_CTL_MOD),
    C(EFD_CLOEXEC),
    C(EFD_NONBLOCK),
    C(TFD_CLOEXEC),
    C(TFD_NONBLOCK),
    C(CLOCK_REALTIME),
    C(CLOCK_MONOTONIC),
    C(CLOCK_MONOTONIC_COARSE),
    C(CLOCK_REALTIME_COARSE),
    C(CLOCK_BOOTTIME),
    C(CLOCK_PROCESS_CPUTIME_ID),
    C(FUTEX_WAIT),
    C(FUTEX_WAKE),
    C(FUTEX_WAIT_PRIVATE),
    C(FUTEX_WAKE_PRIVATE),
    C(FUTEX_WAIT_BITSET),
    C(FUTEX_WAIT_BITSET_PRIVATE),
    C(FUTEX_CLOCK_REALTIME),
    C(FUTEX_PRIVATE_FLAG),
    C(SIGABRT),
    C(SIGCHLD),
    C(SIGTERM),
    C(SIGKILL),
    C(CLONE_THREAD),
    C(CLONE_VM),
    C(CLONE_NEWUSER),
    C(CLONE_NEWNS),
    C(CLONE_NEWCGROUP),
    C(CLONE_NEWUTS),
    C(CLONE_NEWIPC),
    C(CLONE_NEWPID),
    C(CLONE_NEWNET),
    /* prctl, rlimit, getrandom */
    C(PR_SET_NAME),
    C(PR_GET_NAME),
    C(PR_SET_PDEATHSIG),
    C(PR_SET_NO_NEW_PRIVS),
    C(PR_GET_NO_NEW_PRIVS),
    C(PR_SET_KEEPCAPS),
    C(PR_SET_SECCOMP),
    C(PR_SET_VMA),
    C(PR_GET_DUMPABLE),
    C(PR_SET_DUMPABLE),
    C(PR_CAPBSET_READ),
    C(RLIMIT_NOFILE),
    C(RLIMIT_STACK),
    C(RLIMIT_DATA),
    C(RLIMIT_MEMLOCK),
    {"GRND_NONBLOCK", 1},
    {"GRND_RANDOM", 2},
};

bool policy_constant(struct span name, uint64_t *value)
{
	for (size_t i = 0; i < sizeof(constants) / sizeof(constants[0]); i++) {
		if (span_equal_string(name, constants[i].name)) {
			*value = constants[i].value;
			return true;
		}
	}
	return false;
}
