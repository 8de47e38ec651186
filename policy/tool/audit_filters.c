/* SPDX-License-Identifier: Apache-2.0
 *
 * Audit: the seccomp filters of a process, as the kernel has them (PTRACE_SECCOMP_GET_FILTER), compared with the
 * compiled policy. The process stands still for the moment. See audit.h.
 */
#include <errno.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "audit.h"

#ifndef PTRACE_SECCOMP_GET_FILTER
#define PTRACE_SECCOMP_GET_FILTER 0x420c
#endif

/* A loaded machine takes its time until a process stops. */
#define PATIENCE_US  5000000
#define PAUSE_MAX_US 5000

static bool same(const struct sock_fprog *a, const struct sock_fprog *b)
{
	return a->filter != NULL && b->filter != NULL && a->len == b->len &&
	       memcmp(a->filter, b->filter, a->len * sizeof(*a->filter)) == 0;
}

static unsigned filters_of(pid_t pid)
{
	return (unsigned)strtoul(proc_status(pid, "Seccomp_filters"), NULL, 10);
}

/* One of a stopped process' filters, the oldest is number 0. 0 or -errno. */
static int filter_read(pid_t pid, unsigned number, struct sock_fprog *program)
{
	long len = ptrace(PTRACE_SECCOMP_GET_FILTER, pid, (void *)(uintptr_t)number, NULL);

	*program = (struct sock_fprog){0};
	if (len < 0)
		return -errno;
	program->filter = calloc((size_t)len, sizeof(*program->filter));
	if (program->filter == NULL)
		return -ENOMEM;
	program->len = (unsigned short)len;
	if (ptrace(PTRACE_SECCOMP_GET_FILTER, pid, (void *)(uintptr_t)number, program->filter) == len)
		return 0;
	free(program->filter);
	program->filter = NULL;
	return -EIO;
}

/* What was found among the filters. */
struct seen {
	unsigned own;        /* equal to the role's */
	unsigned supervisor; /* equal to the supervisor's */
	unsigned others;
	unsigned other_len; /* instructions of the last of them */
	int error;
};

static void look(struct seen *seen, pid_t pid, const struct sock_fprog *own, const struct sock_fprog *supervisor)
{
	unsigned n = filters_of(pid);

	for (unsigned i = 0; i < n && seen->error == 0; i++) {
		struct sock_fprog program;

		seen->error = filter_read(pid, i, &program);
		if (seen->error != 0)
			break;
		if (same(&program, own)) {
			seen->own++;
		} else if (same(&program, supervisor)) {
			seen->supervisor++;
		} else {
			seen->others++;
			seen->other_len = program.len;
		}
		free(program.filter);
	}
}

/* Not for ever: one that its user keeps in the kernel, as a child of vfork() does its parent, never stops. */
int audit_wait(pid_t pid, int *status)
{
	useconds_t pause = 10;

	for (useconds_t waited = 0; waited < PATIENCE_US; waited += pause) {
		pid_t changed = waitpid(pid, status, __WALL | WNOHANG);

		if (changed == pid)
			return WIFSTOPPED(*status) ? 0 : -ESRCH;
		if (changed < 0)
			return -errno;
		usleep(pause);
		pause = pause < PAUSE_MAX_US ? pause * 2 : pause;
	}
	return -ETIMEDOUT;
}

int audit_stop(pid_t pid, unsigned options, int *signal)
{
	int status, rc;

	*signal = 0;
	if (ptrace(PTRACE_SEIZE, pid, NULL, (void *)(uintptr_t)options) != 0)
		return -errno;
	if (ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) != 0)
		return -errno;
	rc = audit_wait(pid, &status);
	if (rc != 0)
		return rc;
	/* Without an event it is about to get a signal. */
	if (status >> 16 == 0)
		*signal = WSTOPSIG(status);
	return 0;
}

void audit_go_on(pid_t pid, int signal)
{
	/* Fails where there was nothing to stop. */
	ptrace(PTRACE_DETACH, pid, NULL, (void *)(intptr_t)signal);
}

static void judge(struct process *process, const struct seen *seen, bool has_supervisor)
{
	if (seen->error != 0)
		found(process, "filters", VERDICT_UNSEEN, "%s", strerror(-seen->error));
	else if (seen->own == 0 && seen->others == 0)
		found(process, "filters", VERDICT_FAULT, "the role's filter is not there");
	else if (seen->own == 0)
		found(process, "filters", VERDICT_FAULT, "another filter than the policy's: %u instructions",
		      seen->other_len);
	/* A unit brings filters of systemd's own (SystemCallFilter= and relatives). */
	else if (seen->others > 0 && !process->is_unit)
		found(process, "filters", VERDICT_FAULT, "%u besides the role's, the last of %u instructions",
		      seen->others, seen->other_len);
	else if (seen->own > 1 || seen->supervisor != has_supervisor)
		found(process, "filters", VERDICT_FAULT, "the role's %u times, the supervisor's %u times", seen->own,
		      seen->supervisor);
	else
		found(process, "filters", VERDICT_OK, "the policy's, instruction by instruction%s%s",
		      seen->supervisor > 0 ? ", under the supervisor's" : "",
		      seen->others > 0 ? ", with those of its unit" : "");
}

void audit_filters(struct process *process, const struct policy *supervisor)
{
	struct sock_fprog own = {0}, above = {0};
	enum policy_mode mode = process->config->seccomp;
	struct seen seen = {0};
	char error[256];
	int rc = policy_compile(process->policy, SCMP_ARCH_NATIVE, mode, &own, error, sizeof(error));

	if (rc == 0 && supervisor != NULL)
		rc = policy_compile(supervisor, SCMP_ARCH_NATIVE, mode, &above, error, sizeof(error));
	if (rc != 0) {
		found(process, "filters", VERDICT_UNSEEN, "%s", error);
	} else {
		int signal;

		seen.error = audit_stop(process->pid, 0, &signal);
		if (seen.error == 0)
			look(&seen, process->pid, &own, &above);
		audit_go_on(process->pid, signal);
		judge(process, &seen, supervisor != NULL);
	}
	if (mode != POLICY_ENFORCE)
		found(process, "seccomp-mode", VERDICT_FAULT, "the configuration has seccomp = %s",
		      mode == POLICY_LOG ? "log" : "trap");
	free(own.filter);
	free(above.filter);
}
