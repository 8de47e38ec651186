/* SPDX-License-Identifier: Apache-2.0
 *
 * Handoff: see handoff.h. The order matters: verify the data, then parse it; accept, and only when that has been sent
 * touch the client's socket (a legacy client is ours with the message). Before that nothing here reads, writes or
 * configures it.
 */
#include "handoff.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "backend.h"
#include "daemon/common/log.h"
#include "lib/token.h"
#include "refusal.h"
#include "request_body.h"
#include "response_headers.h"

#define RETRY_AFTER_S 1

/* Kept free. A message that finds no numbers for its descriptors is lost, and the connection that it came by with all
 * that is on its way there: handoffs that nobody would answer, or what the dialer sends. As many as the handoffs of one
 * turn can make this process ask the dialer for, and some that it has for a moment. */
#define DESCRIPTORS_LEFT 64

static enum reason open_data(struct data *data, const struct streamer *streamer, const struct wire_request *wire,
                             const struct message *message)
{
	const struct config_request *limits = &streamer->backend->request;
	bool in_memfd = wire->flags & WIRE_FLAG_MEMFD;
	size_t size = wire->field[WIRE_DATA].len;

	*data = data_borrow(wire->field[WIRE_DATA]);
	if (in_memfd != (message->n_fds > WIRE_FD_DATA))
		return REASON_DESCRIPTORS;
	/* Sealed, it can neither change under us nor shrink. */
	if (in_memfd && (memfd_check_sealed(message->fds[WIRE_FD_DATA], &size) != 0 || size == 0))
		return REASON_MEMFD;
	if (size > limits->max_data)
		return REASON_DATA_TOO_LARGE;
	if (size > limits->memory || request_bodies_held() > limits->memory - size)
		return REASON_NO_MEMORY;
	if (in_memfd && data_map(data, message->fds[WIRE_FD_DATA], size) != 0)
		return REASON_NO_MEMORY;
	return REASON_OK;
}

static enum reason verify_data(struct span data, const struct wire_request *wire)
{
	uint8_t digest[TOKEN_DIGEST_LEN];

	token_digest(digest, data);
	return span_equal(span_of(digest, sizeof(digest)), wire->field[WIRE_DATA_DIGEST]) ? REASON_OK
	                                                                                  : REASON_DATA_DIGEST;
}

/* A handoff until it is settled: accepted, refused or dropped. Its descriptors are ours. */
struct handoff {
	struct streamer *streamer;
	struct stream *stream; /* NULL: there is none */
	uint64_t id;
	uint64_t arrived_us;
	uint32_t gate; /* connection of the gate by which it came */
	bool counted;  /* the gate wants to hear of its end */
	bool legacy;   /* nobody waits for a reply */
	int client;
	int reply;
	struct wait wait;
	struct reservation reservation;
};

/* What came of looking into the data; the client's application learns no more than the reason. */
static enum reason reason_of(int rc, uint64_t stream_id, const char *error)
{
	if (rc == -EINVAL)
		log_event(LOG_INFO, "request-invalid", LOG_INT("id", stream_id), LOG_STR("error", error));
	if (rc == -EINVAL)
		return REASON_REQUEST_INVALID;
	return rc == 0 ? REASON_OK : REASON_NO_MEMORY;
}

/* A stream for this request, with the backend's work and the response headers that the data asks for. */
static int make_stream(struct streamer *streamer, uint64_t id, struct wire_request *wire, const struct request *request,
                       struct stream **out, const char **error)
{
	struct span application = wire->field[WIRE_RESPONSE_HEADERS];
	struct text headers = {0};
	int rc = 0;

	if (request->response_headers != NULL) {
		rc = response_headers_merge(application, request->response_headers, &headers);
		wire->field[WIRE_RESPONSE_HEADERS] = text_span(&headers);
		*error = rc == -EINVAL ? "response_headers are too long" : NULL;
	}
	if (rc == 0 && (*out = stream_new(streamer, id, wire)) == NULL)
		rc = -ENOMEM;
	wire->field[WIRE_RESPONSE_HEADERS] = application;
	text_free(&headers);
	return rc == 0 ? streamer->ops->prepare(streamer, request, &(*out)->work, error) : rc;
}

