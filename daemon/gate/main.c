/* SPDX-License-Identifier: Apache-2.0
 *
 * handoffd-gate: takes handoffs from Apache, verifies them and passes them to the streamers. See gate.h.
 */
#include <limits.h>
#include <signal.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/common/log.h"
#include "daemon/common/metrics.h"
#include "daemon/common/role.h"
#include "gate.h"
#include "introduce.h"
#include "listener.h"
#include "status.h"

#define BACKLOG 4096

static struct role_context context;

static void load_keys(struct gate *gate)
{
	const struct config *config = gate->config;
	char path[PATH_MAX];
	char error[256];

	if (sodium_init() < 0)
		fatal("libsodium cannot be initialised");
	if (config_secret_path("keys", config->key_file, path, sizeof(path)) < 0)
		fatal("the path of the key ring is too long");
	if (keyring_load(&gate->keys, path, role_expected_uid(&config->user[ROLE_GATE]), error, sizeof(error)) < 0)
		fatal("%s", error);
}

static void take_listeners(struct gate *gate)
{
	const struct config *config = gate->config;

	gate->listeners = calloc(config->n_listens, sizeof(*gate->listeners));
	if (gate->listeners == NULL)
		fatal("out of memory");
	for (size_t i = 0; i < config->n_listens; i++) {
		if (config->listens[i].legacy)
			log_event(LOG_WARNING, "legacy-listener", LOG_STR("listener", config->listens[i].path),
			          LOG_STR("backend", config->backends[config->listens[i].backend].name));
		int fd = role_listen_fd(&context, config->listens[i].path);
		int result = listener_init(&gate->listeners[i], gate, i, fd);

		if (result < 0)
			fatal("%s: cannot tell its network namespace: %s", config->listens[i].path, strerror(-result));
	}
}

static void on_terminate(struct ev_loop *loop, ev_signal *watcher, int events)
{
	(void)watcher;
	(void)events;
	ev_break(loop, EVBREAK_ALL);
}

static void on_report(struct ev_loop *loop, ev_signal *watcher, int events)
{
	(void)loop;
	(void)watcher;
	(void)events;
	metrics_log(ROLE_GATE);
}

static void watch_signals(struct gate *gate)
{
	static ev_signal terminate, interrupt, report;

	ev_signal_init(&terminate, on_terminate, SIGTERM);
	ev_signal_init(&interrupt, on_terminate, SIGINT);
	ev_signal_init(&report, on_report, SIGUSR1);
	/* There is nothing to read again: keys come with a restart. */
	signal(SIGHUP, SIG_IGN);
	ev_signal_start(gate->loop, &terminate);
	ev_signal_start(gate->loop, &interrupt);
	ev_signal_start(gate->loop, &report);
}

/* Whatever comes from now on finds a streamer, if there is one at all. */
static void on_settled(struct gate *gate)
{
	for (size_t i = 0; i < gate->config->n_listens; i++)
		listener_start(&gate->listeners[i]);
	role_ready(&context, gate->loop);
}

static void stop(struct gate *gate)
{
	role_stopping(&context);
	for (size_t i = 0; i < gate->config->n_listens; i++)
		listener_stop(&gate->listeners[i]);
	introduce_stop(gate);
	status_stop(gate);
	metrics_log(ROLE_GATE);
	keyring_free(gate->keys);
}

int main(int argc, char **argv)
{
	static struct gate gate;
	int result;

	role_begin(&context, ROLE_GATE, argc, argv);
	gate.config = context.config;
	/* So that logs of several runs can be told apart. */
	gate.next_stream_id = (uint64_t)time(NULL) << 20;
	gate.started = time(NULL);
	load_keys(&gate);
	randombytes_buf(&gate.instance, sizeof(gate.instance));
	gate.loop = ev_default_loop(EVBACKEND_EPOLL | EVFLAG_NOENV | EVFLAG_NOTIMERFD);
	if (gate.loop == NULL)
		fatal("no event loop");
	take_listeners(&gate);
	result = introduce_init(&gate, connection_resume);
	if (result < 0)
		fatal("cannot prepare the other roles: %s", strerror(-result));
	watch_signals(&gate);

	role_confine(&context, &context.config->user[ROLE_GATE], BACKLOG);
	introduce_start(&gate, on_settled);
	ev_run(gate.loop, 0);
	stop(&gate);
	return 0;
}
