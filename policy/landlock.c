/* SPDX-License-Identifier: Apache-2.0
 *
 * Landlock: files, TCP ports and scopes. By raw system calls and with the kernel's constants by value, since neither
 * libc nor the headers of the oldest supported system know all of them.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "language.h"
#include "lib/fdpass.h"

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule       445
#define SYS_landlock_restrict_self  446
#endif

#define CREATE_RULESET_VERSION 1
#define RULE_PATH_BENEATH      1

/* Execute, write, read, truncate, ioctl: all others are rights to a directory. */
#define FILE_RIGHTS (1u << 0 | 1u << 1 | 1u << 2 | 1u << 14 | 1u << 15)

/* struct landlock_ruleset_attr as of ABI 6 is landlock_handled.bits; older kernels take the part that they know. */

/* struct landlock_path_beneath_attr. */
struct path_beneath {
	uint64_t allowed_access;
	int32_t parent_fd;
} __attribute__((packed));

const struct landlock_right_info landlock_rights[RIGHT_COUNT] = {
#define RIGHT_INFO(symbol, name, abi, member, bits) {name, abi, MEMBER_##member, bits},
    LANDLOCK_RIGHTS(RIGHT_INFO)
#undef RIGHT_INFO
};

int landlock_abi(void)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, CREATE_RULESET_VERSION);

	return abi < 0 ? 0 : (int)abi;
}

static size_t attr_size(int abi)
{
	if (abi >= 6)
		return 3 * sizeof(uint64_t);
	return abi >= 4 ? 2 * sizeof(uint64_t) : sizeof(uint64_t);
}

static int add_path(int ruleset, const struct policy_path *path, char *error, size_t error_size)
{
	int fd FD_CLEANUP = open(path->path, O_PATH | O_CLOEXEC);
	struct path_beneath rule = {.allowed_access = path->access, .parent_fd = fd};

	/* What does not exist needs no right. */
	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
		return 0;
	if (fd < 0 || syscall(SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &rule, 0) != 0) {
		int code = -errno;

		snprintf(error, error_size, "landlock: %s: %m", path->path);
		return code;
	}
	return 0;
}

int landlock_prepare(const struct policy *policy, int abi, struct landlock_handled *handled, char *off, size_t off_size,
                     char *error, size_t error_size)
{
	*handled = (struct landlock_handled){.abi = abi};
	for (size_t i = 0; i < RIGHT_COUNT; i++) {
		const struct landlock_right_info *right = &landlock_rights[i];
		char name[64];

		if (policy->landlock[i] == NEED_OPEN)
			continue;
		if (right->abi <= abi) {
			handled->bits[right->member] |= right->bits;
			continue;
		}
		snprintf(name, sizeof(name), "landlock-%s", right->name);
		if (policy->landlock[i] == NEED_REQUIRED) {
			snprintf(error, error_size, "%s needs Landlock ABI %d, the kernel has %d", name, right->abi,
			         abi);
			return -EOPNOTSUPP;
		}
		policy_off_add(off, off_size, name);
	}
	return 0;
}

static int try_open(void)
{
	int fd FD_CLEANUP = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : 0;
}

/* -EACCES also where there are no such sockets at all. */
static int try_port(bool binds)
{
	/* The discard port, which has no server; any port to bind. */
	struct sockaddr_in name = {
	    .sin_family = AF_INET, .sin_port = binds ? 0 : htons(9), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd FD_CLEANUP = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -EACCES;
	/* The kernel is asked, not a library: a streamer has a connect() of its own. */
	return syscall(binds ? SYS_bind : SYS_connect, fd, &name, sizeof(name)) < 0 ? -errno : 0;
}

static int try_bind(void)
{
	return try_port(true);
}

static int try_connect(void)
{
	return try_port(false);
}

/* A kernel that says it denies something is tried, where that is harmless and nothing below the root was granted whole.
 */
static int verify(const struct policy *policy, int abi, char *error, size_t error_size)
{
	static const struct {
		enum landlock_right right;
		int (*attempt)(void);
	} attempts[] = {{RIGHT_FS, try_open}, {RIGHT_NET_BIND, try_bind}, {RIGHT_NET_CONNECT, try_connect}};

	for (size_t i = 0; i < policy->n_paths; i++)
		if (strcmp(policy->paths[i].path, "/") == 0)
			return 0;
	for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++) {
		const struct landlock_right_info *right = &landlock_rights[attempts[i].right];

		if (policy->landlock[attempts[i].right] == NEED_OPEN || right->abi > abi ||
		    attempts[i].attempt() == -EACCES)
			continue;
		snprintf(error, error_size, "landlock-%s is said to be in force, and is not", right->name);
		return -EIO;
	}
	return 0;
}

static bool handles_something(const struct landlock_handled *handled)
{
	return (handled->bits[MEMBER_FS] | handled->bits[MEMBER_NET] | handled->bits[MEMBER_SCOPE]) != 0;
}

static int create_ruleset(const struct landlock_handled *handled)
{
	int fd = (int)syscall(SYS_landlock_create_ruleset, handled->bits, attr_size(handled->abi), 0);

	return fd < 0 ? -errno : fd;
}

int landlock_apply(const struct policy *policy, int abi, char *off, size_t off_size, char *error, size_t error_size)
{
	struct landlock_handled handled;
	int ruleset FD_CLEANUP = -1;
	int rc = landlock_prepare(policy, abi, &handled, off, off_size, error, error_size);

	if (rc != 0 || !handles_something(&handled))
		return rc;
	ruleset = create_ruleset(&handled);
	if (ruleset < 0) {
		snprintf(error, error_size, "landlock_create_ruleset: %s", strerror(-ruleset));
		return ruleset;
	}
	for (size_t i = 0; rc == 0 && i < policy->n_paths; i++)
		rc = add_path(ruleset, &policy->paths[i], error, error_size);
	if (rc == 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) != 0) {
		rc = -errno;
		snprintf(error, error_size, "landlock_restrict_self: %m");
	}
	if (rc == 0)
		rc = verify(policy, abi, error, error_size);
	return rc;
}

static int add_grant(int ruleset, const struct landlock_handled *handled, const struct policy_grant *grant)
{
	int fd FD_CLEANUP = open(grant->path, O_PATH | O_CLOEXEC);
	struct path_beneath rule = {.allowed_access = grant->access & handled->bits[MEMBER_FS], .parent_fd = fd};
	struct stat status;

	/* What does not exist, or lies where this user cannot go, needs no right. */
	if (fd < 0)
		return errno == ENOENT || errno == ENOTDIR || errno == EACCES ? 0 : -errno;
	if (fstat(fd, &status) != 0)
		return -errno;
	if (!S_ISDIR(status.st_mode))
		rule.allowed_access &= FILE_RIGHTS;
	if (rule.allowed_access == 0)
		return 0;
	return syscall(SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &rule, 0) == 0 ? 0 : -errno;
}

int landlock_enter(const struct landlock_handled *handled, const struct policy_grant *grants, size_t n)
{
	int ruleset FD_CLEANUP = -1;
	int rc = 0;

	if (!handles_something(handled))
		return 0;
	ruleset = create_ruleset(handled);
	if (ruleset < 0)
		return ruleset;
	for (size_t i = 0; rc == 0 && i < n; i++)
		rc = add_grant(ruleset, handled, &grants[i]);
	if (rc == 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) != 0)
		rc = -errno;
	return rc;
}
