/* SPDX-License-Identifier: Apache-2.0
 *
 * Family: see family.h.
 */
#include "family.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "daemon/common/channel.h"
#include "daemon/common/log.h"
#include "daemon/common/notify.h"
#include "daemon/common/role.h"
#include "lib/fdpass.h"

/* Seconds. */
#define PAUSE_START   0.1
#define PAUSE_MAX     5.0
#define LIVED_LONG    10.0
#define STOP_PATIENCE 15.0 /* longer than the streamers give their streams */

static void start_child(struct child *child);

static gid_t gate_gid(const struct family *family)
{
	const struct config_user *gate = &family->config->user[ROLE_GATE];

	return gate->name[0] == '\0' ? getegid() : gate->gid;
}

static void log_child(const struct child *child, int severity, const char *event, const char *name, int64_t value)
{
	if (child->role == ROLE_STREAMER)
		log_event(severity, event, LOG_STR("role", role_name(child->role)),
		          LOG_STR("backend", child->family->config->backends[child->backend].name),
		          LOG_INT("worker", child->worker), LOG_INT("pid", child->pid), LOG_INT(name, value));
	else
		log_event(severity, event, LOG_STR("role", role_name(child->role)), LOG_INT("pid", child->pid),
		          LOG_INT(name, value));
}

/* ---------------------------------------------------------------- sockets */

static int make_listeners(struct family *family)
{
	const struct config *config = family->config;
	struct socket_file file = {.uid = role_expected_uid(&config->user[ROLE_GATE])};

	for (size_t i = 0; i < config->n_listens; i++) {
		snprintf(file.path, sizeof(file.path), "%s", config->listens[i].path);
		file.type = config->listens[i].legacy ? SOCK_STREAM : SOCK_SEQPACKET;
		file.gid = config->listens[i].group;
		file.mode = config->listens[i].mode;
		family->listen_fds[i] = socket_make(&file);
		if (family->listen_fds[i] < 0)
			return family->listen_fds[i];
	}
	return 0;
}

static int internal_path(const struct child *child, char out[CONFIG_PATH_MAX])
{
	const struct config *config = child->family->config;

	if (child->role == ROLE_DIALER)
		return config_dialer_socket(config, out);
	return config_streamer_socket(config, child->backend, child->worker, out);
}

/* The internal socket of a child: its own, for the gate to connect to. */
static int make_internal(const struct child *child)
{
	struct socket_file file = {
	    .type = SOCK_SEQPACKET,
	    .uid = role_expected_uid(child->user),
	    .gid = gate_gid(child->family),
	    .mode = 0660,
	};
	int result = internal_path(child, file.path);

	return result < 0 ? result : socket_make(&file);
}

static int make_notify(struct child *child, size_t number)
{
	struct socket_file file = {
	    .type = SOCK_DGRAM,
	    .uid = role_expected_uid(child->user),
	    .gid = gate_gid(child->family),
	    .mode = 0600,
	};
	const char *directory = child->family->config->runtime_dir;

	if (snprintf(file.path, sizeof(file.path), "%s/notify-%zu.sock", directory, number) >= (int)sizeof(file.path))
		return -ENAMETOOLONG;
	memcpy(child->notify_path, file.path, sizeof(child->notify_path));
	child->notify_fd = socket_make(&file);
	return child->notify_fd < 0 ? child->notify_fd : 0;
}

/* ---------------------------------------------------------------- what children do */

static void check_all_ready(struct family *family)
{
	if (family->was_ready)
		return;
	for (size_t i = 0; i < family->n_children; i++)
		if (!family->children[i].ready)
			return;
	family->was_ready = true;
	notify_send(family->own_notify_fd, "READY=1");
	log_event(LOG_NOTICE, "ready", LOG_INT("processes", family->n_children));
}

static void on_notified(struct ev_loop *loop, ev_io *watcher, int events)
{
	static const char wanted[] = "READY=1";
	struct child *child = watcher->data;
	char text[64];
	ssize_t len = recv(child->notify_fd, text, sizeof(text), MSG_DONTWAIT);

	(void)loop;
	(void)events;
	if (len != sizeof(wanted) - 1 || memcmp(text, wanted, sizeof(wanted) - 1) != 0)
		return;
	child->ready = true;
	log_child(child, LOG_INFO, "role-ready", "ms", (int64_t)((ev_time() - child->started) * 1000));
	check_all_ready(child->family);
}

static void schedule_restart(struct child *child)
{
	struct ev_loop *loop = child->family->loop;

	if (ev_now(loop) - child->started > LIVED_LONG)
		child->pause = PAUSE_START;
	ev_timer_set(&child->restart, child->pause, 0.);
	ev_timer_start(loop, &child->restart);
	child->pause = child->pause * 2 < PAUSE_MAX ? child->pause * 2 : PAUSE_MAX;
}

static void on_restart(struct ev_loop *loop, ev_timer *watcher, int events)
{
	(void)loop;
	(void)events;
	start_child(watcher->data);
}

static void leave_when_alone(struct family *family)
{
	for (size_t i = 0; i < family->n_children; i++)
		if (family->children[i].pid != 0)
			return;
	ev_break(family->loop, EVBREAK_ALL);
}

