/* SPDX-License-Identifier: Apache-2.0
 *
 * Uncaged: preloaded into a role, it makes the calls that would put the seccomp filter, the Landlock domain and the
 * refusal of executable memory in force do nothing. Only for the bench, to measure what they cost with the same
 * programs: user, groups, capabilities, no_new_privs, dumpable and limits stay as they are.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define PR_SET_MDWE 65
#define PR_GET_MDWE 66

/* From the Landlock domain to the filter: a role tries then what the domain denies, and has to find it denied. */
static bool proving;

static int denied(void)
{
	errno = EACCES;
	return -1;
}

int open(const char *path, int flags, ...)
{
	int (*next)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
	va_list list;

	if (proving)
		return denied();
	va_start(list, flags);
	mode_t mode = (flags & O_CREAT) != 0 ? va_arg(list, mode_t) : 0;
	va_end(list);
	return next(path, flags, mode);
}

long syscall(long number, ...)
{
	long (*next)(long, ...) = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
	long arguments[6];
	va_list list;

	va_start(list, number);
	for (int i = 0; i < 6; i++)
		arguments[i] = va_arg(list, long);
	va_end(list);
	if (proving && (number == SYS_bind || number == SYS_connect))
		return denied();
	/* libseccomp asks what the kernel knows with calls that have no filter. */
	bool filter = number == SYS_seccomp && arguments[0] == SECCOMP_SET_MODE_FILTER && arguments[2] != 0;
	if (filter || number == SYS_landlock_restrict_self) {
		proving = !filter;
		return 0;
	}
	return next(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]);
}

int prctl(int option, ...)
{
	int (*next)(int, ...) = (int (*)(int, ...))dlsym(RTLD_NEXT, "prctl");
	unsigned long arguments[4];
	va_list list;

	if (option == PR_SET_MDWE)
		return 0;
	if (option == PR_GET_MDWE)
		return 1;
	va_start(list, option);
	for (int i = 0; i < 4; i++)
		arguments[i] = va_arg(list, unsigned long);
	va_end(list);
	return next(option, arguments[0], arguments[1], arguments[2], arguments[3]);
}
