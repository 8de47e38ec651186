/* SPDX-License-Identifier: Apache-2.0
 *
 * Stream: what is told of it once it has ended, to the log, the access log, the counters and the gate. See stream.h.
 */
#include "access_log.h"
#include "backend.h"
#include "clock.h"
#include "daemon/common/log.h"
#include "stream_internal.h"

static struct span subject_of(const struct stream *stream)
{
	return span_of(stream->text, stream->subject_len);
}

static struct span request_id_of(const struct stream *stream)
{
	return span_of(stream->text + stream->subject_len, stream->request_id_len);
}

/* The upstream's word on it, else the pieces that came. */
static struct usage usage_of(const struct stream *stream)
{
	if (stream->usage.kind != USAGE_ABSENT || stream->pieces == 0 || !stream->streamer->ops->has_upstream)
		return stream->usage;
	return (struct usage){.kind = USAGE_ESTIMATED, .completion = stream->pieces};
}

static bool is_backend_fault(enum outcome outcome)
{
	switch (outcome) {
	case OUTCOME_UPSTREAM_REFUSED:
	case OUTCOME_UPSTREAM_ERROR:
	case OUTCOME_UPSTREAM_TIMEOUT:
	case OUTCOME_HANDLER_FAILED:
	case OUTCOME_HANDLER_LIMIT:
	case OUTCOME_HANDLER_UNAVAILABLE:
		return true;
	default:
		return false;
	}
}

static void count(const struct stream *stream, int64_t duration_ms, const struct usage *usage)
{
	enum outcome outcome = (enum outcome)stream->outcome;

	metrics_count(METRIC_STREAMS, outcome);
	if (outcome != OUTCOME_DONE)
		metrics_count(METRIC_STREAM_ERRORS, outcome);
	metrics_observe(METRIC_STREAM_DURATION, duration_ms * 1000);
	if (!stream->asked)
		return;
	metrics_observe(METRIC_BACKEND_DURATION, duration_ms * 1000);
	if (is_backend_fault(outcome))
		metrics_add(METRIC_BACKEND_ERRORS, 1);
	if (!stream->streamer->ops->has_upstream)
		return;
	metrics_count(METRIC_USAGES, usage->kind);
	metrics_add(METRIC_PROMPT_TOKENS, usage->prompt);
	metrics_add(METRIC_COMPLETION_TOKENS, usage->completion);
}

/* -1 where it is not known. */
static void log_end(const struct stream *stream, int64_t duration_ms, const struct usage *usage)
{
	log_event(LOG_INFO, "stream-end", LOG_INT("id", stream->id),
	          LOG_STR("backend", stream->streamer->backend->name), LOG_SPAN("subject", subject_of(stream)),
	          LOG_SPAN("request", request_id_of(stream)), LOG_INT("status", stream->status),
	          LOG_INT("bytes", stream->client.sent), LOG_INT("events", stream->events),
	          LOG_INT("duration_ms", duration_ms), LOG_INT("first_byte_ms", stream->first_event_ms),
	          LOG_STR("outcome", outcome_name((enum outcome)stream->outcome)),
	          LOG_STR("relay", stream->relayed ? "yes" : "no"), LOG_STR("usage", usage_name(usage->kind)),
	          LOG_INT("prompt_tokens", usage->kind == USAGE_EXACT ? (int64_t)usage->prompt : -1),
	          LOG_INT("completion_tokens", usage->kind != USAGE_ABSENT ? (int64_t)usage->completion : -1));
}

static struct timespec ago(int64_t ms)
{
	struct timespec time;

	clock_gettime(CLOCK_REALTIME, &time);
	int64_t then_ms = (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000 - ms;
	return (struct timespec){.tv_sec = then_ms / 1000, .tv_nsec = then_ms % 1000 * 1000000};
}

static void write_access(const struct stream *stream, int64_t duration_ms, const struct usage *usage)
{
	access_log_write(&(struct access_entry){.request = stream->access,
	                                        .subject = subject_of(stream),
	                                        .request_id = request_id_of(stream),
	                                        .backend = stream->streamer->backend->name,
	                                        .id = stream->id,
	                                        .began = ago(duration_ms),
	                                        .duration_ms = duration_ms,
	                                        .first_byte_ms = stream->first_event_ms,
	                                        .status = stream->status,
	                                        .bytes = stream->client.sent,
	                                        .outcome = (enum outcome)stream->outcome,
	                                        .relayed = stream->relayed,
	                                        .usage = *usage});
}

void stream_account(struct stream *stream)
{
	struct streamer *streamer = stream->streamer;
	int64_t duration_ms = clock_ms() - stream->accepted_ms;
	struct usage usage = usage_of(stream);

	log_end(stream, duration_ms, &usage);
	if (stream->access != NULL)
		write_access(stream, duration_ms, &usage);
	count(stream, duration_ms, &usage);
	if (stream->gate != 0)
		streamer->ended(streamer, stream->gate, stream->id);
}
