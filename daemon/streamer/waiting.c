/* SPDX-License-Identifier: Apache-2.0
 *
 * Waiting: see waiting.h.
 */
#include "waiting.h"

#include <errno.h>
#include <sys/epoll.h>

#include "clock.h"

#define HANGUPS_AT_ONCE 64

static void arm(struct waiting *waiting)
{
	struct wait *first = TAILQ_FIRST(&waiting->queue);
	int64_t left;

	if (first == NULL || ev_is_active(&waiting->timer))
		return; /* firing too early does no harm */
	left = first->deadline_ms - clock_ms();
	ev_timer_set(&waiting->timer, left > 0 ? (double)left / 1000 : 0.0, 0.0);
	ev_timer_start(waiting->loop, &waiting->timer);
}

static int watch(struct waiting *waiting, struct wait_socket *socket, struct wait *wait, int fd)
{
	/* EPOLLHUP and EPOLLERR come unasked. */
	struct epoll_event event = {.events = EPOLLRDHUP, .data.ptr = socket};

	*socket = (struct wait_socket){.wait = wait, .fd = fd};
	if (fd < 0)
		return 0;
	return epoll_ctl(waiting->hangups.fd, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : -errno;
}

/* Not left to close(): others may hold copies of the socket, which keep it in the set. */
static void forget(struct waiting *waiting, struct wait_socket *socket)
{
	if (socket->fd >= 0)
		(void)epoll_ctl(waiting->hangups.fd, EPOLL_CTL_DEL, socket->fd, NULL);
	socket->fd = -1;
}

int waiting_add(struct waiting *waiting, struct wait *wait, int client, int reply)
{
	int rc = watch(waiting, &wait->client, wait, client);

	if (rc != 0)
		return rc;
	rc = watch(waiting, &wait->reply, wait, reply);
	if (rc != 0) {
		forget(waiting, &wait->client);
		return rc;
	}
	wait->deadline_ms = clock_ms() + waiting->patience_ms;
	TAILQ_INSERT_TAIL(&waiting->queue, wait, queue);
	waiting->n++;
	arm(waiting);
	return 0;
}

void waiting_remove(struct waiting *waiting, struct wait *wait)
{
	forget(waiting, &wait->client);
	forget(waiting, &wait->reply);
	TAILQ_REMOVE(&waiting->queue, wait, queue);
	waiting->n--;
}

static void over(struct waiting *waiting, struct wait *wait, int why)
{
	waiting_remove(waiting, wait);
	wait->over(wait, why);
}

static void on_hangup(struct ev_loop *loop, ev_io *watcher, int revents)
{
	struct waiting *waiting = watcher->data;
	struct epoll_event event;

	(void)loop;
	(void)revents;
	/* One by one: what ends a wait ends both of its sockets. */
	for (int i = 0; i < HANGUPS_AT_ONCE && epoll_wait(watcher->fd, &event, 1, 0) == 1; i++) {
		struct wait_socket *socket = event.data.ptr;

		over(waiting, socket->wait, socket == &socket->wait->client ? -ENOTCONN : -EPIPE);
	}
}

static void on_timer(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct waiting *waiting = timer->data;
	struct wait *first;

	(void)loop;
	(void)revents;
	while ((first = TAILQ_FIRST(&waiting->queue)) != NULL && first->deadline_ms <= clock_ms())
		over(waiting, first, -ETIMEDOUT);
	arm(waiting);
}

int waiting_init(struct waiting *waiting, struct ev_loop *loop, unsigned patience_ms)
{
	int fd = epoll_create1(EPOLL_CLOEXEC);

	if (fd < 0)
		return -errno;
	*waiting = (struct waiting){.loop = loop, .patience_ms = patience_ms};
	TAILQ_INIT(&waiting->queue);
	ev_io_init(&waiting->hangups, on_hangup, fd, EV_READ);
	ev_timer_init(&waiting->timer, on_timer, 0.0, 0.0);
	waiting->hangups.data = waiting->timer.data = waiting;
	ev_io_start(loop, &waiting->hangups);
	return 0;
}

void waiting_end(struct waiting *waiting)
{
	struct wait *first;

	while ((first = TAILQ_FIRST(&waiting->queue)) != NULL)
		over(waiting, first, -ECANCELED);
}
