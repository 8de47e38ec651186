/* SPDX-License-Identifier: Apache-2.0
 *
 * Token v1 against the vectors that an independent program made, and against every way to spoil a token.
 */
#include "lib/token.h"
#include "lib_support.h"

#include <errno.h>
#include <jansson.h>
#include <sodium.h>

#define VECTORS_FILE "tests/vectors/token-v1.json"
#define NOW          1800000000

static json_t *vectors;

static struct span member_text(const json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);

	assert_true(json_is_string(value));
	return span_of(json_string_value(value), json_string_length(value));
}

/* The bytes of a member in hexadecimal; free() them. */
static struct span member_hex(const json_t *object, const char *name)
{
	struct span text = member_text(object, name);
	uint8_t *bytes = malloc(text.len / 2 + 1);
	size_t len;

	assert_non_null(bytes);
	assert_int_equal(sodium_hex2bin(bytes, text.len / 2 + 1, (const char *)text.data, text.len, NULL, &len, NULL),
	                 0);
	assert_int_equal(len, text.len / 2);
	return span_of(bytes, len);
}

static struct token_claims member_claims(const json_t *object)
{
	struct token_claims claims = {
	    .binding = member_text(object, "binding"),
	    .socket_path = member_text(object, "socket_path"),
	    .subject = member_text(object, "subject"),
	};
	struct span data = member_hex(object, "data");

	token_digest(claims.data_digest, data);
	free((void *)data.data);
	return claims;
}

/* ---------------------------------------------------------------- vectors */

static void vectors_sign(void **state)
{
	const json_t *vector;
	size_t i;

	(void)state;
	assert_true(json_array_size(json_object_get(vectors, "sign")) >= 20);
	json_array_foreach(json_object_get(vectors, "sign"), i, vector)
	{
		struct token_claims claims = member_claims(vector);
		struct span secret = member_hex(vector, "key"), digest = member_hex(vector, "digest");
		struct span pae = member_hex(vector, "pae"), mac = member_hex(vector, "mac");
		crypto_auth_hmacsha512256_state begun;
		struct keyring_key key = {.state = KEY_SIGN, .secret = secret.data, .mac = &begun};
		uint8_t whole[crypto_auth_BYTES];
		char out[TOKEN_MAX];

		strcpy(key.kid, json_string_value(json_object_get(vector, "kid")));
		assert_int_equal(secret.len, KEYRING_KEY_LEN);
		assert_true(span_equal(digest, span_of(claims.data_digest, TOKEN_DIGEST_LEN)));
		crypto_auth_hmacsha512256_init(&begun, secret.data, secret.len);
		/* What token.c feeds in pieces is crypto_auth() of the whole. */
		crypto_auth(whole, pae.data, pae.len, secret.data);
		assert_true(span_equal(mac, span_of(whole, sizeof(whole))));
		int len = token_sign(out, &key, &claims, (uint64_t)json_integer_value(json_object_get(vector, "exp")));
		assert_int_equal(len, strlen(out));
		assert_string_equal(out, json_string_value(json_object_get(vector, "token")));
		free((void *)secret.data);
		free((void *)digest.data);
		free((void *)pae.data);
		free((void *)mac.data);
	}
}

static void vectors_verify(void **state)
{
	struct keyring *ring = keyring_of(json_string_value(json_object_get(vectors, "keyring")));
	const json_t *vector;
	size_t i;

	(void)state;
	assert_true(json_array_size(json_object_get(vectors, "verify")) >= 70);
	json_array_foreach(json_object_get(vectors, "verify"), i, vector)
	{
		struct token_claims claims = member_claims(vector);
		time_t now = (time_t)json_integer_value(json_object_get(vector, "now"));
		const char *wanted = json_string_value(json_object_get(vector, "reason"));
		enum reason reason = token_verify(ring, member_text(vector, "token"), &claims, now, NULL);

		if (strcmp(reason_name(reason), wanted) != 0)
			fail_msg("%s: %s instead of %s", json_string_value(json_object_get(vector, "name")),
			         reason_name(reason), wanted);
	}
	keyring_free(ring);
}

/* ---------------------------------------------------------------- a token spoiled */

struct fixture {
	struct keyring *ring;
	struct token_claims claims;
	char token[TOKEN_MAX];
	size_t len;
};

static int fixture_make(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	fixture->ring = keyring_of("k1 sign AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8= /run/a.sock\n"
	                           "k2 sign ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8= *\n");
	fixture->claims.binding = SPAN_LITERAL("v1;192.0.2.7;40112;AAECAwQFBgcICQoLDA0ODw");
	fixture->claims.socket_path = SPAN_LITERAL("/run/a.sock");
	fixture->claims.subject = SPAN_LITERAL("user-42");
	token_digest(fixture->claims.data_digest, SPAN_LITERAL("data"));
	int len = token_sign(fixture->token, keyring_at(fixture->ring, 0), &fixture->claims, NOW + 30);
	assert_true(len > 0);
	fixture->len = (size_t)len;
	*state = fixture;
	return 0;
}

