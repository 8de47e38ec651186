/* SPDX-License-Identifier: Apache-2.0
 *
 * The openai backend: chat completions, streamed, from OpenAI or a compatible service. URL, credential and certificates
 * come from the configuration; the request chooses the words, and the model where it names one.
 *
 * The answer is whole at [DONE], not when the connection ends; an upstream that ends without it has still finished
 * when it gave a finish_reason.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include "backend.h"
#include "chat_event.h"
#include "chat_request.h"
#include "credential.h"
#include "daemon/common/log.h"
#include "daemon/common/role.h"
#include "sse.h"
#include "upstream.h"

static struct upstream *upstream;

/* One stream's work. */
struct chat {
	struct stream *stream;
	struct upstream_call *call; /* NULL before it starts and after its end */
	struct request_body *body;  /* NULL once it has been sent */
	char *test_pattern;         /* for the request's head; NULL: none */
	struct sse sse;
	uint16_t half;     /* of a character that the upstream cut in two */
	bool finished;     /* a finish_reason was given */
	bool usage_wanted; /* the data asks for the event that tells of it */
};

static void work_free(struct chat *chat)
{
	sse_free(&chat->sse);
	request_body_free(chat->body);
	free(chat->test_pattern);
	free(chat);
}

static int prepare(struct streamer *streamer, const struct request *request, void **work, const char **error)
{
	struct chat *chat = calloc(1, sizeof(*chat));
	int rc = -ENOMEM;

	if (chat == NULL)
		return rc;
	rc = chat_request_make(streamer->backend, request, &chat->body, error);
	if (rc == 0 && request->test_pattern != NULL) {
		chat->test_pattern = strdup(request->test_pattern);
		rc = chat->test_pattern == NULL ? -ENOMEM : 0;
	}
	if (rc != 0) {
		work_free(chat);
		return rc;
	}
	chat->usage_wanted =
	    json_is_true(json_object_get(json_object_get(request->root, "stream_options"), "include_usage"));
	*work = chat;
	return 0;
}

/* ---------------------------------------------------------------- errors */

static void fail(struct chat *chat, enum outcome outcome, unsigned status, const char *message, uint32_t retry_after)
{
	stream_fail(chat->stream,
	            &(struct stream_error){
	                .outcome = outcome, .status = status, .message = message, .retry_after = retry_after});
}

/* What the client gets for a status of the upstream; the first row that covers it counts. docs/streams.md lists it. */
static const struct {
	unsigned from, to;
	enum outcome outcome;
	unsigned status;
	const char *message;
} answers[] = {
    {400, 400, OUTCOME_UPSTREAM_REFUSED, 400, "The service that answers refused the request."},
    {408, 408, OUTCOME_UPSTREAM_TIMEOUT, 504, "The service that answers took too long."},
    {413, 413, OUTCOME_UPSTREAM_REFUSED, 413, "The request is too large for the service that answers."},
    {422, 422, OUTCOME_UPSTREAM_REFUSED, 400, "The service that answers refused the request."},
    {429, 429, OUTCOME_UPSTREAM_REFUSED, 429, "The service that answers has too many requests."},
    /* What else it refuses, a credential or the name of a model, is ours: the client's own status must not say so. */
    {401, 499, OUTCOME_UPSTREAM_REFUSED, 502, "The service that answers refused the request."},
    {503, 503, OUTCOME_UPSTREAM_ERROR, 503, "The service that answers is not available."},
    {504, 504, OUTCOME_UPSTREAM_TIMEOUT, 504, "The service that answers took too long."},
    {529, 529, OUTCOME_UPSTREAM_ERROR, 503, "The service that answers is not available."}, /* overloaded */
    {500, 599, OUTCOME_UPSTREAM_ERROR, 502, "The service that answers has failed."},
    {0, UINT_MAX, OUTCOME_UPSTREAM_ERROR, 502, "The service that answers did not stream."},
};

static void fail_by_status(struct chat *chat, const struct transfer_head *head)
{
	size_t i = 0;

	log_event(LOG_WARNING, "upstream-status", LOG_INT("id", chat->stream->id), LOG_INT("status", head->status));
	while (head->status < answers[i].from || head->status > answers[i].to)
		i++;
	fail(chat, answers[i].outcome, answers[i].status, answers[i].message,
	     answers[i].status == 429 || answers[i].status >= 500 ? head->retry_after : 0);
}

static void fail_by_error(struct chat *chat, enum transfer_error error)
{
	switch (error) {
	case TRANSFER_TIMEOUT:
		fail(chat, OUTCOME_UPSTREAM_TIMEOUT, 504, "The service that answers could not be reached in time.", 0);
		break;
	case TRANSFER_UNREACHABLE:
	case TRANSFER_TLS:
		fail(chat, OUTCOME_UPSTREAM_ERROR, 502, "The service that answers could not be reached.", 0);
		break;
	case TRANSFER_BUSY:
		fail(chat, OUTCOME_UPSTREAM_ERROR, 503, "There are too many requests for the service that answers.", 1);
		break;
	case TRANSFER_NO_MEMORY:
		fail(chat, OUTCOME_NO_MEMORY, 503, "There is no memory for this request.", 1);
		break;
	default:
		fail(chat, OUTCOME_UPSTREAM_ERROR, 502, "The service that answers broke off.", 0);
	}
}

