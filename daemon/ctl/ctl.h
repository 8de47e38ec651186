/* SPDX-License-Identifier: Apache-2.0
 *
 * handoffctl: the tool of administrators and of signers that are not PHP. One file a command; exit status 0, 1 for
 * what went wrong, 2 for wrong usage.
 */
#ifndef CTL_CTL_H
#define CTL_CTL_H

#define CTL_OK     0
#define CTL_FAILED 1
#define CTL_USAGE  2

/* Each gets its own name as argv[0]. Secrets come from files and standard input, never from arguments. */
int ctl_keygen(int argc, char **argv);
int ctl_sign(int argc, char **argv);
int ctl_check(int argc, char **argv);

/* "handoffctl: " and the message on standard error; returns CTL_FAILED. */
__attribute__((format(printf, 1, 2))) int ctl_error(const char *format, ...);
/* The same, with a hint at the help; returns CTL_USAGE. */
__attribute__((format(printf, 1, 2))) int ctl_usage(const char *format, ...);

#endif
