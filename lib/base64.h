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

/* Read text as exactly size bytes. False when it is not the text that these bytes have; out is then undefined. */
bool base64_decode(uint8_t *out, size_t size, struct span text, enum base64_alphabet alphabet);

#endif
