/* SPDX-License-Identifier: Apache-2.0
 *
 * handoff/1: what is written is read back, and everything that is not exactly the format is refused.
 */
#include "lib/wire.h"
#include "lib_support.h"

#include <errno.h>

#define COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))

static const uint8_t digest[64] = {1, 2, 3};

/* A message made by hand, so that it can be wrong. */
struct message {
	uint8_t *bytes; /* WIRE_REQUEST_MAX + 4096 */
	size_t len;
	uint16_t fields;
};

static void message_begin(struct message *message)
{
	message->bytes = calloc(1, WIRE_REQUEST_MAX + 4096);
	assert_non_null(message->bytes);
	message->len = WIRE_HEADER_LEN;
	message->fields = 0;
}

static void message_field(struct message *message, uint16_t type, struct span value)
{
	uint8_t *p = message->bytes + message->len;

	put_le16(p, type);
	put_le16(p + 2, 0);
	put_le32(p + 4, (uint32_t)value.len);
	if (value.len)
		memcpy(p + 8, value.data, value.len);
	message->len += 8 + value.len;
	message->fields++;
}

static void message_end(struct message *message, uint16_t flags)
{
	memcpy(message->bytes, "HANDOFF1", 8);
	put_le32(message->bytes + 8, (uint32_t)message->len);
	put_le16(message->bytes + 12, message->fields);
	put_le16(message->bytes + 14, flags);
}

/* Parse a copy that ends where the message ends, so that a sanitizer sees any step behind it. */
static int parse_exactly(const uint8_t *bytes, size_t len)
{
	struct wire_request request;
	uint8_t *copy = malloc(len ? len : 1);

	memcpy(copy, bytes, len);
	int result = wire_request_parse(span_of(copy, len), &request);
	if (result == 0) {
		uint8_t *again = malloc(len);
		assert_int_equal(wire_request_size(&request), len);
		assert_int_equal(wire_request_write(&request, again, len), len);
		assert_memory_equal(again, copy, len);
		free(again);
	}
	free(copy);
	return result;
}

/* A right request with every field. */
static struct wire_request request_full(void)
{
	struct wire_request request = {.flags = 0};

	request.field[WIRE_TOKEN] = SPAN_LITERAL("v1.k1.1800000030.AAAA");
	request.field[WIRE_BINDING] = SPAN_LITERAL("v1;192.0.2.7;40112;AAECAwQFBgcICQoLDA0ODw");
	request.field[WIRE_SOCKET_PATH] = SPAN_LITERAL("/run/a.sock");
	request.field[WIRE_SUBJECT] = SPAN_LITERAL("user-42");
	request.field[WIRE_DATA_DIGEST] = span_of(digest, sizeof(digest));
	request.field[WIRE_METHOD] = SPAN_LITERAL("GET");
	request.field[WIRE_TARGET] = SPAN_LITERAL("/chat?x=1");
	request.field[WIRE_PROTOCOL] = SPAN_LITERAL("HTTP/1.1");
	request.field[WIRE_CLIENT_ADDRESS] = SPAN_LITERAL("192.0.2.7");
	request.field[WIRE_SERVER_NAME] = SPAN_LITERAL("example.com");
	request.field[WIRE_REQUEST_ID] = SPAN_LITERAL("abc");
	request.field[WIRE_STATUS] = SPAN_LITERAL("\xc8\x00");
	request.field[WIRE_RESPONSE_HEADERS] = SPAN_LITERAL("Set-Cookie: a=b\r\nX-A: \r\n");
	request.field[WIRE_DATA] = SPAN_LITERAL("{}");
	return request;
}

/* A right message of these fields, each of them with its value in request_full(). */
static void message_full(struct message *message)
{
	struct wire_request request = request_full();

	message_begin(message);
	for (uint16_t type = 1; type < WIRE_FIELD_END; type++)
		message_field(message, type, request.field[type]);
	message_end(message, 0);
}

/* Whether request, written without any check, is accepted. */
static int roundtrip(const struct wire_request *request)
{
	struct message message;

	message_begin(&message);
	for (uint16_t type = 1; type < WIRE_FIELD_END; type++)
		if (request->field[type].data)
			message_field(&message, type, request->field[type]);
	message_end(&message, request->flags);
	int result = parse_exactly(message.bytes, message.len);
	free(message.bytes);
	return result;
}

/* ---------------------------------------------------------------- right messages */

