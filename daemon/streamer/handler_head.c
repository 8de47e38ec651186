/* SPDX-License-Identifier: Apache-2.0
 *
 * Handler head: see handler_head.h.
 */
#include "handler_head.h"

#include <strings.h>

#include "lib/wire.h"

#define STATUS_UNKNOWN 0
#define LENGTH_DIGITS  18

/* Those that may be there once. */
enum single { CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING, LOCATION, STATUS, SINGLES };

static const char *const single_names[SINGLES] = {
    [CONTENT_LENGTH] = "Content-Length",
    [CONTENT_TYPE] = "Content-Type",
    [TRANSFER_ENCODING] = "Transfer-Encoding",
    [LOCATION] = "Location",
    [STATUS] = "Status",
};

struct reading {
	enum handler_head_form form;
	struct handler_head *head;
	size_t n_fields;
	bool http_1_0;
	bool seen[SINGLES];
};

size_t handler_head_length(struct span bytes, size_t seen)
{
	/* The end of the line before may have been the last byte, or the CR behind it. */
	size_t i = seen > 2 ? seen - 2 : 0;
	const uint8_t *end;

	for (; i < bytes.len && (end = memchr(bytes.data + i, '\n', bytes.len - i)) != NULL;
	     i = (size_t)(end - bytes.data) + 1) {
		size_t left = bytes.len - (size_t)(end - bytes.data) - 1;

		if (left > 0 && end[1] == '\n')
			return (size_t)(end - bytes.data) + 2;
		if (left > 1 && end[1] == '\r' && end[2] == '\n')
			return (size_t)(end - bytes.data) + 3;
	}
	return 0;
}

/* The next line, without its end. */
static struct span take_line(struct span *rest)
{
	const uint8_t *end = memchr(rest->data, '\n', rest->len);
	size_t len = end == NULL ? rest->len : (size_t)(end - rest->data);
	struct span line = span_of(rest->data, len);

	*rest = span_of(rest->data + len, rest->len - len);
	if (rest->len > 0)
		*rest = span_of(rest->data + 1, rest->len - 1);
	if (line.len > 0 && line.data[line.len - 1] == '\r')
		line.len--;
	return line;
}

static bool is(struct span text, const char *name)
{
	return text.len == strlen(name) && strncasecmp((const char *)text.data, name, text.len) == 0;
}

static bool is_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

/* "200", or "200 a phrase", which is not of interest. STATUS_UNKNOWN when it is something else. */
static unsigned status_of(struct span text)
{
	if (text.len < 3 || !is_digit(text.data[0]) || !is_digit(text.data[1]) || !is_digit(text.data[2]))
		return STATUS_UNKNOWN;
	if ((text.len > 3 && text.data[3] != ' ') || !wire_header_value_valid(text))
		return STATUS_UNKNOWN;
	return (unsigned)(text.data[0] - '0') * 100 + (unsigned)(text.data[1] - '0') * 10 +
	       (unsigned)(text.data[2] - '0');
}

static const char *take_status_line(struct reading *reading, struct span line)
{
	if (line.len < 9 || memcmp(line.data, "HTTP/1.", 7) != 0 || (line.data[7] != '0' && line.data[7] != '1') ||
	    line.data[8] != ' ')
		return "the output does not begin with a status line of HTTP/1.0 or HTTP/1.1";
	reading->http_1_0 = line.data[7] == '0';
	reading->head->status = status_of(span_of(line.data + 9, line.len - 9));
	return reading->head->status == STATUS_UNKNOWN ? "the status line has no status" : NULL;
}

/* Digits and nothing else; -1 when it is something else. */
static int64_t length_of(struct span text)
{
	int64_t length = 0;

	if (text.len == 0 || text.len > LENGTH_DIGITS)
		return -1;
	for (size_t i = 0; i < text.len; i++) {
		if (!is_digit(text.data[i]))
			return -1;
		length = length * 10 + (text.data[i] - '0');
	}
	return length;
}

