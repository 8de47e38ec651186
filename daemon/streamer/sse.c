/* SPDX-License-Identifier: Apache-2.0
 *
 * SSE: see sse.h. A line that lies whole in the piece is parsed where it is; only what a piece leaves
 * unfinished is copied.
 */
#include "sse.h"

#include <errno.h>

static int dispatch(struct sse *sse, sse_event *event, void *user)
{
	int rc = 0;

	if (sse->has_data)
		rc = event(user, sse->name, text_span(&sse->data));
	sse->has_data = false;
	sse->name[0] = '\0';
	text_free(&sse->data);
	return rc;
}

static int add_data(struct sse *sse, struct span value)
{
	if (value.len + 1 > SSE_EVENT_MAX - sse->data.len)
		return -EMSGSIZE;
	if (sse->has_data)
		text_add(&sse->data, "\n", 1);
	sse->has_data = true;
	text_add_span(&sse->data, value);
	return text_ok(&sse->data) ? 0 : -ENOMEM;
}

static void set_name(struct sse *sse, struct span value)
{
	size_t len = value.len > SSE_NAME_MAX ? SSE_NAME_MAX : value.len;

	memset(sse->name, 0, sizeof(sse->name));
	if (len > 0)
		memcpy(sse->name, value.data, len);
}

/* One line without its end. */
static int take_line(struct sse *sse, struct span line, sse_event *event, void *user)
{
	const uint8_t *colon;
	struct span name = line;
	struct span value = SPAN_EMPTY;

	if (!sse->started && line.len >= 3 && memcmp(line.data, "\xef\xbb\xbf", 3) == 0)
		name = line = span_of(line.data + 3, line.len - 3);
	sse->started = true;
	if (line.len == 0)
		return dispatch(sse, event, user);
	colon = memchr(line.data, ':', line.len);
	if (colon != NULL) {
		name.len = (size_t)(colon - line.data);
		value = span_of(colon + 1, line.len - name.len - 1);
		if (value.len > 0 && value.data[0] == ' ')
			value = span_of(value.data + 1, value.len - 1);
	}
	if (span_equal(name, SPAN_LITERAL("data")))
		return add_data(sse, value);
	if (span_equal(name, SPAN_LITERAL("event")))
		set_name(sse, value);
	return 0; /* comments (no name), id, retry and unknown fields */
}

/* The rest of a line that began in an earlier piece. */
static int take_continued_line(struct sse *sse, struct span rest, sse_event *event, void *user)
{
	int rc;

	text_add_span(&sse->line, rest);
	if (!text_ok(&sse->line))
		return -ENOMEM;
	rc = take_line(sse, text_span(&sse->line), event, user);
	text_free(&sse->line);
	return rc;
}

static size_t line_end(struct span piece)
{
	size_t i = 0;

	while (i < piece.len && piece.data[i] != '\n' && piece.data[i] != '\r')
		i++;
	return i;
}

int sse_feed(struct sse *sse, struct span piece, sse_event *event, void *user)
{
	while (piece.len > 0) {
		struct span line;
		int rc;

		if (sse->after_cr && piece.data[0] == '\n')
			piece = span_of(piece.data + 1, piece.len - 1);
		sse->after_cr = false;
		line = span_of(piece.data, line_end(piece));
		if (line.len > SSE_EVENT_MAX - sse->line.len)
			return -EMSGSIZE;
		if (line.len == piece.len) {
			text_add_span(&sse->line, line);
			return text_ok(&sse->line) ? 0 : -ENOMEM;
		}
		sse->after_cr = piece.data[line.len] == '\r';
		piece = span_of(piece.data + line.len + 1, piece.len - line.len - 1);
		rc =
		    sse->line.len > 0 ? take_continued_line(sse, line, event, user) : take_line(sse, line, event, user);
		if (rc != 0)
			return rc;
	}
	return 0;
}

void sse_free(struct sse *sse)
{
	text_free(&sse->line);
	text_free(&sse->data);
}
