/* SPDX-License-Identifier: Apache-2.0
 *
 * Access line: see access_line.h.
 */
#include "access_line.h"

#include <inttypes.h>
#include <stdlib.h>

#include "daemon/common/log.h"

enum access_field { ACCESS_METHOD, ACCESS_TARGET, ACCESS_PROTOCOL, ACCESS_CLIENT, ACCESS_SERVER, ACCESS_FIELDS };

struct access_request {
	uint16_t len[ACCESS_FIELDS];
	uint8_t bytes[]; /* of all fields */
};

static const enum wire_field_type sources[ACCESS_FIELDS] = {
    [ACCESS_METHOD] = WIRE_METHOD,         [ACCESS_TARGET] = WIRE_TARGET,      [ACCESS_PROTOCOL] = WIRE_PROTOCOL,
    [ACCESS_CLIENT] = WIRE_CLIENT_ADDRESS, [ACCESS_SERVER] = WIRE_SERVER_NAME,
};

struct access_request *access_request_new(const struct wire_request *wire)
{
	struct span fields[ACCESS_FIELDS] = {{0}};
	struct access_request *request;
	size_t total = 0;

	/* What stands in a request by a legacy listener is the gate's: nobody told it. */
	for (size_t i = 0; i < ACCESS_FIELDS && !(wire->flags & WIRE_FLAG_LEGACY); i++) {
		fields[i] = wire->field[sources[i]];
		total += fields[i].len;
	}
	request = malloc(sizeof(*request) + total);
	if (request == NULL)
		return NULL;
	total = 0;
	for (size_t i = 0; i < ACCESS_FIELDS; i++) {
		request->len[i] = (uint16_t)fields[i].len;
		if (fields[i].len > 0)
			memcpy(request->bytes + total, fields[i].data, fields[i].len);
		total += fields[i].len;
	}
	return request;
}

static struct span field_of(const struct access_request *request, enum access_field field)
{
	size_t start = 0;

	for (size_t i = 0; i < field; i++)
		start += request->len[i];
	return span_of(request->bytes + start, request->len[field]);
}

static struct tm utc(time_t time)
{
	struct tm tm = {0};

	gmtime_r(&time, &tm);
	return tm;
}

/* ---------------------------------------------------------------- combined */

/* "-" when it is empty; blanks only where the field stands in quotes. */
static void add_field(struct text *out, struct span field, bool quoted)
{
	char escaped[5];

	if (field.len == 0)
		text_add_string(out, "-");
	for (size_t i = 0; i < field.len; i++) {
		if (field.data[i] == ' ' && !quoted)
			text_add_string(out, "\\x20");
		else
			text_add(out, escaped, log_escape(field.data[i], escaped));
	}
}

static void add_request(struct text *out, const struct access_request *request)
{
	text_add_string(out, "\"");
	add_field(out, field_of(request, ACCESS_METHOD), true);
	if (request->len[ACCESS_METHOD] > 0) {
		text_add_string(out, " ");
		add_field(out, field_of(request, ACCESS_TARGET), true);
		text_add_string(out, " ");
		add_field(out, field_of(request, ACCESS_PROTOCOL), true);
	}
	text_add_string(out, "\"");
}

static void add_local_time(struct text *out, time_t began)
{
	static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
	                                   "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
	struct tm tm = utc(began);

	text_add_format(out, " [%02d/%s/%d:%02d:%02d:%02d +0000] ", tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900,
	                tm.tm_hour, tm.tm_min, tm.tm_sec);
}

static void write_combined(struct text *out, const struct access_entry *entry)
{
	const struct usage *usage = &entry->usage;

	add_field(out, field_of(entry->request, ACCESS_CLIENT), false);
	text_add_string(out, " - ");
	add_field(out, entry->subject, false);
	add_local_time(out, entry->began.tv_sec);
	add_request(out, entry->request);
	if (entry->status != 0)
		text_add_format(out, " %u", entry->status);
	else
		text_add_string(out, " -");
	/* No Referer and no User-Agent: Apache keeps them. */
	text_add_format(out, " %" PRIu64 " \"-\" \"-\" id=%" PRIu64 " request=", entry->bytes, entry->id);
	add_field(out, entry->request_id, false);
	text_add_format(out, " backend=%s outcome=%s duration_ms=%" PRId64, entry->backend,
	                outcome_name(entry->outcome), entry->duration_ms);
	if (entry->first_byte_ms >= 0)
		text_add_format(out, " first_byte_ms=%" PRId64, entry->first_byte_ms);
	text_add_format(out, " usage=%s", usage_name(usage->kind));
	if (usage->kind == USAGE_EXACT)
		text_add_format(out, " prompt_tokens=%" PRIu32, usage->prompt);
	if (usage->kind != USAGE_ABSENT)
		text_add_format(out, " completion_tokens=%" PRIu32, usage->completion);
	text_add_string(out, "\n");
}

