/* SPDX-License-Identifier: Apache-2.0
 *
 * handoffd-generator: tells systemd what handoffd.conf asks for, each time that systemd reads its units: see
 * systemd.generator(7). The units that are shipped say what a role may do; this adds which instances there are.
 *
 *     for each listen section     a socket unit of its own, whose connections go to the gate
 *     for each worker of a pool   an instance of handoffd-streamer@ and its socket, with the pool's user and credential
 *     for each handler section    an instance of handoffd-launcher@ and its socket, with its user and writable paths
 *     for gate and dialer         the user that the configuration names
 *
 * Everything is written below the directory that systemd names and is gone when systemd reads its units again. A faulty
 * configuration gives no units at all, and its errors to the log of the boot.
 */
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/common/config.h"
#include "daemon/common/log.h"

#define UNITS         HANDOFFD_UNITDIR
#define RUNTIME_DIR   "/run/handoffd" /* of the shipped units */
#define INTRODUCTION  "# SPDX-License-Identifier: Apache-2.0\n# Made from %s by handoffd-generator.\n"
#define UNIT_NAME_MAX 256

static const char *directory; /* where systemd wants the units */

/* A path below the directory, whose own directory is made when it is not there. */
__attribute__((format(printf, 2, 3))) static void path_in(char out[PATH_MAX], const char *format, ...)
{
	size_t len = (size_t)snprintf(out, PATH_MAX, "%s/", directory);
	va_list arguments;
	char *slash;
	int rest;

	if (len >= PATH_MAX)
		fatal("the path is too long: %s", directory);
	va_start(arguments, format);
	rest = vsnprintf(out + len, PATH_MAX - len, format, arguments);
	va_end(arguments);
	if (rest < 0 || (size_t)rest >= PATH_MAX - len)
		fatal("the path is too long: %s", out);
	slash = strrchr(out, '/');
	*slash = '\0';
	if (mkdir(out, 0755) != 0 && errno != EEXIST)
		fatal("%s: %m", out);
	*slash = '/';
}

static FILE *unit_open(const struct config *config, const char *path)
{
	FILE *unit = fopen(path, "wxe");

	if (unit == NULL)
		fatal("%s: %m", path);
	fprintf(unit, INTRODUCTION, config->file);
	return unit;
}

static void unit_close(FILE *unit, const char *path)
{
	bool failed = ferror(unit);

	if (fclose(unit) != 0 || failed)
		fatal("%s: cannot be written", path);
}

/* A percent sign begins a specifier in a unit file. */
static void put_path(FILE *unit, const char *path)
{
	for (const char *c = path; *c != '\0'; c++) {
		if (*c == '%')
			fputc(*c, unit);
		fputc(*c, unit);
	}
}

/* WANTER.wants/NAME: the unit is started with the wanter. target is the file that defines it. */
static void want(const char *wanter, const char *name, const char *target)
{
	char path[PATH_MAX];

	path_in(path, "%s.wants/%s", wanter, name);
	if (symlink(target, path) != 0)
		fatal("%s: %m", path);
}

/* ---------------------------------------------------------------- what Apache connects to */

static void listener_write(const struct config *config, size_t number)
{
	const struct config_listen *listen = &config->listens[number];
	char name[UNIT_NAME_MAX], path[PATH_MAX], target[UNIT_NAME_MAX + 3];
	FILE *unit;

	snprintf(name, sizeof(name), "handoffd-listen-%zu.socket", number);
	path_in(path, "%s", name);
	unit = unit_open(config, path);
	fputs("[Unit]\nDescription=handoffd: where Apache hands clients over, ", unit);
	put_path(unit, listen->path);
	fputs("\nDocumentation=man:handoffd.conf(5)\nSourcePath=", unit);
	put_path(unit, config->file);
	fputs("\nPartOf=handoffd.target\n\n[Socket]\nService=handoffd-gate.service\n", unit);
	fputs(listen->legacy_stream ? "ListenStream=" : "ListenSequentialPacket=", unit);
	put_path(unit, listen->path);
	/* Its owner is root, as its directory's: nobody else replaces it or opens it to others. */
	fprintf(
	    unit,
	    "\nSocketUser=root\nSocketGroup=%u\nSocketMode=%04o\nDirectoryMode=0755\nBacklog=4096\nRemoveOnStop=yes\n",
	    (unsigned)listen->group, (unsigned)listen->mode);
	unit_close(unit, path);
	snprintf(target, sizeof(target), "../%s", name);
	want("sockets.target", name, target);
	want("handoffd.target", name, target);
}

/* The gate is useless without them, also where somebody starts it by hand. */
static void gate_write(const struct config *config)
{
	char path[PATH_MAX];
	FILE *unit;

	path_in(path, "handoffd-gate.service.d/50-listen.conf");
	unit = unit_open(config, path);
	fputs("[Unit]\n", unit);
	for (size_t i = 0; i < config->n_listens; i++)
		fprintf(unit, "Requires=handoffd-listen-%zu.socket\nAfter=handoffd-listen-%zu.socket\n", i, i);
	unit_close(unit, path);
}

/* ---------------------------------------------------------------- roles */

/* A drop-in with the user that the configuration names, and the secret that the role reads, if any. */
static void service_write(const struct config *config, const char *name, const struct config_user *user,
                          const char *credential, const char *credential_file)
{
	char path[PATH_MAX];
	FILE *unit;

	path_in(path, "%s.d/50-user.conf", name);
	unit = unit_open(config, path);
	fputs("[Service]\n", unit);
	if (user->name[0] != '\0')
		fprintf(unit, "User=%u\nGroup=%u\n", (unsigned)user->uid, (unsigned)user->gid);
	if (credential_file[0] != '\0') {
		fprintf(unit, "LoadCredential=%s:", credential);
		put_path(unit, credential_file);
		fputc('\n', unit);
	}
	unit_close(unit, path);
}

