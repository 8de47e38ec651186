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

/* What the supervisor writes into its lock: `PID BEGUN DONE FAILED`, its number and those of the last reloads. */
struct supervisor {
	long pid;
	long begun;
	long done;
	long failed;
};

static bool supervisor_read(int lock, struct supervisor *supervisor)
{
	char text[64], *at = text;
	ssize_t len = pread(lock, text, sizeof(text) - 1, 0);

	if (len <= 0)
		return false;
	text[len] = '\0';
	supervisor->pid = strtol(at, &at, 10);
	supervisor->begun = strtol(at, &at, 10);
	supervisor->done = strtol(at, &at, 10);
	supervisor->failed = strtol(at, &at, 10);
	return *at == '\n' && supervisor->pid > 1;
}

/* The lock of a supervisor that runs, -ENOENT when none does, or another -errno: nobody knows. */
static int lock_open(const char *path)
{
	int fd FD_CLEANUP = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	int held;

	if (fd < 0)
		return -errno;
	/* It can be locked: nobody has it. */
	if (flock(fd, LOCK_SH | LOCK_NB) == 0)
		return -ENOENT;
	if (errno != EWOULDBLOCK)
		return -errno;
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
		if (!supervisor_read(lock, &now))
			continue;
		/* Those that had begun before may have read the keys before they were changed. */
		if (now.done > before.begun)
			return ctl_print(SPAN_LITERAL("handoffd has read its keys again.\n"));
		if (now.failed > before.begun)
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
	char path[PATH_MAX];

	if (snprintf(path, sizeof(path), "%s/lock", config->runtime_dir) >= (int)sizeof(path))
		return ctl_error("%s: %s", config->runtime_dir, strerror(ENAMETOOLONG));
	int lock FD_CLEANUP = lock_open(path);

	if (lock >= 0)
		return supervisor_reload(lock);
	if (lock != -ENOENT)
		return ctl_error("%s: %s: whether handoffd runs cannot be seen", path, strerror(-lock));
	if (access("/run/systemd/system", F_OK) == 0)
		return systemd_reload();
	return ctl_print(SPAN_LITERAL("No handoffd runs with this configuration.\n"));
}
