/* SPDX-License-Identifier: Apache-2.0
 *
 * Answer: see answer.h.
 */
#include "answer.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BODY_MAX (64u << 20)

int body_load(struct body *body, const char *file)
{
	static const char mark[] = "################";
	FILE *in = fopen(file, "rb");
	const uint8_t *found, *line;

	*body = (struct body){.bytes = malloc(BODY_MAX)};
	if (in == NULL || body->bytes == NULL)
		return -1;
	body->len = fread(body->bytes, 1, BODY_MAX, in);
	fclose(in);
	found = memmem(body->bytes, body->len, mark, PROMPT_LEN);
	line = memchr(body->bytes, '\n', body->len);
	if (found == NULL || line == NULL)
		return -1;
	body->prompt_at = (size_t)(found - body->bytes);
	body->first_line = (size_t)(line - body->bytes) + 1;
	return 0;
}

static bool range_is_right(const uint8_t *bytes, const uint8_t *expected, size_t at, size_t len, size_t from, size_t to)
{
	size_t begin = at > from ? at : from;
	size_t end = at + len < to ? at + len : to;

	return begin >= end || memcmp(bytes + (begin - at), expected + (begin - from), end - begin) == 0;
}

static void take_body(struct answer *answer, const struct body *body, struct span piece)
{
	size_t at = answer->body_len;
	size_t prompt_end = body->prompt_at + PROMPT_LEN;

	if (piece.len > body->len - at || !range_is_right(piece.data, body->bytes, at, piece.len, 0, body->prompt_at) ||
	    !range_is_right(piece.data, (const uint8_t *)answer->prompt, at, piece.len, body->prompt_at, prompt_end) ||
	    !range_is_right(piece.data, body->bytes + prompt_end, at, piece.len, prompt_end, body->len))
		answer->step = ANSWER_WRONG;
	answer->body_len += (uint32_t)piece.len;
}

static void ended(struct answer *answer, const struct body *body)
{
	if (answer->step != ANSWER_WRONG)
		answer->step = answer->body_len == body->len ? ANSWER_WHOLE : ANSWER_WRONG;
}

/* ---------------------------------------------------------------- HTTP/1.1 */

/* One byte of the head, until the empty line. */
static void take_head(struct answer *answer, uint8_t byte)
{
	static const char start[] = "HTTP/1.1 200 OK\r\n";
	static const char end[] = "\r\n\r\n";

	if (answer->head_len < sizeof(start) - 1 && byte != (uint8_t)start[answer->head_len])
		answer->step = ANSWER_WRONG;
	answer->head_len++;
	answer->matched = byte == (uint8_t)end[answer->matched] ? answer->matched + 1 : byte == '\r';
	if (answer->matched == sizeof(end) - 1) {
		answer->step = ANSWER_SIZE;
		answer->matched = 0;
	}
}

/* One byte of a chunk's size, in lower-case digits without leading zeros, and the line's end. */
static void take_size(struct answer *answer, uint8_t byte)
{
	static const char digits[] = "0123456789abcdef";
	const char *digit = byte == '\0' ? NULL : strchr(digits, byte);

	if (byte == '\n' && answer->matched == 2) {
		answer->step = answer->left > 0 ? ANSWER_PIECE : ANSWER_LAST;
		answer->matched = 0;
	} else if (byte == '\r' && answer->matched == 1) {
		answer->matched = 2;
	} else if (digit != NULL && answer->matched < 2 && answer->left < (1u << 24)) {
		answer->left = answer->left * 16 + (uint32_t)(digit - digits);
		answer->matched = 1;
	} else {
		answer->step = ANSWER_WRONG;
	}
}

/* One byte of the line's end behind a chunk, or behind the last. */
static void take_line_end(struct answer *answer, const struct body *body, uint8_t byte)
{
	if (byte != (uint8_t) "\r\n"[answer->matched])
		answer->step = ANSWER_WRONG;
	else if (answer->matched++ == 0)
		return;
	else if (answer->step == ANSWER_LAST)
		ended(answer, body);
	else
		answer->step = ANSWER_SIZE;
	answer->matched = 0;
}

static void take_chunked(struct answer *answer, const struct body *body, struct span rest)
{
	while (rest.len > 0 && answer->step != ANSWER_WRONG) {
		size_t taken = 1;

		switch ((enum answer_step)answer->step) {
		case ANSWER_HEAD:
			take_head(answer, *rest.data);
			break;
		case ANSWER_SIZE:
			take_size(answer, *rest.data);
			break;
		case ANSWER_PIECE:
			taken = rest.len < answer->left ? rest.len : answer->left;
			take_body(answer, body, span_of(rest.data, taken));
			answer->left -= (uint32_t)taken;
			if (answer->left == 0 && answer->step == ANSWER_PIECE)
				answer->step = ANSWER_PIECE_END;
			break;
		case ANSWER_PIECE_END:
		case ANSWER_LAST:
			take_line_end(answer, body, *rest.data);
			break;
		default: /* nothing comes after the end */
			answer->step = ANSWER_WRONG;
		}
		rest = span_of(rest.data + taken, rest.len - taken);
	}
}

/* ---------------------------------------------------------------- relay */

/* A head comes in one piece here: it is the first thing in an empty socket. */
static void take_relayed(struct answer *answer, const struct body *body, struct span rest)
{
	struct wire_relay_head head;
	struct span piece;
	int rc;

	if (answer->step == ANSWER_HEAD) {
		size_t len = rest.len >= WIRE_HEADER_LEN ? wire_relay_head_length(rest.data) : 0;

		if (len == 0 || len > rest.len || wire_relay_head_parse(span_of(rest.data, len), &head) != 0 ||
		    head.status != 200) {
			answer->step = ANSWER_WRONG;
			return;
		}
		answer->step = ANSWER_PIECE;
		rest = span_of(rest.data + len, rest.len - len);
	}
	while ((rc = wire_pieces_next(&answer->pieces, &rest, &piece)) == 1)
		take_body(answer, body, piece);
	if (rc < 0)
		answer->step = ANSWER_WRONG;
	else if (answer->pieces.ended)
		ended(answer, body);
}

void answer_take(struct answer *answer, const struct body *body, const uint8_t *bytes, size_t len)
{
	if (answer->relayed)
		take_relayed(answer, body, span_of(bytes, len));
	else
		take_chunked(answer, body, span_of(bytes, len));
}
