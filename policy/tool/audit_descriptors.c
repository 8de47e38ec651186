/* SPDX-License-Identifier: Apache-2.0
 *
 * Audit: open descriptors. A role holds sockets of its kinds, its event loop, memory files for data and counters, and
 * its log; no file, no directory, no device but the null device. See audit.h.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "audit.h"

enum socket_kind { SOCKET_UNKNOWN, SOCKET_UNIX, SOCKET_TCP, SOCKET_TCP_LISTENING, SOCKET_UDP };

/* Whether a table of /proc/PID/net has a socket with this inode number in that column; its line then. */
static const char *find_socket(pid_t pid, const char *table, unsigned column, uint64_t inode)
{
	const char *text = proc_read(pid, table, NULL);

	for (const char *line = text; line != NULL && *line != '\0';
	     line = strchrnul(line, '\n'), line += *line == '\n') {
		const char *word = line;

		for (unsigned i = 0; i < column && *word != '\0' && *word != '\n'; i++) {
			word += strspn(word, " ");
			word += strcspn(word, " \n");
		}
		if (strtoull(word, NULL, 10) == inode)
			return line;
	}
	return NULL;
}

/* Sockets that were passed may belong to another network namespace: they are in the tables of Apache's, where this
 * tool runs, or in none. */
static enum socket_kind socket_kind(pid_t pid, uint64_t inode)
{
	pid_t places[] = {pid, getpid()};

	for (size_t i = 0; i < 2; i++) {
		const char *line;

		if (find_socket(places[i], "net/unix", 6, inode) != NULL)
			return SOCKET_UNIX;
		line = find_socket(places[i], "net/tcp", 9, inode);
		if (line == NULL)
			line = find_socket(places[i], "net/tcp6", 9, inode);
		if (line != NULL) {
			char state[8] = "";

			return sscanf(line, "%*s %*s %*s %7s", state) == 1 && strcmp(state, "0A") == 0
			           ? SOCKET_TCP_LISTENING
			           : SOCKET_TCP;
		}
		if (find_socket(places[i], "net/udp", 9, inode) != NULL ||
		    find_socket(places[i], "net/udp6", 9, inode) != NULL)
			return SOCKET_UDP;
	}
	return SOCKET_UNKNOWN;
}

static bool has_role(const struct process *process, const char *role)
{
	return strcmp(process->role, role) == 0;
}

/* NULL, or why a role does not hold such a socket. */
static const char *socket_fault(const struct process *process, uint64_t inode)
{
	switch (socket_kind(process->pid, inode)) {
	case SOCKET_UNIX:
		return NULL;
	case SOCKET_TCP:
		/* The gate has clients for a moment only. */
		return has_role(process, "supervisor") ? "a network connection" : NULL;
	case SOCKET_TCP_LISTENING:
		return "a listening network socket";
	case SOCKET_UDP:
		return has_role(process, "dialer") ? NULL : "a datagram socket";
	default:
		/* Closed by now, or a kind that no table shows; a connection that is over is in none. */
		return NULL;
	}
}

/* The access log of one of the backend's workers. */
static bool is_access_log(const struct config *config, size_t backend, const char *target)
{
	char path[PATH_MAX];

	for (size_t worker = 0; worker < config->backends[backend].workers; worker++)
		if (config_access_log(config, backend, worker, path, sizeof(path)) == 0 && strcmp(target, path) == 0)
			return true;
	return false;
}

static bool is_log(const struct process *process, int fd, const char *target)
{
	const struct config *config = process->config;

	if (fd <= 2)
		return true; /* what its starter gave it to write to */
	for (size_t i = 0; has_role(process, "streamer") && i < config->n_backends; i++)
		if (strcmp(config->backends[i].name, process->section) == 0)
			return is_access_log(config, i, target);
	return false;
}

/* NULL, or what is wrong with holding this. */
static const char *descriptor_fault(const struct process *process, int fd, const char *target)
{
	static const char *const harmless[] = {"anon_inode:[eventpoll]",
	                                       "anon_inode:[eventfd]",
	                                       "anon_inode:[timerfd]",
	                                       "anon_inode:[signalfd]",
	                                       "/dev/null",
	                                       "pipe:["};

	if (strncmp(target, "socket:[", 8) == 0)
		return socket_fault(process, strtoull(target + 8, NULL, 10));
	if (strncmp(target, "/memfd:", 7) == 0)
		return has_role(process, "supervisor") ? "a memory file" : NULL;
	for (size_t i = 0; i < sizeof(harmless) / sizeof(harmless[0]); i++)
		if (strncmp(target, harmless[i], strlen(harmless[i])) == 0)
			return NULL;
	if (is_log(process, fd, target))
		return NULL;
	/* Of each run, to see it end and to end it whole. */
	if (has_role(process, "launcher") &&
	    (strcmp(target, "anon_inode:[pidfd]") == 0 || strncmp(target, "pidfd:", 6) == 0 ||
	     strncmp(target, "/sys/fs/cgroup/", 15) == 0))
		return NULL;
	/* Its lock, which keeps a second supervisor away. */
	if (has_role(process, "supervisor") && strstr(target, "/lock") != NULL)
		return NULL;
	return "a file";
}

void audit_descriptors(struct process *process)
{
	char path[64], wrong[DETAIL_MAX] = "";
	struct dirent *entry;
	size_t n = 0;
	DIR *folder;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)process->pid);
	folder = opendir(path);
	if (folder == NULL) {
		found(process, "descriptors", VERDICT_UNSEEN, "%s", strerror(errno));
		return;
	}
	while ((entry = readdir(folder)) != NULL) {
		char link[128], target[PATH_MAX];
		size_t len = strlen(wrong);
		const char *fault;
		ssize_t size;

		if (entry->d_name[0] == '.')
			continue;
		snprintf(link, sizeof(link), "%s/%.16s", path, entry->d_name);
		size = readlink(link, target, sizeof(target) - 1);
		if (size < 0)
			continue; /* closed meanwhile */
		target[size] = '\0';
		n++;
		fault = descriptor_fault(process, (int)strtol(entry->d_name, NULL, 10), target);
		if (fault != NULL)
			snprintf(wrong + len, sizeof(wrong) - len, "%s%.16s: %s (%.128s)", len > 0 ? "; " : "",
			         entry->d_name, fault, target);
	}
	closedir(folder);
	if (wrong[0] != '\0')
		found(process, "descriptors", VERDICT_FAULT, "%s", wrong);
	else
		found(process, "descriptors", VERDICT_OK, "%zu, all of their kinds", n);
}
