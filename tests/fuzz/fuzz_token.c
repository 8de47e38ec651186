/* SPDX-License-Identifier: Apache-2.0
 *
 * Fuzzing what is text: tokens, bindings and key rings. The first byte of the input says which.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/binding.h"
#include "lib/token.h"

#define NOW 1800000000

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char ring_file[64];
static struct keyring *ring;
static struct token_claims claims;

static void must(bool kept)
{
	if (!kept)
		abort();
}

static int load(struct keyring **out, struct span text, char *error, size_t error_size)
{
	int fd = open(ring_file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	must(fd >= 0 && write(fd, text.data, text.len) == (ssize_t)text.len);
	close(fd);
	return keyring_load(out, ring_file, geteuid(), error, error_size);
}

static void remove_file(void)
{
	unlink(ring_file);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static const char text[] = "k1 sign AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8= *\n";
	char error[128];

	(void)argc;
	(void)argv;
	must(sodium_init() >= 0);
	snprintf(ring_file, sizeof(ring_file), "/dev/shm/handoff-fuzz.%d", getpid());
	atexit(remove_file);
	must(load(&ring, span_of(text, sizeof(text) - 1), error, sizeof(error)) == 0);
	claims.binding = SPAN_LITERAL("v1;192.0.2.7;40112;AAECAwQFBgcICQoLDA0ODw");
	claims.socket_path = SPAN_LITERAL("/run/a.sock");
	token_digest(claims.data_digest, SPAN_LITERAL("data"));
	return 0;
}

/* Only the token that the key's owner would make is accepted. */
static void check_token(struct span text)
{
	char kid[KEYRING_KID_MAX + 1], again[TOKEN_MAX];
	enum reason reason = token_verify(ring, text, &claims, NOW, kid);

	must(reason >= REASON_OK && reason < REASON_COUNT);
	must((kid[0] == '\0') == (reason == REASON_TOKEN_MALFORMED || reason == REASON_TOKEN_MISSING));
	/* Three outcomes are told only to who knows the key. */
	if (reason != REASON_OK && reason != REASON_TOKEN_EXPIRED && reason != REASON_TOKEN_FUTURE)
		return;
	char copy[TOKEN_MAX] = "";
	must(text.len < sizeof(copy));
	memcpy(copy, text.data, text.len);
	int len = token_sign(again, keyring_at(ring, 0), &claims, strtoull(copy + 6, NULL, 10));
	must(len > 0 && span_equal(text, span_of(again, (size_t)len)));
}

/* A binding that names this peer is the one text that this peer and its challenge have. */
static void check_binding(struct span text)
{
	struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = htons(40112)};
	char again[BINDING_MAX];
	uint8_t challenge[BINDING_CHALLENGE_LEN];
	size_t len;

	inet_pton(AF_INET, "192.0.2.7", &peer.sin_addr);
	int result = binding_check_peer(text, (struct sockaddr *)&peer);
	must(result == 0 || result == -EINVAL || result == -EACCES);
	if (result != 0)
		return;
	const char *last = (const char *)text.data + text.len - 22;
	must(sodium_base642bin(challenge, sizeof(challenge), last, 22, NULL, &len, NULL,
	                       sodium_base64_VARIANT_URLSAFE_NO_PADDING) == 0);
	int made = binding_format(again, (struct sockaddr *)&peer, challenge);
	must(made > 0 && span_equal(text, span_of(again, (size_t)made)));
}

static void check_keyring(struct span text)
{
	struct keyring *loaded;
	char error[256] = "";

	if (load(&loaded, text, error, sizeof(error)) != 0) {
		must(loaded == NULL && strncmp(error, ring_file, strlen(ring_file)) == 0);
		return;
	}
	must(keyring_count(loaded) >= 1 && keyring_count(loaded) <= KEYRING_KEYS_MAX);
	for (size_t i = 0; i < keyring_count(loaded); i++) {
		const struct keyring_key *key = keyring_at(loaded, i);
		must(keyring_find(loaded, span_of_string(key->kid)) == key);
		must(key->paths[0] != NULL && key->state <= KEY_REVOKED);
		for (char **path = key->paths; *path; path++)
			must(keyring_key_allows(key, span_of_string(*path)));
	}
	keyring_free(loaded);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	struct span text = span_of(data + 1, size - 1);
	if (data[0] == 't')
		check_token(text);
	else if (data[0] == 'b')
		check_binding(text);
	else if (data[0] == 'k')
		check_keyring(text);
	return 0;
}
