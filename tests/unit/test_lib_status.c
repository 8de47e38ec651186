/* SPDX-License-Identifier: Apache-2.0
 *
 * The status request and its parts, byte by byte; and the text format, line by line.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "lib/exposition.h"
#include "lib/wire_status.h"

/* ---------------------------------------------------------------- messages */

static void test_request(void **state)
{
	static const uint8_t expected[] = "HANDSTAT\x10\0\0\0\0\0\0";
	uint8_t message[WIRE_STATUS_REQUEST_LEN + 1] = {0};

	(void)state;
	wire_status_write(message);
	assert_memory_equal(message, expected, WIRE_STATUS_REQUEST_LEN);
	assert_int_equal(wire_status_parse(span_of(message, WIRE_STATUS_REQUEST_LEN)), 0);
	assert_true(wire_status_meant(span_of(message, 8)));
	assert_false(wire_status_meant(span_of(message, 7)));
	for (size_t len = 0; len <= sizeof(message); len++)
		if (len != WIRE_STATUS_REQUEST_LEN)
			assert_int_equal(wire_status_parse(span_of(message, len)), -EBADMSG);
	for (size_t i = 0; i < WIRE_STATUS_REQUEST_LEN * 8; i++) {
		message[i / 8] ^= (uint8_t)(1 << i % 8);
		assert_int_equal(wire_status_parse(span_of(message, WIRE_STATUS_REQUEST_LEN)), -EBADMSG);
		message[i / 8] ^= (uint8_t)(1 << i % 8);
	}
}

static void test_part(void **state)
{
	struct wire_status_part part = {.sequence = 3, .last = true, .instance = 0x1122334455667788}, parsed;
	uint8_t message[WIRE_STATUS_PART_HEADER_LEN + 5];

	(void)state;
	part.text = SPAN_LITERAL("hello");
	wire_status_part_write(&part, message);
	memcpy(message + WIRE_STATUS_PART_HEADER_LEN, part.text.data, part.text.len);
	assert_int_equal(wire_status_part_parse(span_of(message, sizeof(message)), &parsed), 0);
	assert_int_equal(parsed.sequence, 3);
	assert_true(parsed.last);
	assert_true(parsed.instance == part.instance);
	assert_true(span_equal(parsed.text, part.text));
	for (size_t len = 0; len < sizeof(message); len++)
		assert_int_equal(wire_status_part_parse(span_of(message, len), &parsed), -EBADMSG);
	/* Every bit of magic, length, flags and zero counts. */
	for (size_t i = 0; i < 8 * WIRE_STATUS_PART_HEADER_LEN; i++) {
		bool free_value = (i / 8 >= 12 && i / 8 < 24) || i == 24 * 8;
		message[i / 8] ^= (uint8_t)(1 << i % 8);
		assert_int_equal(wire_status_part_parse(span_of(message, sizeof(message)), &parsed),
		                 free_value ? 0 : -EBADMSG);
		message[i / 8] ^= (uint8_t)(1 << i % 8);
	}
	uint8_t *large = calloc(1, WIRE_STATUS_PART_MAX + 1);
	part.text.len = WIRE_STATUS_PART_MAX - WIRE_STATUS_PART_HEADER_LEN;
	wire_status_part_write(&part, large);
	assert_int_equal(wire_status_part_parse(span_of(large, WIRE_STATUS_PART_MAX), &parsed), 0);
	part.text.len++;
	wire_status_part_write(&part, large);
	assert_int_equal(wire_status_part_parse(span_of(large, WIRE_STATUS_PART_MAX + 1), &parsed), -EBADMSG);
	free(large);
}

/* ---------------------------------------------------------------- lines */

static void take(const char *text, enum exposition_kind kind, const char *name, const char *labels, const char *value)
{
	struct span rest = span_of_string(text);
	struct exposition_line line;

	assert_int_equal(exposition_next(&rest, &line), 1);
	assert_int_equal(rest.len, 0);
	assert_int_equal(line.kind, kind);
	assert_true(span_equal_string(line.name, name));
	assert_true(span_equal_string(line.labels, labels));
	assert_true(span_equal_string(line.value, value));
	assert_int_equal(exposition_next(&rest, &line), 0);
}