static const char *take_single(struct reading *reading, enum single single, struct span value)
{
	struct handler_head *head = reading->head;

	if (reading->seen[single])
		return "a header that may occur once occurs twice";
	reading->seen[single] = true;
	if (single == CONTENT_LENGTH) {
		head->content_length = length_of(value);
		return head->content_length < 0 ? "Content-Length is not a number" : NULL;
	}
	if (single == TRANSFER_ENCODING) {
		head->chunked = true;
		if (reading->form == HANDLER_HEAD_CGI)
			return "Transfer-Encoding is not a CGI program's to set";
		return is(value, "chunked") ? NULL : "Transfer-Encoding is something else than chunked";
	}
	if (single == STATUS && reading->form == HANDLER_HEAD_CGI) {
		head->status = status_of(value);
		return head->status == STATUS_UNKNOWN ? "Status is not a status" : NULL;
	}
	return NULL;
}

static struct span trim(struct span text)
{
	while (text.len > 0 && (text.data[0] == ' ' || text.data[0] == '\t'))
		text = span_of(text.data + 1, text.len - 1);
	while (text.len > 0 && (text.data[text.len - 1] == ' ' || text.data[text.len - 1] == '\t'))
		text.len--;
	return text;
}

/* The connection is the streamer's, and so are the date and, in CGI, what stands for the status line. */
static bool is_for_client(const struct reading *reading, struct span name)
{
	return !wire_answer_header_forbidden(name) && !is(name, "Date") &&
	       !(reading->form == HANDLER_HEAD_CGI && is(name, "Status"));
}

static const char *take_field(struct reading *reading, struct span line)
{
	const uint8_t *colon = line.len > 0 ? memchr(line.data, ':', line.len) : NULL;
	struct text *lines = &reading->head->lines;
	struct span name, value;
	const char *wrong = NULL;

	if (++reading->n_fields > HANDLER_FIELDS_MAX)
		return "the head has more than 256 fields";
	if (line.len > 0 && (line.data[0] == ' ' || line.data[0] == '\t'))
		return "a header is continued on the next line";
	if (colon == NULL)
		return "a line of the head is no header";
	name = span_of(line.data, (size_t)(colon - line.data));
	value = trim(span_of(colon + 1, line.len - name.len - 1));
	if (!wire_header_name_valid(name))
		return "the name of a header is not valid";
	if (!wire_header_value_valid(value))
		return "the value of a header holds control bytes";
	for (enum single i = 0; i < SINGLES && wrong == NULL; i++)
		if (is(name, single_names[i]))
			wrong = take_single(reading, i, value);
	if (wrong != NULL || !is_for_client(reading, name))
		return wrong;
	text_add_span(lines, name);
	text_add_string(lines, ": ");
	text_add_span(lines, value);
	text_add_string(lines, "\r\n");
	return NULL;
}

/* What the fields say together. */
static const char *judge(struct reading *reading)
{
	struct handler_head *head = reading->head;

	if (reading->form == HANDLER_HEAD_CGI && !reading->seen[STATUS])
		head->status = reading->seen[LOCATION] ? 302 : 200;
	if (head->status < 200 || head->status > 599)
		return "the status is not one from 200 to 599";
	if (head->chunked && reading->seen[CONTENT_LENGTH])
		return "Content-Length and Transfer-Encoding exclude each other";
	if (head->chunked && reading->http_1_0)
		return "HTTP/1.0 has no Transfer-Encoding";
	head->bodiless = head->status == 204 || head->status == 304;
	if (reading->form == HANDLER_HEAD_CGI && !reading->seen[CONTENT_TYPE] && !reading->seen[LOCATION] &&
	    !head->bodiless)
		return "there is neither a Content-Type nor a Location";
	return text_ok(&head->lines) ? NULL : "there is no memory for the head";
}

const char *handler_head_parse(struct span bytes, enum handler_head_form form, struct handler_head *head)
{
	struct reading reading = {.form = form, .head = head};
	const char *wrong = NULL;
	struct span line;

	*head = (struct handler_head){.content_length = -1};
	if (form == HANDLER_HEAD_HTTP)
		wrong = take_status_line(&reading, take_line(&bytes));
	while (wrong == NULL && (line = take_line(&bytes)).len > 0)
		wrong = take_field(&reading, line);
	return wrong == NULL ? judge(&reading) : wrong;
}
