/* SPDX-License-Identifier: Apache-2.0
 *
 * Dial: see dial.h.
 */
#include "dial.h"

#include <errno.h>

#include "clock.h"
#include "daemon/common/log.h"
#include "daemon/common/metrics.h"

#define PATIENCE_EXTRA_MS 2000 /* beyond the dialer's own timeout: it may be starting again */

/* One message holds no more than its header and struct message_dialed, but channel_receive() wants the longest. */
static char receive_buffer[MESSAGE_MAX];

static void watch(struct dialer_link *link, int events)
{
	if (ev_is_active(&link->watcher) && (link->watcher.events & (EV_READ | EV_WRITE)) == events)
		return;
	ev_io_stop(link->loop, &link->watcher);
	ev_io_set(&link->watcher, link->channel.fd, events);
	ev_io_start(link->loop, &link->watcher);
}

static void channel_lost(struct dialer_link *link, const char *why)
{
	if (link->channel.fd < 0)
		return;
	log_event(LOG_WARNING, "dialer-lost", LOG_STR("reason", why), LOG_INT("waiting", link->n_waits));
	ev_io_stop(link->loop, &link->watcher);
	channel_close(&link->channel);
	link->n_asked = 0;
}

/* Ask until there are as many questions under way as there are waits. */
static void ask(struct dialer_link *link)
{
	while (link->channel.fd >= 0 && link->n_asked < link->n_waits) {
		struct message_dial dial = {.id = link->next_id, .upstream = link->upstream};
		int rc = channel_send(&link->channel, MESSAGE_DIAL, &dial, NULL, 0, NULL, 0);

		if (rc == -EAGAIN) {
			watch(link, EV_READ | EV_WRITE);
			return;
		}
		if (rc != 0) {
			channel_lost(link, "send");
			return;
		}
		link->next_id++;
		link->n_asked++;
		metrics_add(METRIC_DIALS, 1);
	}
	if (link->channel.fd >= 0)
		watch(link, EV_READ);
}

static void arm(struct dialer_link *link)
{
	struct dial_wait *first = TAILQ_FIRST(&link->waits);
	int64_t left;

	if (first == NULL || ev_is_active(&link->timer))
		return; /* firing too early does no harm */
	left = first->deadline_ms - clock_ms();
	ev_timer_set(&link->timer, left > 0 ? (double)left / 1000 : 0.0, 0.0);
	ev_timer_start(link->loop, &link->timer);
}

static struct dial_wait *take_first(struct dialer_link *link)
{
	struct dial_wait *first = TAILQ_FIRST(&link->waits);

	if (first != NULL)
		dial_cancel(link, first);
	return first;
}

static void answered(struct dialer_link *link, struct message *message)
{
	const struct message_dialed *dialed = message->body;
	int fd = message->n_fds == 1 ? message->fds[0] : -1;
	struct dial_wait *wait;

	if (link->n_asked > 0)
		link->n_asked--;
	wait = take_first(link);
	if (fd >= 0 && dialed->error == 0) {
		if (wait != NULL)
			wait->done(wait, fd);
		else
			fd_close(&fd);
		return;
	}
	fd_close(&fd);
	metrics_add(METRIC_DIALS_FAILED, 1);
	log_event(LOG_WARNING, "dial-failed", LOG_INT("dial", dialed->id), LOG_INT("errno", -dialed->error));
	if (wait != NULL)
		wait->done(wait, dialed->error < 0 ? dialed->error : -EPROTO);
}

static void on_ready(struct ev_loop *loop, ev_io *watcher, int revents)
{
	struct dialer_link *link = watcher->data;
	struct message message;
	int rc;

	(void)loop;
	if (revents & EV_WRITE)
		ask(link);
	for (int i = 0; (revents & EV_READ) && link->channel.fd >= 0 && i < 64; i++) {
		rc = channel_receive(&link->channel, receive_buffer, &message);
		if (rc == -EAGAIN)
			return;
		if (rc != 1) {
			channel_lost(link, rc == 0 ? "closed" : "message");
			return;
		}
		answered(link, &message);
	}
}

static void on_timer(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct dialer_link *link = timer->data;
	struct dial_wait *first;

	(void)loop;
	(void)revents;
	while ((first = TAILQ_FIRST(&link->waits)) != NULL && first->deadline_ms <= clock_ms()) {
		dial_cancel(link, first);
		metrics_add(METRIC_DIALS_FAILED, 1);
		first->done(first, -ETIMEDOUT);
	}
	arm(link);
}

void dial_init(struct dialer_link *link, struct ev_loop *loop, size_t upstream, unsigned connect_timeout_ms)
{
	*link = (struct dialer_link){
	    .loop = loop,
	    .channel = {.fd = -1, .self = ROLE_STREAMER, .peer = ROLE_DIALER},
	    .upstream = (uint32_t)upstream,
	    .patience_ms = (int64_t)connect_timeout_ms + PATIENCE_EXTRA_MS,
	};
	TAILQ_INIT(&link->waits);
	ev_io_init(&link->watcher, on_ready, -1, EV_READ);
	ev_timer_init(&link->timer, on_timer, 0.0, 0.0);
	link->watcher.data = link->timer.data = link;
}

void dial_set_channel(struct dialer_link *link, int fd)
{
	channel_lost(link, "replaced");
	link->channel.fd = fd;
	ask(link);
}

void dial_start(struct dialer_link *link, struct dial_wait *wait)
{
	wait->deadline_ms = clock_ms() + link->patience_ms;
	wait->waiting = true;
	TAILQ_INSERT_TAIL(&link->waits, wait, queue);
	link->n_waits++;
	ask(link);
	arm(link);
}

void dial_cancel(struct dialer_link *link, struct dial_wait *wait)
{
	if (!wait->waiting)
		return;
	wait->waiting = false;
	TAILQ_REMOVE(&link->waits, wait, queue);
	link->n_waits--;
}
