/* SPDX-License-Identifier: Apache-2.0
 *
 * Sockets: making them so that nobody else can use them before their owner, group and mode are right.
 */
#include "sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/common/log.h"
#include "lib/fdpass.h"

static bool made_runtime_dir;

static int complain(const char *path, const char *what, int error)
{
	log_event(LOG_ERR, "socket", LOG_STR("path", path), LOG_STR("error", what),
	          LOG_STR("detail", error == 0 ? "" : strerror(-error)));
	return error == 0 ? -EPERM : error;
}

/* Keeps a second supervisor from taking the sockets away. Held until the process ends. */
static int lock = -1;

static int lock_take(const char *directory)
{
	char path[PATH_MAX];

	if (snprintf(path, sizeof(path), "%s/lock", directory) >= (int)sizeof(path))
		return complain(directory, "the path is too long", -ENAMETOOLONG);
	lock = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (lock < 0)
		return complain(path, "cannot open the lock", -errno);
	if (flock(lock, LOCK_EX | LOCK_NB) < 0)
		return complain(path, "another handoffd uses this runtime-dir", -errno);
	/* One that was killed has left its number there, which may be another process' by now. */
	if (ftruncate(lock, 0) < 0)
		return complain(path, "cannot empty the lock", -errno);
	return 0;
}

int runtime_dir_open(const char *path)
{
	struct stat status;
	mode_t mask = umask(022);

	made_runtime_dir = mkdir(path, 0755) == 0;
	umask(mask);
	if (!made_runtime_dir && errno != EEXIST)
		return complain(path, "cannot make the runtime-dir", -errno);

	int fd FD_CLEANUP = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &status) < 0)
		return complain(path, "the runtime-dir is not a directory", -errno);
	if (status.st_uid != geteuid() || (status.st_mode & (S_IWGRP | S_IWOTH)) != 0)
		return complain(path, "others own the runtime-dir or may write to it", 0);
	return lock_take(path);
}

void runtime_dir_note(const struct reloads *reloads)
{
	char text[64];
	int len = snprintf(text, sizeof(text), "%d %u %u %u\n", (int)getpid(), reloads->begun, reloads->done,
	                   reloads->failed);

	/* Never shorter than before, so a reader finds it whole. */
	if (pwrite(lock, text, (size_t)len, 0) != len)
		log_event(LOG_WARNING, "lock", LOG_STR("error", strerror(errno)));
}

void runtime_dir_close(const char *path)
{
	char file[PATH_MAX];

	if (snprintf(file, sizeof(file), "%s/lock", path) < (int)sizeof(file))
		unlink(file);
	if (made_runtime_dir)
		rmdir(path);
}

int socket_remove(const char *path)
{
	struct stat status;

	if (lstat(path, &status) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(status.st_mode))
		return -EEXIST;
	return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

/* Bound with no permission for anybody, which the mode then gives to the right ones. By a descriptor: whoever may write
 * to the directory could have put a link to something else there. */
static int give_file(const struct socket_file *file)
{
	int fd FD_CLEANUP = open(file->path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	char link[32];
	struct stat status;

	if (fd < 0 || fstat(fd, &status) < 0)
		return complain(file->path, "cannot look at the socket", -errno);
	if (!S_ISSOCK(status.st_mode))
		return complain(file->path, "is not a socket any more", 0);
	if (file->uid != geteuid() || file->gid != getegid()) {
		if (fchownat(fd, "", file->uid, file->gid, AT_EMPTY_PATH) < 0)
			return complain(file->path, "cannot set the socket's owner and group", -errno);
	}
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	if (chmod(link, file->mode) < 0)
		return complain(file->path, "cannot set the socket's mode", -errno);
	return 0;
}

static int bind_file(int fd, const struct socket_file *file)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	mode_t mask = umask(0777);
	int result;

	memcpy(address.sun_path, file->path, sizeof(address.sun_path));
	result = bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
	umask(mask);
	if (result < 0)
		return complain(file->path, "cannot bind", result);
	return give_file(file);
}

int socket_give(const struct socket_file *file, int fd)
{
	int result = give_file(file);

	if (result == 0)
		return fd;
	fd_close(&fd);
	return result;
}

int socket_make(const struct socket_file *file)
{
	int fd FD_CLEANUP = socket(AF_UNIX, file->type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int result;

	if (fd < 0)
		return complain(file->path, "cannot make a socket", -errno);
	result = socket_remove(file->path);
	if (result < 0)
		return complain(file->path, "something else than a stale socket is in the way", result);
	result = bind_file(fd, file);
	if (result < 0)
		return result;
	result = fd;
	fd = -1;
	return result;
}
