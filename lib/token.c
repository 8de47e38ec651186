/* SPDX-License-Identifier: Apache-2.0
 *
 * Token v1: taking one apart, its MAC, and the order of the checks.
 *
 * crypto_auth() is crypto_auth_hmacsha512256(); its multi-part form takes the pieces of the PAE one by one, so that no
 * buffer limits how long they may be.
 */
#include "token.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>

#include "base64.h"

#define TOKEN_CONTEXT  "handoff-token-v1"
#define TOKEN_MAC_LEN  crypto_auth_hmacsha512256_BYTES
#define TOKEN_MAC_TEXT 43
#define TOKEN_EXP_MAX  10
#define TOKEN_PIECES   4
#define PAE_PIECES     7

static_assert(TOKEN_MAC_LEN == 32 && crypto_auth_BYTES == TOKEN_MAC_LEN, "HMAC-SHA-512 truncated to 32 bytes");
static_assert(KEYRING_KEY_LEN == crypto_auth_hmacsha512256_KEYBYTES, "key length");
static_assert(TOKEN_DIGEST_LEN == crypto_hash_sha512_BYTES, "digest length");
static_assert(sizeof("v1.") - 1 + KEYRING_KID_MAX + 1 + TOKEN_EXP_MAX + 1 + TOKEN_MAC_TEXT < TOKEN_MAX, "token fits");

/* A token taken apart; the spans borrow from it. */
struct token {
	struct span version;
	struct span kid;
	struct span exp_text;
	int64_t exp;
	uint8_t mac[TOKEN_MAC_LEN];
};

void token_digest(uint8_t digest[TOKEN_DIGEST_LEN], struct span data)
{
	crypto_hash_sha512(digest, data.data, data.len);
}

static bool is_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

/* Decimal of 1 to max_digits digits, no leading zero, above 0. Returns 0 when it is anything else. */
static int64_t parse_decimal(struct span text, size_t max_digits)
{
	int64_t value = 0;

	if (text.len == 0 || text.len > max_digits || text.data[0] == '0')
		return 0;
	for (size_t i = 0; i < text.len; i++) {
		if (!is_digit(text.data[i]))
			return 0;
		value = value * 10 + (text.data[i] - '0');
	}
	return value;
}

static bool kid_canonical(struct span kid)
{
	if (kid.len == 0 || kid.len > KEYRING_KID_MAX)
		return false;
	for (size_t i = 0; i < kid.len; i++) {
		uint8_t c = kid.data[i];
		if (!is_digit(c) && !(c >= 'a' && c <= 'z') && c != '_' && c != '-')
			return false;
	}
	return true;
}

/* Split at dots into exactly TOKEN_PIECES pieces. */
static bool split(struct span text, struct span piece[TOKEN_PIECES])
{
	size_t n = 0, start = 0;

	for (size_t i = 0; i <= text.len; i++) {
		if (i < text.len && text.data[i] != '.')
			continue;
		if (n == TOKEN_PIECES)
			return false;
		piece[n++] = span_of(text.data + start, i - start);
		start = i + 1;
	}
	return n == TOKEN_PIECES;
}

/* Whether text has the one canonical form; *token is then filled. The version may be any: v and a number. */
static bool token_parse(struct span text, struct token *token)
{
	struct span piece[TOKEN_PIECES];

	/* Everything longer is refused before it is looked at. */
	if (text.len == 0 || text.len >= TOKEN_MAX || !split(text, piece))
		return false;
	token->version = piece[0];
	token->kid = piece[1];
	token->exp_text = piece[2];
	token->exp = parse_decimal(token->exp_text, TOKEN_EXP_MAX);
	if (token->version.len < 2 || token->version.data[0] != 'v' ||
	    parse_decimal(span_of(token->version.data + 1, token->version.len - 1), 3) == 0)
		return false;
	if (!kid_canonical(token->kid) || token->exp == 0)
		return false;
	return base64_decode(token->mac, sizeof(token->mac), piece[3], BASE64_URL);
}

