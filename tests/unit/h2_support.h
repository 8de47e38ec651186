/* SPDX-License-Identifier: Apache-2.0
 *
 * What the tests of the HTTP/2 transport share: the transport with memory in the place of TLS, the dialer and the
 * certificates, requests that remember what became of them, and frames as an upstream writes them.
 */
#ifndef TESTS_H2_SUPPORT_H
#define TESTS_H2_SUPPORT_H

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "daemon/common/log.h"
#include "daemon/streamer/h2.h"
#include "daemon/streamer/trust.h"
#include "lib/fdpass.h"

#define WIRES_MAX  64
#define PREFACE    24 /* bytes of an HTTP/2 client, before its frames */
#define CREDENTIAL "Bearer sk-test-0123456789"

/* ---------------------------------------------------------------- connections, and who is at their other end */

struct wire {
	SSL *ssl;
	struct span in; /* what the upstream has sent and we have not read */
	size_t piece;   /* that one read gives at most; 0: all */
	bool ended;     /* behind that it has closed */
	size_t room;    /* that the socket still takes */
	struct text out;
};

static struct wire wires[WIRES_MAX];
static size_t n_wires;

/* What was asked of the dialer, oldest first. */
static struct dial_queue dials = TAILQ_HEAD_INITIALIZER(dials);

static inline struct wire *wire_of(const SSL *ssl)
{
	for (size_t i = 0; i < n_wires; i++)
		if (wires[i].ssl == ssl)
			return &wires[i];
	abort();
}

struct tls_client *tls_client_new(X509_STORE *store, const char *host, struct span alpn)
{
	(void)host;
	(void)alpn;
	X509_STORE_free(store);
	return (struct tls_client *)(void *)SSL_CTX_new(TLS_client_method());
}

SSL *tls_client_connect(struct tls_client *client, int fd)
{
	/* Nothing goes through them, and they are dear to make. */
	static SSL *kept[WIRES_MAX];
	SSL *ssl = kept[n_wires] != NULL ? kept[n_wires] : SSL_new((SSL_CTX *)(void *)client);

	(void)fd;
	kept[n_wires] = ssl;
	wires[n_wires++] = (struct wire){.ssl = ssl, .room = SIZE_MAX};
	return ssl;
}

int tls_client_handshake(struct tls_client *client, SSL *ssl)
{
	(void)client;
	(void)ssl;
	return 0;
}

ssize_t tls_read(SSL *ssl, void *out, size_t size)
{
	struct wire *wire = wire_of(ssl);
	size_t len = wire->piece > 0 && wire->piece < size ? wire->piece : size;

	if (wire->in.len == 0)
		return wire->ended ? 0 : -EAGAIN;
	if (len > wire->in.len)
		len = wire->in.len;
	memcpy(out, wire->in.data, len);
	wire->in = span_of(wire->in.data + len, wire->in.len - len);
	return (ssize_t)len;
}

ssize_t tls_write(SSL *ssl, const void *data, size_t len)
{
	struct wire *wire = wire_of(ssl);

	if (wire->room == 0)
		return -EAGAIN;
	if (len > wire->room)
		len = wire->room;
	wire->room -= wire->room == SIZE_MAX ? 0 : len;
	text_add(&wire->out, data, len);
	return (ssize_t)len;
}

void tls_end(SSL *ssl, bool peer_ended)
{
	(void)ssl;
	(void)peer_ended;
}

const char *tls_fault(const SSL *ssl)
{
	(void)ssl;
	return "fault";
}

X509_STORE *trust_load(const char *ca_file)
{
	(void)ca_file;
	return X509_STORE_new();
}

int trust_warm_up(void)
{
	return 0;
}

void dial_start(struct dialer_link *link, struct dial_wait *wait)
{
	(void)link;
	wait->waiting = true;
	TAILQ_INSERT_TAIL(&dials, wait, queue);
}

void dial_cancel(struct dialer_link *link, struct dial_wait *wait)
{
	(void)link;
	if (wait->waiting)
		TAILQ_REMOVE(&dials, wait, queue);
	wait->waiting = false;
}

/* ---------------------------------------------------------------- the transport */

static struct streamer h2_streamer;
static struct config_upstream h2_upstream;
static struct transport *h2_transport;

static inline void on_batch(struct ev_loop *loop, ev_prepare *watcher, int revents)
{
	(void)loop;
	(void)watcher;
	(void)revents;
}

/* A new transport; it stays for as long as the process. */
static inline void h2_support_begin(void)
{
	h2_upstream = (struct config_upstream){.name = "up",
	                                       .url = "https://up.example/v1",
	                                       .host = "up.example",
	                                       .ca_file = "",
	                                       .connect_timeout_ms = 5000,
	                                       .max_connections = 8,
	                                       .streams_per_connection = 4};
	if (h2_streamer.loop == NULL)
		h2_streamer.loop = ev_default_loop(EVFLAG_NOENV);
	ev_prepare_init(&h2_streamer.after_batch, on_batch);
	h2_streamer.dialer.channel.fd = -1;
	log_level(LOG_CRIT);
	h2_transport = transport_h2.init(&h2_streamer, &h2_upstream, "/chat", "Authorization: " CREDENTIAL);
}

static inline void h2_turn(void)
{
	for (int i = 0; i < 2; i++)
		ev_run(h2_streamer.loop, EVRUN_NOWAIT);
}

