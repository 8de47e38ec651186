/* SPDX-License-Identifier: Apache-2.0
 *
 * UTF-8: see utf8.h.
 */
#include "utf8.h"

/* How many bytes the character has that begins with these, 0 when none does; then the number in *begun says how many of
 * them could begin one. */
static size_t character_len(const uint8_t *c, size_t len, size_t *begun)
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

	*begun = 0;
	while (form < sizeof(forms) / sizeof(forms[0]) && (c[0] < forms[form].first || c[0] > forms[form].last))
		form++;
	if (form == sizeof(forms) / sizeof(forms[0]))
		return 0;
	for (*begun = 1; *begun < forms[form].len && *begun < len; (*begun)++) {
		uint8_t first = *begun == 1 ? forms[form].second_first : 0x80;
		uint8_t last = *begun == 1 ? forms[form].second_last : 0xbf;

		if (c[*begun] < first || c[*begun] > last)
			return 0;
	}
	return *begun == forms[form].len ? forms[form].len : 0;
}

size_t utf8_valid_part(struct span text, size_t *wrong)
{
	size_t i = 0, begun = 0;

	*wrong = 0;
	while (i < text.len) {
		size_t len = character_len(text.data + i, text.len - i, &begun);

		if (len == 0)
			break;
		i += len;
	}
	if (i < text.len && begun < text.len - i)
		*wrong = begun > 0 ? begun : 1;
	return i;
}

bool utf8_valid(struct span text)
{
	size_t wrong;

	return utf8_valid_part(text, &wrong) == text.len;
}
