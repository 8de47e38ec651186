/* SPDX-License-Identifier: Apache-2.0
 *
 * Audit: what /proc tells about a process. See audit.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "audit.h"
#include "lib/fdpass.h"

char *proc_read(pid_t pid, const char *name, size_t *len)
{
	static char text[262144];
	char path[64];
	ssize_t n;
	size_t total = 0;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	int fd FD_CLEANUP = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	while (total < sizeof(text) - 1 && (n = read(fd, text + total, sizeof(text) - 1 - total)) != 0) {
		if (n < 0)
			return NULL;
		total += (size_t)n;
	}
	text[total] = '\0';
	if (len != NULL)
		*len = total;
	return text;
}

const char *proc_status(pid_t pid, const char *name)
{
	static char value[256];
	char *text = proc_read(pid, "status", NULL);
	size_t len = strlen(name);

	value[0] = '\0';
	for (char *line = text; line != NULL && *line != '\0';) {
		char *end = strchrnul(line, '\n');

		if (strncmp(line, name, len) == 0 && line[len] == ':') {
			char *start = line + len + 1;

			start += strspn(start, " \t");
			snprintf(value, sizeof(value), "%.*s", (int)(end > start ? end - start : 0), start);
			value[strcspn(value, "\n")] = '\0';
			return value;
		}
		line = *end == '\0' ? end : end + 1;
	}
	return value;
}

/* Real, effective, saved and file-system id are all the same one. */
static void check_ids(struct process *process, const char *name, unsigned wanted)
{
	const char *text = proc_status(process->pid, name);
	const char *check = strcmp(name, "Uid") == 0 ? "uid" : "gid";
	char right[64];

	snprintf(right, sizeof(right), "%u\t%u\t%u\t%u", wanted, wanted, wanted, wanted);
	if (strcmp(text, right) == 0)
		found(process, check, VERDICT_OK, "%u", wanted);
	else
		found(process, check, VERDICT_FAULT, "%s, not %u", text, wanted);
}

static void check_capabilities(struct process *process)
{
	static const char *const sets[] = {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"};
	char wrong[DETAIL_MAX] = "";

	for (size_t i = 0; i < 5; i++) {
		const char *text = proc_status(process->pid, sets[i]);
		size_t len = strlen(wrong);

		if (text[0] == '\0' || strtoull(text, NULL, 16) != 0)
			snprintf(wrong + len, sizeof(wrong) - len, "%s%s %s", len > 0 ? ", " : "", sets[i], text);
	}
	found(process, "capabilities", wrong[0] == '\0' ? VERDICT_OK : VERDICT_FAULT, "%s",
	      wrong[0] == '\0' ? "none in any set" : wrong);
}

/* None, or its own once more, as systemd leaves it: that grants nothing. */
static void check_groups(struct process *process)
{
	const char *text = proc_status(process->pid, "Groups");
	char groups[DETAIL_MAX], own[16];
	size_t len = strcspn(text, " ");

	snprintf(groups, sizeof(groups), "%s", text);
	snprintf(own, sizeof(own), "%u", (unsigned)process->gid);
	if (groups[strspn(groups, " ")] == '\0')
		found(process, "groups", VERDICT_OK, "none");
	else if (len == strlen(own) && strncmp(groups, own, len) == 0 &&
	         groups[len + strspn(groups + len, " ")] == '\0')
		found(process, "groups", VERDICT_OK, "none but its own");
	else
		found(process, "groups", VERDICT_FAULT, "%s", groups);
}

static void check_flags(struct process *process)
{
	struct stat status;
	char path[32];

	check_groups(process);
	/* The kernel gives the files of a process that is not dumpable to root, its folder aside. */
	snprintf(path, sizeof(path), "/proc/%d/status", (int)process->pid);
	if (stat(path, &status) != 0 || process->uid == 0)
		found(process, "dumpable", VERDICT_UNSEEN, "its owner is root in any case");
	else
		found(process, "dumpable", status.st_uid == 0 ? VERDICT_OK : VERDICT_FAULT, "%s",
		      status.st_uid == 0 ? "no" : "yes: its files belong to its user");
}

static void check_limits(struct process *process)
{
	static const struct {
		int resource;
		const char *name;
	} limits[] = {{RLIMIT_CORE, "Max core file size"},
	              {RLIMIT_NPROC, "Max processes"},
	              {RLIMIT_MSGQUEUE, "Max msgqueue size"},
	              {RLIMIT_NOFILE, "Max open files"}};
	const char *text = proc_read(process->pid, "limits", NULL);
	char wrong[DETAIL_MAX] = "";

	if (text == NULL) {
		found(process, "rlimits", VERDICT_UNSEEN, "%s", strerror(errno));
		return;
	}
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		const struct policy_rlimit *wanted = &process->policy->rlimits[limits[i].resource];
		const char *line = strstr(text, limits[i].name);
		char soft[32] = "", hard[32] = "";
		size_t len = strlen(wrong);
		bool right;

		if (!wanted->stated || line == NULL ||
		    sscanf(line + strlen(limits[i].name), " %31s %31s", soft, hard) != 2)
			continue;
		/* A starter may have given less. */
		right = wanted->hard ? strcmp(soft, hard) == 0
		                     : strcmp(hard, "unlimited") != 0 && strtoull(hard, NULL, 10) <= wanted->value &&
		                           strcmp(soft, "unlimited") != 0 && strtoull(soft, NULL, 10) <= wanted->value;
		if (!right)
			snprintf(wrong + len, sizeof(wrong) - len, "%s%s: %s, %s", len > 0 ? "; " : "", limits[i].name,
			         soft, hard);
	}
	found(process, "rlimits", wrong[0] == '\0' ? VERDICT_OK : VERDICT_FAULT, "%s",
	      wrong[0] == '\0' ? "as the policy has them" : wrong);
}