static int fixture_free(void **state)
{
	struct fixture *fixture = *state;

	keyring_free(fixture->ring);
	free(fixture);
	return 0;
}

static enum reason verify(const struct fixture *fixture, const void *token, size_t len)
{
	return token_verify(fixture->ring, span_of(token, len), &fixture->claims, NOW, NULL);
}

static void every_bit_counts(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(verify(fixture, fixture->token, fixture->len), REASON_OK);
	for (size_t bit = 0; bit < fixture->len * 8; bit++) {
		fixture->token[bit / 8] = (char)(fixture->token[bit / 8] ^ (1 << (bit % 8)));
		assert_int_not_equal(verify(fixture, fixture->token, fixture->len), REASON_OK);
		fixture->token[bit / 8] = (char)(fixture->token[bit / 8] ^ (1 << (bit % 8)));
	}
	for (size_t bit = 0; bit < sizeof(fixture->claims.data_digest) * 8; bit++) {
		fixture->claims.data_digest[bit / 8] ^= (uint8_t)(1 << (bit % 8));
		assert_int_equal(verify(fixture, fixture->token, fixture->len), REASON_TOKEN_MAC);
		fixture->claims.data_digest[bit / 8] ^= (uint8_t)(1 << (bit % 8));
	}
	assert_int_equal(verify(fixture, fixture->token, fixture->len), REASON_OK);
}

static void every_other_byte_is_refused(void **state)
{
	struct fixture *fixture = *state;

	for (size_t i = 0; i < fixture->len; i++) {
		char right = fixture->token[i];
		for (int c = 0; c < 256; c++) {
			fixture->token[i] = (char)c;
			if (fixture->token[i] != right)
				assert_int_not_equal(verify(fixture, fixture->token, fixture->len), REASON_OK);
		}
		fixture->token[i] = right;
	}
}

static void truncated_or_extended(void **state)
{
	struct fixture *fixture = *state;
	char longer[TOKEN_MAX + 1];

	assert_int_equal(verify(fixture, NULL, 0), REASON_TOKEN_MISSING);
	for (size_t len = 1; len < fixture->len; len++) {
		/* Exactly so large, so that a sanitizer sees a read behind the end. */
		char *copy = malloc(len);
		assert_non_null(copy);
		memcpy(copy, fixture->token, len);
		assert_int_equal(verify(fixture, copy, len), REASON_TOKEN_MALFORMED);
		free(copy);
	}
	memcpy(longer, fixture->token, fixture->len);
	for (int c = 0; c < 256; c++) {
		longer[fixture->len] = (char)c;
		assert_int_equal(verify(fixture, longer, fixture->len + 1), REASON_TOKEN_MALFORMED);
	}
}

static void claims_changed(void **state)
{
	struct fixture *fixture = *state;
	const struct token_claims right = fixture->claims;

	fixture->claims.binding = SPAN_LITERAL("v1;192.0.2.7;40113;AAECAwQFBgcICQoLDA0ODw");
	assert_int_equal(verify(fixture, fixture->token, fixture->len), REASON_TOKEN_MAC);
	fixture->claims = right;
	fixture->claims.subject = SPAN_EMPTY;
	assert_int_equal(verify(fixture, fixture->token, fixture->len), REASON_TOKEN_MAC);
	fixture->claims = right;
	fixture->claims.socket_path = SPAN_LITERAL("/run/b.sock");
	assert_int_equal(verify(fixture, fixture->token, fixture->len), REASON_TOKEN_KEY_FORBIDDEN);
	fixture->claims.socket_path = SPAN_LITERAL("/run/a.soc");
	assert_int_equal(verify(fixture, fixture->token, fixture->len), REASON_TOKEN_KEY_FORBIDDEN);
	fixture->claims.socket_path = SPAN_LITERAL("/run/a.sock\0");
	assert_int_equal(verify(fixture, fixture->token, fixture->len), REASON_TOKEN_KEY_FORBIDDEN);
	fixture->claims.socket_path = SPAN_EMPTY;
	assert_int_equal(verify(fixture, fixture->token, fixture->len), REASON_TOKEN_KEY_FORBIDDEN);
}

static void absent_and_empty_are_the_same(void **state)
{
	struct fixture *fixture = *state;

	fixture->claims.subject = SPAN_EMPTY;
	int len = token_sign(fixture->token, keyring_at(fixture->ring, 0), &fixture->claims, NOW + 30);
	fixture->claims.subject = SPAN_LITERAL("");
	assert_int_equal(verify(fixture, fixture->token, (size_t)len), REASON_OK);
}

