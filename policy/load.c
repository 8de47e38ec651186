/* SPDX-License-Identifier: Apache-2.0
 *
 * Load: which text is the policy of a role, the built-in one or a file that replaces it.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "language.h"
#include "lib/fdpass.h"

#define FILE_MAX 65536

/* Whoever may write to it decides what the role may do. NULL, or what is wrong. */
static const char *fault_of(int fd, bool directory)
{
	struct stat status;

	if (fstat(fd, &status) != 0)
		return strerror(errno);
	if (directory ? !S_ISDIR(status.st_mode) : !S_ISREG(status.st_mode))
		return directory ? "not a directory" : "not a regular file";
	if (status.st_uid != 0 && status.st_uid != getuid())
		return "owned by somebody else than root";
	if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0)
		return "others than its owner may write to it";
	return NULL;
}

/* The text of DIRECTORY/ROLE.policy, NUL-terminated, for the caller to free; NULL with *fault, or without when there is
 * no such file. */
static char *read_override(const char *directory, const char *name, const char **fault)
{
	int folder FD_CLEANUP = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int fd FD_CLEANUP = folder < 0 ? -1 : openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	char *text;
	ssize_t len;

	*fault = NULL;
	if (fd < 0) {
		if (errno != ENOENT)
			*fault = strerror(errno);
		return NULL;
	}
	*fault = fault_of(folder, true);
	if (*fault == NULL)
		*fault = fault_of(fd, false);
	if (*fault != NULL)
		return NULL;
	text = malloc(FILE_MAX + 1);
	len = text != NULL ? read(fd, text, FILE_MAX + 1) : -1;
	if (len >= 0 && len <= FILE_MAX) {
		text[len] = '\0';
		return text;
	}
	*fault = text == NULL || len < 0 ? strerror(errno) : "too long";
	free(text);
	return NULL;
}

/* The policy in DIRECTORY/NAME, NULL with the reason in error, or without when there is no such file. */
static struct policy *load_override(const char *directory, const char *name, char *error, size_t error_size)
{
	char path[PATH_MAX];
	struct policy *policy;
	const char *fault;
	char *text, *kept;

	*error = '\0';
	if (snprintf(path, sizeof(path), "%s/%s", directory, name) >= (int)sizeof(path)) {
		snprintf(error, error_size, "the path of %s is too long", name);
		return NULL;
	}
	text = read_override(directory, name, &fault);
	if (text == NULL) {
		if (fault != NULL)
			snprintf(error, error_size, "%s: %s", path, fault);
		return NULL;
	}
	/* The rules remember the name of their file. */
	kept = strdup(path);
	policy = kept == NULL ? NULL : policy_parse(kept, span_of_string(text), error, error_size);
	free(text);
	if (policy == NULL) {
		free(kept);
		return NULL;
	}
	policy->override = kept;
	return policy;
}

/* The policy itself when it is one of this role, else NULL. */
static struct policy *of_role(struct policy *policy, const char *role, const char *file, char *error, size_t error_size)
{
	if (policy == NULL || (!policy->is_list && strcmp(policy->role, role) == 0))
		return policy;
	snprintf(error, error_size, "%s: is not the policy of role %s", file, role);
	policy_free(policy);
	return NULL;
}

struct policy *policy_load(const char *role, const char *directory, char *error, size_t error_size)
{
	const char *file = NULL;
	struct span text = policy_builtin(role, &file);
	struct policy *policy = NULL;
	char name[64];

	*error = '\0';
	if (text.data == NULL) {
		snprintf(error, error_size, "there is no policy for %s", role);
		return NULL;
	}
	snprintf(name, sizeof(name), "%s.policy", role);
	if (directory != NULL)
		policy = load_override(directory, name, error, error_size);
	if (policy == NULL && *error == '\0')
		policy = policy_parse(file, text, error, error_size);
	if (policy != NULL && policy->override != NULL)
		file = policy->override;
	return of_role(policy, role, file, error, error_size);
}

struct policy *policy_load_file(const char *role, const char *path, char *error, size_t error_size)
{
	const char *name = strrchr(path, '/');
	char directory[PATH_MAX];
	struct policy *policy;

	if (name == NULL || (size_t)(name - path) >= sizeof(directory) - 1) {
		snprintf(error, error_size, "%s: not an absolute path, or too long", path);
		return NULL;
	}
	snprintf(directory, sizeof(directory), "%.*s", name == path ? 1 : (int)(name - path), path);
	policy = load_override(directory, name + 1, error, error_size);
	if (policy == NULL && *error == '\0')
		snprintf(error, error_size, "%s: %s", path, strerror(ENOENT));
	return of_role(policy, role, path, error, error_size);
}

const char *policy_override(const struct policy *policy)
{
	return policy->override;
}
