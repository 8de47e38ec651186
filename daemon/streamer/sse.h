/* SPDX-License-Identifier: Apache-2.0
 *
 * SSE: an incremental parser of server-sent events, as an upstream sends them. Takes any legal form in pieces of any
 * size: lines that end in CR, LF or CRLF, several data lines, comments, a byte order mark. Holds memory only
 * while an event is incomplete, and never more than SSE_EVENT_MAX for it.
 */
#ifndef HANDOFFD_STREAMER_SSE_H
#define HANDOFFD_STREAMER_SSE_H

#include "text.h"

#define SSE_EVENT_MAX  ((size_t)256 * 1024) /* longest line, and longest data of one event */
#define SSE_FIELDS_MAX ((size_t)1024)       /* longest name, and longest id and retry lines, of one event */

struct sse {
	struct text line;   /* a line whose end has not come yet */
	struct text data;   /* of the event so far, as the next two */
	struct text name;   /* without memory in the usual case that events have none */
	struct text fields; /* the same */
	bool has_data;
	bool after_cr; /* an LF that comes next belongs to the line that has ended */
	bool started;  /* the first line has been seen */
};

struct sse_event {
	struct span name;   /* empty: none */
	struct span fields; /* its id and retry lines as they go into a stream, each ended by LF; mostly none */
	struct span data;
	bool has_data; /* without it there are fields: a client heeds them, and sees no event */
};

/* One event, valid during the call only. Anything but 0 ends sse_feed(), which returns it. */
typedef int sse_take(void *user, const struct sse_event *event);

/* Parse a piece. Returns 0, what the callback returned, -EMSGSIZE for a line or event that is too long, or -ENOMEM;
 * after anything but 0 only sse_free() may follow. */
int sse_feed(struct sse *sse, struct span piece, sse_take *take, void *user);

/* Add the event to a stream: each line of its data a line, each line ended by LF, no comments. */
void sse_write(struct text *out, const struct sse_event *event);

void sse_free(struct sse *sse);

#endif
