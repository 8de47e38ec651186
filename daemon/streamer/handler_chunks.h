/* SPDX-License-Identifier: Apache-2.0
 *
 * Handler chunks: the chunked body of an HTTP/1.1 response, as RFC 9112 7.1 has it and no other way: lines end in CR
 * LF. Extensions are passed over and trailers dropped; both have their limit.
 */
#ifndef HANDOFFD_STREAMER_HANDLER_CHUNKS_H
#define HANDOFFD_STREAMER_HANDLER_CHUNKS_H

#include "lib/bytes.h"

#define HANDLER_CHUNK_LINES_MAX 65536 /* bytes of extensions and trailers, of a whole body */

/* How far a body was read; all zero before its first byte. */
struct handler_chunks {
	uint64_t left;    /* of the chunk */
	uint32_t ignored; /* bytes of extensions and trailers so far */
	uint8_t state;
	uint8_t digits;     /* of the size */
	bool line_is_empty; /* a trailer's, so far */
};

/* Take the next bytes of the body out of input, which moves past them. 1 with a span that borrows from input; 0 when
 * input is used up, or at the end of the body, see below; -EBADMSG. */
int handler_chunks_next(struct handler_chunks *chunks, struct span *input, struct span *body);

/* Whether the body has ended. What is left of input then is not its. */
bool handler_chunks_ended(const struct handler_chunks *chunks);

#endif
