/* SPDX-License-Identifier: Apache-2.0
 *
 * Audit: what is found out about one process, and in which words it is reported.
 */
#ifndef HANDOFFD_POLICY_AUDIT_H
#define HANDOFFD_POLICY_AUDIT_H

#include <stdbool.h>
#include <sys/types.h>
#include <unistd.h>

#include "lib/fdpass.h"
#include "tool.h"

enum verdict { VERDICT_OK, VERDICT_NOTE, VERDICT_UNSEEN, VERDICT_FAULT };

#define FINDINGS_MAX 32
#define DETAIL_MAX   256

struct finding {
	const char *check;
	enum verdict verdict;
	char detail[DETAIL_MAX];
};

struct process {
	pid_t pid;
	pid_t parent;
	const char *role; /* of tool_roles; NULL: what is said of no process in particular */
	char section[64]; /* backend of a streamer, handler of a launcher; "" otherwise */
	uid_t uid;        /* that it should have */
	gid_t gid;
	bool is_run;  /* the first process of a handler's run */
	bool is_unit; /* one of systemd's, not a child of the supervisor */
	const struct policy *policy;
	const struct config *config;
	struct finding findings[FINDINGS_MAX];
	size_t n_findings;
};

__attribute__((format(printf, 4, 5))) void found(struct process *process, const char *check, enum verdict verdict,
                                                 const char *format, ...);

/* What /proc says: ids, capabilities, no_new_privs, dumpable, limits, maps, namespaces, label. */
void audit_status(struct process *process);
/* Open descriptors against what the role should hold. */
void audit_descriptors(struct process *process);
/* Every loaded filter, instruction by instruction; those of the supervisor (NULL: not started by one) included. */
void audit_filters(struct process *process, const struct policy *supervisor);
/* What Landlock denies, tried. */
void audit_landlock(struct process *process);

/* Stop a process by ptrace with these options, and let it go on. signal is what the stop kept from it, which it gets
 * then. 0 or -errno; audit_go_on() is due in either case. */
int audit_stop(pid_t pid, unsigned options, int *signal);
void audit_go_on(pid_t pid, int signal);
/* Wait until a traced process has stopped. 0 or -errno. */
int audit_wait(pid_t pid, int *status);

/* The whole of a small file below /proc/PID, NUL-terminated, in static memory; NULL with errno. */
char *proc_read(pid_t pid, const char *name, size_t *len);
/* The value of "NAME:" in /proc/PID/status, "" when there is none. Static memory. */
const char *proc_status(pid_t pid, const char *name);

#endif