/* Only the gate connects to the other roles. */
static void socket_write(const struct config *config, const char *name)
{
	const struct config_user *gate = &config->user[ROLE_GATE];
	char path[PATH_MAX];
	FILE *unit;

	if (gate->name[0] == '\0')
		return; /* as the unit has it */
	path_in(path, "%s.d/50-user.conf", name);
	unit = unit_open(config, path);
	fprintf(unit, "[Socket]\nSocketUser=%u\nSocketGroup=%u\n", (unsigned)gate->uid, (unsigned)gate->gid);
	unit_close(unit, path);
}

static void pool_write(const struct config *config, const struct config_backend *backend)
{
	char name[UNIT_NAME_MAX];

	for (size_t worker = 0; worker < backend->workers; worker++) {
		snprintf(name, sizeof(name), "handoffd-streamer@%s-%zu.service", backend->name, worker);
		service_write(config, name, &backend->user, "api-key", backend->credential_file);
		want("handoffd.target", name, UNITS "/handoffd-streamer@.service");
		snprintf(name, sizeof(name), "handoffd-streamer@%s-%zu.socket", backend->name, worker);
		socket_write(config, name);
		want("handoffd.target", name, UNITS "/handoffd-streamer@.socket");
	}
}

/* The launcher starts before the streamers whose programs it runs, and so ends after them. */
static void put_streamers(FILE *unit, const struct config *config, size_t handler)
{
	for (size_t i = 0; i < config->n_backends; i++) {
		const struct config_backend *backend = &config->backends[i];

		for (size_t k = 0;
		     backend->type == BACKEND_HANDLER && backend->handler == handler && k < backend->workers; k++)
			fprintf(unit, "Before=handoffd-streamer@%s-%zu.service\n", backend->name, k);
	}
}

static void launcher_write(const struct config *config, size_t number)
{
	const struct config_handler *handler = &config->handlers[number];
	char name[UNIT_NAME_MAX], path[PATH_MAX];
	FILE *unit;

	snprintf(name, sizeof(name), "handoffd-launcher@%s.service", handler->name);
	service_write(config, name, &handler->user, "", "");
	want("handoffd.target", name, UNITS "/handoffd-launcher@.service");
	path_in(path, "%s.d/50-handler.conf", name);
	unit = unit_open(config, path);
	fputs("[Unit]\n", unit);
	put_streamers(unit, config, number);
	fputs("[Service]\n", unit);
	for (size_t i = 0; i < handler->write_paths.n; i++) {
		fputs("ReadWritePaths=-", unit);
		put_path(unit, handler->write_paths.item[i]);
		fputc('\n', unit);
	}
	unit_close(unit, path);
	snprintf(name, sizeof(name), "handoffd-launcher@%s.socket", handler->name);
	socket_write(config, name);
	want("handoffd.target", name, UNITS "/handoffd-launcher@.socket");
}

/* ---------------------------------------------------------------- configuration */

/* Unit files split values at blanks and take backslashes for themselves. */
static void path_check(const char *path)
{
	if (path[strcspn(path, " \t\\\"'")] != '\0')
		fatal("systemd cannot take the path %s: blanks, quotes and backslashes mean something in a unit", path);
}

static const struct config *config_read(const char *file)
{
	char *errors = NULL, *rest;
	const struct config *config = config_load(file, &errors);

	if (config == NULL) {
		rest = errors;
		for (char *line = strtok_r(rest, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest))
			log_event(LOG_ERR, "config", LOG_STR("error", line));
		free(errors);
		fatal("configuration %s cannot be used", file);
	}
	if (strcmp(config->runtime_dir, RUNTIME_DIR) != 0)
		fatal("runtime-dir is %s, but the units have their sockets in " RUNTIME_DIR, config->runtime_dir);
	path_check(config->key_file);
	for (size_t i = 0; i < config->n_listens; i++)
		path_check(config->listens[i].path);
	for (size_t i = 0; i < config->n_backends; i++)
		path_check(config->backends[i].credential_file);
	for (size_t i = 0; i < config->n_handlers; i++)
		for (size_t k = 0; k < config->handlers[i].write_paths.n; k++)
			path_check(config->handlers[i].write_paths.item[k]);
	return config;
}

/* systemd gives three directories, of which the first is for us; two arguments are for a look at what it would be. */
int main(int argc, char **argv)
{
	const char *file = argc == 3 ? argv[2] : CONFIG_DEFAULT_FILE;
	const struct config *config;

	log_open("handoffd-generator");
	if (argc < 2)
		fatal("usage: handoffd-generator DIRECTORY [CONFIGURATION]");
	directory = argv[1];
	if (access(file, F_OK) != 0 && errno == ENOENT)
		return 0; /* not configured, or removed */
	umask(022);
	config = config_read(file);
	for (size_t i = 0; i < config->n_listens; i++)
		listener_write(config, i);
	gate_write(config);
	service_write(config, "handoffd-gate.service", &config->user[ROLE_GATE], "keys", config->key_file);
	service_write(config, "handoffd-dialer.service", &config->user[ROLE_DIALER], "", "");
	socket_write(config, "handoffd-dialer.socket");
	for (size_t i = 0; i < config->n_backends; i++)
		pool_write(config, &config->backends[i]);
	for (size_t i = 0; i < config->n_handlers; i++)
		launcher_write(config, i);
	return 0;
}