/* The kernel gives the lowest number that is free. */
static bool is_full(const struct streamer *streamer, const struct message *message)
{
	size_t used = streamer->dialer.n_waits + LAUNCH_PIPES * streamer->launcher.n_expected + DESCRIPTORS_LEFT;
	int highest = 0;

	for (size_t i = 0; i < message->n_fds; i++)
		highest = message->fds[i] > highest ? message->fds[i] : highest;
	return streamer->n_streams + streamer->waiting.n >= streamer->backend->max_streams ||
	       (size_t)highest + used > streamer->descriptors;
}

/* With data that is what was signed: look into it, and make a stream. */
static enum reason judge_data(struct streamer *streamer, uint64_t id, struct message *message,
                              struct wire_request *wire, struct data *data, struct stream **out)
{
	const char *error = NULL;
	struct request request = {.data = data};
	int rc = 0;

	if (!streamer->ops->opaque)
		rc = request_parse(&request, data, &streamer->backend->request, &error);
	request.id = id;
	request.wire = wire;
	request.memfd = wire->flags & WIRE_FLAG_MEMFD ? &message->fds[WIRE_FD_DATA] : NULL;
	if (rc == 0)
		rc = make_stream(streamer, id, wire, &request, out, &error);
	request_free(&request);
	return reason_of(rc, id, error);
}

/* Everything that speaks against this handoff; with REASON_OK a stream in *out that only waits for its client. */
static enum reason judge(struct streamer *streamer, struct message *message, struct wire_request *wire,
                         struct stream **out)
{
	uint64_t id = ((const struct message_handoff *)message->body)->stream_id;
	struct data data;
	enum reason reason;

	if (wire_request_parse(message->more, wire) != 0)
		return REASON_MESSAGE_MALFORMED;
	if (is_full(streamer, message))
		return REASON_STREAMER_FULL;
	reason = open_data(&data, streamer, wire, message);
	if (reason == REASON_OK)
		reason = verify_data(data.span, wire);
	if (reason == REASON_OK)
		reason = judge_data(streamer, id, message, wire, &data, out);
	data_close(&data);
	return reason;
}

/* 0 when the reply was sent; then, and only then, it counts. */
static int reply(int fd, uint64_t stream_id, enum reason reason)
{
	struct wire_reply reply = {
	    .kind = reason == REASON_OK ? WIRE_ACCEPTED : WIRE_REFUSED,
	    .reason = reason,
	    .status = (uint16_t)reason_status(reason),
	    .retry_after = reason_status(reason) == 503 ? RETRY_AFTER_S : 0,
	    .stream_id = stream_id,
	};
	uint8_t bytes[WIRE_REPLY_LEN];

	wire_reply_write(&reply, bytes);
	return fdpass_send(fd, &(struct iovec){.iov_base = bytes, .iov_len = sizeof(bytes)}, 1, NULL, 0, MSG_DONTWAIT);
}

/* Say what came of it to whoever waits; 0 when it was said. Nobody waits for a legacy client: it came to us with the
 * message, so it is for us to answer it. */
static int tell(const struct handoff *handoff, enum reason reason)
{
	if (!handoff->legacy)
		return reply(handoff->reply, handoff->id, reason);
	if (reason != REASON_OK)
		refusal_send(handoff->client, (unsigned)reason_status(reason),
		             reason_status(reason) == 503 ? RETRY_AFTER_S : 0);
	return 0;
}

static void too_late(const struct handoff *handoff, int error)
{
	metrics_add(METRIC_ACCEPT_TOO_LATE, 1);
	log_event(LOG_INFO, "accept-too-late", LOG_INT("id", handoff->id), LOG_INT("errno", -error));
}

static void accepted(struct handoff *handoff)
{
	struct stream *stream = handoff->stream;
	int client = handoff->client;

	metrics_add(METRIC_HANDOFFS, 1);
	stream->gate = handoff->counted ? handoff->gate : 0;
	handoff->counted = false;
	handoff->stream = NULL;
	handoff->client = -1;
	stream_start(stream, client);
}

/* What is left of it goes. */
static void drop(struct handoff *handoff)
{
	struct streamer *streamer = handoff->streamer;

	if (handoff->counted)
		streamer->ended(streamer, handoff->gate, handoff->id);
	if (handoff->stream != NULL)
		stream_discard(handoff->stream);
	fd_close(&handoff->client);
	fd_close(&handoff->reply);
}

