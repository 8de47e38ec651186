/* SPDX-License-Identifier: Apache-2.0
 *
 * What the tests of lib/ share: a scratch file, a key ring made of text, and a count of open descriptors.
 */
#ifndef TEST_LIB_SUPPORT_H
#define TEST_LIB_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/keyring.h"

struct scratch {
	char directory[64];
	char file[96];
};

/* A new directory with the path of a file that is not there yet. */
static inline void scratch_make(struct scratch *scratch)
{
	strcpy(scratch->directory, "/tmp/handoff-test.XXXXXX");
	assert_non_null(mkdtemp(scratch->directory));
	snprintf(scratch->file, sizeof(scratch->file), "%s/keys", scratch->directory);
}

static inline void scratch_write(const struct scratch *scratch, const void *text, size_t len, mode_t mode)
{
	unlink(scratch->file);
	int fd = open(scratch->file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, len), (ssize_t)len);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static inline void scratch_remove(const struct scratch *scratch)
{
	unlink(scratch->file);
	rmdir(scratch->directory);
}

/* The key ring with this text, which must be right. */
static inline struct keyring *keyring_of(const char *text)
{
	struct scratch scratch;
	struct keyring *ring;
	char error[256] = "";

	scratch_make(&scratch);
	scratch_write(&scratch, text, strlen(text), 0600);
	int result = keyring_load(&ring, scratch.file, getuid(), error, sizeof(error));
	scratch_remove(&scratch);
	if (result != 0)
		fail_msg("%s", error);
	return ring;
}

static inline size_t count_open_fds(void)
{
	DIR *directory = opendir("/proc/self/fd");
	size_t n = 0;

	assert_non_null(directory);
	while (readdir(directory))
		n++;
	closedir(directory);
	return n;
}

#endif
