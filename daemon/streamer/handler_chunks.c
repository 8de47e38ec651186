/* SPDX-License-Identifier: Apache-2.0
 *
 * Handler chunks: see handler_chunks.h.
 */
#include "handler_chunks.h"

#include <errno.h>

#define SIZE_DIGITS 15

enum { AT_SIZE, IN_EXTENSION, AT_SIZE_LF, IN_DATA, AT_DATA_CR, AT_DATA_LF, IN_TRAILER, AT_TRAILER_LF, AT_END };

static int digit_of(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int take_size(struct handler_chunks *chunks, uint8_t c)
{
	int digit = digit_of(c);

	if (digit >= 0) {
		chunks->left = chunks->left << 4 | (uint64_t)digit;
		return ++chunks->digits <= SIZE_DIGITS ? AT_SIZE : -EBADMSG;
	}
	if (chunks->digits == 0)
		return -EBADMSG;
	if (c == '\r')
		return AT_SIZE_LF;
	return c == ';' || c == ' ' || c == '\t' ? IN_EXTENSION : -EBADMSG;
}

/* One more byte of what nobody gets. */
static int ignore(struct handler_chunks *chunks, uint8_t c, int state)
{
	if (++chunks->ignored > HANDLER_CHUNK_LINES_MAX || (c < 0x20 && c != '\t') || c == 0x7f)
		return -EBADMSG;
	return state;
}

/* A byte outside of the data; the state behind it, or -EBADMSG. */
static int take_byte(struct handler_chunks *chunks, uint8_t c)
{
	switch (chunks->state) {
	case AT_SIZE:
		return take_size(chunks, c);
	case IN_EXTENSION:
		return c == '\r' ? AT_SIZE_LF : ignore(chunks, c, IN_EXTENSION);
	case AT_SIZE_LF:
		chunks->digits = 0;
		chunks->line_is_empty = true;
		if (c != '\n')
			return -EBADMSG;
		return chunks->left > 0 ? IN_DATA : IN_TRAILER;
	case AT_DATA_CR:
		return c == '\r' ? AT_DATA_LF : -EBADMSG;
	case AT_DATA_LF:
		return c == '\n' ? AT_SIZE : -EBADMSG;
	case IN_TRAILER:
		if (c == '\r')
			return AT_TRAILER_LF;
		chunks->line_is_empty = false;
		return ignore(chunks, c, IN_TRAILER);
	default: /* AT_TRAILER_LF */
		if (c != '\n')
			return -EBADMSG;
		if (chunks->line_is_empty)
			return AT_END;
		chunks->line_is_empty = true;
		return IN_TRAILER;
	}
}

int handler_chunks_next(struct handler_chunks *chunks, struct span *input, struct span *body)
{
	while (input->len > 0 && chunks->state != AT_END) {
		int state;

		if (chunks->state == IN_DATA) {
			*body = span_of(input->data, chunks->left < input->len ? (size_t)chunks->left : input->len);
			*input = span_of(input->data + body->len, input->len - body->len);
			chunks->left -= body->len;
			chunks->state = chunks->left > 0 ? IN_DATA : AT_DATA_CR;
			return 1;
		}
		state = take_byte(chunks, input->data[0]);
		if (state < 0)
			return state;
		chunks->state = (uint8_t)state;
		*input = span_of(input->data + 1, input->len - 1);
	}
	return 0;
}

bool handler_chunks_ended(const struct handler_chunks *chunks)
{
	return chunks->state == AT_END;
}