/* ---------------------------------------------------------------- the answer */

/* 0: go on; else the stream has ended. */
static int on_event(void *user, const struct sse_event *sse)
{
	struct chat *chat = user;
	struct chat_event event;

	if (!sse->has_data) {
		stream_event(chat->stream, sse);
		return stream_is_live(chat->stream) ? 0 : 1;
	}
	chat_event_parse(&event, sse, &chat->half);
	chat->finished = chat->finished || event.finished;
	if (event.has_usage)
		stream_usage(chat->stream, event.prompt_tokens, event.completion_tokens);
	switch (event.kind) {
	case CHAT_EVENT_CONTENT:
		stream_event(chat->stream, sse);
		if (event.joined_len > 0)
			stream_content(chat->stream, span_of(event.joined, event.joined_len));
		if (event.content.len > 0)
			stream_content(chat->stream, event.content);
		break;
	case CHAT_EVENT_DONE:
		stream_done(chat->stream);
		break;
	case CHAT_EVENT_ERROR:
		fail(chat, OUTCOME_UPSTREAM_ERROR, 502, "The service that answers reported an error.", 0);
		break;
	case CHAT_EVENT_INVALID:
		fail(chat, OUTCOME_UPSTREAM_ERROR, 502, "The service that answers was not understood.", 0);
		break;
	case CHAT_EVENT_NOTHING:
		/* A client that did not ask for usage does not expect an event without choices. */
		if (!event.only_usage || chat->usage_wanted)
			stream_event(chat->stream, sse);
		break;
	}
	chat_event_free(&event);
	return stream_is_live(chat->stream) ? 0 : 1;
}

static void on_request_sent(void *user)
{
	struct chat *chat = user;

	request_body_free(chat->body);
	chat->body = NULL;
}

static void on_head(void *user, const struct transfer_head *head)
{
	struct chat *chat = user;

	stream_heard(chat->stream);
	if (head->status == 200 && !head->is_json)
		stream_begin(chat->stream);
	else
		fail_by_status(chat, head);
}

static void on_body(void *user, struct span piece)
{
	struct chat *chat = user;
	int rc;

	if (!stream_is_live(chat->stream))
		return;
	stream_heard(chat->stream);
	rc = sse_feed(&chat->sse, piece, on_event, chat);
	if (rc == -ENOMEM)
		fail_by_error(chat, TRANSFER_NO_MEMORY);
	else if (rc < 0)
		fail(chat, OUTCOME_UPSTREAM_ERROR, 502, "The service that answers sent too long an event.", 0);
}

static void on_end(void *user, enum transfer_error error)
{
	struct chat *chat = user;

	chat->call = NULL;
	if (error == TRANSFER_OK && chat->finished)
		stream_done(chat->stream);
	else
		fail_by_error(chat, error);
}

static const struct transfer_events transfer_events = {
    .request_sent = on_request_sent, .head = on_head, .body = on_body, .end = on_end};

/* ---------------------------------------------------------------- the backend's functions */

static void start(struct stream *stream)
{
	struct chat *chat = stream->work;
	struct transfer_field pattern = {.name = "x-test-pattern", .value = chat->test_pattern};
	struct transfer_request request = {
	    .body = chat->body, .fields = &pattern, .n_fields = chat->test_pattern != NULL};
	unsigned retry_after;

	chat->stream = stream;
	chat->call = upstream_start(upstream, &request, &transfer_events, chat, &retry_after);
	if (chat->call != NULL)
		return;
	if (retry_after > 0)
		fail(chat, OUTCOME_UPSTREAM_ERROR, 503, "The service that answers is out of order.", retry_after);
	else
		fail_by_error(chat, TRANSFER_NO_MEMORY);
}

static void pause_call(struct stream *stream, bool paused)
{
	struct chat *chat = stream->work;

	if (chat->call != NULL)
		upstream_pause(chat->call, paused);
}

static void stop(void *work, bool whole)
{
	struct chat *chat = work;

	if (chat->call != NULL && whole)
		upstream_release(chat->call);
	else if (chat->call != NULL)
		upstream_cancel(chat->call, chat->stream->outcome == OUTCOME_UPSTREAM_TIMEOUT);
	work_free(chat);
}

/* The whole header line with the credential, "" when none is configured. */
static const char *authorization_read(const struct streamer *streamer)
{
	const struct config_backend *backend = streamer->backend;
	char path[PATH_MAX], error[PATH_MAX + 128];
	const char *line;

	if (config_secret_path("api-key", backend->credential_file, path, sizeof(path)) != 0)
		fatal("backend \"%s\": the name of its credential is too long", backend->name);
	if (path[0] == '\0')
		return "";
	line = credential_read(path, role_expected_uid(&backend->user), "Authorization: Bearer ", error, sizeof(error));
	if (line == NULL)
		fatal("backend \"%s\": credential %s", backend->name, error);
	return line;
}

static void init(struct streamer *streamer)
{
	upstream = upstream_init(streamer, "/chat/completions", authorization_read(streamer));
}

const struct backend_type_ops backend_openai = {
    .type = BACKEND_OPENAI,
    .has_upstream = true,
    .init = init,
    .prepare = prepare,
    .start = start,
    .pause = pause_call,
    .stop = stop,
};