static void mac_update_length(crypto_auth_hmacsha512256_state *state, uint64_t length)
{
	uint8_t le[8];

	put_le64(le, length);
	crypto_auth_hmacsha512256_update(state, le, sizeof(le));
}

static void token_mac(uint8_t mac[TOKEN_MAC_LEN], const struct keyring_key *key, struct span exp,
                      const struct token_claims *claims)
{
	const struct span pieces[PAE_PIECES] = {
	    SPAN_LITERAL(TOKEN_CONTEXT),
	    span_of_string(key->kid),
	    exp,
	    claims->binding,
	    claims->socket_path,
	    claims->subject,
	    span_of(claims->data_digest, TOKEN_DIGEST_LEN),
	};
	crypto_auth_hmacsha512256_state state = *key->mac;

	mac_update_length(&state, PAE_PIECES);
	for (size_t i = 0; i < PAE_PIECES; i++) {
		mac_update_length(&state, pieces[i].len);
		if (pieces[i].len > 0)
			crypto_auth_hmacsha512256_update(&state, pieces[i].data, pieces[i].len);
	}
	crypto_auth_hmacsha512256_final(&state, mac);
	sodium_memzero(&state, sizeof(state));
}

enum reason token_verify(const struct keyring *ring, struct span token, const struct token_claims *claims, time_t now,
                         char kid_out[KEYRING_KID_MAX + 1])
{
	struct token parsed;
	uint8_t mac[TOKEN_MAC_LEN];

	if (kid_out)
		kid_out[0] = '\0';
	if (token.len == 0)
		return REASON_TOKEN_MISSING;
	if (!token_parse(token, &parsed))
		return REASON_TOKEN_MALFORMED;
	if (kid_out) {
		memcpy(kid_out, parsed.kid.data, parsed.kid.len);
		kid_out[parsed.kid.len] = '\0';
	}
	if (!span_equal_string(parsed.version, "v1"))
		return REASON_TOKEN_VERSION;
	const struct keyring_key *key = keyring_find(ring, parsed.kid);
	if (!key)
		return REASON_TOKEN_KEY_UNKNOWN;
	if (key->state == KEY_REVOKED)
		return REASON_TOKEN_KEY_REVOKED;
	if (!keyring_key_allows(key, claims->socket_path))
		return REASON_TOKEN_KEY_FORBIDDEN;
	token_mac(mac, key, parsed.exp_text, claims);
	bool genuine = crypto_verify_32(mac, parsed.mac) == 0;
	/* The right MAC of a refused token must not stay on the stack for someone to find. */
	sodium_memzero(mac, sizeof(mac));
	if (!genuine)
		return REASON_TOKEN_MAC;
	/* After the MAC: a forged token learns nothing about our clock. */
	if (parsed.exp + TOKEN_CLOCK_LENIENCE < (int64_t)now)
		return REASON_TOKEN_EXPIRED;
	if (parsed.exp - TOKEN_LIFETIME_MAX > (int64_t)now)
		return REASON_TOKEN_FUTURE;
	return REASON_OK;
}

int token_sign(char out[TOKEN_MAX], const struct keyring_key *key, const struct token_claims *claims, uint64_t exp)
{
	char exp_text[TOKEN_EXP_MAX + 1], mac_text[TOKEN_MAC_TEXT + 1];
	uint8_t mac[TOKEN_MAC_LEN];

	if (exp == 0 || exp > UINT64_C(9999999999))
		return -EINVAL;
	snprintf(exp_text, sizeof(exp_text), "%" PRIu64, exp);
	token_mac(mac, key, span_of_string(exp_text), claims);
	sodium_bin2base64(mac_text, sizeof(mac_text), mac, sizeof(mac), sodium_base64_VARIANT_URLSAFE_NO_PADDING);
	return snprintf(out, TOKEN_MAX, "v1.%s.%s.%s", key->kid, exp_text, mac_text);
}
