/* SPDX-License-Identifier: Apache-2.0
 *
 * Token v1: v1.<kid>.<exp>.<mac>, an HMAC over everything that decides a handoff.
 *
 *     mac = crypto_auth(PAE("handoff-token-v1", kid, exp, binding, socket_path, subject, data_digest), key)
 *
 * crypto_auth is libsodium's HMAC-SHA-512 truncated to 32 bytes; PAE is PASETO's pre-authentication
 * encoding. docs/protocol.md, section 2. One version, one algorithm: nothing to negotiate.
 */
#ifndef HANDOFF_TOKEN_H
#define HANDOFF_TOKEN_H

#include <time.h>

#include "bytes.h"
#include "keyring.h"
#include "reason.h"

#define TOKEN_MAX            80 /* "v1." + 16 + "." + 10 + "." + 43 + NUL, rounded up */
#define TOKEN_DIGEST_LEN     64 /* SHA-512 */
#define TOKEN_LIFETIME_MAX   60 /* seconds a token may lie ahead */
#define TOKEN_CLOCK_LENIENCE 5  /* seconds a token may be past */

/* What a token speaks for. All spans are borrowed. */
struct token_claims {
	struct span binding;
	struct span socket_path;
	struct span subject;                   /* empty when there is none */
	uint8_t data_digest[TOKEN_DIGEST_LEN]; /* SHA-512 of the data's bytes */
};

/* SHA-512 of the data's bytes. */
void token_digest(uint8_t digest[TOKEN_DIGEST_LEN], struct span data);

/* Whether the token is genuine, in time and allowed for claims->socket_path. REASON_OK or the reason of the refusal.
 * When kid_out is not NULL it gets the token's kid, NUL-terminated, once the token's form was found right ("" before).
 */
enum reason token_verify(const struct keyring *ring, struct span token, const struct token_claims *claims, time_t now,
                         char kid_out[KEYRING_KID_MAX + 1]);

/* Sign claims with a key, expiring at exp (unix seconds). Writes a NUL-terminated token and returns its length,
 * or -EINVAL when exp has more than ten digits. The state of the key is the caller's to judge. */
int token_sign(char out[TOKEN_MAX], const struct keyring_key *key, const struct token_claims *claims, uint64_t exp);

#endif
