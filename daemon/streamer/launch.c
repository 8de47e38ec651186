/* SPDX-License-Identifier: Apache-2.0
 *
 * Launch: see launch.h.
 */
#include "launch.h"

#include <errno.h>
#include <stdlib.h>

#include "daemon/common/log.h"

#define MESSAGES_AT_ONCE 64

/* What is to be said, in this order. */
#define SAY_PLACE  1u
#define SAY_LAUNCH 2u
#define SAY_STOP   4u
#define SAY_LEAVE  8u

enum launch_state { LAUNCH_WAITS, LAUNCH_PLACED, LAUNCH_STARTS, LAUNCH_RUNS, LAUNCH_LEFT };

struct launch {
	LIST_ENTRY(launch) all;
	STAILQ_ENTRY(launch) unsaid;
	struct launcher_link *link;
	const struct launch_events *events;
	void *user;
	uint32_t id;
	enum launch_state state;
	bool stopped;
	enum run_limit stop_limit;
	bool expected; /* counted in n_expected */
	bool queued;   /* among those that have something to say */
	unsigned say;  /* what */
	struct text request;
	size_t facts_len;
	size_t n_facts;
	int memfd;
};

/* The longest message is the streamer's to send, but channel_receive() wants room for any. */
static char receive_buffer[MESSAGE_MAX];

/* ---------------------------------------------------------------- the launches */

static struct launch *find(struct launcher_link *link, uint32_t id)
{
	struct launch *launch;

	LIST_FOREACH(launch, &link->all[id % LAUNCH_BUCKETS], all)
	{
		if (launch->id == id)
			return launch;
	}
	return NULL;
}

/* Its pipes are here, or will not come. */
static void expect_no_more(struct launch *launch)
{
	launch->link->n_expected -= launch->expected;
	launch->expected = false;
}

/* It is next again, unless it has nothing to say. */
static void queue_first(struct launch *launch)
{
	launch->queued = launch->say != 0;
	if (launch->queued)
		STAILQ_INSERT_HEAD(&launch->link->unsaid, launch, unsaid);
}

static struct launch *take_first(struct launcher_link *link)
{
	struct launch *first = STAILQ_FIRST(&link->unsaid);

	if (first != NULL) {
		STAILQ_REMOVE_HEAD(&link->unsaid, unsaid);
		first->queued = false;
	}
	return first;
}

static void forget_request(struct launch *launch)
{
	text_free(&launch->request);
	fd_close(&launch->memfd);
}

static void launch_free(struct launch *launch)
{
	/* Those who leave are mostly the first in it. */
	if (launch->queued)
		STAILQ_REMOVE(&launch->link->unsaid, launch, launch, unsaid);
	LIST_REMOVE(launch, all);
	expect_no_more(launch);
	forget_request(launch);
	free(launch);
}

/* Said when the loop comes to it, so that what comes of it is told from there. */
static void say(struct launch *launch, unsigned what)
{
	struct launcher_link *link = launch->link;

	if (!launch->queued)
		STAILQ_INSERT_TAIL(&link->unsaid, launch, unsaid);
	launch->queued = true;
	launch->say |= what;
	if (link->channel.fd >= 0)
		ev_feed_event(link->loop, &link->watcher, EV_WRITE);
}

/* ---------------------------------------------------------------- the channel's end */

/* One launch without its launcher. */
static void orphan(struct launch *launch)
{
	enum launch_state state = launch->state;
	const struct launch_events *events = launch->events;
	void *user = launch->user;

	if (state == LAUNCH_WAITS) {
		say(launch, SAY_PLACE);
		return;
	}
	launch_free(launch);
	if (state == LAUNCH_STARTS)
		events->launched(user, -EPIPE, -1, -1);
	else if (state == LAUNCH_RUNS)
		events->exited(user, &(struct launch_end){.lost = true});
}

static void watch(struct launcher_link *link, int events)
{
	if (ev_is_active(&link->watcher) && (link->watcher.events & (EV_READ | EV_WRITE)) == events)
		return;
	ev_io_stop(link->loop, &link->watcher);
	ev_io_set(&link->watcher, link->channel.fd, events);
	ev_io_start(link->loop, &link->watcher);
}

static void channel_begin(struct launcher_link *link, int fd)
{
	link->channel.fd = fd;
	watch(link, EV_READ | EV_WRITE);
}

