/* SPDX-License-Identifier: Apache-2.0
 *
 * A cgroup for each run, where the launcher was given a part of the tree (systemd: Delegate=yes). It bounds memory and
 * processes of the whole run, and can be killed whole.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "cage_internal.h"
#include "lib/fdpass.h"

#define TREE     "/sys/fs/cgroup"
#define RUN_NAME "run-"

static int write_at(int folder, const char *name, const char *text)
{
	int fd FD_CLEANUP = openat(folder, name, O_WRONLY | O_CLOEXEC);
	ssize_t len = (ssize_t)strlen(text);

	if (fd < 0)
		return -errno;
	return write(fd, text, (size_t)len) == len ? 0 : -errno;
}

static int write_number_at(int folder, const char *name, uint64_t number)
{
	char text[32];

	snprintf(text, sizeof(text), "%" PRIu64, number);
	return write_at(folder, name, text);
}

/* A small file whole, NUL-terminated. Returns its length or -errno. */
static ssize_t read_at(int folder, const char *name, char *out, size_t size)
{
	int fd FD_CLEANUP = openat(folder, name, O_RDONLY | O_CLOEXEC);
	ssize_t len = fd < 0 ? -1 : read(fd, out, size - 1);

	if (len < 0)
		return -errno;
	out[len] = '\0';
	return len;
}

/* The own cgroup, in the unified tree. */
static int open_own(void)
{
	char text[4096], path[sizeof(TREE) + sizeof(text)];
	ssize_t len = read_at(AT_FDCWD, "/proc/self/cgroup", text, sizeof(text));
	const char *line = len < 0 ? NULL : strstr(text, "0::/");
	struct statfs status;
	int fd FD_CLEANUP = -1;

	if (len < 0)
		return (int)len;
	if (line == NULL || (line != text && line[-1] != '\n'))
		return -ENOENT;
	snprintf(path, sizeof(path), TREE "%.*s", (int)strcspn(line + 3, "\n"), line + 3);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fstatfs(fd, &status) != 0)
		return -errno;
	if (status.f_type != CGROUP2_SUPER_MAGIC)
		return -EOPNOTSUPP;
	int result = fd;
	fd = -1;
	return result;
}

static bool has_word(const char *text, const char *word)
{
	size_t len = strlen(word);

	for (const char *at = strstr(text, word); at != NULL; at = strstr(at + 1, word))
		if ((at == text || at[-1] == ' ') && (at[len] == ' ' || at[len] == '\n' || at[len] == '\0'))
			return true;
	return false;
}

/* No process may be in a cgroup that has others below it with controllers: this one goes into one of its own. */
static int make_room(int fd)
{
	char controllers[512];
	char pid[32];
	ssize_t len = read_at(fd, "cgroup.controllers", controllers, sizeof(controllers));
	int leaf FD_CLEANUP = -1;
	int rc;

	if (len < 0)
		return (int)len;
	if (!has_word(controllers, "memory") || !has_word(controllers, "pids") || faccessat(fd, "cgroup.kill", F_OK, 0))
		return -EOPNOTSUPP;
	if (mkdirat(fd, "launcher", 0755) < 0 && errno != EEXIST)
		return -errno;
	leaf = openat(fd, "launcher", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (leaf < 0)
		return -errno;
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	rc = write_at(leaf, "cgroup.procs", pid);
	return rc == 0 ? write_at(fd, "cgroup.subtree_control", "+memory +pids") : rc;
}

/* Runs whose cgroup could not be removed at their end, or that an earlier launcher left behind. Those that still have
 * processes stay when kill is false. */
static bool sweep(int fd, bool kill)
{
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *folder = copy < 0 ? NULL : fdopendir(copy);
	const struct dirent *entry;
	bool clean = true;

	if (folder == NULL) {
		fd_close(&copy);
		return false;
	}
	while ((entry = readdir(folder)) != NULL) {
		if (strncmp(entry->d_name, RUN_NAME, sizeof(RUN_NAME) - 1) != 0)
			continue;
		if (kill) {
			int run FD_CLEANUP = openat(fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

			cage_cgroup_kill(run);
		}
		clean &= unlinkat(fd, entry->d_name, AT_REMOVEDIR) == 0;
	}
	closedir(folder);
	return clean;
}

int cage_cgroup_prepare(struct cage *cage)
{
	int fd = open_own();
	int rc = fd < 0 ? fd : make_room(fd);

	if (rc != 0) {
		if (fd >= 0)
			close(fd);
		return rc;
	}
	cage->stale_cgroups = !sweep(fd, true);
	cage->cgroup_fd = fd;
	return 0;
}

static void run_name(uint64_t number, char out[32])
{
	snprintf(out, 32, RUN_NAME "%" PRIu64, number);
}

static int set_limits(const struct cage *cage, int fd)
{
	const struct config_handler *handler = cage->handler;
	int rc = write_number_at(fd, "memory.max", handler->memory);

	/* A kernel without swap has no such file. */
	if (rc == 0 && (rc = write_at(fd, "memory.swap.max", "0")) == -ENOENT)
		rc = 0;
	/* All of it goes when it is too much: half a program answers nobody. */
	if (rc == 0)
		rc = write_at(fd, "memory.oom.group", "1");
	/* The init is one of them. */
	if (rc == 0)
		rc = write_number_at(fd, "pids.max", (uint64_t)handler->processes + 1);
	return rc;
}

int cage_cgroup_make(struct cage *cage, uint64_t number)
{
	char name[32];
	int fd, rc;

	run_name(number, name);
	if (mkdirat(cage->cgroup_fd, name, 0755) < 0)
		return -errno;
	fd = openat(cage->cgroup_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	rc = fd < 0 ? -errno : set_limits(cage, fd);
	if (rc == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	unlinkat(cage->cgroup_fd, name, AT_REMOVEDIR);
	return rc;
}

bool cage_cgroup_ran_out_of_memory(int cgroup_fd)
{
	char text[512];
	const char *line;

	if (read_at(cgroup_fd, "memory.events", text, sizeof(text)) < 0)
		return false;
	line = strstr(text, "\noom_kill ");
	return line != NULL && strtoull(line + sizeof("\noom_kill ") - 1, NULL, 10) > 0;
}

void cage_cgroup_kill(int cgroup_fd)
{
	if (cgroup_fd >= 0)
		(void)write_at(cgroup_fd, "cgroup.kill", "1");
}

void cage_cgroup_remove(struct cage *cage, uint64_t number)
{
	char name[32];

	run_name(number, name);
	if (unlinkat(cage->cgroup_fd, name, AT_REMOVEDIR) < 0)
		cage->stale_cgroups = true;
	else if (cage->stale_cgroups)
		cage->stale_cgroups = !sweep(cage->cgroup_fd, false);
}
