/* SPDX-License-Identifier: Apache-2.0
 *
 * What the streamer writes for a relayed client: head and pieces of the body are read back, and everything that is not
 * exactly the format is refused.
 */
#include "lib/wire.h"
#include "lib_support.h"

#include <errno.h>

#define COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))

static size_t relay_head(uint8_t *out, uint16_t status, const char *lines)
{
	wire_relay_head_write(&(struct wire_relay_head){.status = status, .headers = span_of_string(lines)}, out);
	memcpy(out + WIRE_RELAY_START_LEN, lines, strlen(lines));
	return WIRE_RELAY_START_LEN + strlen(lines);
}

static void relay_head_as_specified(void **state)
{
	static const uint8_t expected[] = "HANDREL1"
	                                  "\x28\0\0\0\2\0\0\0"
	                                  "\1\0\0\0\2\0\0\0\xc9\0"
	                                  "\2\0\0\0\6\0\0\0A: b\r\n";
	uint8_t out[128];
	struct wire_relay_head head;

	(void)state;
	size_t len = relay_head(out, 201, "A: b\r\n");
	assert_int_equal(len, sizeof(expected) - 1);
	assert_memory_equal(out, expected, len);
	assert_int_equal(wire_relay_head_length(out), len);
	assert_int_equal(wire_relay_head_parse(span_of(out, len), &head), 0);
	assert_int_equal(head.status, 201);
	assert_true(span_equal_string(head.headers, "A: b\r\n"));
	assert_int_equal(wire_relay_head_parse(span_of(out, relay_head(out, 599, "")), &head), 0);
	assert_int_equal(head.headers.len, 0);
	/* What describes the body, which is the sender's. */
	len = relay_head(out, 206, "Content-Encoding: gzip\r\nETag: a\r\nContent-Range: b\r\n");
	assert_int_equal(wire_relay_head_parse(span_of(out, len), &head), 0);
}

static void relay_head_refused(void **state)
{
	static const uint16_t statuses[] = {0, 100, 199, 600, 65535};
	static const char *const lines[] = {"A: b", "A:b\r\n", "Content-Length: 1\r\n", "X-Handoff-Token: x\r\n",
	                                    "\r\n"};
	uint8_t out[WIRE_RELAY_HEAD_MAX + 2];
	struct wire_relay_head head;

	(void)state;
	for (size_t i = 0; i < COUNT_OF(statuses); i++)
		assert_int_equal(wire_relay_head_parse(span_of(out, relay_head(out, statuses[i], "")), &head),
		                 -EBADMSG);
	for (size_t i = 0; i < COUNT_OF(lines); i++)
		assert_int_equal(wire_relay_head_parse(span_of(out, relay_head(out, 200, lines[i])), &head), -EBADMSG);
	size_t len = relay_head(out, 200, "A: b\r\n");
	for (size_t cut = 0; cut < len; cut++)
		assert_int_equal(wire_relay_head_parse(span_of(out, cut), &head), -EBADMSG);
	assert_int_equal(wire_relay_head_parse(span_of(out, len + 1), &head), -EBADMSG);
	/* Every byte but those of the status and the line decides about the form. */
	for (size_t i = 0; i < WIRE_RELAY_START_LEN; i++) {
		if (i == 24 || i == 25)
			continue;
		out[i] ^= 0x40;
		assert_int_equal(wire_relay_head_parse(span_of(out, len), &head), -EBADMSG);
		out[i] ^= 0x40;
	}
	put_le16(out + 12, 1);
	assert_int_equal(wire_relay_head_parse(span_of(out, len), &head), -EBADMSG);
}

static void relay_head_longest(void **state)
{
	uint8_t *out = malloc(WIRE_RELAY_HEAD_MAX + 1);
	struct wire_relay_head head = {.status = 200};
	size_t longest = WIRE_RELAY_HEAD_MAX - WIRE_RELAY_START_LEN;

	(void)state;
	assert_non_null(out);
	for (size_t more = 0; more < 2; more++) {
		size_t len = longest + more;
		memset(out + WIRE_RELAY_START_LEN, 'x', len);
		memcpy(out + WIRE_RELAY_START_LEN, "A: ", 3);
		memcpy(out + WIRE_RELAY_START_LEN + len - 2, "\r\n", 2);
		head.headers = span_of(out + WIRE_RELAY_START_LEN, len);
		wire_relay_head_write(&head, out);
		assert_int_equal(wire_relay_head_length(out), more ? 0 : WIRE_RELAY_HEAD_MAX);
		assert_int_equal(wire_relay_head_parse(span_of(out, WIRE_RELAY_START_LEN + len), &head),
		                 more ? -EBADMSG : 0);
	}
	free(out);
}

static void pieces_in_any_cut(void **state)
{
	static const uint8_t sent[] = "\5\0\0\0hello\1\0\0\0 \5\0\0\0world\0\0\0";

	(void)state;
	for (size_t step = 1; step <= sizeof(sent); step++) {
		struct wire_pieces pieces = {0};
		char text[32] = "";
		size_t len = 0;
		for (size_t at = 0; at < sizeof(sent); at += step) {
			size_t rest = sizeof(sent) - at;
			struct span input = span_of(sent + at, rest < step ? rest : step), body;
			assert_false(pieces.ended);
			while (wire_pieces_next(&pieces, &input, &body) == 1) {
				assert_true(body.len > 0);
				memcpy(text + len, body.data, body.len);
				len += body.len;
			}
			assert_int_equal(input.len, 0);
		}
		assert_true(pieces.ended);
		assert_string_equal(text, "hello world");
	}
}

static void pieces_behind_the_end(void **state)
{
	struct wire_pieces pieces = {0};
	struct span input = span_of("\1\0\0\0x\0\0\0\0y", 10), body;

	(void)state;
	assert_int_equal(wire_pieces_next(&pieces, &input, &body), 1);
	assert_true(span_equal_string(body, "x"));
	assert_int_equal(wire_pieces_next(&pieces, &input, &body), -EBADMSG);
	pieces = (struct wire_pieces){0};
	input = span_of("\xff\xff\xff\xffxyz", 7);
	assert_int_equal(wire_pieces_next(&pieces, &input, &body), 1);
	assert_int_equal(body.len, 3);
	assert_int_equal(pieces.left, UINT32_MAX - 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(relay_head_as_specified), cmocka_unit_test(relay_head_refused),
	    cmocka_unit_test(relay_head_longest),      cmocka_unit_test(pieces_in_any_cut),
	    cmocka_unit_test(pieces_behind_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
