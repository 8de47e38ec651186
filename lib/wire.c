/* SPDX-License-Identifier: Apache-2.0
 *
 * handoff/1: reading and writing the request, the reply and a relayed answer. Nothing here allocates, and nothing is
 * copied out of a message: what is accepted would be written again byte for byte.
 */
#include "wire.h"

#include <errno.h>

#define WIRE_MAGIC     "HANDOFF1"
#define WIRE_MAGIC_LEN 8

/* Longest length of each field, by type. */
static const uint32_t field_longest[WIRE_FIELD_END] = {
#define WIRE_LONGEST(symbol, type, longest, meaning) [type] = (longest),
    WIRE_FIELDS(WIRE_LONGEST)
#undef WIRE_LONGEST
};

/* Absent or empty, the request makes no sense. Token and binding are the gate's to demand: it takes them out. */
static const enum wire_field_type fields_required[] = {
    WIRE_SOCKET_PATH, WIRE_DATA_DIGEST, WIRE_METHOD, WIRE_TARGET, WIRE_PROTOCOL, WIRE_STATUS,
};

#define COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))

/* ---------------------------------------------------------------- header lines */

static uint8_t lower(uint8_t c)
{
	return c >= 'A' && c <= 'Z' ? (uint8_t)(c | 0x20) : c;
}

/* Case does not count, and an underscore is a dash: gateways make the same variable of both. */
static uint8_t fold(uint8_t c)
{
	return c == '_' ? '-' : lower(c);
}

/* Whether name, folded, begins with prefix, which is folded already. */
static bool name_begins(struct span name, const char *prefix)
{
	size_t len = strlen(prefix);

	if (name.len < len)
		return false;
	for (size_t i = 0; i < len; i++)
		if (fold(name.data[i]) != (uint8_t)prefix[i])
			return false;
	return true;
}

static bool name_in(struct span name, const char *const *names, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (name.len == strlen(names[i]) && name_begins(name, names[i]))
			return true;
	return false;
}

bool wire_answer_header_forbidden(struct span name)
{
	static const char *const forbidden[] = {
	    /* framing */
	    "content-length",
	    "trailer",
	    "transfer-encoding",
	    /* one connection only */
	    "connection",
	    "keep-alive",
	    "proxy-authenticate",
	    "proxy-authentication-info",
	    "proxy-authorization",
	    "proxy-connection",
	    "te",
	    "upgrade",
	    "http2-settings",
	    /* control headers never reach a client */
	    "x-socket-handoff",
	};

	return name_in(name, forbidden, COUNT_OF(forbidden)) || name_begins(name, "x-handoff-");
}

bool wire_header_forbidden(struct span name)
{
	/* describe a body that is not the sender's */
	static const char *const forbidden[] = {"content-encoding", "content-range", "etag"};

	return name_in(name, forbidden, COUNT_OF(forbidden)) || wire_answer_header_forbidden(name);
}