/* A client that has left already is not worth an answer, nor a request to the upstream. */
static void settle(struct handoff *handoff, enum reason reason)
{
	int replied;

	if (reason == REASON_OK && client_has_gone(handoff->client))
		reason = REASON_CLIENT_GONE;
	replied = tell(handoff, reason);
	metrics_observe(METRIC_HANDOFF_DURATION, (int64_t)(metrics_clock_us() - handoff->arrived_us));
	if (reason != REASON_OK) {
		metrics_count(METRIC_HANDOFF_ERRORS, reason);
		log_event(reason == REASON_CLIENT_GONE ? LOG_INFO : LOG_WARNING, "refused", LOG_INT("id", handoff->id),
		          LOG_STR("reason", reason_name(reason)));
	} else if (replied != 0) {
		too_late(handoff, replied); /* nobody waits any more: the client is somebody else's again */
	} else {
		accepted(handoff);
	}
	drop(handoff);
}

/* ---------------------------------------------------------------- one that waits */

static void settle_waited(struct handoff *handoff, enum reason reason)
{
	struct streamer *streamer = handoff->streamer;

	metrics_set(METRIC_WAITING, streamer->waiting.n);
	settle(handoff, reason);
	free(handoff);
	streamer_check_idle(streamer);
}

static void on_reserved(struct reservation *reservation, enum reason reason)
{
	struct handoff *handoff = (struct handoff *)((char *)reservation - offsetof(struct handoff, reservation));

	waiting_remove(&handoff->streamer->waiting, &handoff->wait);
	settle_waited(handoff, reason);
}

static void on_wait_over(struct wait *wait, int why)
{
	struct handoff *handoff = (struct handoff *)((char *)wait - offsetof(struct handoff, wait));
	struct streamer *streamer = handoff->streamer;

	if (why == -EPIPE) {
		/* Apache has taken the client back. */
		metrics_set(METRIC_WAITING, streamer->waiting.n);
		too_late(handoff, why);
		drop(handoff);
		free(handoff);
		streamer_check_idle(streamer);
	} else if (why == -ENOTCONN) {
		settle_waited(handoff, REASON_CLIENT_GONE);
	} else if (why == -ECANCELED) {
		settle_waited(handoff, REASON_STOPPING);
	} else {
		settle_waited(handoff, streamer->ops->not_reserved(streamer));
	}
}

/* Keep the handoff until its backend can start. 1, it is kept; 0, it need not wait; or -errno. */
static int keep(struct handoff *handoff)
{
	struct waiting *waiting = &handoff->streamer->waiting;
	struct handoff *kept = malloc(sizeof(*kept));
	int rc;

	if (kept == NULL)
		return -ENOMEM;
	*kept = *handoff;
	kept->wait.over = on_wait_over;
	kept->reservation.done = on_reserved;
	rc = waiting_add(waiting, &kept->wait, kept->client, kept->legacy ? -1 : kept->reply);
	if (rc == 0) {
		rc = kept->streamer->ops->reserve(kept->stream->work, &kept->reservation);
		if (rc <= 0)
			waiting_remove(waiting, &kept->wait);
	}
	if (rc <= 0)
		free(kept);
	metrics_set(METRIC_WAITING, waiting->n);
	return rc;
}

/* ---------------------------------------------------------------- the beginning */

void handoff_take(struct streamer *streamer, struct message *message)
{
	const struct message_handoff *body = message->body;
	struct handoff handoff = {
	    .streamer = streamer,
	    .id = body->stream_id,
	    .arrived_us = body->arrived_us,
	    .gate = streamer->gate,
	    .counted = body->flags & MESSAGE_HANDOFF_COUNTED,
	    .client = message->fds[WIRE_FD_CLIENT],
	    .reply = message->fds[WIRE_FD_REPLY],
	};
	struct wire_request wire;
	enum reason reason = judge(streamer, message, &wire, &handoff.stream);
	int rc;

	metrics_add(METRIC_RECEIVED, 1);
	message->fds[WIRE_FD_CLIENT] = message->fds[WIRE_FD_REPLY] = -1;
	message_close_fds(message);
	handoff.legacy = wire.flags & WIRE_FLAG_LEGACY;
	if (reason == REASON_OK && streamer->ops->reserve != NULL) {
		rc = keep(&handoff);
		if (rc == 1)
			return;
		if (rc != 0)
			reason = rc == -ENOMEM ? REASON_NO_MEMORY : REASON_INTERNAL;
	}
	settle(&handoff, reason);
}
