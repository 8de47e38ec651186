/* SPDX-License-Identifier: Apache-2.0
 *
 * SSE: see sse.h. A line that lies whole in the piece is parsed where it is; only what a piece leaves
 * unfinished is copied.
 */
#include "sse.h"

#include <errno.h>

static int dispatch(struct sse *sse, sse_take *take, void *user)
{
	struct sse_event event = {.name = text_span(&sse->name),
	                          .fields = text_span(&sse->fields),
	                          .data = text_span(&sse->data),
	                          .has_data = sse->has_data};
	int rc = 0;

	if (event.has_data || event.fields.len > 0)
		rc = take(user, &event);
	sse->has_data = false;
	text_free(&sse->data);
	text_free(&sse->name);
	text_free(&sse->fields);
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

static int set_name(struct sse *sse, struct span value)
{
	if (value.len > SSE_FIELDS_MAX)
		return -EMSGSIZE;
	text_reset(&sse->name, SSE_FIELDS_MAX);
	text_add_span(&sse->name, value);
	return text_ok(&sse->name) ? 0 : -ENOMEM;
}

/* Those that a client would ignore are left out: an id with a NUL, a retry that is no number. */
static bool field_counts(struct span name, struct span value)
{
	if (span_equal(name, SPAN_LITERAL("id")))
		return value.len == 0 || memchr(value.data, '\0', value.len) == NULL;
	for (size_t i = 0; i < value.len; i++)
		if (value.data[i] < '0' || value.data[i] > '9')
			return false;
	return value.len > 0;
}

static int add_field(struct sse *sse, struct span name, struct span value)
{
	if (!field_counts(name, value))
		return 0;
	if (name.len + value.len + 3 > SSE_FIELDS_MAX - sse->fields.len)
		return -EMSGSIZE;
	text_add_span(&sse->fields, name);
	text_add(&sse->fields, ": ", 2);
	text_add_span(&sse->fields, value);
	text_add(&sse->fields, "\n", 1);
	return text_ok(&sse->fields) ? 0 : -ENOMEM;
}

/* One line without its end. */
static int take_line(struct sse *sse, struct span line, sse_take *take, void *user)
{
	const uint8_t *colon;
	struct span name = line;
	struct span value = SPAN_EMPTY;

	if (!sse->started && line.len >= 3 && memcmp(line.data, "\xef\xbb\xbf", 3) == 0)
		name = line = span_of(line.data + 3, line.len - 3);
	sse->started = true;
	if (line.len == 0)
		return dispatch(sse, take, user);
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
		return set_name(sse, value);
	if (span_equal(name, SPAN_LITERAL("id")) || span_equal(name, SPAN_LITERAL("retry")))
		return add_field(sse, name, value);
	return 0; /* comments (no name) and unknown fields */
}

/* The rest of a line that began in an earlier piece. */
static int take_continued_line(struct sse *sse, struct span rest, sse_take *take, void *user)
{
	int rc;

	text_add_span(&sse->line, rest);
	if (!text_ok(&sse->line))
		return -ENOMEM;
	rc = take_line(sse, text_span(&sse->line), take, user);
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

int sse_feed(struct sse *sse, struct span piece, sse_take *take, void *user)
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
		rc = sse->line.len > 0 ? take_continued_line(sse, line, take, user) : take_line(sse, line, take, user);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static struct span line_of(struct span text)
{
	const uint8_t *end = text.len > 0 ? memchr(text.data, '\n', text.len) : NULL;

	return span_of(text.data, end == NULL ? text.len : (size_t)(end - text.data));
}

void sse_write(struct text *out, const struct sse_event *event)
{
	struct span rest = event->data;

	if (event->name.len > 0) {
		text_add_string(out, "event: ");
		text_add_span(out, event->name);
		text_add(out, "\n", 1);
	}
	text_add_span(out, event->fields);
	for (bool more = event->has_data; more;) {
		struct span line = line_of(rest);

		text_add_string(out, "data: ");
		text_add_span(out, line);
		text_add(out, "\n", 1);
		more = line.len < rest.len;
		if (more)
			rest = span_of(rest.data + line.len + 1, rest.len - line.len - 1);
	}
	text_add(out, "\n", 1);
}

void sse_free(struct sse *sse)
{
	text_free(&sse->line);
	text_free(&sse->data);
	text_free(&sse->name);
	text_free(&sse->fields);
}
