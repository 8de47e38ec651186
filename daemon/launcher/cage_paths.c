/* SPDX-License-Identifier: Apache-2.0
 *
 * Paths: what a program can reach, from its policy and its section. In namespaces they are mounted in a private root;
 * with or without, they are what Landlock grants.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cage_internal.h"

#define PATHS_MAX  256
/* Devices, /tmp, /proc. */
#define OWN_GRANTS 8

struct maker {
	struct cage *cage;
	char *error;
	size_t error_size;
};

static int fault(const struct maker *maker, int code, const char *option, const char *path, const char *what)
{
	snprintf(maker->error, maker->error_size, "handler %s: %s %s: %s", maker->cage->handler->name, option, path,
	         what);
	return code;
}

static bool is_in(const char *path, const char *directory)
{
	size_t len = strlen(directory);

	return strncmp(path, directory, len) == 0 && (path[len] == '\0' || path[len] == '/');
}

/* Optional ones may be missing. */
static int add(const struct maker *maker, const char *option, const char *path, uint64_t access, bool optional)
{
	struct cage *cage = maker->cage;
	char real[PATH_MAX];
	struct stat status;
	struct cage_path *added = &cage->paths[cage->n_paths];

	if (cage->n_paths == PATHS_MAX)
		return fault(maker, -E2BIG, option, path, "too many paths");
	if (realpath(path, real) == NULL || stat(real, &status) != 0) {
		if (optional && (errno == ENOENT || errno == ENOTDIR))
			return 0;
		return fault(maker, -errno, option, path, strerror(errno));
	}
	if (!S_ISDIR(status.st_mode) && !S_ISREG(status.st_mode))
		return fault(maker, -EINVAL, option, path, "neither a file nor a directory");
	if (strcmp(real, "/") == 0 || is_in(real, "/proc"))
		return fault(maker, -EINVAL, option, path, "cannot be given to a program");
	/* A private root has its own; without this its mounts would fail, and where-available be off for it. */
	if (cage->handler->namespaces != LAYER_OFF && (is_in(real, "/tmp") || is_in(real, "/dev")))
		return fault(maker, -EINVAL, option, path,
		             "lies where each run has a directory of its own; only with namespaces = off");
	*added = (struct cage_path){
	    .path = path, .real = strdup(real), .access = access, .directory = S_ISDIR(status.st_mode)};
	if (added->real == NULL)
		return fault(maker, -ENOMEM, option, path, "out of memory");
	cage->n_paths++;
	return 0;
}

static int add_list(const struct maker *maker, const char *option, const struct config_list *list, uint64_t access)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < list->n; i++)
		rc = add(maker, option, list->item[i], access, false);
	return rc;
}

static int add_all(const struct maker *maker, const struct policy *policy)
{
	const struct config_handler *handler = maker->cage->handler;
	const struct config_list *command = &handler->command;
	struct policy_grant grant;
	int rc = 0;

	for (size_t i = 0; rc == 0 && policy_path(policy, i, &grant); i++)
		rc = add(maker, "policy", grant.path, grant.access, true);
	if (rc == 0)
		rc = add(maker, "command", command->item[0], PATH_READ_FILE | PATH_EXECUTE, false);
	/* A script that is named, and whatever else of its arguments is a file. */
	for (size_t i = 1; rc == 0 && i < command->n; i++) {
		struct stat status;

		if (command->item[i][0] == '/' && stat(command->item[i], &status) == 0 && S_ISREG(status.st_mode))
			rc = add(maker, "command", command->item[i], PATH_READ_FILE, false);
	}
	if (rc == 0 && strcmp(handler->directory, "/") != 0)
		rc = add(maker, "directory", handler->directory, PATH_READ, false);
	if (rc == 0)
		rc = add_list(maker, "read-paths", &handler->read_paths, PATH_READ);
	if (rc == 0)
		rc = add_list(maker, "execute-paths", &handler->execute_paths, PATH_READ | PATH_EXECUTE);
	if (rc == 0)
		rc = add_list(maker, "write-paths", &handler->write_paths, PATH_READ | PATH_WRITE);
	return rc;
}

