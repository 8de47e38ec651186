/* SPDX-License-Identifier: Apache-2.0
 *
 * Handler output: what a handler's program writes to its standard output, taken apart piece by piece as its mode has
 * it:
 *
 *     http    a whole response of HTTP/1.x; what comes behind the end of its body is counted and goes nowhere
 *     cgi     header fields, an empty line, the body
 *     text    a body of text; what is not UTF-8 in it is replaced (for the mode sse too)
 *
 * Knows nothing of streams or programs. What is wrong is said once, and nothing may follow it but
 * handler_output_free().
 */
#ifndef HANDOFFD_STREAMER_HANDLER_OUTPUT_H
#define HANDOFFD_STREAMER_HANDLER_OUTPUT_H

#include "handler_chunks.h"
#include "handler_head.h"
#include "utf8_repair.h"

enum handler_form { HANDLER_FORM_HTTP, HANDLER_FORM_CGI, HANDLER_FORM_TEXT };

struct handler_output {
	enum handler_form form;
	enum { HANDLER_AT_HEAD, HANDLER_AT_BODY, HANDLER_AT_END } at;
	struct text room; /* the head so far; text that was mended */
	struct handler_head head;
	struct handler_chunks chunks;
	struct utf8_repair repair;
	uint64_t body;     /* bytes of it so far */
	uint64_t excess;   /* bytes behind its end */
	const char *wrong; /* static storage */
};

enum handler_event {
	HANDLER_MORE, /* input is used up */
	HANDLER_HEAD, /* output->head is there */
	HANDLER_BODY, /* a piece of the body */
	HANDLER_END,  /* the body is whole by its own framing; input is used up */
};

void handler_output_init(struct handler_output *output, enum handler_form form);
void handler_output_free(struct handler_output *output);

/* What comes next in input, which moves past it. HANDLER_BODY gives a piece that is valid until the next call.
 * -EBADMSG: output->wrong says why. */
int handler_output_next(struct handler_output *output, struct span *input, struct span *piece);

/* The output has ended: 0 when it was whole, with the last of its body in *piece, mostly nothing; or -EBADMSG. */
int handler_output_end(struct handler_output *output, struct span *piece);

#endif
