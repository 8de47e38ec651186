/* SPDX-License-Identifier: Apache-2.0
 *
 * Handler head: what a handler's program writes in front of its body, as HTTP/1.x has it or as CGI does. Read strictly:
 * names are tokens, values hold no control byte but TAB, no line is continued on the next, what may be there once is
 * there once, and a length that could be meant in two ways is an error. Lines end in CR LF or in LF, as programs write
 * them; what the client gets is put together anew.
 */
#ifndef HANDOFFD_STREAMER_HANDLER_HEAD_H
#define HANDOFFD_STREAMER_HANDLER_HEAD_H

#include "text.h"

#define HANDLER_HEAD_MAX   ((size_t)65536)
#define HANDLER_FIELDS_MAX 256

enum handler_head_form { HANDLER_HEAD_HTTP, HANDLER_HEAD_CGI };

struct handler_head {
	unsigned status;        /* 200 to 599 */
	struct text lines;      /* for the client, each Name: value CR LF, none of wire_answer_header_forbidden() */
	int64_t content_length; /* of the body, -1: not said */
	bool chunked;           /* the body comes in chunks */
	bool bodiless;          /* 204, 304: there is none, whatever else the head says */
};

/* Length of the head that these bytes begin with, its empty line included; 0: its end is not among them. The first
 * `seen` bytes have been looked at before. */
size_t handler_head_length(struct span bytes, size_t seen);

/* Take a whole head apart. NULL, or what is wrong (static storage; holds nothing of the program's). head->lines is to
 * be freed in both cases. */
const char *handler_head_parse(struct span bytes, enum handler_head_form form, struct handler_head *head);

#endif