static int by_length(const void *a, const void *b)
{
	const struct cage_path *x = a, *y = b;
	size_t x_len = strlen(x->real), y_len = strlen(y->real);

	if (x_len != y_len)
		return x_len < y_len ? -1 : 1;
	return strcmp(x->real, y->real);
}

static bool lies_in(const char *path, const struct cage_path *tree)
{
	size_t len = strlen(tree->real);

	return strncmp(path, tree->real, len) == 0 && (path[len] == '\0' || (path[len] == '/' && tree->directory));
}

static bool is_written(const struct cage_path *path)
{
	return (path->access & PATH_WRITE) != 0;
}

/* Who can write to a directory decides what a name in it is the next time. */
static int check_below_written(const struct maker *maker)
{
	const struct cage *cage = maker->cage;

	for (size_t i = 0; i < cage->n_paths; i++)
		for (size_t j = 0; j < cage->n_paths; j++)
			if (is_written(&cage->paths[j]) && !is_written(&cage->paths[i]) &&
			    lies_in(cage->paths[i].real, &cage->paths[j]) &&
			    strcmp(cage->handler->directory, cage->paths[i].path) != 0)
				return fault(maker, -EINVAL, "write-paths", cage->paths[j].path,
				             "the program may not write where something else of it is granted");
	return 0;
}

/* A mount for whatever is not below another one of the same kind. */
static void choose_mounts(struct cage *cage)
{
	for (size_t i = 0; i < cage->n_paths; i++) {
		struct cage_path *path = &cage->paths[i];
		struct cage_path *above = NULL;

		for (size_t j = 0; j < i; j++)
			if (cage->paths[j].mounted && lies_in(path->real, &cage->paths[j]))
				above = &cage->paths[j];
		path->mounted = above == NULL || (is_written(path) && !is_written(above));
		if (path->mounted)
			above = path;
		above->executable |= (path->access & PATH_EXECUTE) != 0;
	}
}

int cage_paths_make(struct cage *cage, const struct policy *policy, char *error, size_t error_size)
{
	struct maker maker = {.cage = cage, .error = error, .error_size = error_size};
	int rc;

	cage->paths = calloc(PATHS_MAX, sizeof(*cage->paths));
	cage->grants = calloc(PATHS_MAX + OWN_GRANTS, sizeof(*cage->grants));
	if (cage->paths == NULL || cage->grants == NULL)
		return fault(&maker, -ENOMEM, "", "", "out of memory");
	rc = add_all(&maker, policy);
	if (rc != 0)
		return rc;
	qsort(cage->paths, cage->n_paths, sizeof(*cage->paths), by_length);
	choose_mounts(cage);
	return check_below_written(&maker);
}

static void grant(struct cage *cage, const char *path, uint64_t access)
{
	cage->grants[cage->n_grants++] = (struct policy_grant){path, access};
}

void cage_grants_make(struct cage *cage)
{
	static const char *const devices[] = {"/dev/null", "/dev/zero", "/dev/full", "/dev/urandom"};
	const uint64_t device = PATH_READ_FILE | PATH_WRITE_FILE;

	cage->n_grants = 0;
	for (size_t i = 0; i < cage->n_paths; i++)
		grant(cage, cage->paths[i].real, cage->paths[i].access);
	for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++)
		grant(cage, devices[i], device);
	if (cage->namespaces)
		grant(cage, "/tmp", PATH_READ | PATH_WRITE);
	if (cage->proc)
		grant(cage, "/proc", PATH_READ);
}

void cage_paths_free(struct cage *cage)
{
	for (size_t i = 0; i < cage->n_paths; i++)
		free(cage->paths[i].real);
	free(cage->paths);
	free(cage->grants);
}
