/* SPDX-License-Identifier: Apache-2.0
 *
 * Base64, strictly: of every value there is one text, and only that one is read.
 */
#ifndef HANDOFF_BASE64_H
#define HANDOFF_BASE64_H

#include "bytes.h"

enum base64_alphabet {
	BASE64_STANDARD, /* + and /, with padding: keys */
	BASE64_URL,      /* - and _, without padding: tokens and bindings */
};

/* Letters that size bytes have in the standard alphabet, padding included. */
static inline uint64_t base64_length(uint64_t size)
{
	return (size + 2) / 3 * 4;
}

/* Write the bytes in the standard alphabet: base64_length(bytes.len) letters without a NUL. Not constant-time: never
 * for secrets. */
void base64_encode(char *out, struct span bytes);

/* Read text as exactly size bytes. False when it is not the text that these bytes have; out is then undefined. */
bool base64_decode(uint8_t *out, size_t size, struct span text, enum base64_alphabet alphabet);

#endif