static void on_exited(struct ev_loop *loop, ev_child *watcher, int events)
{
	struct child *child = watcher->data;
	struct family *family = child->family;
	bool crashed = WIFSIGNALED(watcher->rstatus);

	(void)events;
	ev_child_stop(loop, watcher);
	log_child(child, family->stopping ? LOG_INFO : LOG_ERR,
	          family->stopping ? "role-stopped"
	          : crashed        ? "crashed"
	                           : "exited",
	          crashed ? "signal" : "status", crashed ? WTERMSIG(watcher->rstatus) : WEXITSTATUS(watcher->rstatus));
	child->pid = 0;
	if (family->stopping) {
		leave_when_alone(family);
	} else if (!family->was_ready && !crashed && !child->ready) {
		/* It said why. Trying again would only say it again. */
		family->failed = true;
		family_stop(family);
	} else {
		child->ready = false;
		schedule_restart(child);
	}
}

static void start_child(struct child *child)
{
	struct family *family = child->family;
	int internal FD_CLEANUP = -1;
	pid_t pid;

	child->started = ev_now(family->loop);
	if (child->role == ROLE_GATE) {
		pid = child_start(child, family->libexec_dir, family->listen_fds, family->config->n_listens);
	} else {
		internal = make_internal(child);
		pid = internal < 0 ? internal : child_start(child, family->libexec_dir, &internal, 1);
	}
	if (pid < 0) {
		log_child(child, LOG_ERR, "start-failed", "error", -pid);
		schedule_restart(child);
		return;
	}
	child->pid = pid;
	ev_child_set(&child->exited, pid, 0);
	ev_child_start(family->loop, &child->exited);
}

/* ---------------------------------------------------------------- all of them */

static void init_child(struct family *family, enum role role, size_t backend, size_t worker,
                       const struct config_user *user)
{
	struct child *child = &family->children[family->n_children++];

	child->family = family;
	child->role = role;
	child->backend = backend;
	child->worker = worker;
	child->user = user;
	child->notify_fd = -1;
	child->pause = PAUSE_START;
	ev_init(&child->notified, on_notified);
	ev_init(&child->exited, on_exited);
	ev_init(&child->restart, on_restart);
	child->notified.data = child;
	child->exited.data = child;
	child->restart.data = child;
}

static int init_children(struct family *family)
{
	const struct config *config = family->config;
	size_t n = 2;

	for (size_t i = 0; i < config->n_backends; i++)
		n += config->backends[i].workers;
	family->children = calloc(n, sizeof(*family->children));
	if (family->children == NULL)
		return -ENOMEM;
	init_child(family, ROLE_GATE, 0, 0, &config->user[ROLE_GATE]);
	init_child(family, ROLE_DIALER, 0, 0, &config->user[ROLE_DIALER]);
	for (size_t i = 0; i < config->n_backends; i++)
		for (size_t k = 0; k < config->backends[i].workers; k++)
			init_child(family, ROLE_STREAMER, i, k, &config->backends[i].user);
	return 0;
}

int family_start(struct family *family)
{
	int result = init_children(family);

	if (result == 0)
		result = make_listeners(family);
	for (size_t i = 0; i < family->n_children && result == 0; i++) {
		struct child *child = &family->children[i];

		result = make_notify(child, i);
		if (result < 0)
			break;
		ev_io_set(&child->notified, child->notify_fd, EV_READ);
		ev_io_start(family->loop, &child->notified);
	}
	if (result < 0)
		return result;
	for (size_t i = 0; i < family->n_children; i++)
		start_child(&family->children[i]);
	return 0;
}

void family_signal(struct family *family, int number)
{
	for (size_t i = 0; i < family->n_children; i++)
		if (family->children[i].pid != 0)
			kill(family->children[i].pid, number);
}

static void on_patience_end(struct ev_loop *loop, ev_timer *watcher, int events)
{
	struct family *family = watcher->data;

	(void)loop;
	(void)events;
	log_event(LOG_WARNING, "killing", LOG_STR("detail", "a role has not ended in time"));
	family_signal(family, SIGKILL);
}

void family_stop(struct family *family)
{
	if (family->stopping)
		return;
	family->stopping = true;
	log_event(LOG_NOTICE, "stopping");
	notify_send(family->own_notify_fd, "STOPPING=1");
	for (size_t i = 0; i < family->n_children; i++)
		ev_timer_stop(family->loop, &family->children[i].restart);
	family_signal(family, SIGTERM);
	ev_timer_init(&family->patience, on_patience_end, STOP_PATIENCE, 0.);
	family->patience.data = family;
	ev_timer_start(family->loop, &family->patience);
	leave_when_alone(family);
}

void family_remove(struct family *family)
{
	char path[CONFIG_PATH_MAX];

	/* Only what was made here: a path that something else occupies has no socket of ours. */
	for (size_t i = 0; i < family->config->n_listens; i++)
		if (family->listen_fds[i] >= 0)
			socket_remove(family->config->listens[i].path);
	for (size_t i = 0; i < family->n_children; i++) {
		const struct child *child = &family->children[i];

		if (child->notify_fd >= 0)
			socket_remove(child->notify_path);
		if (child->role != ROLE_GATE && internal_path(child, path) == 0)
			socket_remove(path);
	}
}
