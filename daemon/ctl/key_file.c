/* SPDX-License-Identifier: Apache-2.0
 *
 * Adding a key to a key ring file: the new content is written to FILE.new, checked there, and renamed over FILE.
 * FILE.new is also the lock between two writers.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl.h"
#include "lib/fdpass.h"
#include "lib/keyring.h"

#define MODE_WIDEST 0640U
#define MODE_BITS   07777U

/* The file as it is now. */
struct old_file {
	bool exists;
	struct stat st;
	uint8_t *content; /* sodium_malloc: KEYRING_FILE_MAX + 1 bytes */
	size_t len;
};

static int old_file_read(const char *file, struct old_file *old)
{
	int fd FD_CLEANUP = open(file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0 && errno == ENOENT)
		return CTL_OK;
	if (fd < 0 || fstat(fd, &old->st) != 0)
		return ctl_error("%s: %s", file, errno == ELOOP ? "is a symbolic link" : strerror(errno));
	if (!S_ISREG(old->st.st_mode))
		return ctl_error("%s: not a regular file", file);
	/* Others may have read the keys in it: narrowing the mode now would hide that. */
	if (old->st.st_mode & MODE_BITS & ~MODE_WIDEST)
		return ctl_error("%s: mode is %04o, must be 0640 or tighter", file, old->st.st_mode & MODE_BITS);
	old->exists = true;
	while (old->len <= KEYRING_FILE_MAX) {
		ssize_t n = read(fd, old->content + old->len, KEYRING_FILE_MAX + 1 - old->len);
		if (n == 0)
			return CTL_OK;
		if (n < 0 && errno != EINTR)
			return ctl_error("%s: %s", file, strerror(errno));
		if (n > 0)
			old->len += (size_t)n;
	}
	return ctl_error("%s: larger than %d bytes", file, KEYRING_FILE_MAX);
}

/* Write old content and line to the open new file; 0 or -errno. Owner before mode: changing the owner must not meet
 * a mode that is meant for the other one. */
static int new_file_write(int fd, const struct old_file *old, struct span line)
{
	bool unfinished = old->len > 0 && old->content[old->len - 1] != '\n';
	mode_t mode = old->exists ? old->st.st_mode & MODE_BITS : MODE_WIDEST;
	int error = ctl_write(fd, span_of(old->content, old->len));

	if (!error && unfinished)
		error = ctl_write(fd, SPAN_LITERAL("\n"));
	if (!error)
		error = ctl_write(fd, line);
	if (error)
		return error;
	if (old->exists && fchown(fd, old->st.st_uid, old->st.st_gid) != 0)
		return -errno;
	return fchmod(fd, mode) != 0 || fsync(fd) != 0 ? -errno : 0;
}

/* What the daemons will read is what was checked. */
static int new_file_check(const char *new_file, int fd)
{
	struct keyring *ring;
	struct stat st;
	char error[PATH_MAX + 128];

	if (fstat(fd, &st) != 0)
		return ctl_error("%s: %s", new_file, strerror(errno));
	if (keyring_load(&ring, new_file, st.st_uid, error, sizeof(error)) != 0)
		return ctl_error("%s (nothing was changed)", error);
	keyring_free(ring);
	return CTL_OK;
}

/* The directory's entry must survive a crash too. Not being able to open the directory is no reason to complain. */
static void sync_directory(const char *file)
{
	char directory[PATH_MAX];
	const char *slash = strrchr(file, '/');
	size_t len = slash ? (size_t)(slash - file) + 1 : 0;

	if (len >= sizeof(directory))
		return;
	memcpy(directory, file, len);
	directory[len] = '\0';
	int fd FD_CLEANUP = open(len ? directory : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0)
		fsync(fd);
}

static int replace(const char *file, const char *new_file, int fd, struct old_file *old, struct span line)
{
	/* Read under the lock, or another writer's key would be lost. */
	int result = old_file_read(file, old);
	if (result)
		return result;
	int error = new_file_write(fd, old, line);
	if (error)
		return ctl_error("%s: %s", new_file, strerror(-error));
	result = new_file_check(new_file, fd);
	if (result)
		return result;
	if (rename(new_file, file) != 0)
		return ctl_error("%s: %s", file, strerror(errno));
	sync_directory(file);
	return CTL_OK;
}

/* Replace file by way of the new file, which is made here; old.content is the caller's. */
static int append(const char *file, const char *new_file, struct old_file *old, struct span line)
{
	int fd FD_CLEANUP = open(new_file, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0)
		return ctl_error("%s: %s%s", new_file, strerror(errno),
		                 errno == EEXIST ? " (another keygen is at work or was interrupted)" : "");
	int result = replace(file, new_file, fd, old, line);
	if (result)
		unlink(new_file);
	return result;
}

int key_file_append(const char *file, struct span line)
{
	struct old_file old = {.content = sodium_malloc(KEYRING_FILE_MAX + 1)};
	char new_file[PATH_MAX];

	if (!old.content)
		return ctl_error("out of memory");
	int len = snprintf(new_file, sizeof(new_file), "%s.new", file);
	int result = len < 0 || (size_t)len >= sizeof(new_file) ? ctl_error("%s: %s", file, strerror(ENAMETOOLONG))
	                                                        : append(file, new_file, &old, line);
	sodium_free(old.content);
	return result;
}