static void written_as_specified(void **state)
{
	struct wire_request request = request_full();
	struct message message;
	uint8_t *written;

	(void)state;
	message_full(&message);
	size_t size = wire_request_size(&request);
	assert_int_equal(size, message.len);
	written = malloc(size);
	assert_int_equal(wire_request_write(&request, written, size), size);
	assert_memory_equal(written, message.bytes, size);
	free(written);
	free(message.bytes);
}

static void read_back(void **state)
{
	struct wire_request request = request_full(), parsed;
	struct message message;

	(void)state;
	message_full(&message);
	assert_int_equal(wire_request_parse(span_of(message.bytes, message.len), &parsed), 0);
	assert_int_equal(parsed.flags, 0);
	for (size_t type = 1; type < WIRE_FIELD_END; type++) {
		assert_true(span_equal(parsed.field[type], request.field[type]));
		/* Borrowed from the message, not copied. */
		assert_true(parsed.field[type].data > message.bytes &&
		            parsed.field[type].data <= message.bytes + message.len);
	}
	free(message.bytes);
}

static void absent_and_empty_differ(void **state)
{
	static const enum wire_field_type optional[] = {
	    WIRE_TOKEN,       WIRE_BINDING,    WIRE_SUBJECT,          WIRE_CLIENT_ADDRESS,
	    WIRE_SERVER_NAME, WIRE_REQUEST_ID, WIRE_RESPONSE_HEADERS,
	};
	struct wire_request request, parsed;
	uint8_t buffer[1024];

	(void)state;
	for (size_t i = 0; i < COUNT_OF(optional); i++) {
		request = request_full();
		request.field[optional[i]] = SPAN_EMPTY;
		size_t size = wire_request_size(&request);
		wire_request_write(&request, buffer, size);
		assert_int_equal(wire_request_parse(span_of(buffer, size), &parsed), 0);
		assert_null(parsed.field[optional[i]].data);
		request.field[optional[i]] = SPAN_LITERAL("");
		size = wire_request_size(&request);
		wire_request_write(&request, buffer, size);
		assert_int_equal(wire_request_parse(span_of(buffer, size), &parsed), 0);
		assert_non_null(parsed.field[optional[i]].data);
		assert_int_equal(parsed.field[optional[i]].len, 0);
	}
	request = request_full();
	request.field[WIRE_DATA] = SPAN_LITERAL("");
	assert_int_equal(roundtrip(&request), 0);
}

static void required_fields(void **state)
{
	static const enum wire_field_type required[] = {
	    WIRE_SOCKET_PATH, WIRE_DATA_DIGEST, WIRE_METHOD, WIRE_TARGET, WIRE_PROTOCOL, WIRE_STATUS,
	};

	(void)state;
	for (size_t i = 0; i < COUNT_OF(required); i++) {
		struct wire_request request = request_full();
		request.field[required[i]] = SPAN_EMPTY;
		assert_int_equal(roundtrip(&request), -EBADMSG);
		request.field[required[i]] = SPAN_LITERAL("");
		assert_int_equal(roundtrip(&request), -EBADMSG);
	}
}

static void data_and_memfd(void **state)
{
	struct wire_request request = request_full();

	(void)state;
	request.flags = WIRE_FLAG_MEMFD;
	assert_int_equal(roundtrip(&request), -EBADMSG);
	request.field[WIRE_DATA] = SPAN_EMPTY;
	assert_int_equal(roundtrip(&request), 0);
	request.flags = WIRE_FLAG_MEMFD | WIRE_FLAG_RELAY;
	assert_int_equal(roundtrip(&request), 0);
	request.flags = WIRE_FLAG_RELAY;
	assert_int_equal(roundtrip(&request), -EBADMSG);
	request = request_full();
	request.flags = WIRE_FLAG_RELAY;
	assert_int_equal(roundtrip(&request), 0);
}

static void statuses(void **state)
{
	uint8_t raw[3] = {0};

	(void)state;
	for (unsigned status = 0; status <= 65535; status++) {
		struct wire_request request = request_full();
		put_le16(raw, (uint16_t)status);
		request.field[WIRE_STATUS] = span_of(raw, 2);
		bool valid = status >= 100 && status <= 599;
		if (status < 700 || status % 1001 == 0)
			assert_int_equal(roundtrip(&request), valid ? 0 : -EBADMSG);
	}
	struct wire_request request = request_full();
	request.field[WIRE_STATUS] = span_of("\xc8", 1);
	assert_int_equal(roundtrip(&request), -EBADMSG);
	request.field[WIRE_DATA_DIGEST] = span_of(digest, 63);
	assert_int_equal(roundtrip(&request), -EBADMSG);
}

