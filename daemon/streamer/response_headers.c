/* SPDX-License-Identifier: Apache-2.0
 *
 * Response headers: see response_headers.h.
 */
#include "response_headers.h"

#include <errno.h>
#include <strings.h>

#include "lib/wire.h"

static void add_line(struct text *out, const char *name, const json_t *value)
{
	text_add_string(out, name);
	text_add_string(out, ": ");
	text_add(out, json_string_value(value), json_string_length(value));
	text_add_string(out, "\r\n");
}

static const char *check_field(const char *name, const json_t *value, struct text *line)
{
	if (!json_is_string(value))
		return "a value in response_headers is not a string";
	/* Of valid lines there could be two. */
	if (strpbrk(name, "\r\n") != NULL || strpbrk(json_string_value(value), "\r\n") != NULL)
		return "a name or value in response_headers holds a line end";
	if (wire_header_forbidden(span_of_string(name)))
		return "response_headers names a header that is not the application's to set";
	text_reset(line, SIZE_MAX);
	add_line(line, name, value);
	return text_ok(line) && wire_headers_valid(text_span(line)) ? NULL
	                                                            : "response_headers holds an invalid name or value";
}

const char *response_headers_check(json_t *fields)
{
	const char *wrong = NULL, *name, *other;
	struct text line = {0};
	json_t *value;

	if (!json_is_object(fields))
		return "response_headers is not an object";
	if (json_object_size(fields) > RESPONSE_HEADERS_FIELDS_MAX)
		return "response_headers has more than 64 fields";
	json_object_foreach(fields, name, value)
	{
		wrong = check_field(name, value, &line);
		for (void *i = json_object_iter(fields); i != NULL && wrong == NULL;
		     i = json_object_iter_next(fields, i)) {
			other = json_object_iter_key(i);
			if (other != name && strcasecmp(name, other) == 0)
				wrong = "response_headers names a header twice";
		}
		if (wrong != NULL)
			break;
	}
	text_free(&line);
	return wrong;
}

/* The first of these lines, which moves to the next. */
static struct span take_line(struct span *lines)
{
	const uint8_t *end = memchr(lines->data, '\n', lines->len);
	struct span line = span_of(lines->data, (size_t)(end - lines->data) + 1);

	*lines = span_of(lines->data + line.len, lines->len - line.len);
	return line;
}

static struct span name_of(struct span line)
{
	const uint8_t *colon = memchr(line.data, ':', line.len);

	return span_of(line.data, (size_t)(colon - line.data));
}

static bool name_is(struct span name, struct span other)
{
	return name.len == other.len && strncasecmp((const char *)name.data, (const char *)other.data, name.len) == 0;
}

/* Whether a field takes the place of the application's. */
static bool is_replaced(struct span own_name, json_t *fields)
{
	const char *name;
	json_t *value;

	json_object_foreach(fields, name, value)
	{
		if (name_is(own_name, span_of_string(name)))
			return strcasecmp(name, "Set-Cookie") != 0;
	}
	return false;
}

/* What was put together is not more than can travel. */
static int check_length(const struct text *out)
{
	if (!text_ok(out))
		return -ENOMEM;
	return out->len <= RESPONSE_HEADERS_MAX ? 0 : -EINVAL;
}

int response_headers_merge(struct span application, json_t *fields, struct text *out)
{
	const char *name;
	json_t *value;

	while (application.len > 0) {
		struct span line = take_line(&application);

		if (!is_replaced(name_of(line), fields))
			text_add_span(out, line);
	}
	json_object_foreach(fields, name, value)
	{
		add_line(out, name, value);
	}
	return check_length(out);
}

/* Whether the application's field has no place in an answer with these lines. */
static bool is_out_of_place(struct span name, struct span answer)
{
	if (name_is(name, SPAN_LITERAL("Content-Type")) || name_is(name, SPAN_LITERAL("Date")))
		return true;
	if (name_is(name, SPAN_LITERAL("Set-Cookie")))
		return false;
	while (answer.len > 0)
		if (name_is(name, name_of(take_line(&answer))))
			return true;
	return false;
}

int response_headers_replace(struct span application, struct span answer, struct text *out)
{
	while (application.len > 0) {
		struct span line = take_line(&application);

		if (!is_out_of_place(name_of(line), answer))
			text_add_span(out, line);
	}
	text_add_span(out, answer);
	return check_length(out);
}
