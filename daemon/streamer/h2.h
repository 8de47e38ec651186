/* SPDX-License-Identifier: Apache-2.0
 *
 * HTTP/2: what transport_h2.c, h2_pool.c, h2_connection.c and h2_session.c have of each other. For nobody else.
 *
 *     transport_h2.c    the transport's functions, and the life of a transfer
 *     h2_pool.c         which connections there are, and which of them serves a transfer
 *     h2_connection.c   one connection: socket, TLS, and the bytes of HTTP/2
 *     h2_session.c      what is said on it: nghttp2's callbacks
 *
 * nghttp2 may not be called again from inside its callbacks to send, receive or end, nor may events be given from
 * inside the transport's functions. So these only mark what is to be done (h2_pool_schedule()), and it is done, once
 * for all connections, when the events of this turn of the event loop have been seen to.
 */
#ifndef HANDOFFD_STREAMER_H2_H
#define HANDOFFD_STREAMER_H2_H

#include <nghttp2/nghttp2.h>

#include "tls_client.h"
#include "transport.h"

#define H2_FRAME_HEADER  9     /* bytes */
#define H2_STREAM_WINDOW 16384 /* bytes that the upstream may send before we have taken them */
#define H2_HEADERS_MAX   65536 /* bytes of all heads of one answer, and trailers */

LIST_HEAD(transfer_list, transfer);
TAILQ_HEAD(transfer_queue, transfer);
LIST_HEAD(h2_connection_list, h2_connection);
TAILQ_HEAD(h2_connection_queue, h2_connection);

struct transport {
	struct streamer *streamer;
	const struct config_upstream *upstream;
	struct tls_client *tls;
	nghttp2_session_callbacks *callbacks;
	nghttp2_option *option;
	char *authority;
	char *path;
	const char *authorization; /* the value only, "" for none */

	ev_timer tick; /* for whatever has a deadline, to the second */
	ev_timer work; /* never started: fed when something was marked, it comes after all other events */
	struct h2_connection_list connections;
	size_t n_connections;
	size_t n_connecting;
	size_t n_draining;
	size_t n_free;                        /* streams that may be begun on those of available */
	struct h2_connection_queue available; /* that take one more stream; the first is filled first */
	struct h2_connection_queue unsent;    /* that have something to send */
	struct h2_connection_queue broken;
	struct transfer_queue waiting; /* for a connection */
	size_t n_waiting;
	struct transfer_queue failed;   /* to be ended */
	struct transfer_queue released; /* whose answers end by themselves, oldest first */
	int64_t spare_after_ms;         /* no connection is made on stock before */
	int64_t spare_pause_ms;         /* between two of them that failed */
};

enum transfer_place { TRANSFER_WAITING, TRANSFER_RUNNING, TRANSFER_RELEASED, TRANSFER_FAILED };

struct transfer {
	struct transport *transport;
	const struct transfer_events *events; /* NULL: nobody is interested any more */
	void *user;
	struct h2_connection *connection; /* while it runs or is released */
	LIST_ENTRY(transfer) of_connection;
	TAILQ_ENTRY(transfer) queue; /* waiting, failed or released */
	struct request_body *body;   /* NULL once it is not needed any more */
	uint64_t sent;               /* of the body */
	int64_t until_ms;            /* while it waits or is released */
	int64_t begun_ms;            /* on this connection */
	int32_t stream_id;
	uint32_t heard_at;   /* the connection's n_heard when it began */
	uint32_t unconsumed; /* bytes taken while it was paused, which the upstream does not know of */
	uint32_t headers_len;
	struct transfer_head head;
	uint8_t place; /* enum transfer_place */
	uint8_t error; /* enum transfer_error, when it failed */
	bool has_head;
	bool paused;
	size_t n_fields;
	char fields[]; /* its own header fields: name, NUL, value, NUL... */
};

enum h2_state {
	H2_DIALLING,
	H2_HANDSHAKE,
	H2_SETTINGS, /* the upstream's come first: nothing is asked of one that does not speak HTTP/2 */
	H2_OPEN,
	H2_DRAINING, /* takes no more streams */
	H2_BROKEN,
};

