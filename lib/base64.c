/* SPDX-License-Identifier: Apache-2.0
 *
 * Base64: libsodium's constant-time decoder, kept from what it is too lenient about.
 */
#include "base64.h"

#include <sodium.h>

bool base64_decode(uint8_t *out, size_t size, struct span text, enum base64_alphabet alphabet)
{
	int variant =
	    alphabet == BASE64_URL ? sodium_base64_VARIANT_URLSAFE_NO_PADDING : sodium_base64_VARIANT_ORIGINAL;
	uint8_t all = 0;
	size_t len;

	if (text.len != sodium_base64_encoded_len(size, variant) - 1)
		return false;
	/* libsodium 1.0.18 takes any byte above 127 for the last letter of the alphabet. */
	for (size_t i = 0; i < text.len; i++)
		all |= text.data[i];
	if (all & 0x80)
		return false;
	/* Unused low bits that are set, other letters, blanks and wrong padding are refused by the decoder. */
	return sodium_base642bin(out, size, (const char *)text.data, text.len, NULL, &len, NULL, variant) == 0 &&
	       len == size;
}