static void channel_lost(struct launcher_link *link, const char *why)
{
	struct launch *launch, *next;

	if (link->channel.fd < 0)
		return;
	log_event(LOG_WARNING, "launcher-lost", LOG_STR("reason", why));
	ev_io_stop(link->loop, &link->watcher);
	channel_close(&link->channel);
	for (size_t i = 0; i < LAUNCH_BUCKETS; i++)
		for (launch = LIST_FIRST(&link->all[i]); launch != NULL; launch = next) {
			next = LIST_NEXT(launch, all);
			orphan(launch);
		}
	if (link->next_fd < 0)
		return;
	channel_begin(link, link->next_fd);
	link->next_fd = -1;
}

/* ---------------------------------------------------------------- what is said */

static int send_launch(struct launch *launch)
{
	struct message_launch body = {
	    .id = launch->id,
	    .facts_len = (uint32_t)launch->facts_len,
	    .n_facts = (uint32_t)launch->n_facts,
	};
	struct span request = text_span(&launch->request);

	return channel_send(&launch->link->channel, MESSAGE_LAUNCH, &body, &request, 1, &launch->memfd,
	                    launch->memfd >= 0 ? 1 : 0);
}

/* Say the first thing that there is to say. */
static int say_one(struct launch *launch, unsigned what)
{
	struct channel *channel = &launch->link->channel;

	if (what == SAY_PLACE)
		return channel_send(channel, MESSAGE_PLACE, &(struct message_place){.id = launch->id}, NULL, 0, NULL,
		                    0);
	if (what == SAY_LAUNCH)
		return send_launch(launch);
	if (what == SAY_STOP)
		return channel_send(channel, MESSAGE_STOP,
		                    &(struct message_stop){.id = launch->id, .limit = launch->stop_limit}, NULL, 0,
		                    NULL, 0);
	return channel_send(channel, MESSAGE_LEAVE, &(struct message_leave){.id = launch->id}, NULL, 0, NULL, 0);
}

/* This run's descriptor or size was too much; the channel is as it was. */
static bool is_own_fault(int rc)
{
	return rc == -ETOOMANYREFS || rc == -ENOBUFS || rc == -ENOMEM || rc == -EMSGSIZE;
}

/* Say the next thing that there is to say; -errno when it was not said. */
static int say_next(struct launch *launch)
{
	const struct launch_events *events = launch->events;
	void *user = launch->user;
	unsigned what = launch->say & -launch->say;
	int rc = say_one(launch, what);

	if (what == SAY_LAUNCH && is_own_fault(rc)) {
		launch->say = 0;
		launch_leave(launch);
		events->launched(user, rc, -1, -1);
		return 0;
	}
	if (rc == 0)
		launch->say &= ~what;
	if (rc == 0 && what == SAY_LEAVE) {
		launch_free(launch);
		return 0;
	}
	if (rc == 0 && what == SAY_LAUNCH)
		forget_request(launch);
	queue_first(launch);
	return rc;
}

/* Say everything that the socket takes. */
static void flush(struct launcher_link *link)
{
	struct launch *launch;

	while (link->channel.fd >= 0 && (launch = take_first(link)) != NULL) {
		int rc = say_next(launch);

		if (rc == -EAGAIN) {
			watch(link, EV_READ | EV_WRITE);
			return;
		}
		if (rc != 0)
			channel_lost(link, "send");
	}
	if (link->channel.fd >= 0)
		watch(link, EV_READ);
}

/* ---------------------------------------------------------------- what is heard */

static void heard_placed(struct launch *launch, const struct message_placed *placed)
{
	const struct launch_events *events = launch->events;
	void *user = launch->user;

	if (launch->state != LAUNCH_WAITS)
		return;
	launch->state = LAUNCH_PLACED;
	if (placed->error != 0)
		launch_free(launch);
	events->placed(user, placed->error);
}

static void heard_launched(struct launch *launch, struct message *message)
{
	const struct message_launched *launched = message->body;
	const struct launch_events *events = launch->events;
	void *user = launch->user;
	int error = launched->error;

	if (launch->state != LAUNCH_STARTS)
		return;
	if (error == 0 && message->n_fds == 2) {
		launch->state = LAUNCH_RUNS;
		expect_no_more(launch);
		events->launched(user, 0, message->fds[0], message->fds[1]);
		message->fds[0] = message->fds[1] = -1;
		return;
	}
	launch_free(launch);
	events->launched(user, error < 0 ? error : -EPROTO, -1, -1);
}

