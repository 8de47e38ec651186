/* SPDX-License-Identifier: Apache-2.0
 *
 * Head: the response head as the client gets it. Framing, connection and caching are the streamer's; the
 * application's other header lines travel as they are (wire_request_parse() has checked them).
 */
#ifndef HANDOFFD_STREAMER_HEAD_H
#define HANDOFFD_STREAMER_HEAD_H

#include <time.h>

#include "text.h"

#define HEAD_EVENT_STREAM "text/event-stream; charset=utf-8"
#define HEAD_PLAIN_TEXT   "text/plain; charset=utf-8"
#define HEAD_JSON         "application/json; charset=utf-8"

struct head {
	unsigned status;
	const char *content_type; /* NULL: the lines say it, and the answer is all theirs */
	struct span application;  /* header lines of the application, each Name: value CR LF */
	time_t now;
	int64_t content_length; /* -1: not known */
	bool chunked;           /* Transfer-Encoding: chunked */
	bool relay;             /* as lib/wire.h has it, for httpd, which decides about date, framing and connection */
	uint32_t retry_after;   /* seconds, 0: none */
};

void head_write(struct text *out, const struct head *head);

/* The application's status where a stream can have it, else 200. */
unsigned head_stream_status(unsigned application_status);

#endif