/* The dialer's answers: connections, or this error. */
static inline void h2_dialled(int error)
{
	static int silent = -1; /* a descriptor that is never readable */
	struct dial_wait *wait;

	if (silent < 0)
		silent = eventfd(0, EFD_CLOEXEC);
	while ((wait = TAILQ_FIRST(&dials)) != NULL) {
		dial_cancel(NULL, wait);
		wait->done(wait, error < 0 || n_wires == WIRES_MAX ? (error < 0 ? error : -EMFILE)
		                                                   : fcntl(silent, F_DUPFD_CLOEXEC, 0));
	}
	h2_turn();
}

/* The connection of this wire, NULL when it is gone. */
static inline struct h2_connection *h2_connection_of(const struct wire *wire)
{
	struct h2_connection *connection;

	LIST_FOREACH(connection, &h2_transport->connections, all)
	if (connection->ssl != NULL && connection->ssl == wire->ssl)
		return connection;
	return NULL;
}

static inline void h2_ready(const struct wire *wire, int events)
{
	struct h2_connection *connection = h2_connection_of(wire);

	if (connection != NULL)
		ev_feed_event(h2_streamer.loop, &connection->watcher, events);
	h2_turn();
}

/* The upstream sends this. */
static inline void h2_say(struct wire *wire, const void *data, size_t len)
{
	wire->in = span_of(data, len);
	while (wire->in.len > 0 && h2_connection_of(wire) != NULL)
		h2_ready(wire, EV_READ);
	wire->in = SPAN_EMPTY;
}

static inline void h2_hang_up(struct wire *wire)
{
	wire->ended = true;
	h2_ready(wire, EV_READ);
}

/* All wires hang up and nobody dials any more: what has not ended ends. */
static inline void h2_support_end(void)
{
	for (size_t i = 0; i < n_wires; i++)
		h2_hang_up(&wires[i]);
	while (!TAILQ_EMPTY(&dials))
		h2_dialled(-ECONNREFUSED);
	for (size_t i = 0; i < n_wires; i++)
		text_free(&wires[i].out);
	n_wires = 0;
}

/* ---------------------------------------------------------------- requests */

struct asked {
	struct transfer *transfer; /* NULL: it has ended, or nobody is interested */
	struct request_body *body;
	struct transfer_head head;
	unsigned heads, ends, sent;
	enum transfer_error error;
	struct text answer;
	void (*on_head)(struct asked *asked);
	void (*on_piece)(struct asked *asked);
};

static inline void asked_sent(void *user)
{
	((struct asked *)user)->sent++;
}

static inline void asked_head(void *user, const struct transfer_head *head)
{
	struct asked *asked = user;

	asked->heads++;
	asked->head = *head;
	if (asked->on_head != NULL)
		asked->on_head(asked);
}

static inline void asked_piece(void *user, struct span piece)
{
	struct asked *asked = user;

	text_add_span(&asked->answer, piece);
	if (asked->on_piece != NULL)
		asked->on_piece(asked);
}

static inline void asked_end(void *user, enum transfer_error error)
{
	struct asked *asked = user;

	asked->ends++;
	asked->error = error;
	asked->transfer = NULL;
}

/* A request with so many bytes of body. */
static inline void ask(struct asked *asked, size_t len)
{
	static const struct transfer_events events = {
	    .request_sent = asked_sent, .head = asked_head, .body = asked_piece, .end = asked_end};
	static const char bytes[65536];
	struct text text = {0};

	text_add(&text, bytes, len);
	asked->body = request_body_new(&text, NULL, 0, NULL);
	asked->transfer =
	    transport_h2.start(h2_transport, &(struct transfer_request){.body = asked->body}, &events, asked);
	h2_turn();
}

/* Nobody is interested any more. */
static inline void asked_cancel(struct asked *asked)
{
	if (asked->transfer != NULL)
		transport_h2.cancel(asked->transfer);
	asked->transfer = NULL;
}

static inline void asked_free(struct asked *asked)
{
	asked_cancel(asked);
	h2_turn();
	request_body_free(asked->body);
	text_free(&asked->answer);
}

/* ---------------------------------------------------------------- frames */

static inline void add_frame(struct text *out, uint8_t type, uint8_t flags, uint32_t stream, const void *payload,
                             size_t len)
{
	const uint8_t header[H2_FRAME_HEADER] = {
	    (uint8_t)(len >> 16),    (uint8_t)(len >> 8),     (uint8_t)len,           type,           flags,
	    (uint8_t)(stream >> 24), (uint8_t)(stream >> 16), (uint8_t)(stream >> 8), (uint8_t)stream};

	text_add(out, header, sizeof(header));
	text_add(out, payload, len);
}

/* How many frames of this type, and of this stream (0: of any), were sent by this wire; the first one's payload. */
static inline size_t frames_sent(const struct wire *wire, uint8_t type, uint32_t stream, struct span *payload)
{
	const uint8_t *at = (const uint8_t *)wire->out.data + PREFACE;
	const uint8_t *end = (const uint8_t *)wire->out.data + wire->out.len;
	size_t n = 0;

	while (wire->out.len > PREFACE && end - at >= H2_FRAME_HEADER) {
		size_t len = (size_t)at[0] << 16 | (size_t)at[1] << 8 | at[2];
		uint32_t id = (uint32_t)at[5] << 24 | (uint32_t)at[6] << 16 | (uint32_t)at[7] << 8 | at[8];

		if (at[3] == type && (stream == 0 || id == stream) && n++ == 0 && payload != NULL)
			*payload = span_of(at + H2_FRAME_HEADER, len);
		at += H2_FRAME_HEADER + len;
	}
	return n;
}

#endif
