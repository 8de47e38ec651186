/* SPDX-License-Identifier: Apache-2.0
 *
 * Text: a growing byte buffer. Running out of memory is remembered instead of reported each time: write what belongs
 * together, then ask text_ok() once.
 */
#ifndef HANDOFFD_STREAMER_TEXT_H
#define HANDOFFD_STREAMER_TEXT_H

#include "lib/bytes.h"

struct text {
	char *data;
	size_t len;
	size_t capacity;
	bool failed; /* memory ran out: the content is not whole */
};

void text_add(struct text *text, const void *data, size_t len);
void text_add_span(struct text *text, struct span span);
void text_add_string(struct text *text, const char *string);
/* A short piece (at most 256 bytes) in printf's manner. */
__attribute__((format(printf, 2, 3))) void text_add_format(struct text *text, const char *format, ...);

/* The bytes (valid UTF-8) as the inside of a JSON string. Escapes quotes, backslashes and control characters, so the
 * result has neither CR nor LF and fits one line of SSE. */
void text_add_json(struct text *text, struct span utf8);

/* Whether everything that was added is there. */
bool text_ok(const struct text *text);
struct span text_span(const struct text *text);

/* Forget the content; keeps at most keep bytes of memory. */
void text_reset(struct text *text, size_t keep);
/* Forget the content and the memory. */
void text_free(struct text *text);

#endif
