/* SPDX-License-Identifier: Apache-2.0
 *
 * What the tests of the cages share: a child that applies a shipped policy, and how it ended.
 */
#ifndef TESTS_POLICY_SUPPORT_H
#define TESTS_POLICY_SUPPORT_H

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "policy/language.h"

enum { GATE = 1, STREAMER = 2, DIALER = 4, ALL = 7 };
static const struct {
	int bit;
	const char *name;
} roles[] = {{GATE, "gate"}, {STREAMER, "streamer"}, {DIALER, "dialer"}};

/* What a child reports: the errno of the call, OK, or how the child ended. */
enum { OK = 0, KILLED = 1000, BROKEN = 1001 };
#define EXIT_BROKEN 255

#define N_ROLES (sizeof(roles) / sizeof(roles[0]))

static inline const char *result_name(int result)
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

static inline void apply(const char *role)
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

static inline int outcome(pid_t child)
{
	int status;

	assert_int_equal(waitpid(child, &status, 0), child);
	if (WIFSIGNALED(status))
		return WTERMSIG(status) == SIGSYS ? KILLED : BROKEN;
	return WEXITSTATUS(status) == EXIT_BROKEN ? BROKEN : WEXITSTATUS(status);
}

#endif
