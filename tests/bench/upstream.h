/* SPDX-License-Identifier: Apache-2.0
 *
 * Upstream: what upstream.c (connections, HTTP/1.1, the clock) and upstream_h2.c have of each other.
 */
#ifndef BENCH_UPSTREAM_H
#define BENCH_UPSTREAM_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#define PROMPT_LEN  16
#define REQUEST_MAX 8192

struct nghttp2_session;

/* One request and how far its answer is. */
struct call {
	TAILQ_ENTRY(call) waiting;
	LIST_ENTRY(call) calls; /* of its connection */
	struct connection *connection;
	int64_t due_ms;
	int32_t stream_id;
	uint32_t messages;              /* that are due so far */
	size_t position;                /* bytes that were written, of the answer */
	const struct answer_text *text; /* NULL before it begins */
	bool is_waiting;
	bool suspended; /* all that is due was written */
	char prompt[PROMPT_LEN];
	char *request; /* until it is whole */
	size_t request_len;
};

struct connection {
	int fd;
	SSL *ssl; /* NULL: plain */
	bool established;
	struct nghttp2_session *h2; /* NULL: HTTP/1.1 */
	char *pending;              /* what the socket did not take */
	size_t pending_len, pending_start;
	bool is_dirty;
	TAILQ_ENTRY(connection) dirty;
	LIST_HEAD(, call) calls;
};

/* A whole answer, in which the prompt is left out, and where each of its messages ends. */
struct answer_text {
	char *bytes;
	size_t len;
	size_t room; /* that bytes has */
	size_t prompt_at;
	size_t *ends;
	uint32_t messages;
};

struct call *call_new(struct connection *connection);
/* The request is whole: its prompt becomes known, its first message due. */
void call_begin(struct call *call);
/* It has ended, having got the whole answer or not. */
void call_end(struct call *call, bool whole);
/* The next bytes of the answer, at most size, as far as they are due. */
size_t call_read(struct call *call, char *out, size_t size);

/* Write, or keep what the socket does not take. False: the connection is dead. */
bool connection_write(struct connection *connection, const char *bytes, size_t len);
/* See to it when everything that has come was dealt with. */
void connection_dirty(struct connection *connection);

/* 0 or -1. */
int h2_open(struct connection *connection);
int h2_receive(struct connection *connection, const uint8_t *bytes, size_t len);
/* Write what there is as far as the socket takes it. */
int h2_flush(struct connection *connection);
/* More of the answer is due. */
void h2_more(struct call *call);
void h2_close(struct connection *connection);

#endif
