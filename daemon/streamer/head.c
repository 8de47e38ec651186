/* SPDX-License-Identifier: Apache-2.0
 *
 * Head: see head.h.
 */
#include "head.h"

#include <strings.h>

#include "lib/wire.h"

static const char *reason_phrase(unsigned status)
{
	static const struct {
		unsigned status;
		const char *phrase;
	} phrases[] = {
	    {200, "OK"},
	    {201, "Created"},
	    {202, "Accepted"},
	    {203, "Non-Authoritative Information"},
	    {400, "Bad Request"},
	    {413, "Content Too Large"},
	    {429, "Too Many Requests"},
	    {500, "Internal Server Error"},
	    {502, "Bad Gateway"},
	    {503, "Service Unavailable"},
	    {504, "Gateway Timeout"},
	};

	for (size_t i = 0; i < sizeof(phrases) / sizeof(phrases[0]); i++)
		if (phrases[i].status == status)
			return phrases[i].phrase;
	return ""; /* the phrase may be empty (RFC 9112, 4) */
}

unsigned head_stream_status(unsigned application_status)
{
	switch (application_status) {
	case 201:
	case 202:
	case 203:
		return application_status;
	default: /* 204, 205, 206 and 304 promise another body than ours, or none */
		return 200;
	}
}

static bool name_is(struct span line, const char *name)
{
	size_t len = strlen(name);

	return line.len > len && line.data[len] == ':' && strncasecmp((const char *)line.data, name, len) == 0;
}

/* Headers that are the streamer's own. */
static bool is_ours(struct span line, const struct head *head)
{
	return name_is(line, "Content-Type") || name_is(line, "Date") || name_is(line, "X-Accel-Buffering") ||
	       (head->retry_after != 0 && name_is(line, "Retry-After")) ||
	       (head->status >= 400 && name_is(line, "Cache-Control"));
}

/* Copy the application's lines; returns whether Cache-Control is among them. */
static bool add_application(struct text *out, const struct head *head)
{
	struct span rest = head->application;
	bool has_cache_control = false;

	while (rest.len > 0) {
		const uint8_t *end = memchr(rest.data, '\n', rest.len);
		struct span line = span_of(rest.data, end == NULL ? rest.len : (size_t)(end - rest.data) + 1);

		rest = span_of(rest.data + line.len, rest.len - line.len);
		if (is_ours(line, head))
			continue;
		has_cache_control = has_cache_control || name_is(line, "Cache-Control");
		text_add_span(out, line);
	}
	return has_cache_control;
}

static void add_date(struct text *out, time_t now)
{
	static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
	static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
	                                   "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
	struct tm tm;

	if (gmtime_r(&now, &tm) != NULL)
		text_add_format(out, "Date: %s, %02d %s %d %02d:%02d:%02d GMT\r\n", days[tm.tm_wday], tm.tm_mday,
		                months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

/* The lines that say nothing about framing. */
static void add_lines(struct text *out, const struct head *head)
{
	bool has_cache_control;

	if (head->content_type == NULL) {
		text_add_span(out, head->application);
		return;
	}
	has_cache_control = add_application(out, head);
	text_add_format(out, "Content-Type: %s\r\n", head->content_type);
	if (!has_cache_control)
		text_add_string(out,
		                head->status >= 400 ? "Cache-Control: no-store\r\n" : "Cache-Control: no-cache\r\n");
	if (head->status < 400)
		text_add_string(out, "X-Accel-Buffering: no\r\n");
	if (head->retry_after != 0)
		text_add_format(out, "Retry-After: %u\r\n", head->retry_after);
}

static void write_relay(struct text *out, const struct head *head)
{
	struct text lines = {0};
	uint8_t start[WIRE_RELAY_START_LEN];

	add_lines(&lines, head);
	wire_relay_head_write(&(struct wire_relay_head){.status = (uint16_t)head->status, .headers = text_span(&lines)},
	                      start);
	text_add(out, start, sizeof(start));
	text_add_span(out, text_span(&lines));
	out->failed = out->failed || !text_ok(&lines);
	text_free(&lines);
}

void head_write(struct text *out, const struct head *head)
{
	if (head->relay) {
		write_relay(out, head);
		return;
	}
	text_add_format(out, "HTTP/1.1 %u %s\r\n", head->status, reason_phrase(head->status));
	add_date(out, head->now);
	add_lines(out, head);
	if (head->chunked)
		text_add_string(out, "Transfer-Encoding: chunked\r\n");
	if (head->content_length >= 0)
		text_add_format(out, "Content-Length: %lld\r\n", (long long)head->content_length);
	text_add_string(out, "Connection: close\r\n\r\n");
}
