/* SPDX-License-Identifier: Apache-2.0
 *
 * handoffd-launcher: starts the program of one handler section, each run in a cage of its own, as its own user and
 * nobody else. It never reads what a program writes: the pipes' ends go to the streamers.
 *
 *     gate.c       the gate's connection, by which streamers are introduced
 *     streamer.c   one streamer's channel
 */
#include <signal.h>
#include <string.h>

#include "daemon/common/log.h"
#include "daemon/common/metrics.h"
#include "daemon/common/role.h"
#include "gate.h"
#include "streamer.h"

#define BACKLOG 16

static void on_report(struct ev_loop *loop, ev_signal *watcher, int events)
{
	(void)loop;
	(void)watcher;
	(void)events;
	metrics_log(ROLE_LAUNCHER);
}

static void on_terminate(struct ev_loop *loop, ev_signal *watcher, int events)
{
	(void)watcher;
	(void)events;
	ev_break(loop, EVBREAK_ALL);
}

static void watch_signals(struct ev_loop *loop)
{
	static ev_signal terminate, report;

	/* Nothing to read again. And Ctrl-C reaches all processes of a terminal at once, where this one is to end after
	 * the streamers: the supervisor tells it. */
	signal(SIGHUP, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	ev_signal_init(&terminate, on_terminate, SIGTERM);
	ev_signal_start(loop, &terminate);
	ev_signal_init(&report, on_report, SIGUSR1);
	ev_signal_start(loop, &report);
}

int main(int argc, char **argv)
{
	static struct role_context context; /* what it holds is held to the end */
	char path[CONFIG_PATH_MAX];
	struct ev_loop *loop;

	role_begin(&context, ROLE_LAUNCHER, argc, argv);
	loop = ev_default_loop(EVBACKEND_EPOLL | EVFLAG_NOENV | EVFLAG_NOTIMERFD);
	if (loop == NULL)
		fatal("no event loop");
	if (config_launcher_socket(context.config, context.handler, path) < 0)
		fatal("the path of the launcher's socket is too long");
	int fd = role_listen_fd(&context, path);
	watch_signals(loop);
	int shared = metrics_share();
	if (shared != 0)
		fatal("cannot share the metrics: %s", strerror(-shared));

	role_confine(&context, &context.config->handlers[context.handler].user);
	role_listen(&context, BACKLOG);
	streamers_init(loop, context.config, context.handler);
	gate_listen(loop, context.config, fd);
	role_ready(&context, loop);
	ev_run(loop, 0);
	role_stopping(&context);
	metrics_log(ROLE_LAUNCHER);
	return 0;
}
