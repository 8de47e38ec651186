/* SPDX-License-Identifier: Apache-2.0
 *
 * SSE: an incremental parser of server-sent events, as an upstream sends them. Takes any legal form in pieces of any
 * size: lines that end in CR, LF or CRLF, several data lines, comments, a byte order mark. Holds memory only
 * while an event is incomplete, and never more than SSE_EVENT_MAX for it.
 */
#ifndef HANDOFFD_STREAMER_SSE_H
#define HANDOFFD_STREAMER_SSE_H

#include "text.h"

#define SSE_EVENT_MAX ((size_t)256 * 1024) /* longest line, and longest data of one event */
#define SSE_NAME_MAX  31                   /* longer event names are cut */

struct sse {
	struct text line; /* a line whose end has not come yet */
	struct text data; /* data of the event so far */
	char name[SSE_NAME_MAX + 1];
	bool has_data;
	bool after_cr; /* an LF that comes next belongs to the line that has ended */
	bool started;  /* the first line has been seen */
};

/* One event: its name ("" when it has none) and its data. The data is valid during the call only.
 * Anything but 0 ends sse_feed(), which returns it. */
typedef int sse_event(void *user, const char *name, struct span data);

/* Parse a piece. Returns 0, what the callback returned, -EMSGSIZE for a line or event that is too long, or -ENOMEM;
 * after anything but 0 only sse_free() may follow. */
int sse_feed(struct sse *sse, struct span piece, sse_event *event, void *user);

void sse_free(struct sse *sse);

#endif
