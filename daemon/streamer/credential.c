/* SPDX-License-Identifier: Apache-2.0
 *
 * Credential: see credential.h.
 */
#include "credential.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/fdpass.h"

#define CREDENTIAL_MAX 4096

/* NULL, or what is wrong with the file. */
static const char *file_fault(int fd, uid_t reader)
{
	struct stat status;

	if (fstat(fd, &status) != 0)
		return strerror(errno);
	if (!S_ISREG(status.st_mode))
		return "not a regular file";
	if (status.st_uid != 0 && status.st_uid != reader)
		return "owned by somebody else";
	if ((status.st_mode & (07777u ^ 0640u)) != 0)
		return "mode is wider than 0640";
	return NULL;
}

/* Length of the line, or 0 when it is empty or holds what no header may. */
static size_t line_len(const char *line, size_t len)
{
	if (len > 0 && line[len - 1] == '\n')
		len--;
	for (size_t i = 0; i < len; i++)
		if (line[i] <= ' ' || line[i] > '~')
			return 0;
	return len;
}

/* Read all of a small file; its length or -errno. */
static ssize_t read_all(int fd, char *out, size_t size)
{
	size_t len = 0;
	ssize_t n;

	while (len < size && (n = read(fd, out + len, size - len)) != 0) {
		if (n < 0)
			return -errno;
		len += (size_t)n;
	}
	return len < size ? (ssize_t)len : -EFBIG;
}

static char *string_make(int fd, const char *prefix, const char **fault)
{
	size_t prefix_len = strlen(prefix);
	char *string = sodium_malloc(prefix_len + CREDENTIAL_MAX + 1);
	ssize_t len;

	if (string == NULL) {
		*fault = "no locked memory";
		return NULL;
	}
	memcpy(string, prefix, prefix_len);
	len = read_all(fd, string + prefix_len, CREDENTIAL_MAX);
	if (len > 0)
		len = (ssize_t)line_len(string + prefix_len, (size_t)len);
	if (len <= 0) {
		*fault = len < 0 ? strerror((int)-len) : "not one line of printable characters";
		sodium_free(string);
		return NULL;
	}
	string[prefix_len + (size_t)len] = '\0';
	sodium_mprotect_readonly(string);
	return string;
}

char *credential_read(const char *file, uid_t reader, const char *prefix, char *error, size_t error_size)
{
	int fd FD_CLEANUP = open(file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	const char *fault = fd < 0 ? strerror(errno) : file_fault(fd, reader);
	char *string = fault == NULL ? string_make(fd, prefix, &fault) : NULL;

	if (string == NULL)
		snprintf(error, error_size, "%s: %s", file, fault);
	return string;
}
