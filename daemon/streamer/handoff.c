/* SPDX-License-Identifier: Apache-2.0
 *
 * Handoff: see handoff.h. The order matters: verify the data, then parse it; accept, and only when that has been sent
 * touch the client's socket (a legacy client is ours with the message). Before that nothing here reads, writes or
 * configures it.
 */
#include "handoff.h"

#include <errno.h>
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
	size_t used = streamer->dialer.n_waits + DESCRIPTORS_LEFT;
	int highest = 0;

	for (size_t i = 0; i < message->n_fds; i++)
		highest = message->fds[i] > highest ? message->fds[i] : highest;
	return streamer->n_streams >= streamer->backend->max_streams || (size_t)highest + used > streamer->descriptors;
}

/* Everything that speaks against this handoff; with REASON_OK a stream in *out that only waits for its client. */
static enum reason judge(struct streamer *streamer, const struct message *message, struct wire_request *wire,
                         struct stream **out)
{
	uint64_t id = ((const struct message_handoff *)message->body)->stream_id;
	const char *error = NULL;
	struct request request;
	struct data data;
	enum reason reason;

	if (wire_request_parse(message->more, wire) != 0)
		return REASON_MESSAGE_MALFORMED;
	if (is_full(streamer, message))
		return REASON_STREAMER_FULL;
	reason = open_data(&data, streamer, wire, message);
	if (reason == REASON_OK)
		reason = verify_data(data.span, wire);
	if (reason == REASON_OK) {
		int rc = request_parse(&request, &data, &streamer->backend->request, &error);

		if (rc == 0)
			rc = make_stream(streamer, id, wire, &request, out, &error);
		reason = reason_of(rc, id, error);
		request_free(&request);
	}
	data_close(&data);
	return reason;
}

/* A client that has left already is not worth an answer, nor a request to the upstream. */
static enum reason judge_with_client(struct streamer *streamer, const struct message *message,
                                     struct wire_request *wire, struct stream **out)
{
	enum reason reason = judge(streamer, message, wire, out);

	return reason == REASON_OK && client_has_gone(message->fds[WIRE_FD_CLIENT]) ? REASON_CLIENT_GONE : reason;
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
static int tell(const struct message *message, uint16_t flags, uint64_t stream_id, enum reason reason)
{
	if ((flags & WIRE_FLAG_LEGACY) == 0)
		return reply(message->fds[WIRE_FD_REPLY], stream_id, reason);
	if (reason != REASON_OK)
		refusal_send(message->fds[WIRE_FD_CLIENT], (unsigned)reason_status(reason),
		             reason_status(reason) == 503 ? RETRY_AFTER_S : 0);
	return 0;
}

void handoff_take(struct streamer *streamer, struct message *message)
{
	uint64_t id = ((const struct message_handoff *)message->body)->stream_id;
	uint64_t arrived_us = ((const struct message_handoff *)message->body)->arrived_us;
	bool counted = ((const struct message_handoff *)message->body)->flags & MESSAGE_HANDOFF_COUNTED;
	struct stream *stream = NULL;
	struct wire_request wire;
	enum reason reason = judge_with_client(streamer, message, &wire, &stream);
	int replied = tell(message, wire.flags, id, reason);

	metrics_add(METRIC_RECEIVED, 1);
	metrics_observe(METRIC_HANDOFF_DURATION, (int64_t)(metrics_clock_us() - arrived_us));
	if (reason != REASON_OK) {
		metrics_count(METRIC_HANDOFF_ERRORS, reason);
		log_event(reason == REASON_CLIENT_GONE ? LOG_INFO : LOG_WARNING, "refused", LOG_INT("id", id),
		          LOG_STR("reason", reason_name(reason)));
	} else if (replied != 0) {
		/* Nobody waits any more: the client is somebody else's again. */
		metrics_add(METRIC_ACCEPT_TOO_LATE, 1);
		log_event(LOG_INFO, "accept-too-late", LOG_INT("id", id), LOG_INT("errno", -replied));
	} else {
		metrics_add(METRIC_HANDOFFS, 1);
		stream->gate = counted ? streamer->gate : 0;
		counted = false;
		stream_start(stream, message->fds[WIRE_FD_CLIENT]);
		message->fds[WIRE_FD_CLIENT] = -1;
		stream = NULL;
	}
	if (counted)
		streamer->ended(streamer, streamer->gate, id);
	if (stream != NULL)
		stream_discard(stream);
	message_close_fds(message);
}
