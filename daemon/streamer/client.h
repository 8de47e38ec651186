/* SPDX-License-Identifier: Apache-2.0
 *
 * Client: the client's socket, or the end of a relay, once it is ours. Writes without ever blocking, frames chunks,
 * keeps what the socket does not take, notices a hang-up at once, and closes so that the client gets the last byte.
 *
 * Memory for output exists only while the socket is full or a head waits for the first piece of the body.
 * The file status flags stay as they are (other processes may hold copies of the socket): each call says MSG_DONTWAIT.
 */
#ifndef HANDOFFD_STREAMER_CLIENT_H
#define HANDOFFD_STREAMER_CLIENT_H

#include <ev.h>

#include "lib/bytes.h"

/* How the body tells its end. */
enum client_framing {
	FRAMING_NONE,    /* it ends with the connection, or its length is known */
	FRAMING_CHUNKED, /* HTTP/1.1 chunks */
	FRAMING_RELAY,   /* pieces of lib/wire.h, for a module that relays the client */
};

/* Above this much unsent output the source should pause. */
#define CLIENT_PENDING_BOUND 16384u

struct client;

/* Called from the event loop only, never from a function below. */
struct client_events {
	/* End of file or an error: whoever is there does not listen any more. The socket is still ours to close. */
	void (*gone)(struct client *client);
	/* Everything that was kept has been sent. */
	void (*drained)(struct client *client);
};

struct client {
	ev_io watcher;
	struct ev_loop *loop;
	const struct client_events *events;
	char *pending; /* unsent output, from start to start + len */
	uint32_t start;
	uint32_t len;
	uint32_t capacity;
	bool held; /* pending waits for more to go with it, not for the socket */
	enum client_framing framing;
	int64_t progress_ms; /* when the socket last took something, or pending output began to wait */
	uint64_t sent;       /* bytes the socket took */
	uint64_t discarded;  /* bytes of the body for nobody: the client was closed */
};

/* Whether whoever is at the other end has hung up, found out without touching a socket that is not ours yet. */
bool client_has_gone(int fd);

/* Take over the descriptor and watch it. user_timeout_ms: how long the kernel keeps trying to reach a silent peer. */
void client_open(struct client *client, struct ev_loop *loop, int fd, enum client_framing framing,
                 const struct client_events *events, unsigned user_timeout_ms);

/* Keep these bytes until something is sent after them. 0 or -ENOMEM. */
int client_hold(struct client *client, struct span bytes);
/* Send what is held. 0 or -errno. */
int client_flush(struct client *client);
/* Send a piece of the body, framed as the body is; last: nothing follows it. A piece may be empty. A client that was
 * closed takes everything, here and above. 0 (sent or kept) or -errno: the client is lost. */
int client_send(struct client *client, struct span piece, bool last);

/* Bytes that wait for the socket. */
size_t client_unsent(const struct client *client);

/* End our side; the client can still read what is under way. gone() comes when it has closed too. */
void client_shutdown(struct client *client);

/* Close now and forget what is unsent. May be called twice. */
void client_close(struct client *client);
bool client_is_open(const struct client *client);

#endif
