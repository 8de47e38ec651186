/* SPDX-License-Identifier: Apache-2.0
 *
 * Chat event: one event of a streamed chat completion, as OpenAI and the many compatible services send it.
 */
#ifndef HANDOFFD_STREAMER_CHAT_EVENT_H
#define HANDOFFD_STREAMER_CHAT_EVENT_H

#include <jansson.h>

#include "lib/bytes.h"

enum chat_event_kind {
	CHAT_EVENT_NOTHING, /* of no interest: roles, usage, tool calls */
	CHAT_EVENT_CONTENT,
	CHAT_EVENT_DONE, /* [DONE] */
	CHAT_EVENT_ERROR,
	CHAT_EVENT_INVALID, /* not JSON, or not an object */
};

struct chat_event {
	enum chat_event_kind kind;
	struct span content; /* borrowed from root */
	bool finished;       /* a finish_reason was given: the answer is whole */
	json_t *root;
};

/* Take the data of an event apart; chat_event_free() the result. */
void chat_event_parse(struct chat_event *event, const char *name, struct span data);
void chat_event_free(struct chat_event *event);

#endif
