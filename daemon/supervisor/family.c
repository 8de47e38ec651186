/* SPDX-License-Identifier: Apache-2.0
 *
 * Family: see family.h.
 */
#include "family.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "daemon/common/channel.h"
#include "daemon/common/log.h"
#include "daemon/common/role.h"
#include "lib/fdpass.h"

/* Seconds. */
#define PAUSE_START   0.1
#define PAUSE_MAX     5.0
#define LIVED_LONG    10.0
#define STOP_PATIENCE 5.0 /* beyond what the streamers give their streams */

/* A start may take so many times the watchdog's seconds. */
#define START_PERIODS 4

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
	else if (child->role == ROLE_LAUNCHER)
		log_event(severity, event, LOG_STR("role", role_name(child->role)),
		          LOG_STR("handler", child->family->config->handlers[child->handler].name),
		          LOG_INT("pid", child->pid), LOG_INT(name, value));
	else
		log_event(severity, event, LOG_STR("role", role_name(child->role)), LOG_INT("pid", child->pid),
		          LOG_INT(name, value));
}

/* ---------------------------------------------------------------- sockets */

static const struct config_listen *find_listen(const struct config *config, const char *path, size_t *index)
{
	for (*index = 0; *index < config->n_listens; ++*index)
		if (strcmp(config->listens[*index].path, path) == 0)
			return &config->listens[*index];
	return NULL;
}

static int listen_type(const struct config_listen *listen)
{
	return listen->legacy_stream ? SOCK_STREAM : SOCK_SEQPACKET;
}

/* The socket stays; who may connect to it may have changed. */
static int take_over_listener(const struct family *predecessor, const struct socket_file *file)
{
	size_t index;
	const struct config_listen *before = find_listen(predecessor->config, file->path, &index);
	int fd;

	if (listen_type(before) != file->type) {
		log_event(LOG_ERR, "reload-refused", LOG_STR("listener", file->path),
		          LOG_STR("detail", "legacy-stream cannot change without a restart"));
		return -EINVAL;
	}
	fd = fcntl(predecessor->listen_fds[index], F_DUPFD_CLOEXEC, 0);
	return fd < 0 ? -errno : socket_give(file, fd);
}

