/* SPDX-License-Identifier: Apache-2.0
 *
 * Text: see text.h.
 */
#include "text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define TEXT_SMALLEST 128

/* Room for len more bytes; false, and failed set, when there is none. */
static bool reserve(struct text *text, size_t len)
{
	size_t capacity = text->capacity < TEXT_SMALLEST ? TEXT_SMALLEST : text->capacity;
	char *data;

	if (text->failed || len > SIZE_MAX / 4 - text->len) {
		text->failed = true;
		return false;
	}
	if (text->len + len <= text->capacity)
		return true;
	while (capacity < text->len + len)
		capacity *= 2;
	data = realloc(text->data, capacity);
	if (data == NULL) {
		text->failed = true;
		return false;
	}
	text->data = data;
	text->capacity = capacity;
	return true;
}

void text_add(struct text *text, const void *data, size_t len)
{
	if (len == 0 || !reserve(text, len))
		return;
	memcpy(text->data + text->len, data, len);
	text->len += len;
}

void text_add_span(struct text *text, struct span span)
{
	text_add(text, span.data, span.len);
}

void text_add_string(struct text *text, const char *string)
{
	text_add(text, string, strlen(string));
}

void text_add_format(struct text *text, const char *format, ...)
{
	char piece[256];
	va_list arguments;
	int len;

	va_start(arguments, format);
	len = vsnprintf(piece, sizeof(piece), format, arguments);
	va_end(arguments);
	if (len < 0 || (size_t)len >= sizeof(piece)) {
		text->failed = true;
		return;
	}
	text_add(text, piece, (size_t)len);
}

/* What a byte must become inside a JSON string; NULL when it stays. */
static const char *json_escape(uint8_t c, char unicode[7])
{
	switch (c) {
	case '"':
		return "\\\"";
	case '\\':
		return "\\\\";
	case '\b':
		return "\\b";
	case '\f':
		return "\\f";
	case '\n':
		return "\\n";
	case '\r':
		return "\\r";
	case '\t':
		return "\\t";
	default:
		if (c >= 0x20)
			return NULL;
		snprintf(unicode, 7, "\\u%04x", (unsigned)c);
		return unicode;
	}
}

void text_add_json(struct text *text, struct span utf8)
{
	char unicode[7];
	size_t start = 0;

	for (size_t i = 0; i < utf8.len; i++) {
		const char *escape = json_escape(utf8.data[i], unicode);

		if (escape == NULL)
			continue;
		text_add(text, utf8.data + start, i - start);
		text_add_string(text, escape);
		start = i + 1;
	}
	text_add(text, utf8.data + start, utf8.len - start);
}

bool text_ok(const struct text *text)
{
	return !text->failed;
}

struct span text_span(const struct text *text)
{
	return span_of(text->data, text->len);
}

void text_reset(struct text *text, size_t keep)
{
	if (text->capacity > keep)
		text_free(text);
	text->len = 0;
	text->failed = false;
}

void text_free(struct text *text)
{
	free(text->data);
	*text = (struct text){0};
}
