/* SPDX-License-Identifier: Apache-2.0
 *
 * Base64: libsodium's constant-time decoder, kept from what it is too lenient about; a plain encoder.
 */
#include "base64.h"

#include <sodium.h>

void base64_encode(char *out, struct span bytes)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (size_t i = 0; i < bytes.len; i += 3) {
		size_t n = bytes.len - i < 3 ? bytes.len - i : 3;
		uint32_t group = (uint32_t)bytes.data[i] << 16;

		group |= n > 1 ? (uint32_t)bytes.data[i + 1] << 8 : 0;
		group |= n > 2 ? bytes.data[i + 2] : 0;
		*out++ = letters[group >> 18];
		*out++ = letters[group >> 12 & 63];
		*out++ = '=';
		*out++ = '=';
		if (n > 1)
			out[-2] = letters[group >> 6 & 63];
		if (n > 2)
			out[-1] = letters[group & 63];
	}
}

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
