/* SPDX-License-Identifier: Apache-2.0
 *
 * Surrogate: a character beyond U+FFFF is two \u escapes in JSON, and services that cut text by UTF-16 units send its
 * halves in two events. Each is invalid JSON text alone; this joins them again.
 */
#ifndef HANDOFFD_STREAMER_SURROGATE_H
#define HANDOFFD_STREAMER_SURROGATE_H

#include "lib/bytes.h"

/* U+FDD0 and U+FDD1, which are never characters, stand for a half at the end and at the start of a string. */
#define SURROGATE_HIGH_MARK "\xef\xb7\x90"
#define SURROGATE_LOW_MARK  "\xef\xb7\x91"
#define SURROGATE_MARK_LEN  3

struct surrogate_halves {
	uint16_t high; /* of the last string that ends in one; 0: none */
	uint16_t low;  /* of the last string that starts with one; 0: none */
};

/* Make JSON with lone halves valid, in place: a half at the end or start of a string becomes its mark, any other
 * U+FFFD. */
void surrogate_mark(uint8_t *json, size_t len, struct surrogate_halves *halves);

/* The character of two halves, or U+FFFD when one of them is 0, as UTF-8. Returns its length. */
size_t surrogate_join(uint16_t high, uint16_t low, uint8_t out[4]);

#endif
