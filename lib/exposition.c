/* SPDX-License-Identifier: Apache-2.0
 *
 * Exposition: see exposition.h.
 */
#include "exposition.h"

#include <errno.h>

static bool is_name(struct span text)
{
	for (size_t i = 0; i < text.len; i++) {
		uint8_t c = text.data[i];
		bool digit = c >= '0' && c <= '9';

		if (!((c | 0x20) >= 'a' && (c | 0x20) <= 'z') && c != '_' && !(digit && i > 0))
			return false;
	}
	return text.len > 0;
}

static bool is_printable(struct span text)
{
	for (size_t i = 0; i < text.len; i++)
		if (text.data[i] < 0x20 || text.data[i] > 0x7e)
			return false;
	return true;
}

static size_t count_digits(struct span text)
{
	size_t n = 0;

	while (n < text.len && text.data[n] >= '0' && text.data[n] <= '9')
		n++;
	return n;
}

/* Digits, perhaps a point and more digits; no leading zero, so that it is a number in JSON too. */
static bool is_number(struct span text)
{
	size_t whole = count_digits(text);

	if (whole == 0 || (whole > 1 && text.data[0] == '0') || text.len > 40)
		return false;
	if (whole == text.len)
		return true;
	struct span fraction = span_of(text.data + whole + 1, text.len - whole - 1);
	return text.data[whole] == '.' && fraction.len > 0 && count_digits(fraction) == fraction.len;
}

/* Split text at the first c. Returns whether there is one; *rest is what follows it. */
static bool split(struct span text, uint8_t c, struct span *before, struct span *rest)
{
	const uint8_t *at = text.len > 0 ? memchr(text.data, c, text.len) : NULL;

	if (!at)
		return false;
	*before = span_of(text.data, (size_t)(at - text.data));
	*rest = span_of(at + 1, text.len - before->len - 1);
	return true;
}

int exposition_label(struct span *labels, struct span *name, struct span *value)
{
	struct span rest;
	size_t i = 1;

	if (labels->len == 0)
		return 0;
	if (!split(*labels, '=', name, &rest) || !is_name(*name) || rest.len < 2 || rest.data[0] != '"')
		return -EBADMSG;
	while (i < rest.len && rest.data[i] != '"') {
		if (rest.data[i] == '\\') {
			i++;
			if (i == rest.len || !memchr("\\\"n", rest.data[i], 3))
				return -EBADMSG;
		}
		i++;
	}
	if (i >= rest.len)
		return -EBADMSG;
	*value = span_of(rest.data + 1, i - 1);
	*labels = span_of(rest.data + i + 1, rest.len - i - 1);
	if (labels->len == 0)
		return 1;
	/* Another one must follow the comma. */
	if (labels->data[0] != ',' || labels->len == 1)
		return -EBADMSG;
	*labels = span_of(labels->data + 1, labels->len - 1);
	return 1;
}

/* Everything up to the brace that ends the labels: one within quotes does not. Returns its position, or 0. */
static size_t labels_end(struct span text)
{
	bool quoted = false;

	for (size_t i = 0; i < text.len; i++) {
		if (quoted && text.data[i] == '\\')
			i++;
		else if (text.data[i] == '"')
			quoted = !quoted;
		else if (text.data[i] == '}' && !quoted)
			return i;
	}
	return 0;
}

static bool parse_sample(struct span text, struct exposition_line *line)
{
	struct span name, value, rest;
	size_t n = 0;

	line->kind = EXPOSITION_SAMPLE;
	while (n < text.len && text.data[n] != ' ' && text.data[n] != '{')
		n++;
	if (n == text.len)
		return false;
	line->name = span_of(text.data, n);
	rest = span_of(text.data + n + 1, text.len - n - 1);
	line->labels = SPAN_EMPTY;
	if (text.data[n] == '{') {
		n = labels_end(rest);
		if (n == 0 || rest.len < n + 2 || rest.data[n + 1] != ' ')
			return false;
		line->labels = span_of(rest.data, n);
		rest = span_of(rest.data + n + 2, rest.len - n - 2);
	}
	for (struct span labels = line->labels; labels.len > 0;)
		if (exposition_label(&labels, &name, &value) != 1)
			return false;
	line->value = rest;
	return is_name(line->name) && is_number(rest);
}

static bool begins(struct span *text, const char *prefix)
{
	size_t len = strlen(prefix);

	if (text->len < len || memcmp(text->data, prefix, len) != 0)
		return false;
	*text = span_of(text->data + len, text->len - len);
	return true;
}

static bool parse_comment(struct span text, struct exposition_line *line)
{
	if (begins(&text, "# HELP "))
		line->kind = EXPOSITION_HELP;
	else if (begins(&text, "# TYPE "))
		line->kind = EXPOSITION_TYPE;
	else
		return false;
	line->labels = SPAN_EMPTY;
	if (!split(text, ' ', &line->name, &line->value) || !is_name(line->name))
		return false;
	if (line->kind == EXPOSITION_HELP)
		return !memchr(line->value.data, '\\', line->value.len);
	return span_equal_string(line->value, "counter") || span_equal_string(line->value, "gauge") ||
	       span_equal_string(line->value, "histogram");
}

int exposition_next(struct span *text, struct exposition_line *line)
{
	struct span one;

	if (text->len == 0)
		return 0;
	/* Each line has its end: the last one is whole too. */
	if (!split(*text, '\n', &one, text) || one.len == 0 || !is_printable(one))
		return -EBADMSG;
	bool right = one.data[0] == '#' ? parse_comment(one, line) : parse_sample(one, line);
	return right ? 1 : -EBADMSG;
}
