/* SPDX-License-Identifier: Apache-2.0
 *
 * Key ring: the HMAC keys that may sign handoffs, each for the socket paths its
 * line names. One key a line:
 *
 *     kid state base64key socket-path...        (a path of * means every path)
 *
 * kid is 1-16 of [a-z0-9_-]; state is sign, verify or revoked; the key is standard base64 with
 * padding of 32 bytes. Blank lines and lines that begin with # are skipped.
 * Key bytes live in sodium_malloc memory, read-only after loading.
 */
#ifndef HANDOFF_KEYRING_H
#define HANDOFF_KEYRING_H

#include <sodium.h>
#include <sys/types.h>

#include "bytes.h"

#define KEYRING_KEY_LEN  32
#define KEYRING_KID_MAX  16
#define KEYRING_KEYS_MAX 256
#define KEYRING_FILE_MAX 65536

enum key_state { KEY_SIGN, KEY_VERIFY, KEY_REVOKED };

struct keyring;

struct keyring_key {
	char kid[KEYRING_KID_MAX + 1];
	enum key_state state;
	const uint8_t *secret; /* KEYRING_KEY_LEN bytes, owned by the key ring */
	/* HMAC-SHA-512 begun with the secret, which is a third of the work for a token; owned by the key ring. */
	const crypto_auth_hmacsha512256_state *mac;
	char **paths; /* NULL-terminated; "*" stands for every path; owned by the key ring */
};

/* Load a key ring file. The file must be regular, owned by root or by reader, with a mode of 0640 or tighter
 * (checked on the open descriptor, symlinks in the last component refused). sodium_init() must have been called.
 * On success returns 0 and a key ring for keyring_free(). On failure returns -errno and writes
 * "FILE:LINE: what is wrong" (or "FILE: ...") to error, which never holds key material. An empty ring is an error. */
int keyring_load(struct keyring **out, const char *file, uid_t reader, char *error, size_t error_size);

/* Wipe and free; NULL is allowed. */
void keyring_free(struct keyring *ring);

/* The key named kid, whatever its state; NULL when there is none. */
const struct keyring_key *keyring_find(const struct keyring *ring, struct span kid);

/* The first key with state sign for this socket path; NULL when there is none. */
const struct keyring_key *keyring_signing_key(const struct keyring *ring, struct span socket_path);

/* Whether the key's line names this socket path (byte for byte) or *. */
bool keyring_key_allows(const struct keyring_key *key, struct span socket_path);

/* How many keys, and the i-th of them, in file order. */
size_t keyring_count(const struct keyring *ring);
const struct keyring_key *keyring_at(const struct keyring *ring, size_t i);

#endif