static void longest_fields(void **state)
{
	static const uint32_t longest[WIRE_FIELD_END] = {
	    0, 128, 128, 108, 256, 64, 32, 8192, 16, 64, 256, 64, 2, 65536, 65536,
	};
	uint8_t *big = malloc(65537);

	(void)state;
	memset(big, 'x', 65537);
	for (size_t type = 1; type < WIRE_FIELD_END; type++) {
		struct wire_request request = request_full();
		request.field[type] = span_of(big, longest[type] + 1);
		assert_int_equal(wire_request_size(&request), 0);
		assert_int_equal(roundtrip(&request), -EBADMSG);
		request.field[type] = span_of(big, longest[type]);
		assert_true(wire_request_size(&request) > 0);
		/* 'xx' is no status, and x... is no header line. */
		bool any_bytes = type != WIRE_STATUS && type != WIRE_RESPONSE_HEADERS;
		assert_int_equal(roundtrip(&request), any_bytes ? 0 : -EBADMSG);
	}
	free(big);
}

static void largest_message(void **state)
{
	struct wire_request request = request_full();
	uint8_t *big = malloc(65536);

	(void)state;
	memset(big, 'x', 65536);
	memcpy(big, "X-Long: ", 8);
	memcpy(big + 65534, "\r\n", 2);
	request.field[WIRE_RESPONSE_HEADERS] = span_of(big, 65536);
	request.field[WIRE_DATA] = span_of(big, 65536);
	request.field[WIRE_TARGET] = span_of(big, 8192);
	assert_true(wire_request_size(&request) > 139000 && wire_request_size(&request) <= WIRE_REQUEST_MAX);
	assert_int_equal(roundtrip(&request), 0);
	free(big);
}

/* ---------------------------------------------------------------- wrong messages */

static void every_truncation(void **state)
{
	struct message message;

	(void)state;
	message_full(&message);
	assert_int_equal(parse_exactly(message.bytes, message.len), 0);
	for (size_t len = 0; len < message.len; len++) {
		assert_int_equal(parse_exactly(message.bytes, len), -EBADMSG);
		if (len < WIRE_HEADER_LEN)
			continue;
		/* The same with a total length that admits to it. */
		uint8_t *copy = malloc(len);
		memcpy(copy, message.bytes, len);
		put_le32(copy + 8, (uint32_t)len);
		assert_int_equal(parse_exactly(copy, len), -EBADMSG);
		free(copy);
	}
	/* Longer: with and without admitting to it. */
	assert_int_equal(parse_exactly(message.bytes, message.len + 1), -EBADMSG);
	put_le32(message.bytes + 8, (uint32_t)message.len + 1);
	assert_int_equal(parse_exactly(message.bytes, message.len + 1), -EBADMSG);
	free(message.bytes);
}

/* parse_exactly() itself checks that what is accepted is written again byte for byte. */
static void every_byte_changed(void **state)
{
	struct message message;
	size_t refused = 0;

	(void)state;
	message_full(&message);
	for (size_t i = 0; i < message.len; i++) {
		uint8_t right = message.bytes[i];
		for (unsigned value = 0; value < 256; value++) {
			message.bytes[i] = (uint8_t)value;
			int result = parse_exactly(message.bytes, message.len);
			assert_true(result == 0 || result == -EBADMSG);
			if (i < WIRE_HEADER_LEN && value != right) {
				/* Only one of these flags may be set in the header and the message stay right. */
				bool flag = i == 14 && (value == WIRE_FLAG_RELAY || value == WIRE_FLAG_LEGACY);
				assert_int_equal(result, flag ? 0 : -EBADMSG);
			}
			refused += result != 0;
		}
		message.bytes[i] = right;
	}
	assert_true(refused > 0);
	free(message.bytes);
}