static void time_limits(void **state)
{
	struct fixture *fixture = *state;
	struct span token = span_of(fixture->token, fixture->len);
	const struct {
		time_t now;
		enum reason reason;
	} cases[] = {
	    {NOW + 30, REASON_OK},
	    {NOW + 35, REASON_OK},
	    {NOW + 36, REASON_TOKEN_EXPIRED},
	    {NOW - 30, REASON_OK},
	    {NOW - 31, REASON_TOKEN_FUTURE},
	    {0, REASON_TOKEN_FUTURE},
	    {-1, REASON_TOKEN_FUTURE},
	    {(time_t)INT64_MIN, REASON_TOKEN_FUTURE},
	    {(time_t)INT64_MAX, REASON_TOKEN_EXPIRED},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(token_verify(fixture->ring, token, &fixture->claims, cases[i].now, NULL),
		                 cases[i].reason);
}

static void kid_is_reported(void **state)
{
	struct fixture *fixture = *state;
	char kid[KEYRING_KID_MAX + 1] = "before";

	assert_int_equal(token_verify(fixture->ring, SPAN_EMPTY, &fixture->claims, NOW, kid), REASON_TOKEN_MISSING);
	assert_string_equal(kid, "");
	strcpy(kid, "before");
	assert_int_equal(token_verify(fixture->ring, SPAN_LITERAL("v1.k1.1.x"), &fixture->claims, NOW, kid),
	                 REASON_TOKEN_MALFORMED);
	assert_string_equal(kid, "");
	fixture->token[fixture->len - 2] ^= 1;
	assert_int_equal(token_verify(fixture->ring, span_of(fixture->token, fixture->len), &fixture->claims, NOW, kid),
	                 REASON_TOKEN_MAC);
	assert_string_equal(kid, "k1");
	fixture->token[1] = '2';
	assert_int_equal(token_verify(fixture->ring, span_of(fixture->token, fixture->len), &fixture->claims, NOW, kid),
	                 REASON_TOKEN_VERSION);
	assert_string_equal(kid, "k1");
}

static void sign_refuses(void **state)
{
	struct fixture *fixture = *state;
	const struct keyring_key *key = keyring_at(fixture->ring, 0);

	assert_int_equal(token_sign(fixture->token, key, &fixture->claims, 0), -EINVAL);
	assert_int_equal(token_sign(fixture->token, key, &fixture->claims, 10000000000), -EINVAL);
	assert_int_equal(token_sign(fixture->token, key, &fixture->claims, UINT64_MAX), -EINVAL);
	assert_true(token_sign(fixture->token, key, &fixture->claims, 9999999999) > 0);
}

/* ---------------------------------------------------------------- reasons */

static void reasons_are_distinct(void **state)
{
	(void)state;
	for (int i = 0; i < REASON_COUNT; i++) {
		assert_true(strlen(reason_name((enum reason)i)) > 0);
		assert_true(strlen(reason_meaning((enum reason)i)) > 0);
		assert_in_range(reason_status((enum reason)i), 200, 599);
		for (int j = 0; j < i; j++)
			assert_string_not_equal(reason_name((enum reason)i), reason_name((enum reason)j));
	}
	assert_int_equal(reason_status(REASON_OK), 200);
	assert_int_equal(reason_status(REASON_TOKEN_MAC), 403);
	assert_int_equal(reason_status(REASON_RATE_LIMITED), 429);
}

static void reasons_out_of_range(void **state)
{
	const int numbers[] = {REASON_COUNT, -1, 65535};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		assert_string_equal(reason_name((enum reason)numbers[i]), "unknown");
		assert_non_null(reason_meaning((enum reason)numbers[i]));
		assert_int_equal(reason_status((enum reason)numbers[i]), 500);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(vectors_sign),
	    cmocka_unit_test(vectors_verify),
	    cmocka_unit_test_setup_teardown(every_bit_counts, fixture_make, fixture_free),
	    cmocka_unit_test_setup_teardown(every_other_byte_is_refused, fixture_make, fixture_free),
	    cmocka_unit_test_setup_teardown(truncated_or_extended, fixture_make, fixture_free),
	    cmocka_unit_test_setup_teardown(claims_changed, fixture_make, fixture_free),
	    cmocka_unit_test_setup_teardown(absent_and_empty_are_the_same, fixture_make, fixture_free),
	    cmocka_unit_test_setup_teardown(time_limits, fixture_make, fixture_free),
	    cmocka_unit_test_setup_teardown(kid_is_reported, fixture_make, fixture_free),
	    cmocka_unit_test_setup_teardown(sign_refuses, fixture_make, fixture_free),
	    cmocka_unit_test(reasons_are_distinct),
	    cmocka_unit_test(reasons_out_of_range),
	};
	json_error_t error;

	if (sodium_init() < 0)
		return 1;
	vectors = json_load_file(VECTORS_FILE, JSON_ALLOW_NUL, &error);
	if (!vectors) {
		fprintf(stderr, "%s:%d: %s\n", VECTORS_FILE, error.line, error.text);
		return 1;
	}
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	json_decref(vectors);
	return failed;
}