struct h2_connection {
	struct transport *transport;
	struct dial_wait wait;
	ev_io watcher; /* its descriptor is -1 before there is one */
	SSL *ssl;
	nghttp2_session *session;
	LIST_ENTRY(h2_connection) all;
	TAILQ_ENTRY(h2_connection) available;
	TAILQ_ENTRY(h2_connection) unsent;
	TAILQ_ENTRY(h2_connection) broken;
	struct transfer_list transfers;
	char *pending; /* what the socket did not take, from start to start + len */
	uint32_t pending_start;
	uint32_t pending_len;
	int64_t since_ms;   /* when it began to connect, or its last stream ended */
	int64_t heard_ms;   /* when something was last received */
	int64_t ping_ms;    /* when it was asked for a sign of life; 0: it was not */
	int64_t blocked_ms; /* when pending began to wait */
	uint32_t n_heard;   /* reads that gave something */
	uint32_t n_streams;
	uint32_t capacity;     /* streams at once */
	size_t n_free;         /* as the pool has counted it: on the list of available ones when not 0 */
	uint32_t quiet_frames; /* since the last tick, that brought no answer further */
	int64_t quiet_bytes;   /* the same of bytes, what nghttp2 ignores included */
	const char *fault;     /* static storage */
	uint8_t state;         /* enum h2_state */
	uint8_t error;         /* enum transfer_error, when it is broken */
	bool is_unsent;
	bool was_open;
	bool was_used;   /* a stream was ended on it */
	bool peer_ended; /* broken because the peer has left */
};

/* ---------------------------------------------------------------- transport_h2.c */

/* Give a waiting transfer to a connection; when that does not take it, the connection drains or the transfer fails. */
void transfer_begin(struct transfer *transfer, struct h2_connection *connection);
/* The answer's pieces, for h2_session.c. */
void transfer_take_head(struct transfer *transfer);
void transfer_take_body(struct transfer *transfer, struct span piece);
void transfer_body_sent(struct transfer *transfer);
/* The answer is whole: the transfer is gone afterwards. */
void transfer_take_end(struct transfer *transfer);
/* It came to nothing: ended later. The connection forgets it. */
void transfer_fail(struct transfer *transfer, enum transfer_error error);
/* End those that failed. */
void transfers_settle(struct transport *transport);
/* End those that waited for a place, or were released, long enough ago. */
void transfers_expire(struct transport *transport, int64_t now_ms);

/* ---------------------------------------------------------------- h2_pool.c */

void h2_pool_init(struct transport *transport);
/* Something was marked, or there is a new transfer. */
void h2_pool_schedule(struct transport *transport);
/* The connection has more or fewer streams than before, or room for them. */
void h2_pool_update(struct h2_connection *connection);
/* It is in this state now. */
void h2_pool_enter(struct h2_connection *connection, enum h2_state state);

/* ---------------------------------------------------------------- h2_connection.c */

/* Begin one; NULL: no memory. */
struct h2_connection *h2_connection_new(struct transport *transport);
/* Close it and free it; its transfers fail. */
void h2_connection_free(struct h2_connection *connection);
/* It is of no use any more: it is freed later. fault: static storage, NULL when there is none. */
void h2_connection_break(struct h2_connection *connection, enum transfer_error error, const char *fault);
/* There may be something to send. */
void h2_connection_unsent(struct h2_connection *connection);
void h2_connection_send(struct h2_connection *connection);
/* Say goodbye; it breaks once that is sent. */
void h2_connection_end(struct h2_connection *connection);
/* Look at its deadlines. */
void h2_connection_tick(struct h2_connection *connection, int64_t now_ms);

/* ---------------------------------------------------------------- h2_session.c */

/* Before the process is caged; fatal() when it cannot. */
void h2_session_init(struct transport *transport);
/* A session with our settings on its way. NULL: no memory. */
nghttp2_session *h2_session_new(struct h2_connection *connection);
/* Begin this transfer's stream. 0; -ENOMEM; -EAGAIN: not on this connection. */
int h2_session_request(struct h2_connection *connection, struct transfer *transfer);
/* Hear of this transfer no more; reset: have its stream ended with this error code. */
void h2_session_forget(struct transfer *transfer, bool reset, uint32_t error_code);
/* Give the upstream room for what was taken while the transfer was paused. */
void h2_session_resume(struct transfer *transfer);

#endif
