/* SPDX-License-Identifier: Apache-2.0
 *
 * Waiting: handoffs that were verified and wait for what their backend needs before it can start. Nothing was accepted
 * yet, so nothing is done with the client's socket but notice that it hangs up; the same with the reply socket, at
 * whose other end somebody waits, and not for ever.
 */
#ifndef HANDOFFD_STREAMER_WAITING_H
#define HANDOFFD_STREAMER_WAITING_H

#include <ev.h>
#include <stdint.h>
#include <sys/queue.h>

struct wait;
TAILQ_HEAD(wait_queue, wait);

struct waiting {
	struct ev_loop *loop;
	ev_io hangups;           /* an epoll instance of its own: libev would ask to read as well */
	ev_timer timer;          /* for the first of the queue */
	struct wait_queue queue; /* in order of their deadlines */
	size_t n;
	int64_t patience_ms;
};

struct wait_socket {
	struct wait *wait;
	int fd;
};

/* Embedded in whatever waits. */
struct wait {
	TAILQ_ENTRY(wait) queue;
	int64_t deadline_ms;
	struct wait_socket client;
	struct wait_socket reply;
	/* It need not wait any more: -ENOTCONN, the client has gone; -EPIPE, whoever waits for the reply has;
	 * -ETIMEDOUT; -ECANCELED, the process ends. It was removed. Never called from a function below but
	 * waiting_end(). */
	void (*over)(struct wait *wait, int why);
};

/* Before the process is caged. 0 or -errno. */
int waiting_init(struct waiting *waiting, struct ev_loop *loop, unsigned patience_ms);
/* 0, or -errno and it does not wait. The descriptors stay the caller's; reply: -1 for none. */
int waiting_add(struct waiting *waiting, struct wait *wait, int client, int reply);
void waiting_remove(struct waiting *waiting, struct wait *wait);
/* Nobody waits any more. */
void waiting_end(struct waiting *waiting);

#endif
