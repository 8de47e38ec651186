/* SPDX-License-Identifier: Apache-2.0
 *
 * Handler log: what a handler's program writes to its standard error, as log lines: each line one event, escaped, at
 * most HANDLER_LOG_LINE_MAX bytes of it; at most HANDLER_LOG_LINES_MAX of them a second, then one event that says how
 * many there were more.
 */
#ifndef HANDOFFD_STREAMER_HANDLER_LOG_H
#define HANDOFFD_STREAMER_HANDLER_LOG_H

#include "text.h"

#define HANDLER_LOG_LINE_MAX  1024u
#define HANDLER_LOG_LINES_MAX 50u

struct handler_log {
	const char *handler; /* its name */
	uint64_t id;         /* of the stream */
	struct text line;    /* whose end has not come yet */
	bool cut;            /* it was longer */
	int64_t second;      /* that the next are counted in */
	unsigned lines;
	uint64_t dropped;
};

/* now_ms: clock_ms(). */
void handler_log_feed(struct handler_log *log, struct span piece, int64_t now_ms);
/* There is no more; frees what it holds. */
void handler_log_end(struct handler_log *log, int64_t now_ms);

#endif