/* RFC 9110 5.6.2 */
static bool is_token_char(uint8_t c)
{
	uint8_t l = lower(c);

	return (l >= 'a' && l <= 'z') || (c >= '0' && c <= '9') || (c != 0 && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_value_char(uint8_t c)
{
	return c == '\t' || (c >= 0x20 && c != 0x7f);
}

bool wire_header_name_valid(struct span name)
{
	size_t i = 0;

	while (i < name.len && is_token_char(name.data[i]))
		i++;
	return i > 0 && i == name.len;
}

bool wire_header_value_valid(struct span value)
{
	size_t i = 0;

	while (i < value.len && is_value_char(value.data[i]))
		i++;
	return i == value.len;
}

/* Length of the header line that lines begin with, CR LF included; 0 when it is not a valid one. */
static size_t header_line(struct span lines, bool (*forbidden)(struct span name))
{
	size_t i = 0;

	while (i < lines.len && is_token_char(lines.data[i]))
		i++;
	if (i == 0 || lines.len - i < 4 || lines.data[i] != ':' || lines.data[i + 1] != ' ')
		return 0;
	if (forbidden(span_of(lines.data, i)))
		return 0;
	i += 2;
	while (i < lines.len && is_value_char(lines.data[i]))
		i++;
	if (lines.len - i < 2 || lines.data[i] != '\r' || lines.data[i + 1] != '\n')
		return 0;
	return i + 2;
}

static bool lines_valid(struct span lines, bool (*forbidden)(struct span name))
{
	while (lines.len > 0) {
		size_t len = header_line(lines, forbidden);
		if (len == 0)
			return false;
		lines = span_of(lines.data + len, lines.len - len);
	}
	return true;
}

bool wire_headers_valid(struct span lines)
{
	return lines_valid(lines, wire_header_forbidden);
}

/* ---------------------------------------------------------------- fields */

/* The fields of a message into field[], by type below end; 0 or -EBADMSG. */
static int fields_parse(struct span rest, size_t count, struct span *field, const uint32_t *longest, uint16_t end)
{
	uint16_t previous = 0;

	for (size_t i = 0; i < count; i++) {
		if (rest.len < WIRE_FIELD_LEN)
			return -EBADMSG;
		uint16_t type = get_le16(rest.data);
		uint16_t zero = get_le16(rest.data + 2);
		uint32_t len = get_le32(rest.data + 4);
		rest = span_of(rest.data + WIRE_FIELD_LEN, rest.len - WIRE_FIELD_LEN);
		/* Ascending order leaves no room for duplicates. */
		if (type <= previous || type >= end || zero != 0)
			return -EBADMSG;
		if (len > longest[type] || len > rest.len)
			return -EBADMSG;
		field[type] = span_of(rest.data, len);
		rest = span_of(rest.data + len, rest.len - len);
		previous = type;
	}
	return rest.len == 0 ? 0 : -EBADMSG;
}

static uint8_t *field_write(uint8_t *p, uint16_t type, size_t len)
{
	put_le16(p, type);
	put_le16(p + 2, 0);
	put_le32(p + 4, (uint32_t)len);
	return p + WIRE_FIELD_LEN;
}

static void header_write(uint8_t out[WIRE_HEADER_LEN], const char *magic, size_t size, uint16_t count, uint16_t flags)
{
	memcpy(out, magic, WIRE_MAGIC_LEN);
	put_le32(out + 8, (uint32_t)size);
	put_le16(out + 12, count);
	put_le16(out + 14, flags);
}

/* ---------------------------------------------------------------- request */

/* What the fields must be together; 0 or -EBADMSG. */
static int request_check(const struct wire_request *request)
{
	const struct span *field = request->field;

	for (size_t i = 0; i < COUNT_OF(fields_required); i++)
		if (field[fields_required[i]].len == 0)
			return -EBADMSG;
	if (field[WIRE_DATA_DIGEST].len != field_longest[WIRE_DATA_DIGEST] ||
	    field[WIRE_STATUS].len != field_longest[WIRE_STATUS])
		return -EBADMSG;
	uint16_t status = get_le16(field[WIRE_STATUS].data);
	if (status < 100 || status > 599)
		return -EBADMSG;
	bool in_memfd = request->flags & WIRE_FLAG_MEMFD;
	bool in_line = field[WIRE_DATA].data != NULL;
	if (in_memfd == in_line)
		return -EBADMSG;
	return wire_headers_valid(field[WIRE_RESPONSE_HEADERS]) ? 0 : -EBADMSG;
}

int wire_request_parse(struct span message, struct wire_request *request)
{
	memset(request, 0, sizeof(*request));
	if (message.len < WIRE_HEADER_LEN || message.len > WIRE_REQUEST_MAX)
		return -EBADMSG;
	if (memcmp(message.data, WIRE_MAGIC, WIRE_MAGIC_LEN) != 0 || get_le32(message.data + 8) != message.len)
		return -EBADMSG;
	request->flags = get_le16(message.data + 14);
	if ((request->flags & ~WIRE_FLAGS_KNOWN) ||
	    ((request->flags & WIRE_FLAG_LEGACY) && request->flags != WIRE_FLAG_LEGACY))
		return -EBADMSG;
	int error = fields_parse(span_of(message.data + WIRE_HEADER_LEN, message.len - WIRE_HEADER_LEN),
	                         get_le16(message.data + 12), request->field, field_longest, WIRE_FIELD_END);
	return error ? error : request_check(request);
}

size_t wire_request_size(const struct wire_request *request)
{
	size_t size = WIRE_HEADER_LEN;

	for (size_t type = 1; type < WIRE_FIELD_END; type++) {
		if (!request->field[type].data)
			continue;
		if (request->field[type].len > field_longest[type])
			return 0;
		size += WIRE_FIELD_LEN + request->field[type].len;
	}
	return size <= WIRE_REQUEST_MAX ? size : 0;
}

size_t wire_request_write(const struct wire_request *request, uint8_t *out, size_t size)
{
	uint8_t *p = out + WIRE_HEADER_LEN;
	uint16_t count = 0;

	for (uint16_t type = 1; type < WIRE_FIELD_END; type++) {
		struct span field = request->field[type];
		if (!field.data)
			continue;
		p = field_write(p, type, field.len);
		memcpy(p, field.data, field.len);
		p += field.len;
		count++;
	}
	header_write(out, WIRE_MAGIC, size, count, request->flags);
	return size;
}

/* ---------------------------------------------------------------- reply */

#define REPLY_VERSION 1

void wire_reply_write(const struct wire_reply *reply, uint8_t out[WIRE_REPLY_LEN])
{
	memset(out, 0, WIRE_REPLY_LEN);
	out[0] = REPLY_VERSION;
	out[1] = (uint8_t)reply->kind;
	put_le16(out + 2, reply->status);
	put_le16(out + 4, (uint16_t)reply->reason);
	put_le32(out + 8, reply->retry_after);
	put_le64(out + 16, reply->stream_id);
}

int wire_reply_parse(struct span message, struct wire_reply *reply)
{
	memset(reply, 0, sizeof(*reply));
	if (message.len != WIRE_REPLY_LEN || message.data[0] != REPLY_VERSION)
		return -EBADMSG;
	uint8_t kind = message.data[1];
	uint16_t status = get_le16(message.data + 2);
	uint16_t reason = get_le16(message.data + 4);
	if (get_le16(message.data + 6) != 0 || get_le32(message.data + 12) != 0 || reason >= REASON_COUNT)
		return -EBADMSG;
	/* An acceptance with a reason to refuse, or a refusal without one, is neither. */
	bool accepted = kind == WIRE_ACCEPTED && reason == REASON_OK;
	bool refused = kind == WIRE_REFUSED && reason != REASON_OK && status >= 400 && status <= 599;
	if (!accepted && !refused)
		return -EBADMSG;
	reply->kind = (enum wire_reply_kind)kind;
	reply->reason = (enum reason)reason;
	reply->status = status;
	reply->retry_after = get_le32(message.data + 8);
	reply->stream_id = get_le64(message.data + 16);
	return 0;
}

/* ---------------------------------------------------------------- relay */

#define RELAY_MAGIC "HANDREL1"

static const uint32_t relay_longest[WIRE_RELAY_FIELD_END] = {
#define WIRE_RELAY_LONGEST(symbol, type, longest, meaning) [type] = (longest),
    WIRE_RELAY_FIELDS(WIRE_RELAY_LONGEST)
#undef WIRE_RELAY_LONGEST
};

void wire_relay_head_write(const struct wire_relay_head *head, uint8_t out[WIRE_RELAY_START_LEN])
{
	header_write(out, RELAY_MAGIC, WIRE_RELAY_START_LEN + head->headers.len, 2, 0);
	uint8_t *p = field_write(out + WIRE_HEADER_LEN, WIRE_RELAY_STATUS, 2);
	put_le16(p, head->status);
	field_write(p + 2, WIRE_RELAY_HEADERS, head->headers.len);
}

size_t wire_relay_head_length(const uint8_t start[WIRE_HEADER_LEN])
{
	uint32_t len = get_le32(start + 8);

	if (memcmp(start, RELAY_MAGIC, WIRE_MAGIC_LEN) != 0 || len < WIRE_RELAY_START_LEN || len > WIRE_RELAY_HEAD_MAX)
		return 0;
	return len;
}

int wire_relay_head_parse(struct span message, struct wire_relay_head *head)
{
	struct span field[WIRE_RELAY_FIELD_END] = {0};

	memset(head, 0, sizeof(*head));
	if (message.len < WIRE_HEADER_LEN || wire_relay_head_length(message.data) != message.len ||
	    get_le16(message.data + 14) != 0)
		return -EBADMSG;
	int error = fields_parse(span_of(message.data + WIRE_HEADER_LEN, message.len - WIRE_HEADER_LEN),
	                         get_le16(message.data + 12), field, relay_longest, WIRE_RELAY_FIELD_END);
	if (error)
		return error;
	if (field[WIRE_RELAY_STATUS].len != relay_longest[WIRE_RELAY_STATUS] || !field[WIRE_RELAY_HEADERS].data)
		return -EBADMSG;
	uint16_t status = get_le16(field[WIRE_RELAY_STATUS].data);
	if (status < 200 || status > 599 || !lines_valid(field[WIRE_RELAY_HEADERS], wire_answer_header_forbidden))
		return -EBADMSG;
	head->status = status;
	head->headers = field[WIRE_RELAY_HEADERS];
	return 0;
}

int wire_pieces_next(struct wire_pieces *pieces, struct span *input, struct span *body)
{
	while (input->len > 0 && pieces->left == 0) {
		if (pieces->ended)
			return -EBADMSG;
		pieces->start[pieces->start_len++] = *input->data;
		*input = span_of(input->data + 1, input->len - 1);
		if (pieces->start_len < WIRE_PIECE_LEN)
			continue;
		pieces->left = get_le32(pieces->start);
		pieces->start_len = 0;
		pieces->ended = pieces->left == 0;
	}
	if (input->len == 0)
		return 0;
	*body = span_of(input->data, input->len < pieces->left ? input->len : pieces->left);
	*input = span_of(input->data + body->len, input->len - body->len);
	pieces->left -= (uint32_t)body->len;
	return 1;
}
