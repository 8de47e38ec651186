/* SPDX-License-Identifier: Apache-2.0
 *
 * Answer: what one client has got so far of a stream, checked byte by byte: the status line, the chunks (or the pieces
 * of a relay), and the body against the one that all streams have but for the prompt in it.
 */
#ifndef BENCH_ANSWER_H
#define BENCH_ANSWER_H

#include "lib/bytes.h"
#include "lib/wire.h"

#define PROMPT_LEN 16

/* The body of a whole stream. PROMPT_LEN bytes of it are the prompt's, at prompt_at. */
struct body {
	uint8_t *bytes;
	size_t len;
	size_t prompt_at;
	size_t first_line; /* bytes up to the end of the first line with data */
};

enum answer_step { ANSWER_HEAD, ANSWER_SIZE, ANSWER_PIECE, ANSWER_PIECE_END, ANSWER_LAST, ANSWER_WHOLE, ANSWER_WRONG };

struct answer {
	struct wire_pieces pieces; /* of a relay */
	uint32_t left;             /* of the chunk */
	uint32_t body_len;         /* how much of the body has come */
	uint16_t head_len;
	uint8_t step; /* enum answer_step */
	uint8_t matched;
	bool relayed;
	char prompt[PROMPT_LEN];
};

/* The body in a file, in which the prompt is PROMPT_LEN times '#'. 0 or -1. */
int body_load(struct body *body, const char *file);

/* Take the next bytes; answer->step says what came of it. */
void answer_take(struct answer *answer, const struct body *body, const uint8_t *bytes, size_t len);

#endif
