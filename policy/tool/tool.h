/* SPDX-License-Identifier: Apache-2.0
 *
 * handoff-policy: shows and explains the policies, and proves that the running processes have exactly them. One file a
 * subcommand.
 */
#ifndef HANDOFFD_POLICY_TOOL_H
#define HANDOFFD_POLICY_TOOL_H

#include "daemon/common/config.h"
#include "policy/language.h"

/* 0: as it should be; 1: not so; 2: wrong usage, or it could not be found out. */
enum tool_exit { TOOL_OK = 0, TOOL_FAULT = 1, TOOL_ERROR = 2 };

struct tool_options {
	const char *config_file;
	const char *policy_dir; /* NULL: built-in policies only */
};

/* argv[0] is the subcommand's name. Each returns an enum tool_exit. */
int tool_show(const struct tool_options *options, int argc, char **argv);
int tool_explain(const struct tool_options *options, int argc, char **argv);
int tool_lint(const struct tool_options *options, int argc, char **argv);
int tool_check(const struct tool_options *options, int argc, char **argv);
int tool_unused(const struct tool_options *options, int argc, char **argv);
int tool_audit(const struct tool_options *options, int argc, char **argv);

/* Names of the roles that have a policy, NULL at the end. */
extern const char *const tool_roles[];

/* "handoff-policy: " and the message on standard error; returns TOOL_ERROR. */
__attribute__((format(printf, 1, 2))) int tool_error(const char *format, ...);

/* The policy of a role as the daemon would load it; NULL after a complaint. */
struct policy *tool_policy(const struct tool_options *options, const char *role);

/* The text of the file that a rule came from, in malloc'ed memory; NULL when it cannot be read any more. */
char *tool_text(const char *file);
/* One line of a text, without its newline. */
struct span tool_line(const char *text, unsigned line);

#endif