static void field_headers(void **state)
{
	struct message message;
	size_t at = WIRE_HEADER_LEN;

	(void)state;
	message_full(&message);
	while (at < message.len) {
		uint32_t len = get_le32(message.bytes + at + 4);
		put_le16(message.bytes + at + 2, 1);
		assert_int_equal(parse_exactly(message.bytes, message.len), -EBADMSG);
		put_le16(message.bytes + at + 2, 0);
		static const uint32_t lengths[] = {UINT32_MAX, INT32_MAX, 65537, 0x80000000};
		for (size_t i = 0; i < COUNT_OF(lengths); i++) {
			put_le32(message.bytes + at + 4, lengths[i]);
			assert_int_equal(parse_exactly(message.bytes, message.len), -EBADMSG);
		}
		put_le32(message.bytes + at + 4, len);
		assert_int_equal(parse_exactly(message.bytes, message.len), 0);
		at += 8 + len;
	}
	free(message.bytes);
}

/* The fields of request_full(), one of them twice, or two exchanged, or with one that does not exist. */
static void order_and_duplicates(void **state)
{
	struct wire_request request = request_full();
	struct message message;

	(void)state;
	for (uint16_t twice = 1; twice < WIRE_FIELD_END; twice++) {
		message_begin(&message);
		for (uint16_t type = 1; type < WIRE_FIELD_END; type++) {
			message_field(&message, type, request.field[type]);
			if (type == twice)
				message_field(&message, type, request.field[type]);
		}
		message_end(&message, 0);
		assert_int_equal(parse_exactly(message.bytes, message.len), -EBADMSG);
		free(message.bytes);
	}
	for (uint16_t first = 1; first < WIRE_FIELD_END - 1; first++) {
		message_begin(&message);
		for (uint16_t type = 1; type < WIRE_FIELD_END; type++) {
			uint16_t actual = type == first ? (uint16_t)(first + 1) : type == first + 1 ? first : type;
			message_field(&message, actual, request.field[actual]);
		}
		message_end(&message, 0);
		assert_int_equal(parse_exactly(message.bytes, message.len), -EBADMSG);
		free(message.bytes);
	}
}

static void unknown_fields_and_flags(void **state)
{
	static const uint16_t types[] = {0, WIRE_FIELD_END, 255, 256, 0x8001, 0xffff};
	struct message message;

	(void)state;
	for (size_t i = 0; i < COUNT_OF(types); i++) {
		message_full(&message);
		message_field(&message, types[i], SPAN_LITERAL("x"));
		message_end(&message, 0);
		assert_int_equal(parse_exactly(message.bytes, message.len), -EBADMSG);
		free(message.bytes);
	}
	message_full(&message);
	for (unsigned flags = 0; flags < 65536; flags++) {
		message_end(&message, (uint16_t)flags);
		bool right = flags == 0 || flags == WIRE_FLAG_RELAY || flags == WIRE_FLAG_LEGACY;
		assert_int_equal(parse_exactly(message.bytes, message.len), right ? 0 : -EBADMSG);
	}
	free(message.bytes);
}

static void wrong_counts(void **state)
{
	static const uint16_t counts[] = {0, 1, 13, 15, 255, 65535};
	struct message message;

	(void)state;
	message_full(&message);
	for (size_t i = 0; i < COUNT_OF(counts); i++) {
		put_le16(message.bytes + 12, counts[i]);
		assert_int_equal(parse_exactly(message.bytes, message.len), -EBADMSG);
	}
	free(message.bytes);
	message_begin(&message);
	message_end(&message, 0);
	assert_int_equal(parse_exactly(message.bytes, message.len), -EBADMSG);
	free(message.bytes);
	/* Longer than any message may be, all of it consistent but for that. */
	message_full(&message);
	message.len = WIRE_REQUEST_MAX + 1;
	message_end(&message, 0);
	assert_int_equal(parse_exactly(message.bytes, message.len), -EBADMSG);
	free(message.bytes);
}

/* ---------------------------------------------------------------- header lines */

