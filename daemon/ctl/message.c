/* SPDX-License-Identifier: Apache-2.0
 *
 * What handoffctl says when something is wrong.
 */
#include "ctl.h"

#include <stdarg.h>
#include <stdio.h>

__attribute__((format(printf, 1, 0))) static void say(const char *format, va_list arguments)
{
	fputs("handoffctl: ", stderr);
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
}

int ctl_error(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	say(format, arguments);
	va_end(arguments);
	return CTL_FAILED;
}

int ctl_usage(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	say(format, arguments);
	va_end(arguments);
	fputs("Try 'handoffctl --help'.\n", stderr);
	return CTL_USAGE;
}
