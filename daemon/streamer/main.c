/* SPDX-License-Identifier: Apache-2.0
 *
 * handoffd-streamer: owns the sockets of clients and writes their answers. One process of the pool of one backend.
 */
#include <locale.h>
#include <sodium.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "access_log.h"
#include "backend.h"
#include "control.h"
#include "daemon/common/log.h"
#include "daemon/common/role.h"

#define BACKLOG       16
#define STOP_LINGER_S 2.5 /* for clients to read the end of theirs */

static struct streamer streamer;
static struct control control;
static struct role_context context;
static ev_signal on_term, on_int, on_usr1;
static ev_timer stop_timer;

static void stop_at_last(struct ev_loop *loop, ev_timer *timer, int revents)
{
	(void)timer;
	(void)revents;
	ev_break(loop, EVBREAK_ALL);
}

static void stop_streams(struct ev_loop *loop, ev_timer *timer, int revents)
{
	(void)revents;
	if (streamer.waiting.n > 0)
		waiting_end(&streamer.waiting);
	streams_end(&streamer);
	ev_timer_init(timer, stop_at_last, STOP_LINGER_S, 0.0);
	ev_timer_start(loop, timer);
}

static void stop_when_idle(struct streamer *idle)
{
	if (idle->stopping)
		ev_break(idle->loop, EVBREAK_ALL);
}

/* The gate finds other processes for new clients; running streams may end by themselves. */
static void stop(struct ev_loop *loop, ev_signal *signal, int revents)
{
	(void)signal;
	(void)revents;
	if (streamer.stopping)
		return;
	streamer.stopping = true;
	role_stopping(&context);
	control_stop(&control);
	streamer_check_idle(&streamer);
	ev_timer_init(&stop_timer, stop_streams, streamer.backend->stop_grace_s, 0.0);
	ev_timer_start(loop, &stop_timer);
}

static void report(struct ev_loop *loop, ev_signal *signal, int revents)
{
	(void)loop;
	(void)signal;
	(void)revents;
	log_event(LOG_NOTICE, "streams", LOG_INT("now", streamer.n_streams));
	metrics_log(ROLE_STREAMER);
}

/* Whatever libraries load on first use is loaded here: later no file can be opened. */
static void libraries_init(void)
{
	time_t now = time(NULL);
	struct tm tm;

	if (sodium_init() < 0)
		fatal("cannot initialise libsodium");
	setlocale(LC_ALL, "C");
	tzset();
	gmtime_r(&now, &tm);
	/* Whoever can make hashes collide could make large requests slow. */
	json_object_seed(0);
}

static void loop_init(void)
{
	streamer.loop = ev_default_loop(EVBACKEND_EPOLL | EVFLAG_NOENV);
	if (streamer.loop == NULL)
		fatal("cannot make an event loop");
	ev_signal_init(&on_term, stop, SIGTERM);
	ev_signal_init(&on_int, stop, SIGINT);
	ev_signal_init(&on_usr1, report, SIGUSR1);
	ev_signal_start(streamer.loop, &on_term);
	ev_signal_start(streamer.loop, &on_int);
	ev_signal_start(streamer.loop, &on_usr1);
}

/* Beyond them handoffs are refused; see handoff.c. */
static void count_descriptors(void)
{
	struct rlimit limit;

	streamer.descriptors = SIZE_MAX;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max != RLIM_INFINITY)
		streamer.descriptors = limit.rlim_max;
	if (streamer.descriptors < streamer.backend->max_streams)
		log_event(LOG_WARNING, "streams-reduced", LOG_INT("wanted", streamer.backend->max_streams),
		          LOG_INT("descriptors", streamer.descriptors));
}

static void handler_links_init(void)
{
	const struct config_handler *handler = &context.config->handlers[streamer.backend->handler];
	int rc = waiting_init(&streamer.waiting, streamer.loop, handler->queue_time_ms);

	if (rc != 0)
		fatal("cannot watch handoffs that wait: %s", strerror(-rc));
	launch_init(&streamer.launcher, streamer.loop);
}

static void streamer_init(void)
{
	const struct config *config = context.config;

	streamer.config = config;
	streamer.backend = &config->backends[context.backend];
	streamer.ops = backend_find(streamer.backend->type);
	streamer.output = streamer.backend->output;
	streamer.idle = stop_when_idle;
	if (streamer.ops == NULL)
		fatal("backend \"%s\" has an unknown type", streamer.backend->name);
	count_descriptors();
	streams_init(&streamer);
	if (streamer.backend->type == BACKEND_HANDLER)
		handler_links_init();
	if (streamer.ops->has_upstream)
		dial_init(&streamer.dialer, streamer.loop, streamer.backend->upstream,
		          config->upstreams[streamer.backend->upstream].connect_timeout_ms);
	if (streamer.ops->init != NULL)
		streamer.ops->init(&streamer);
}

static int listen_fd(void)
{
	char path[CONFIG_PATH_MAX];

	if (config_streamer_socket(context.config, context.backend, context.worker, path) != 0)
		fatal("runtime-dir is too long");
	return role_listen_fd(&context, path);
}

int main(int argc, char **argv)
{
	role_begin(&context, ROLE_STREAMER, argc, argv);
	libraries_init();
	loop_init();
	streamer_init();
	int fd = listen_fd();
	int shared = metrics_share();
	if (shared != 0)
		fatal("cannot share the metrics: %s", strerror(-shared));
	access_log_open(context.config, context.backend, context.worker);
	role_confine(&context, &streamer.backend->user, BACKLOG);
	control_init(&control, &streamer, fd, role_expected_uid(&context.config->user[ROLE_GATE]));
	role_ready(&context, streamer.loop);
	ev_run(streamer.loop, 0);
	metrics_log(ROLE_STREAMER);
	return 0;
}