static void test_lines(void **state)
{
	(void)state;
	take("# HELP a_b some text {\"}\n", EXPOSITION_HELP, "a_b", "", "some text {\"}");
	take("# HELP a \n", EXPOSITION_HELP, "a", "", "");
	take("# TYPE a counter\n", EXPOSITION_TYPE, "a", "", "counter");
	take("# TYPE a gauge\n", EXPOSITION_TYPE, "a", "", "gauge");
	take("# TYPE a histogram\n", EXPOSITION_TYPE, "a", "", "histogram");
	take("a 0\n", EXPOSITION_SAMPLE, "a", "", "0");
	take("_a1 18446744073709551615\n", EXPOSITION_SAMPLE, "_a1", "", "18446744073709551615");
	take("a{b=\"c\"} 0.000100\n", EXPOSITION_SAMPLE, "a", "b=\"c\"", "0.000100");
	take("a{b=\"\",c=\"} \\\" \\\\\"} 1.5\n", EXPOSITION_SAMPLE, "a", "b=\"\",c=\"} \\\" \\\\\"", "1.5");
}

static void test_wrong_lines(void **state)
{
	static const char *const wrong[] = {
	    "\n",
	    "a 1",
	    "a\n",
	    "a \n",
	    "a  1\n",
	    "a 1 \n",
	    "a 1 1700000000\n",
	    " a 1\n",
	    "1a 1\n",
	    "a-b 1\n",
	    "a:b 1\n",
	    "a -1\n",
	    "a +1\n",
	    "a 01\n",
	    "a .5\n",
	    "a 1.\n",
	    "a 1.5.5\n",
	    "a 1e5\n",
	    "a NaN\n",
	    "a +Inf\n",
	    "a 0x10\n",
	    "a 11111111111111111111111111111111111111111\n",
	    "a{} 1\n",
	    "a{b} 1\n",
	    "a{b=} 1\n",
	    "a{b=c} 1\n",
	    "a{b=\"c} 1\n",
	    "a{b=\"c\" 1\n",
	    "a{b=\"c\"}1\n",
	    "a{b=\"c\",} 1\n",
	    "a{,b=\"c\"} 1\n",
	    "a{b=\"c\"d=\"e\"} 1\n",
	    "a{b=\"c\"  ,d=\"e\"} 1\n",
	    "a{b=\"\\\"} 1\n",
	    "a{b=\"\\x\"} 1\n",
	    "a{1=\"c\"} 1\n",
	    "a{=\"c\"} 1\n",
	    "a\t1\n",
	    "a{b=\"\t\"} 1\n",
	    "a{b=\"\xc3\xa9\"} 1\n",
	    "# comment\n",
	    "#\n",
	    "# HELP\n",
	    "# HELP a\n",
	    "# HELP a back\\slash\n",
	    "# HELP a-b c\n",
	    "# TYPE a\n",
	    "# TYPE a summary\n",
	    "# TYPE a counter \n",
	    "# EOF\n",
	    "a 1\r\n",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct span rest = span_of_string(wrong[i]);
		struct exposition_line line;

		if (exposition_next(&rest, &line) != -EBADMSG)
			fail_msg("accepted: %s", wrong[i]);
	}
}

static void test_labels(void **state)
{
	struct span labels = SPAN_LITERAL("a=\"x,y=\\\"\",b=\"\""), name, value;

	(void)state;
	assert_int_equal(exposition_label(&labels, &name, &value), 1);
	assert_true(span_equal_string(name, "a") && span_equal_string(value, "x,y=\\\""));
	assert_int_equal(exposition_label(&labels, &name, &value), 1);
	assert_true(span_equal_string(name, "b") && value.len == 0);
	assert_int_equal(exposition_label(&labels, &name, &value), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_request),     cmocka_unit_test(test_part),   cmocka_unit_test(test_lines),
	    cmocka_unit_test(test_wrong_lines), cmocka_unit_test(test_labels),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
