/* SPDX-License-Identifier: Apache-2.0
 *
 * UTF-8: see utf8.h.
 */
#include "utf8.h"

/* How many bytes the character has that begins with these, 0 when none does. */
static size_t character_len(const uint8_t *c, size_t len)
{
	static const struct {
		uint8_t first, last; /* of its first byte */
		uint8_t second_first, second_last;
		uint8_t len;
	} forms[] = {
	    {0x00, 0x7f, 0, 0xff, 1},    {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
	    {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
	    {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
	};
	size_t form = 0;

	while (form < sizeof(forms) / sizeof(forms[0]) && (c[0] < forms[form].first || c[0] > forms[form].last))
		form++;
	if (form == sizeof(forms) / sizeof(forms[0]) || forms[form].len > len)
		return 0;
	if (forms[form].len > 1 && (c[1] < forms[form].second_first || c[1] > forms[form].second_last))
		return 0;
	for (size_t i = 2; i < forms[form].len; i++)
		if ((c[i] & 0xc0) != 0x80)
			return 0;
	return forms[form].len;
}

bool utf8_valid(struct span text)
{
	size_t len;

	for (size_t i = 0; i < text.len; i += len) {
		len = character_len(text.data + i, text.len - i);
		if (len == 0)
			return false;
	}
	return true;
}