static void header_lines(void **state)
{
	static const char *const valid[] = {
	    "",
	    "A: b\r\n",
	    "Set-Cookie: a=b; Path=/\r\nSet-Cookie: c=d\r\n",
	    "X-Empty: \r\n",
	    "X-Tab: a\tb\r\n",
	    "X-Latin: \xe9\r\n",
	    "!#$%&'*+-.^_`|~09azAZ: x\r\n",
	    "X-Colon: a: b: c\r\n",
	    "Content-Type: text/plain\r\n",
	    "Content-Language: de\r\n",
	    "X-Handoffs: fine\r\n",
	    "X-Transfer-Encoding: fine\r\n",
	};
	static const char *const invalid[] = {
	    "A",
	    "A:",
	    "A: ",
	    "A: b",
	    "A: b\n",
	    "A: b\r",
	    "A:b\r\n",
	    "A:\r\n",
	    "A:\tb\r\n",
	    "A : b\r\n",
	    " A: b\r\n",
	    ": b\r\n",
	    "\r\n",
	    "A: b\r\n\r\n",
	    "A: b\r\n folded\r\n",
	    "A: b\rC: d\r\n",
	    "A: b\nC: d\r\n",
	    "A: b\x0b\r\n",
	    "A: b\x7f\r\n",
	    "A: b\r\nC\r\n",
	    "A\xe9: b\r\n",
	    "A(: b\r\n",
	    "A\"B: b\r\n",
	    "A: b\r\nContent-Length: 3\r\n",
	    "HTTP/1.1 200 OK\r\n",
	};

	(void)state;
	for (size_t i = 0; i < COUNT_OF(valid); i++)
		if (!wire_headers_valid(span_of_string(valid[i])))
			fail_msg("refused: %s", valid[i]);
	for (size_t i = 0; i < COUNT_OF(invalid); i++)
		if (wire_headers_valid(span_of_string(invalid[i])))
			fail_msg("accepted: %s", invalid[i]);
	assert_false(wire_headers_valid(SPAN_LITERAL("A: b\0c\r\n")));
	assert_false(wire_headers_valid(SPAN_LITERAL("A\0: bc\r\n")));
}

static void forbidden_names(void **state)
{
	static const char *const forbidden[] = {
	    "Content-Length",
	    "content-length",
	    "CONTENT-LENGTH",
	    "Content_Length",
	    "Content-Encoding",
	    "ETag",
	    "Transfer-Encoding",
	    "transfer_encoding",
	    "Trailer",
	    "TE",
	    "Connection",
	    "Keep-Alive",
	    "Proxy-Connection",
	    "Proxy-Authenticate",
	    "Upgrade",
	    "Content-Range",
	    "X-Socket-Handoff",
	    "X-Handoff-Data",
	    "x_handoff_token",
	    "X-Handoff-Data-Source",
	    "X-Handoff-Subject",
	    "HTTP2-Settings",
	    "Proxy-Authorization",
	};
	static const char *const allowed[] = {"",          "T", "TEs", "E-Tag", "Content-Lengt", "Content-Lengths",
	                                      "Set-Cookie"};

	(void)state;
	for (size_t i = 0; i < COUNT_OF(forbidden); i++)
		if (!wire_header_forbidden(span_of_string(forbidden[i])))
			fail_msg("allowed: %s", forbidden[i]);
	for (size_t i = 0; i < COUNT_OF(allowed); i++)
		if (wire_header_forbidden(span_of_string(allowed[i])))
			fail_msg("forbidden: %s", allowed[i]);
	for (size_t i = 0; i < COUNT_OF(forbidden); i++) {
		bool describes_body = strcmp(forbidden[i], "Content-Encoding") == 0 ||
		                      strcmp(forbidden[i], "ETag") == 0 || strcmp(forbidden[i], "Content-Range") == 0;

		assert_int_equal(wire_answer_header_forbidden(span_of_string(forbidden[i])), !describes_body);
	}
}

/* A request is refused for its header lines. */
static void request_with_header_lines(void **state)
{
	struct wire_request request = request_full();

	(void)state;
	request.field[WIRE_RESPONSE_HEADERS] = SPAN_LITERAL("Transfer-Encoding: chunked\r\n");
	assert_int_equal(roundtrip(&request), -EBADMSG);
	request.field[WIRE_RESPONSE_HEADERS] = SPAN_LITERAL("A: b\r\n\r\nbody");
	assert_int_equal(roundtrip(&request), -EBADMSG);
}

/* ---------------------------------------------------------------- reply */

static void reply_roundtrip(void **state)
{
	const struct wire_reply accepted = {.kind = WIRE_ACCEPTED, .status = 200, .stream_id = 0x1122334455667788};
	const struct wire_reply refused = {
	    .kind = WIRE_REFUSED, .reason = REASON_RATE_LIMITED, .status = 429, .retry_after = 7};
	static const uint8_t wanted[WIRE_REPLY_LEN] = {1, 1, 200, 0, 0,    0,    0,    0,    0,    0,    0,    0,
	                                               0, 0, 0,   0, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11};
	struct wire_reply reply;
	uint8_t out[WIRE_REPLY_LEN];

	(void)state;
	memset(out, 0xff, sizeof(out));
	wire_reply_write(&accepted, out);
	assert_memory_equal(out, wanted, sizeof(out));
	assert_int_equal(wire_reply_parse(span_of(out, sizeof(out)), &reply), 0);
	assert_int_equal(reply.kind, WIRE_ACCEPTED);
	assert_true(reply.stream_id == accepted.stream_id);
	wire_reply_write(&refused, out);
	assert_int_equal(wire_reply_parse(span_of(out, sizeof(out)), &reply), 0);
	assert_int_equal(reply.kind, WIRE_REFUSED);
	assert_int_equal(reply.reason, REASON_RATE_LIMITED);
	assert_int_equal(reply.status, 429);
	assert_int_equal(reply.retry_after, 7);
}

