/* SPDX-License-Identifier: Apache-2.0
 *
 * Telling the running daemon to read its configuration and keys again, and waiting until it has. The supervisor's lock
 * file says who it is and how far it has come; where there is none, systemd has the gate, which loses nothing when it
 * is restarted, since its listeners stay.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ctl.h"
#include "daemon/common/config.h"
#include "lib/fdpass.h"

#define PATIENCE_S 30

/* What the supervisor writes into its lock: `PID GENERATION RELOADS`. */
struct supervisor {
	long pid;
	long generation; /* of the configuration in use */
	long reloads;    /* that have come to an end, good or bad */
};

static bool supervisor_read(int lock, struct supervisor *supervisor)
{
	char text[64], *at = text;
	ssize_t len = pread(lock, text, sizeof(text) - 1, 0);

	if (len <= 0)
		return false;
	text[len] = '\0';
	supervisor->pid = strtol(at, &at, 10);
	supervisor->generation = strtol(at, &at, 10);
	supervisor->reloads = strtol(at, &at, 10);
	return *at == '\n' && supervisor->pid > 1;
}

/* The lock of a supervisor that runs, or -1. */
static int lock_open(const struct config *config)
{
	char path[PATH_MAX];
	int fd FD_CLEANUP = -1;
	int held;

	if (snprintf(path, sizeof(path), "%s/lock", config->runtime_dir) >= (int)sizeof(path))
		return -1;
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	/* It can be locked: nobody has it. */
	if (fd < 0 || flock(fd, LOCK_SH | LOCK_NB) == 0)
		return -1;
	held = fd;
	fd = -1;
	return held;
}

static int supervisor_reload(int lock)
{
	const struct timespec pause = {.tv_nsec = 20000000};
	struct supervisor before, now;

	if (!supervisor_read(lock, &before))
		return ctl_error("handoffd has only just been started: try again");
	if (kill((pid_t)before.pid, SIGHUP) != 0)
		return ctl_error("handoffd (%ld): %s", before.pid, strerror(errno));
	for (long waited = 0; waited < PATIENCE_S * 50L; waited++) {
		nanosleep(&pause, NULL);
		if (!supervisor_read(lock, &now) || now.reloads == before.reloads)
			continue;
		if (now.generation != before.generation)
			return ctl_print(SPAN_LITERAL("handoffd has read its keys again.\n"));
		break;
	}
	return ctl_error("handoffd has not read its keys again, and its log says why: restart it");
}

static int systemd_reload(void)
{
	char *arguments[] = {"systemctl", "try-restart", "handoffd-gate.service", NULL};
	char *environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL};
	int status = -1;
	pid_t pid;

	if (posix_spawn(&pid, "/bin/systemctl", NULL, NULL, arguments, environment) != 0 ||
	    waitpid(pid, &status, 0) != pid || status != 0)
		return ctl_error("handoffd-gate.service could not be restarted: systemctl restart handoffd-gate");
	return ctl_print(SPAN_LITERAL("handoffd-gate.service, if it runs, has read its keys again.\n"));
}

int daemon_reload(const struct config *config)
{
	int lock FD_CLEANUP = lock_open(config);

	if (lock >= 0)
		return supervisor_reload(lock);
	if (access("/run/systemd/system", F_OK) == 0)
		return systemd_reload();
	return ctl_print(SPAN_LITERAL("No handoffd runs with this configuration.\n"));
}