static int make_listeners(struct family *family, const struct family *predecessor)
{
	const struct config *config = family->config;
	struct socket_file file = {.uid = role_expected_uid(&config->user[ROLE_GATE])};
	size_t index;

	for (size_t i = 0; i < config->n_listens; i++) {
		const char *path = config->listens[i].path;
		bool known = predecessor != NULL && find_listen(predecessor->config, path, &index) != NULL;

		snprintf(file.path, sizeof(file.path), "%s", path);
		file.type = listen_type(&config->listens[i]);
		file.gid = config->listens[i].group;
		file.mode = config->listens[i].mode;
		family->listen_fds[i] = known ? take_over_listener(predecessor, &file) : socket_make(&file);
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
	if (child->role == ROLE_LAUNCHER)
		return config_launcher_socket(config, child->handler, out);
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
	const struct config *config = child->family->config;

	if (snprintf(file.path, sizeof(file.path), "%s/notify-%zu.%u.sock", config->runtime_dir, number,
	             config->generation) >= (int)sizeof(file.path))
		return -ENAMETOOLONG;
	memcpy(child->notify_path, file.path, sizeof(child->notify_path));
	child->notify_fd = socket_make(&file);
	return child->notify_fd < 0 ? child->notify_fd : 0;
}

/* ---------------------------------------------------------------- what children do */

static void check_ready(struct family *family)
{
	struct child *gate = &family->children[0];

	if (family->state != FAMILY_STARTING)
		return;
	for (size_t i = 1; i < family->n_children; i++)
		if (!family->children[i].ready)
			return;
	if (gate->ready) {
		family->state = FAMILY_RUNNING;
		family->on_ready(family);
	} else if (gate->pid == 0 && !ev_is_active(&gate->restart)) {
		start_child(gate);
	}
}

static void on_notified(struct ev_loop *loop, ev_io *watcher, int events)
{
	struct child *child = watcher->data;
	char text[64];
	ssize_t len = recv(child->notify_fd, text, sizeof(text), MSG_DONTWAIT);
	struct span state = span_of(text, len > 0 ? (size_t)len : 0);

	(void)events;
	if (child->pid == 0 || child->family->state >= FAMILY_RETIRING)
		return;
	if (span_equal_string(state, "READY=1") || span_equal_string(state, "WATCHDOG=1"))
		ev_timer_again(loop, &child->watchdog);
	if (!span_equal_string(state, "READY=1"))
		return;
	child->ready = true;
	log_child(child, LOG_INFO, "role-ready", "ms", (int64_t)((ev_time() - child->started) * 1000));
	check_ready(child->family);
}

/* It is there and does nothing: whoever it serves would wait for ever. Its end is a crash like others. */
static void on_silent(struct ev_loop *loop, ev_timer *watcher, int events)
{
	struct child *child = watcher->data;
	unsigned seconds = child->family->config->watchdog_s * (child->ready ? 1 : START_PERIODS);

	(void)events;
	ev_timer_stop(loop, watcher);
	log_child(child, LOG_ERR, "hung", "seconds", seconds);
	child->hung = true;
	kill(child->pid, SIGKILL);
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

/* Whether processes of this role, or of any (ROLE_COUNT), are there. */
static bool has_any(const struct family *family, enum role role)
{
	for (size_t i = 0; i < family->n_children; i++)
		if (family->children[i].pid != 0 && (role == ROLE_COUNT || family->children[i].role == role))
			return true;
	return false;
}

static void signal_role(const struct family *family, enum role role, int number)
{
	for (size_t i = 0; i < family->n_children; i++)
		if (family->children[i].pid != 0 && family->children[i].role == role)
			kill(family->children[i].pid, number);
}

/* A process of a family that is to end is gone: whose turn it is now. */
static void go_on_ending(struct family *family, enum role ended)
{
	if (!has_any(family, ROLE_COUNT)) {
		ev_timer_stop(family->loop, &family->patience);
		family->on_gone(family);
		return;
	}
	if (has_any(family, ended))
		return;
	if (family->state == FAMILY_STOPPING) {
		if (ended == ROLE_STREAMER)
			signal_role(family, ROLE_LAUNCHER, SIGTERM);
	} else if (ended == ROLE_GATE && has_any(family, ROLE_STREAMER)) {
		signal_role(family, ROLE_STREAMER, SIGTERM);
	} else if ((ended == ROLE_GATE || ended == ROLE_STREAMER) && !has_any(family, ROLE_GATE)) {
		signal_role(family, ROLE_DIALER, SIGTERM);
		signal_role(family, ROLE_LAUNCHER, SIGTERM);
	}
}

static void on_exited(struct ev_loop *loop, ev_child *watcher, int events)
{
	struct child *child = watcher->data;
	struct family *family = child->family;
	bool crashed = WIFSIGNALED(watcher->rstatus);
	bool ending = family->state >= FAMILY_RETIRING;

	(void)events;
	ev_child_stop(loop, watcher);
	ev_timer_stop(loop, &child->watchdog);
	log_child(child, ending ? LOG_INFO : LOG_ERR,
	          ending    ? "role-stopped"
	          : crashed ? "crashed"
	                    : "exited",
	          crashed ? "signal" : "status", crashed ? WTERMSIG(watcher->rstatus) : WEXITSTATUS(watcher->rstatus));
	child->pid = 0;
	if (child->role == ROLE_GATE && family->state == FAMILY_RETIRING)
		family->on_gate_gone(family);
	if (ending) {
		go_on_ending(family, child->role);
	} else if (family->state == FAMILY_STARTING && (!crashed || child->hung) && !child->ready) {
		/* It said why, or hung. Trying again would only do that again. */
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
	child->hung = false;
	ev_timer_set(&child->watchdog, START_PERIODS * family->config->watchdog_s, family->config->watchdog_s);
	if (family->config->watchdog_s > 0)
		ev_timer_start(family->loop, &child->watchdog);
	ev_child_set(&child->exited, pid, 0);
	ev_child_start(family->loop, &child->exited);
}

/* ---------------------------------------------------------------- all of them */

static struct child *init_child(struct family *family, enum role role, const struct config_user *user)
{
	struct child *child = &family->children[family->n_children++];

	child->family = family;
	child->role = role;
	child->user = user;
	child->notify_fd = -1;
	child->pause = PAUSE_START;
	ev_init(&child->notified, on_notified);
	ev_init(&child->exited, on_exited);
	ev_init(&child->restart, on_restart);
	ev_init(&child->watchdog, on_silent);
	child->watchdog.data = child;
	child->notified.data = child;
	child->exited.data = child;
	child->restart.data = child;
	return child;
}

static int init_children(struct family *family)
{
	const struct config *config = family->config;
	size_t n = 2 + config->n_handlers;
	struct child *child;

	for (size_t i = 0; i < config->n_backends; i++)
		n += config->backends[i].workers;
	family->children = calloc(n, sizeof(*family->children));
	if (family->children == NULL)
		return -ENOMEM;
	init_child(family, ROLE_GATE, &config->user[ROLE_GATE]);
	init_child(family, ROLE_DIALER, &config->user[ROLE_DIALER]);
	for (size_t i = 0; i < config->n_handlers; i++) {
		child = init_child(family, ROLE_LAUNCHER, &config->handlers[i].user);
		child->handler = i;
	}
	for (size_t i = 0; i < config->n_backends; i++)
		for (size_t k = 0; k < config->backends[i].workers; k++) {
			child = init_child(family, ROLE_STREAMER, &config->backends[i].user);
			child->backend = i;
			child->worker = k;
		}
	return 0;
}

static void on_patience_end(struct ev_loop *loop, ev_timer *watcher, int events)
{
	struct family *family = watcher->data;

	(void)loop;
	(void)events;
	log_event(LOG_WARNING, "killing", LOG_STR("detail", "a role has not ended in time"));
	family_signal(family, SIGKILL);
}

struct family *family_new(struct ev_loop *loop, const struct config *config, const char *libexec_dir)
{
	struct family *family = calloc(1, sizeof(*family));

	if (family == NULL)
		return NULL;
	family->loop = loop;
	family->config = config;
	family->libexec_dir = libexec_dir;
	for (size_t i = 0; i < CONFIG_SECTIONS_MAX; i++)
		family->listen_fds[i] = -1;
	ev_init(&family->patience, on_patience_end);
	family->patience.data = family;
	return family;
}

int family_start(struct family *family, const struct family *predecessor)
{
	int result = init_children(family);

	if (result == 0)
		result = make_listeners(family, predecessor);
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
	/* The gate follows when these are ready. */
	for (size_t i = 1; i < family->n_children; i++)
		start_child(&family->children[i]);
	return 0;
}

void family_signal(struct family *family, int number)
{
	for (size_t i = 0; i < family->n_children; i++)
		if (family->children[i].pid != 0)
			kill(family->children[i].pid, number);
}

/* What ends is not started again, and is killed when it takes too long. */
static void end(struct family *family, enum family_state state)
{
	unsigned grace_s = 0;

	family->state = state;
	for (size_t i = 0; i < family->n_children; i++) {
		ev_timer_stop(family->loop, &family->children[i].restart);
		ev_timer_stop(family->loop, &family->children[i].watchdog);
	}
	for (size_t i = 0; i < family->config->n_backends; i++)
		if (family->config->backends[i].stop_grace_s > grace_s)
			grace_s = family->config->backends[i].stop_grace_s;
	ev_timer_set(&family->patience, grace_s + STOP_PATIENCE, 0.);
	ev_timer_start(family->loop, &family->patience);
}

void family_retire(struct family *family)
{
	if (family->state >= FAMILY_RETIRING)
		return;
	end(family, FAMILY_RETIRING);
	/* Gone already, it is as if it ended now. */
	if (has_any(family, ROLE_GATE))
		signal_role(family, ROLE_GATE, SIGTERM);
	else {
		family->on_gate_gone(family);
		go_on_ending(family, ROLE_GATE);
	}
}

void family_stop(struct family *family)
{
	if (family->state == FAMILY_STOPPING)
		return;
	end(family, FAMILY_STOPPING);
	for (size_t i = 0; i < family->n_children; i++)
		if (family->children[i].pid != 0 && family->children[i].role != ROLE_LAUNCHER)
			kill(family->children[i].pid, SIGTERM);
	/* Where there is no streamer it is the launchers' turn already. */
	go_on_ending(family, ROLE_STREAMER);
}

static void remove_sockets(struct family *family, const struct family *successor)
{
	const struct config *config = family->config;
	char path[CONFIG_PATH_MAX];
	size_t index;

	/* Only what was made here: a path that something else occupies has no socket of ours. */
	for (size_t i = 0; i < config->n_listens; i++) {
		if (family->listen_fds[i] < 0)
			continue;
		fd_close(&family->listen_fds[i]);
		if (successor == NULL || find_listen(successor->config, config->listens[i].path, &index) == NULL)
			socket_remove(config->listens[i].path);
	}
	for (size_t i = 0; i < family->n_children; i++) {
		struct child *child = &family->children[i];

		if (child->notify_fd >= 0) {
			ev_io_stop(family->loop, &child->notified);
			fd_close(&child->notify_fd);
			socket_remove(child->notify_path);
		}
		if (child->role != ROLE_GATE && internal_path(child, path) == 0)
			socket_remove(path);
	}
}

void family_free(struct family *family, const struct family *successor)
{
	remove_sockets(family, successor);
	free(family->children);
	free(family);
}
