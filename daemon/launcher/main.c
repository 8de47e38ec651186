/* SPDX-License-Identifier: Apache-2.0
 *
 * handoffd-launcher: starts the program of one handler section, each run in a cage of its own, as its own user and
 * nobody else. It never reads what a program writes: the pipes' ends go to the streamers.
 *
 *     streamer.c     one streamer's channel
 *     seat.c         one request on it
 *     queue.c        places, and who waits for one
 *     run.c          one run of the program
 *     data.c         the request's data, as the program gets it
 *     environment.c  its variables
 *     cage.c         what it runs in
 */
#include <signal.h>
#include <string.h>
#include <sys/resource.h>

#include "daemon/common/introduction.h"
#include "daemon/common/log.h"
#include "daemon/common/metrics.h"
#include "daemon/common/role.h"
#include "streamer.h"

#define BACKLOG       16
/* Descriptors that a run holds here, and all that is not of runs: channels, the cage's. */
#define FDS_OF_A_RUN  5
#define FDS_OF_OURS   (64 + 4 * CONFIG_WORKERS_MAX)
/* Seconds for the kernel to end what was killed. */
#define STOP_LINGER_S 1.0

static struct role_context context; /* what it holds is held to the end */
static struct runner runner;
static ev_timer stop_timer;

static void on_report(struct ev_loop *loop, ev_signal *watcher, int events)
{
	(void)loop;
	(void)watcher;
	(void)events;
	metrics_log(ROLE_LAUNCHER);
}

static void stop_at_last(struct ev_loop *loop, ev_timer *timer, int events)
{
	(void)timer;
	(void)events;
	ev_break(loop, EVBREAK_ALL);
}

static void stop_runs(struct ev_loop *loop, ev_timer *timer, int events)
{
	(void)events;
	streamers_end();
	ev_timer_init(timer, stop_at_last, runner.handler->kill_grace_s + STOP_LINGER_S, 0.);
	ev_timer_start(loop, timer);
}

static void stop_when_idle(void)
{
	ev_break(runner.loop, EVBREAK_ALL);
}

/* Of the backend whose programs these are. */
static unsigned stop_grace_s(void)
{
	const struct config *config = context.config;

	for (size_t i = 0; i < config->n_backends; i++)
		if (config->backends[i].type == BACKEND_HANDLER && config->backends[i].handler == context.handler)
			return config->backends[i].stop_grace_s;
	return 0;
}

/* Nothing new; what runs may end by itself, or with the streamers. */
static void on_terminate(struct ev_loop *loop, ev_signal *watcher, int events)
{
	(void)events;
	ev_signal_stop(loop, watcher);
	signal(SIGTERM, SIG_IGN);
	role_stopping(&context);
	ev_timer_init(&stop_timer, stop_runs, stop_grace_s(), 0.);
	ev_timer_start(loop, &stop_timer);
	streamers_stop(stop_when_idle);
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

/* The policy of the program, read while its file can be. */
static struct policy *load_policy(void)
{
	const struct config *config = context.config;
	const char *file = runner.handler->policy;
	char error[512];
	struct policy *policy = file[0] != '\0' ? policy_load_file("handler", file, error, sizeof(error))
	                                        : policy_load("handler", config->policy_dir, error, sizeof(error));

	if (policy == NULL)
		fatal("policy: %s", error);
	if (policy_override(policy) != NULL)
		log_event(LOG_WARNING, "policy-replaced", LOG_STR("file", policy_override(policy)));
	return policy;
}

/* As the user that the programs have too. */
static void prepare_cage(const struct policy *policy)
{
	char error[512];

	if (cage_prepare(&runner.cage, runner.handler, policy, context.config->seccomp, error, sizeof(error)) < 0)
		fatal("the cage of handler \"%s\": %s", runner.handler->name, error);
	log_event(LOG_NOTICE, "cage-prepared", LOG_STR("handler", runner.handler->name),
	          LOG_STR("off", cage_off(runner.cage)));
}

/* Without a descriptor to spare, messages lose theirs, which looks like misuse. */
static void check_descriptors(void)
{
	size_t needed = runner.handler->concurrency * FDS_OF_A_RUN + FDS_OF_OURS;
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		fatal("getrlimit: %m");
	if (limit.rlim_cur < needed)
		fatal("handler \"%s\": concurrency = %zu needs %zu open files, the limit is %llu", runner.handler->name,
		      runner.handler->concurrency, needed, (unsigned long long)limit.rlim_cur);
}

static int introduced(struct ev_loop *loop, const struct config *config, uint32_t backend, uint32_t worker, int fd)
{
	(void)loop;
	(void)config;
	return streamer_open(backend, worker, fd);
}

static const struct introduction introduction = {
    .self = ROLE_LAUNCHER,
    .ping = MESSAGE_LAUNCHER_PING,
    .pong = MESSAGE_LAUNCHER_PONG,
    .introduced = introduced,
};

int main(int argc, char **argv)
{
	char path[CONFIG_PATH_MAX];
	struct policy *policy;

	role_begin(&context, ROLE_LAUNCHER, argc, argv);
	runner.handler = &context.config->handlers[context.handler];
	runner.loop = ev_default_loop(EVBACKEND_EPOLL | EVFLAG_NOENV | EVFLAG_NOTIMERFD);
	if (runner.loop == NULL)
		fatal("no event loop");
	if (config_launcher_socket(context.config, context.handler, path) < 0)
		fatal("the path of the launcher's socket is too long");
	int fd = role_listen_fd(&context, path);
	watch_signals(runner.loop);
	int shared = metrics_share();
	if (shared != 0)
		fatal("cannot share the metrics: %s", strerror(-shared));
	policy = load_policy();

	role_confine(&context, &runner.handler->user, BACKLOG);
	check_descriptors();
	prepare_cage(policy);
	streamers_init(&runner, context.config, context.handler);
	introduction_listen(runner.loop, context.config, fd, &introduction);
	role_ready(&context, runner.loop);
	ev_run(runner.loop, 0);
	metrics_log(ROLE_LAUNCHER);
	return 0;
}