static void heard_exited(struct launch *launch, const struct message_exited *exited)
{
	const struct launch_events *events = launch->events;
	void *user = launch->user;
	struct launch_end end = {
	    .status = exited->status,
	    .limit = exited->limit < RUN_LIMIT_COUNT ? (enum run_limit)exited->limit : RUN_LIMIT_NONE,
	    .user_us = exited->user_us,
	    .system_us = exited->system_us,
	    .max_rss_kib = exited->max_rss_kib,
	};

	if (launch->state != LAUNCH_RUNS)
		return;
	launch_free(launch);
	events->exited(user, &end);
}

/* Answers to those who have left find nobody. */
static void heard(struct launcher_link *link, struct message *message)
{
	/* All of them begin with the id. */
	struct launch *launch = find(link, ((const struct message_placed *)message->body)->id);

	if (launch != NULL && message->type == MESSAGE_PLACED)
		heard_placed(launch, message->body);
	else if (launch != NULL && message->type == MESSAGE_LAUNCHED)
		heard_launched(launch, message);
	else if (launch != NULL && message->type == MESSAGE_EXITED)
		heard_exited(launch, message->body);
	message_close_fds(message);
}

static void on_ready(struct ev_loop *loop, ev_io *watcher, int revents)
{
	struct launcher_link *link = watcher->data;
	struct message message;
	int rc;

	(void)loop;
	if (revents & EV_WRITE)
		flush(link);
	for (int i = 0; (revents & EV_READ) && link->channel.fd >= 0 && i < MESSAGES_AT_ONCE; i++) {
		rc = channel_receive(&link->channel, receive_buffer, &message);
		if (rc == -EAGAIN)
			return;
		if (rc != 1) {
			channel_lost(link, rc == 0 ? "closed" : "message");
			return;
		}
		heard(link, &message);
	}
}

/* ---------------------------------------------------------------- for the backend */

void launch_init(struct launcher_link *link, struct ev_loop *loop)
{
	*link = (struct launcher_link){
	    .loop = loop,
	    .channel = {.fd = -1, .self = ROLE_STREAMER, .peer = ROLE_LAUNCHER},
	    .next_fd = -1,
	};
	STAILQ_INIT(&link->unsaid);
	for (size_t i = 0; i < LAUNCH_BUCKETS; i++)
		LIST_INIT(&link->all[i]);
	ev_io_init(&link->watcher, on_ready, -1, EV_READ);
	link->watcher.data = link;
}

void launch_set_channel(struct launcher_link *link, int fd)
{
	if (link->channel.fd < 0) {
		channel_begin(link, fd);
		return;
	}
	fd_close(&link->next_fd);
	link->next_fd = fd;
}

bool launch_has_channel(const struct launcher_link *link)
{
	return link->channel.fd >= 0;
}

struct launch *launch_place(struct launcher_link *link, const struct launch_events *events, void *user)
{
	struct launch *launch = calloc(1, sizeof(*launch));

	if (launch == NULL)
		return NULL;
	launch->link = link;
	launch->events = events;
	launch->user = user;
	launch->memfd = -1;
	launch->id = link->next_id++;
	launch->expected = true;
	link->n_expected++;
	LIST_INSERT_HEAD(&link->all[launch->id % LAUNCH_BUCKETS], launch, all);
	say(launch, SAY_PLACE);
	return launch;
}

void launch_start(struct launch *launch, struct text *request, size_t facts_len, size_t n_facts, int *memfd)
{
	launch->request = *request;
	*request = (struct text){0};
	launch->facts_len = facts_len;
	launch->n_facts = n_facts;
	launch->memfd = *memfd;
	*memfd = -1;
	launch->state = LAUNCH_STARTS;
	say(launch, SAY_LAUNCH);
}

void launch_stop(struct launch *launch, enum run_limit limit)
{
	if (launch->stopped)
		return;
	launch->stopped = true;
	launch->stop_limit = limit;
	say(launch, SAY_STOP);
}

void launch_leave(struct launch *launch)
{
	/* A wish that the launcher has not heard of. */
	bool unheard = launch->say & SAY_PLACE;

	launch->say = 0;
	launch->state = LAUNCH_LEFT;
	expect_no_more(launch);
	if (unheard)
		launch_free(launch);
	else
		say(launch, SAY_LEAVE);
}