static void check_maps(struct process *process)
{
	const char *text = proc_read(process->pid, "maps", NULL);
	size_t n = 0;

	if (text == NULL || *text == '\0') {
		found(process, "maps", VERDICT_UNSEEN, "%s", text == NULL ? strerror(errno) : "empty");
		return;
	}
	for (const char *line = text; *line != '\0'; line = strchrnul(line, '\n'), line += *line == '\n') {
		char rights[8] = "";

		if (sscanf(line, "%*s %7s", rights) == 1 && rights[1] == 'w' && rights[2] == 'x')
			n++;
	}
	if (n == 0)
		found(process, "maps", VERDICT_OK, "none writable and executable");
	else
		found(process, "maps", VERDICT_FAULT, "%zu writable and executable", n);
}

/* Whether the process is in the namespace of this kind that another is in; -1 when that cannot be seen. */
static int shares_namespace(pid_t pid, const char *with, const char *name)
{
	char path[64], other[64];
	struct stat a, b;

	snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)pid, name);
	snprintf(other, sizeof(other), "/proc/%s/ns/%s", with, name);
	if (stat(path, &a) != 0 || stat(other, &b) != 0)
		return -1;
	return a.st_ino == b.st_ino;
}

/* Under systemd each unit but the dialer's has an empty network (PrivateNetwork=). */
static void check_namespaces(struct process *process)
{
	static const char *const names[] = {"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"};
	char own[128] = "";
	bool unseen = false;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		size_t len = strlen(own);
		int shared = shares_namespace(process->pid, "self", names[i]);

		unseen = unseen || shared < 0;
		if (shared == 0)
			snprintf(own + len, sizeof(own) - len, "%s%s", len > 0 ? "," : "", names[i]);
	}
	if (unseen)
		found(process, "namespaces", VERDICT_UNSEEN, "%s", strerror(errno));
	else if (process->is_unit && strcmp(process->role, "dialer") != 0 && strstr(own, "net") == NULL)
		found(process, "namespaces", VERDICT_FAULT, "its unit gives it a network of its own, and it has none");
	else
		found(process, "namespaces", VERDICT_NOTE, "of its own: %s", own[0] == '\0' ? "none" : own);
}

static void note_label(struct process *process)
{
	char *label = proc_read(process->pid, "attr/current", NULL);

	if (label != NULL)
		label[strcspn(label, "\n")] = '\0';
	found(process, "label", VERDICT_NOTE, "%s",
	      label == NULL || *label == '\0' ? "no security module gives one" : label);
}

void audit_status(struct process *process)
{
	if (proc_status(process->pid, "Uid")[0] == '\0') {
		found(process, "process", VERDICT_FAULT, "it has ended");
		return;
	}
	check_ids(process, "Uid", process->uid);
	check_ids(process, "Gid", process->gid);
	if (process->policy->facts[FACT_CAPABILITIES] == FACT_STRICT) {
		check_capabilities(process);
		check_flags(process);
	}
	found(process, "no-new-privs",
	      strcmp(proc_status(process->pid, "NoNewPrivs"), "1") == 0 ? VERDICT_OK : VERDICT_FAULT, "%s",
	      proc_status(process->pid, "NoNewPrivs"));
	check_limits(process);
	check_maps(process);
	check_namespaces(process);
	note_label(process);
}
