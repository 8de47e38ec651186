/* SPDX-License-Identifier: Apache-2.0
 *
 * Chat event: one event of a streamed chat completion, as OpenAI and the many compatible services send it.
 */
#ifndef HANDOFFD_STREAMER_CHAT_EVENT_H
#define HANDOFFD_STREAMER_CHAT_EVENT_H

#include <jansson.h>

#include "sse.h"

enum chat_event_kind {
	CHAT_EVENT_NOTHING, /* of no interest: roles, usage, tool calls */
	CHAT_EVENT_CONTENT,
	CHAT_EVENT_DONE, /* [DONE] */
	CHAT_EVENT_ERROR,
	CHAT_EVENT_INVALID, /* not JSON, or not an object */
};

struct chat_event {
	enum chat_event_kind kind;
	/* A character whose first half came with an earlier event, to be sent before the content. */
	uint8_t joined[4];
	size_t joined_len;
	struct span content; /* borrowed from root; may be empty */
	bool finished;       /* a finish_reason was given: the answer is whole */
	bool has_usage;      /* the next two are given */
	bool only_usage;     /* and nothing else is: it was sent since usage was asked for */
	uint32_t prompt_tokens;
	uint32_t completion_tokens;
	json_t *root;
};

/* Take an event, which has data, apart; chat_event_free() the result. half: the first half of a character that the
 * previous events left (surrogate.h), 0 at first; kept by the caller from event to event. */
void chat_event_parse(struct chat_event *event, const struct sse_event *sse, uint16_t *half);
void chat_event_free(struct chat_event *event);

#endif
