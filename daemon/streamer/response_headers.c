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

/* Whether a field takes the place of the application's line. */
static bool is_replaced(struct span line, json_t *fields)
{
	const uint8_t *colon = memchr(line.data, ':', line.len);
	size_t len = (size_t)(colon - line.data);
	const char *name;
	json_t *value;

	json_object_foreach(fields, name, value)
	{
		if (strlen(name) == len && strncasecmp(name, (const char *)line.data, len) == 0)
			return strcasecmp(name, "Set-Cookie") != 0;
	}
	return false;
}

int response_headers_merge(struct span application, json_t *fields, struct text *out)
{
	struct span rest = application;
	const char *name;
	json_t *value;

	while (rest.len > 0) {
		const uint8_t *end = memchr(rest.data, '\n', rest.len);
		struct span line = span_of(rest.data, (size_t)(end - rest.data) + 1);

		rest = span_of(rest.data + line.len, rest.len - line.len);
		if (!is_replaced(line, fields))
			text_add_span(out, line);
	}
	json_object_foreach(fields, name, value)
	{
		add_line(out, name, value);
	}
	if (!text_ok(out))
		return -ENOMEM;
	return out->len <= RESPONSE_HEADERS_MAX ? 0 : -EINVAL;
}
