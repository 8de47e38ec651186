/* SPDX-License-Identifier: Apache-2.0
 *
 * Handoff: see handoff.h. The order matters: verify the data, then parse it; accept, and only when that has been sent
 * touch the client's socket (a legacy client is ours with the message). Before that nothing here reads, writes or
 * configures it.
 */
#include "handoff.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "backend.h"
#include "daemon/common/log.h"
#include "lib/token.h"
#include "refusal.h"

#define RETRY_AFTER_S 1

/* The data's bytes, inline or mapped from the memfd. */
struct data {
	struct span span;
	void *mapping; /* NULL: not mapped */
};

static enum reason data_open(struct data *data, const struct wire_request *wire, const struct message *message)
{
	bool in_memfd = wire->flags & WIRE_FLAG_MEMFD;
	size_t size;

	*data = (struct data){.span = wire->field[WIRE_DATA]};
	if (in_memfd != (message->n_fds > WIRE_FD_DATA))
		return REASON_DESCRIPTORS;
	if (!in_memfd || message->n_fds <= WIRE_FD_DATA)
		return REASON_OK;
	/* Sealed, it can neither change under us nor shrink. */
	if (memfd_check_sealed(message->fds[WIRE_FD_DATA], &size) != 0 || size == 0)
		return REASON_MEMFD;
	if (size > HANDOFF_DATA_MAX)
		return REASON_DATA_TOO_LARGE;
	data->mapping = mmap(NULL, size, PROT_READ, MAP_PRIVATE, message->fds[WIRE_FD_DATA], 0);
	if (data->mapping == MAP_FAILED) {
		data->mapping = NULL;
		return REASON_NO_MEMORY;
	}
	data->span = span_of(data->mapping, size);
	return REASON_OK;
}

static void data_close(struct data *data)
{
	if (data->mapping != NULL)
		munmap(data->mapping, data->span.len);
	*data = (struct data){0};
}

static enum reason data_verify(struct span data, const struct wire_request *wire)
{
	uint8_t digest[TOKEN_DIGEST_LEN];

	token_digest(digest, data);
	return span_equal(span_of(digest, sizeof(digest)), wire->field[WIRE_DATA_DIGEST]) ? REASON_OK
	                                                                                  : REASON_DATA_DIGEST;
}

/* What the application wants of the backend, kept with the stream. The data is not needed afterwards. */
static enum reason work_prepare(struct stream *stream, struct span data)
{
	const char *error = NULL;
	struct request request;
	int rc = request_parse(&request, data, &error);

	if (rc == 0)
		rc = stream->streamer->ops->prepare(stream->streamer, &request, &stream->work, &error);
	request_free(&request);
	if (rc == -EINVAL) {
		log_event(LOG_INFO, "request-invalid", LOG_INT("id", stream->id), LOG_STR("error", error));
		return REASON_REQUEST_INVALID;
	}
	return rc == 0 ? REASON_OK : REASON_NO_MEMORY;
}

/* Everything that speaks against this handoff; with REASON_OK a stream in *out that only waits for its client. */
static enum reason judge(struct streamer *streamer, const struct message *message, struct wire_request *wire,
                         struct stream **out)
{
	const struct message_handoff *handoff = message->body;
	struct data data;
	enum reason reason;

	if (wire_request_parse(message->more, wire) != 0)
		return REASON_MESSAGE_MALFORMED;
	if (streamer->n_streams >= streamer->backend->max_streams)
		return REASON_STREAMER_FULL;
	reason = data_open(&data, wire, message);
	if (reason == REASON_OK)
		reason = data_verify(data.span, wire);
	if (reason == REASON_OK && (*out = stream_new(streamer, handoff->stream_id, wire)) == NULL)
		reason = REASON_NO_MEMORY;
	if (reason == REASON_OK)
		reason = work_prepare(*out, data.span);
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
	enum reason reason = judge(streamer, message, &wire, &stream);
	int replied = tell(message, wire.flags, id, reason);

	metrics_add(METRIC_RECEIVED, 1);
	metrics_observe(METRIC_HANDOFF_DURATION, (int64_t)(metrics_clock_us() - arrived_us));
	if (reason != REASON_OK) {
		metrics_count(METRIC_HANDOFF_ERRORS, reason);
		log_event(LOG_WARNING, "refused", LOG_INT("id", id), LOG_STR("reason", reason_name(reason)));
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