/* ---------------------------------------------------------------- JSON */

/* The character that the text begins with, and how many bytes it has. A byte that begins none is U+FFFD by itself. */
static size_t take_character(struct span text, uint32_t *character)
{
	static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
	uint8_t first = text.data[0];
	size_t len = first < 0x80 ? 1 : first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;

	*character = 0xfffd;
	if ((first >= 0x80 && first < 0xc0) || first >= 0xf8 || len > text.len)
		return 1;
	uint32_t value = len == 1 ? first : first & (0x7fu >> len);
	for (size_t i = 1; i < len; i++) {
		if ((text.data[i] & 0xc0) != 0x80)
			return 1;
		value = value << 6 | (text.data[i] & 0x3f);
	}
	if (value < smallest[len] || value > 0x10ffff || (value >= 0xd800 && value < 0xe000))
		return 1;
	*character = value;
	return len;
}

static void add_string(struct text *out, struct span value)
{
	text_add_string(out, "\"");
	while (value.len > 0) {
		uint32_t character;
		size_t len = take_character(value, &character);

		if (character >= 0x10000)
			text_add_format(out, "\\u%04x\\u%04x", 0xd800 + ((character - 0x10000) >> 10),
			                0xdc00 + ((character - 0x10000) & 0x3ff));
		else if (character < 0x20 || character > 0x7e)
			text_add_format(out, "\\u%04x", character);
		else
			text_add_json(out, span_of(value.data, len));
		value = span_of(value.data + len, value.len - len);
	}
	text_add_string(out, "\"");
}

static void add_member(struct text *out, const char *name, struct span value)
{
	if (value.len == 0)
		return;
	text_add_format(out, ",\"%s\":", name);
	add_string(out, value);
}

static void add_number(struct text *out, const char *name, uint64_t value)
{
	text_add_format(out, ",\"%s\":%" PRIu64, name, value);
}

static void write_json(struct text *out, const struct access_entry *entry)
{
	const struct usage *usage = &entry->usage;
	struct tm tm = utc(entry->began.tv_sec);

	text_add_format(out, "{\"time\":\"%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ\"", tm.tm_year + 1900, tm.tm_mon + 1,
	                tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, entry->began.tv_nsec / 1000000);
	add_number(out, "id", entry->id);
	add_member(out, "request", entry->request_id);
	add_member(out, "backend", span_of_string(entry->backend));
	add_member(out, "client", field_of(entry->request, ACCESS_CLIENT));
	add_member(out, "server", field_of(entry->request, ACCESS_SERVER));
	add_member(out, "subject", entry->subject);
	add_member(out, "method", field_of(entry->request, ACCESS_METHOD));
	add_member(out, "target", field_of(entry->request, ACCESS_TARGET));
	add_member(out, "protocol", field_of(entry->request, ACCESS_PROTOCOL));
	if (entry->status != 0)
		add_number(out, "status", entry->status);
	add_number(out, "bytes", entry->bytes);
	add_member(out, "outcome", span_of_string(outcome_name(entry->outcome)));
	text_add_format(out, ",\"relayed\":%s", entry->relayed ? "true" : "false");
	add_number(out, "duration_ms", (uint64_t)entry->duration_ms);
	if (entry->first_byte_ms >= 0)
		add_number(out, "first_byte_ms", (uint64_t)entry->first_byte_ms);
	add_member(out, "usage", span_of_string(usage_name(usage->kind)));
	if (usage->kind == USAGE_EXACT)
		add_number(out, "prompt_tokens", usage->prompt);
	if (usage->kind != USAGE_ABSENT)
		add_number(out, "completion_tokens", usage->completion);
	text_add_string(out, "}\n");
}

void access_line_write(struct text *out, enum config_log_format format, const struct access_entry *entry)
{
	if (format == LOG_FORMAT_JSON)
		write_json(out, entry);
	else
		write_combined(out, entry);
}