/* Every reason that is there can travel. */
static void reply_every_reason(void **state)
{
	(void)state;
	for (int reason = REASON_OK + 1; reason < REASON_COUNT; reason++) {
		struct wire_reply reply = {.kind = WIRE_REFUSED,
		                           .reason = (enum reason)reason,
		                           .status = (uint16_t)reason_status((enum reason)reason)};
		uint8_t out[WIRE_REPLY_LEN];
		struct wire_reply parsed;
		wire_reply_write(&reply, out);
		assert_int_equal(wire_reply_parse(span_of(out, sizeof(out)), &parsed), 0);
		assert_int_equal(parsed.reason, reason);
	}
}

static void reply_refused(void **state)
{
	const struct wire_reply replies[] = {
	    {.kind = (enum wire_reply_kind)0, .status = 200},
	    {.kind = (enum wire_reply_kind)3, .status = 200},
	    {.kind = WIRE_ACCEPTED, .reason = REASON_TOKEN_MAC, .status = 403},
	    {.kind = WIRE_REFUSED, .reason = REASON_OK, .status = 403},
	    {.kind = WIRE_REFUSED, .reason = REASON_COUNT, .status = 403},
	    {.kind = WIRE_REFUSED, .reason = REASON_TOKEN_MAC, .status = 200},
	    {.kind = WIRE_REFUSED, .reason = REASON_TOKEN_MAC, .status = 399},
	    {.kind = WIRE_REFUSED, .reason = REASON_TOKEN_MAC, .status = 600},
	};
	struct wire_reply reply;
	uint8_t out[WIRE_REPLY_LEN + 1] = {0};

	(void)state;
	for (size_t i = 0; i < COUNT_OF(replies); i++) {
		wire_reply_write(&replies[i], out);
		assert_int_equal(wire_reply_parse(span_of(out, WIRE_REPLY_LEN), &reply), -EBADMSG);
	}
	wire_reply_write(&(struct wire_reply){.kind = WIRE_ACCEPTED, .status = 200}, out);
	for (size_t len = 0; len <= WIRE_REPLY_LEN + 1; len++)
		assert_int_equal(wire_reply_parse(span_of(out, len), &reply), len == WIRE_REPLY_LEN ? 0 : -EBADMSG);
	static const uint8_t zeros[] = {6, 7, 12, 13, 14, 15};
	for (size_t i = 0; i < sizeof(zeros); i++) {
		out[zeros[i]] = 1;
		assert_int_equal(wire_reply_parse(span_of(out, WIRE_REPLY_LEN), &reply), -EBADMSG);
		out[zeros[i]] = 0;
	}
	out[0] = 2;
	assert_int_equal(wire_reply_parse(span_of(out, WIRE_REPLY_LEN), &reply), -EBADMSG);
	assert_int_equal(wire_reply_parse(SPAN_EMPTY, &reply), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(written_as_specified),
	    cmocka_unit_test(read_back),
	    cmocka_unit_test(absent_and_empty_differ),
	    cmocka_unit_test(required_fields),
	    cmocka_unit_test(data_and_memfd),
	    cmocka_unit_test(statuses),
	    cmocka_unit_test(longest_fields),
	    cmocka_unit_test(largest_message),
	    cmocka_unit_test(every_truncation),
	    cmocka_unit_test(every_byte_changed),
	    cmocka_unit_test(field_headers),
	    cmocka_unit_test(order_and_duplicates),
	    cmocka_unit_test(unknown_fields_and_flags),
	    cmocka_unit_test(wrong_counts),
	    cmocka_unit_test(header_lines),
	    cmocka_unit_test(forbidden_names),
	    cmocka_unit_test(request_with_header_lines),
	    cmocka_unit_test(reply_roundtrip),
	    cmocka_unit_test(reply_every_reason),
	    cmocka_unit_test(reply_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
