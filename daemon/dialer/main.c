/* SPDX-License-Identifier: Apache-2.0
 *
 * handoffd-dialer: resolves and connects the upstreams of the configuration, and hands the connected sockets to the
 * streamers that may have them. It never sees clients, data or keys.
 *
 *     streamer.c   one streamer's wishes
 *     connector.c  one connection on its way
 *     names.c      addresses of hosts, remembered
 *     resolver.c   c-ares on the event loop
 *     address.c    which addresses are public
 *     backoff.c    leaving alone what cannot be reached
 */
#include <signal.h>
#include <string.h>

#include "connector.h"
#include "daemon/common/introduction.h"
#include "daemon/common/log.h"
#include "daemon/common/metrics.h"
#include "daemon/common/role.h"
#include "names.h"
#include "resolver.h"
#include "streamer.h"

#define BACKLOG 16

static void on_report(struct ev_loop *loop, ev_signal *watcher, int events)
{
	(void)loop;
	(void)watcher;
	(void)events;
	metrics_log(ROLE_DIALER);
}

static void on_terminate(struct ev_loop *loop, ev_signal *watcher, int events)
{
	(void)watcher;
	(void)events;
	ev_break(loop, EVBREAK_ALL);
}

static const struct introduction introduction = {
    .self = ROLE_DIALER,
    .ping = MESSAGE_DIALER_PING,
    .pong = MESSAGE_DIALER_PONG,
    .introduced = streamer_open,
};

int main(int argc, char **argv)
{
	static ev_signal terminate, interrupt, report;
	static struct role_context context; /* what it holds is held to the end */
	char path[CONFIG_PATH_MAX];
	struct ev_loop *loop;
	int status;

	role_begin(&context, ROLE_DIALER, argc, argv);
	loop = ev_default_loop(EVBACKEND_EPOLL | EVFLAG_NOENV | EVFLAG_NOTIMERFD);
	if (loop == NULL)
		fatal("no event loop");
	if (config_dialer_socket(context.config, path) < 0)
		fatal("the path of the dialer's socket is too long");
	int fd = role_listen_fd(&context, path);
	status = resolver_init(loop);
	if (status != ARES_SUCCESS)
		fatal("c-ares cannot be initialised: %s", ares_strerror(status));
	names_init(loop);
	connector_init(context.config);
	/* Nothing to read again. */
	signal(SIGHUP, SIG_IGN);
	ev_signal_init(&terminate, on_terminate, SIGTERM);
	ev_signal_init(&interrupt, on_terminate, SIGINT);
	ev_signal_start(loop, &terminate);
	ev_signal_start(loop, &interrupt);
	ev_signal_init(&report, on_report, SIGUSR1);
	ev_signal_start(loop, &report);
	int shared = metrics_share();
	if (shared != 0)
		fatal("cannot share the metrics: %s", strerror(-shared));

	role_confine(&context, &context.config->user[ROLE_DIALER], BACKLOG);
	introduction_listen(loop, context.config, fd, &introduction);
	role_ready(&context, loop);
	ev_run(loop, 0);
	role_stopping(&context);
	metrics_log(ROLE_DIALER);
	return 0;
}
