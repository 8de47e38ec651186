/* SPDX-License-Identifier: Apache-2.0
 *
 * The arguments of system calls by name, so that a policy reads `domain == AF_UNIX` and not `arg0 == 1`. Names are
 * those of the manual pages. The width is the one of the kernel's own parameter: of an int it never looks at the upper
 * half of the register, so neither does the filter.
 */
#include <stdio.h>

#include "language.h"

#define INT(n)                                                                                                         \
	{                                                                                                              \
		n, 32                                                                                                  \
	}
#define LONG(n)                                                                                                        \
	{                                                                                                              \
		n, 64                                                                                                  \
	}
#define POINTER(n)                                                                                                     \
	{                                                                                                              \
		n, 0                                                                                                   \
	}

static const struct {
	const char *call;
	struct {
		const char *name;
		unsigned width;
	} args[POLICY_ARGS];
} table[] = {
    {"accept4", {INT("fd"), POINTER("addr"), POINTER("addrlen"), INT("flags")}},
    {"bind", {INT("fd"), POINTER("addr"), INT("addrlen")}},
    {"chmod", {POINTER("path"), INT("mode")}},
    {"clock_gettime", {INT("clock"), POINTER("time")}},
    {"clone", {LONG("flags"), POINTER("stack")}},
    {"connect", {INT("fd"), POINTER("addr"), INT("addrlen")}},
    {"creat", {POINTER("path"), INT("mode")}},
    {"dup3", {INT("oldfd"), INT("newfd"), INT("flags")}},
    {"epoll_create1", {INT("flags")}},
    {"epoll_ctl", {INT("epfd"), INT("op"), INT("fd"), POINTER("event")}},
    {"eventfd2", {INT("count"), INT("flags")}},
    {"fchmod", {INT("fd"), INT("mode")}},
    {"fchmodat", {INT("dirfd"), POINTER("path"), INT("mode")}},
    {"fcntl", {INT("fd"), INT("cmd"), LONG("arg")}},
    {"futex", {POINTER("word"), INT("op"), INT("value")}},
    {"getrandom", {POINTER("buffer"), LONG("length"), INT("flags")}},
    {"getsockopt", {INT("fd"), INT("level"), INT("name"), POINTER("value"), POINTER("length")}},
    {"ioctl", {INT("fd"), INT("request"), LONG("arg")}},
    {"kill", {INT("pid"), INT("sig")}},
    {"madvise", {POINTER("addr"), LONG("length"), INT("advice")}},
    {"memfd_create", {POINTER("name"), INT("flags")}},
    {"mmap", {POINTER("addr"), LONG("length"), LONG("prot"), LONG("flags"), LONG("fd"), LONG("offset")}},
    {"mprotect", {POINTER("addr"), LONG("length"), LONG("prot")}},
    {"mremap", {POINTER("addr"), LONG("old-length"), LONG("length"), LONG("flags")}},
    {"newfstatat", {INT("dirfd"), POINTER("path"), POINTER("status"), INT("flags")}},
    {"open", {POINTER("path"), INT("flags"), INT("mode")}},
    {"openat", {INT("dirfd"), POINTER("path"), INT("flags"), INT("mode")}},
    {"pipe2", {POINTER("fds"), INT("flags")}},
    {"prctl", {INT("option"), LONG("arg2"), LONG("arg3"), LONG("arg4"), LONG("arg5")}},
    {"prlimit64", {INT("pid"), INT("resource"), POINTER("new"), POINTER("old")}},
    {"recvfrom", {INT("fd"), POINTER("buffer"), LONG("length"), INT("flags"), POINTER("addr"), POINTER("addrlen")}},
    {"recvmsg", {INT("fd"), POINTER("message"), INT("flags")}},
    {"sendmmsg", {INT("fd"), POINTER("messages"), INT("count"), INT("flags")}},
    {"sendmsg", {INT("fd"), POINTER("message"), INT("flags")}},
    {"sendto", {INT("fd"), POINTER("buffer"), LONG("length"), INT("flags"), POINTER("addr"), INT("addrlen")}},
    {"setsockopt", {INT("fd"), INT("level"), INT("name"), POINTER("value"), INT("length")}},
    {"shutdown", {INT("fd"), INT("how")}},
    {"socket", {INT("domain"), INT("type"), INT("protocol")}},
    {"socketpair", {INT("domain"), INT("type"), INT("protocol"), POINTER("fds")}},
    {"statx", {INT("dirfd"), POINTER("path"), INT("flags"), INT("mask"), POINTER("status")}},
    {"tgkill", {INT("tgid"), INT("tid"), INT("sig")}},
    {"timerfd_create", {INT("clock"), INT("flags")}},
};

int policy_argument(const char *call, struct span name, unsigned *width)
{
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		if (strcmp(call, table[i].call) != 0)
			continue;
		for (int arg = 0; arg < POLICY_ARGS && table[i].args[arg].name != NULL; arg++) {
			if (span_equal_string(name, table[i].args[arg].name)) {
				*width = table[i].args[arg].width;
				return arg;
			}
		}
	}
	return -1;
}

void policy_argument_names(const char *call, char *out, size_t size)
{
	size_t len = 0;

	out[0] = '\0';
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		if (strcmp(call, table[i].call) != 0)
			continue;
		for (int arg = 0; arg < POLICY_ARGS && table[i].args[arg].name != NULL && len < size; arg++)
			len += (size_t)snprintf(out + len, size - len, "%s%s", arg == 0 ? "" : " ",
			                        table[i].args[arg].name);
	}
}
