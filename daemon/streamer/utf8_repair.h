/* SPDX-License-Identifier: Apache-2.0
 *
 * UTF-8 repair: makes valid UTF-8 of bytes that come in pieces of any size. A character that is cut between two pieces
 * is put together again; what is none becomes U+FFFD.
 */
#ifndef HANDOFFD_STREAMER_UTF8_REPAIR_H
#define HANDOFFD_STREAMER_UTF8_REPAIR_H

#include "text.h"

/* All zero at the start. */
struct utf8_repair {
	uint8_t cut[4]; /* the beginning of a character, at most three bytes between two calls */
	uint8_t n_cut;
};

/* The piece, valid: itself where there is nothing to mend, else put together in room. But for a character that is cut
 * at its end, which the next piece may complete. room tells when memory runs out. */
struct span utf8_repair_piece(struct utf8_repair *repair, struct span piece, struct text *room);

/* At the end: what a character that was cut becomes, empty when there is none. Static storage. */
struct span utf8_repair_end(struct utf8_repair *repair);

#endif
