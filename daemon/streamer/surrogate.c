/* SPDX-License-Identifier: Apache-2.0
 *
 * Surrogate: see surrogate.h.
 */
#include "surrogate.h"

#define ESCAPE_LEN 6 /* \uXXXX */

static int hex_digit(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The unit of the escape \uXXXX at this place, 0 when there is none. */
static uint16_t unit_at(const uint8_t *json, size_t len)
{
	unsigned unit = 0;

	if (len < ESCAPE_LEN || json[0] != '\\' || json[1] != 'u')
		return 0;
	for (size_t i = 2; i < ESCAPE_LEN; i++) {
		int digit = hex_digit(json[i]);

		if (digit < 0)
			return 0;
		unit = unit << 4 | (unsigned)digit;
	}
	return (uint16_t)unit;
}

static bool is_high(uint16_t unit)
{
	return (unit & 0xfc00) == 0xd800;
}

static bool is_low(uint16_t unit)
{
	return (unit & 0xfc00) == 0xdc00;
}

/* Give a lone half its mark, or U+FFFD. */
static void mark(uint8_t *escape, bool at_start, bool at_end, uint16_t unit, struct surrogate_halves *halves)
{
	const char *replacement = "\\ufffd";

	if (is_high(unit) && at_end) {
		halves->high = unit;
		replacement = "\\ufdd0";
	} else if (is_low(unit) && at_start) {
		halves->low = unit;
		replacement = "\\ufdd1";
	}
	memcpy(escape, replacement, ESCAPE_LEN);
}

void surrogate_mark(uint8_t *json, size_t len, struct surrogate_halves *halves)
{
	*halves = (struct surrogate_halves){0};
	for (size_t i = 0; i < len;) {
		uint16_t unit = unit_at(json + i, len - i);
		size_t next = i + (unit != 0 ? ESCAPE_LEN : json[i] == '\\' ? 2 : 1);

		if (is_high(unit) && is_low(unit_at(json + next, len - next)))
			next += ESCAPE_LEN;
		else if (is_high(unit) || is_low(unit))
			mark(json + i, i > 0 && json[i - 1] == '"', next < len && json[next] == '"', unit, halves);
		i = next;
	}
}

size_t surrogate_join(uint16_t high, uint16_t low, uint8_t out[4])
{
	uint32_t c = 0x10000 + ((uint32_t)(high & 0x3ff) << 10) + (low & 0x3ff);

	if (high == 0 || low == 0) {
		memcpy(out, "\xef\xbf\xbd", 3);
		return 3;
	}
	out[0] = (uint8_t)(0xf0 | c >> 18);
	out[1] = (uint8_t)(0x80 | (c >> 12 & 0x3f));
	out[2] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
	out[3] = (uint8_t)(0x80 | (c & 0x3f));
	return 4;
}
