/* SPDX-License-Identifier: Apache-2.0
 *
 * Changing a key ring file: the new content is written to FILE.new, checked there, and renamed over FILE.
 * FILE.new is also the lock between two writers.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "ctl.h"
#include "lib/fdpass.h"
#include "lib/keyring.h"

#define MODE_WIDEST 0640U
#define MODE_BITS   07777U

#define LINE_MAX_LEN 8192
#define LABEL        "security.selinux"
#define LABEL_MAX    256
/* With room for an edit; whether the result is too long the check tells. */
#define CONTENT_MAX  (KEYRING_FILE_MAX + 1 + LINE_MAX_LEN)

/* The file as it is now. */
struct old_file {
	bool exists;
	struct stat st;
	char label[LABEL_MAX]; /* SELinux's */
	size_t label_len;      /* 0: there is none */
	uint8_t *content;      /* sodium_malloc: KEYRING_FILE_MAX + 1 bytes */
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
	ssize_t label_len = fgetxattr(fd, LABEL, old->label, sizeof(old->label));
	if (label_len < 0 && errno != ENODATA && errno != ENOTSUP)
		return ctl_error("%s: %s", file, strerror(errno));
	old->label_len = label_len > 0 ? (size_t)label_len : 0;
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

/* Write to the open new file; 0 or -errno. The label first: a new file has its directory's, which more may read. Owner
 * before mode: changing the owner must not meet a mode that is meant for the other one. */
static int new_file_write(int fd, const struct old_file *old, struct span content)
{
	mode_t mode = old->exists ? old->st.st_mode & MODE_BITS : MODE_WIDEST;
	int error;

	if (old->label_len > 0 && fsetxattr(fd, LABEL, old->label, old->label_len, 0) != 0)
		return -errno;
	error = ctl_write(fd, content);
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

/* What is done to the content: writes the new one to out, CONTENT_MAX bytes, and its length. Returns an enum ctl_exit
 * and complains by itself. */
struct edit {
	int (*make)(const struct edit *edit, struct span old, uint8_t *out, size_t *len);
	const char *file;
	struct span line; /* to add */
	const char *kid;  /* to revoke */
};

static int replace(const struct edit *edit, const char *new_file, int fd, struct old_file *old, uint8_t *content)
{
	size_t len;
	/* Read under the lock, or another writer's key would be lost. */
	int result = old_file_read(edit->file, old);
	if (result == CTL_OK)
		result = edit->make(edit, span_of(old->content, old->len), content, &len);
	if (result)
		return result;
	int error = new_file_write(fd, old, span_of(content, len));
	if (error)
		return ctl_error("%s: %s", new_file, strerror(-error));
	result = new_file_check(new_file, fd);
	if (result)
		return result;
	if (rename(new_file, edit->file) != 0)
		return ctl_error("%s: %s", edit->file, strerror(errno));
	sync_directory(edit->file);
	return CTL_OK;
}

/* Replace the file by way of the new file, which is made here; the memory is the caller's. */
static int change_locked(const struct edit *edit, const char *new_file, struct old_file *old, uint8_t *content)
{
	int fd FD_CLEANUP = open(new_file, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0)
		return ctl_error("%s: %s%s", new_file, strerror(errno),
		                 errno == EEXIST ? " (another handoffctl is at work or was interrupted)" : "");
	int result = replace(edit, new_file, fd, old, content);
	if (result)
		unlink(new_file);
	return result;
}

static int change(const struct edit *edit)
{
	struct old_file old = {.content = sodium_malloc(KEYRING_FILE_MAX + 1)};
	uint8_t *content = sodium_malloc(CONTENT_MAX);
	char new_file[PATH_MAX];
	int len = snprintf(new_file, sizeof(new_file), "%s.new", edit->file);
	int result;

	if (!old.content || !content)
		result = ctl_error("out of memory");
	else if (len < 0 || (size_t)len >= sizeof(new_file))
		result = ctl_error("%s: %s", edit->file, strerror(ENAMETOOLONG));
	else
		result = change_locked(edit, new_file, &old, content);
	sodium_free(old.content);
	sodium_free(content);
	return result;
}

/* ---------------------------------------------------------------- the two edits */

static void put(uint8_t *out, size_t *len, struct span bytes)
{
	memcpy(out + *len, bytes.data, bytes.len);
	*len += bytes.len;
}

static int make_longer(const struct edit *edit, struct span old, uint8_t *out, size_t *len)
{
	*len = 0;
	put(out, len, old);
	if (old.len > 0 && old.data[old.len - 1] != '\n')
		put(out, len, SPAN_LITERAL("\n"));
	put(out, len, edit->line);
	return CTL_OK;
}

int key_file_append(const char *file, struct span line)
{
	struct edit edit = {.make = make_longer, .file = file, .line = line};

	return line.len > LINE_MAX_LEN ? ctl_error("%s: the line is too long", file) : change(&edit);
}

/* The word at the beginning of a line, behind blanks. */
static struct span word_of(struct span line)
{
	size_t start = 0, end;

	while (start < line.len && (line.data[start] == ' ' || line.data[start] == '\t'))
		start++;
	for (end = start; end < line.len && line.data[end] != ' ' && line.data[end] != '\t' && line.data[end] != '\n';
	     end++)
		;
	return span_of(line.data + start, end - start);
}

static int make_revoked(const struct edit *edit, struct span old, uint8_t *out, size_t *len)
{
	bool done = false;

	*len = 0;
	while (old.len > 0) {
		const uint8_t *end = memchr(old.data, '\n', old.len);
		struct span line = span_of(old.data, end ? (size_t)(end - old.data) + 1 : old.len);
		struct span kid = word_of(line);
		size_t at = (size_t)(kid.data - line.data) + kid.len;
		struct span state = word_of(span_of(line.data + at, line.len - at));

		old = span_of(old.data + line.len, old.len - line.len);
		if (done || !span_equal_string(kid, edit->kid)) {
			put(out, len, line);
			continue;
		}
		put(out, len, span_of(line.data, (size_t)(state.data - line.data)));
		put(out, len, SPAN_LITERAL("revoked"));
		at = (size_t)(state.data - line.data) + state.len;
		put(out, len, span_of(line.data + at, line.len - at));
		done = true;
	}
	return done ? CTL_OK : ctl_error("%s: no key %s", edit->file, edit->kid);
}

int key_file_revoke(const char *file, const char *kid)
{
	struct edit edit = {.make = make_revoked, .file = file, .kid = kid};

	return change(&edit);
}
