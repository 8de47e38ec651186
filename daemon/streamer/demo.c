/* SPDX-License-Identifier: Apache-2.0
 *
 * The demo backend: no upstream. Streams the words of the prompt, then those of a fixed text, one an event.
 */
#include <errno.h>
#include <stdlib.h>

#include "backend.h"

#define PIECE_MAX 4096 /* a longer word is sent in several events */

static const char fixed_text[] = "\n\nThis is the demo backend of handoffd: no model was asked. "
                                 "Apache's worker has long been free.";

struct demo {
	ev_timer timer;
	struct stream *stream;
	char *prompt; /* NULL once it was streamed */
	size_t prompt_len;
	size_t position; /* in the prompt, then in the fixed text */
};

/* The text of the last message, as far as it is plain. */
static struct span last_message(const struct request *request)
{
	json_t *last = json_array_get(request->messages, json_array_size(request->messages) - 1);
	json_t *content = json_object_get(last, "content");

	return span_of(json_string_value(content), json_string_length(content));
}

static int prepare(struct streamer *streamer, const struct request *request, void **work, const char **error)
{
	struct span prompt =
	    request->messages != NULL ? last_message(request) : span_of(request->prompt, request->prompt_len);
	struct demo *demo = calloc(1, sizeof(*demo));

	(void)streamer;
	(void)error;
	if (demo == NULL)
		return -ENOMEM;
	if (prompt.len > 0) {
		demo->prompt = malloc(prompt.len);
		if (demo->prompt == NULL) {
			free(demo);
			return -ENOMEM;
		}
		memcpy(demo->prompt, prompt.data, prompt.len);
		demo->prompt_len = prompt.len;
	}
	*work = demo;
	return 0;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

/* Length of the next piece: the blanks before a word and the word. Never cuts a character in two. */
static size_t piece_len(const char *text, size_t len)
{
	size_t i = 0;

	while (i < len && i < PIECE_MAX && is_blank(text[i]))
		i++;
	while (i < len && i < PIECE_MAX && !is_blank(text[i]))
		i++;
	while (i < len && i > 1 && ((unsigned char)text[i] & 0xc0) == 0x80)
		i--;
	return i;
}

/* The next piece; empty at the end. */
static struct span next_piece(struct demo *demo)
{
	const char *text = demo->prompt != NULL ? demo->prompt : fixed_text;
	size_t len = demo->prompt != NULL ? demo->prompt_len : sizeof(fixed_text) - 1;
	size_t piece = piece_len(text + demo->position, len - demo->position);
	struct span span = span_of(text + demo->position, piece);

	demo->position += piece;
	return span;
}

static void on_timer(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct demo *demo = (struct demo *)((char *)timer - offsetof(struct demo, timer));
	struct span piece = next_piece(demo);

	(void)revents;
	if (piece.len > 0)
		stream_content(demo->stream, piece);
	if (demo->prompt != NULL && demo->position == demo->prompt_len) {
		free(demo->prompt);
		demo->prompt = NULL;
		demo->position = 0;
	} else if (demo->prompt == NULL && demo->position == sizeof(fixed_text) - 1) {
		stream_done(demo->stream);
	}
	if (!stream_is_live(demo->stream))
		ev_timer_stop(loop, timer);
	else if (timer->repeat == 0.0 && !demo->stream->paused)
		ev_timer_start(loop, timer); /* no delay: again when everybody else had a turn */
}

static void start(struct stream *stream)
{
	struct streamer *streamer = stream->streamer;
	struct demo *demo = stream->work;
	double delay = streamer->backend->delay_ms / 1000.0;

	demo->stream = stream;
	ev_timer_init(&demo->timer, on_timer, delay, delay);
	ev_timer_start(streamer->loop, &demo->timer);
	stream_begin(stream);
	on_timer(streamer->loop, &demo->timer, EV_TIMER);
}

static void pause_timer(struct stream *stream, bool paused)
{
	struct demo *demo = stream->work;

	if (paused)
		ev_timer_stop(stream->streamer->loop, &demo->timer);
	else
		ev_timer_start(stream->streamer->loop, &demo->timer);
}

static void stop(void *work, bool whole)
{
	struct demo *demo = work;

	(void)whole;
	if (demo->stream != NULL)
		ev_timer_stop(demo->stream->streamer->loop, &demo->timer);
	free(demo->prompt);
	free(demo);
}

const struct backend_type_ops backend_demo = {
    .type = BACKEND_DEMO,
    .prepare = prepare,
    .start = start,
    .pause = pause_timer,
    .stop = stop,
};
