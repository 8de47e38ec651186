/* SPDX-License-Identifier: Apache-2.0
 *
 * Binding and base64: one text for each value, and a binding names one peer.
 */
#include "lib/base64.h"
#include "lib/binding.h"
#include "lib_support.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sodium.h>
#include <sys/un.h>

static const uint8_t challenge[BINDING_CHALLENGE_LEN] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

/* An IPv4 or IPv6 address and a port. */
static struct sockaddr_storage peer_of(const char *address, uint16_t port)
{
	struct sockaddr_storage peer = {0};
	struct sockaddr_in *in = (struct sockaddr_in *)&peer;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&peer;

	if (strchr(address, ':')) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
		assert_int_equal(inet_pton(AF_INET6, address, &in6->sin6_addr), 1);
	} else {
		in->sin_family = AF_INET;
		in->sin_port = htons(port);
		assert_int_equal(inet_pton(AF_INET, address, &in->sin_addr), 1);
	}
	return peer;
}

static int check_bytes(struct span binding, const char *address, uint16_t port)
{
	struct sockaddr_storage peer = peer_of(address, port);

	return binding_check_peer(binding, (struct sockaddr *)&peer);
}

static int check(const char *binding, const char *address, uint16_t port)
{
	return check_bytes(span_of_string(binding), address, port);
}

static void format_of(const char *address, uint16_t port, const char *wanted)
{
	struct sockaddr_storage peer = peer_of(address, port);
	char out[BINDING_MAX];

	int len = binding_format(out, (struct sockaddr *)&peer, challenge);
	assert_int_equal(len, strlen(wanted));
	assert_string_equal(out, wanted);
	assert_int_equal(check(out, address, port), 0);
}

static void formats(void **state)
{
	(void)state;
	format_of("192.0.2.7", 40112, "v1;192.0.2.7;40112;AAECAwQFBgcICQoLDA0ODw");
	format_of("0.0.0.0", 0, "v1;0.0.0.0;0;AAECAwQFBgcICQoLDA0ODw");
	format_of("255.255.255.255", 65535, "v1;255.255.255.255;65535;AAECAwQFBgcICQoLDA0ODw");
	format_of("2001:db8::1", 443, "v1;2001:db8::1;443;AAECAwQFBgcICQoLDA0ODw");
	format_of("::ffff:192.0.2.7", 1, "v1;::ffff:192.0.2.7;1;AAECAwQFBgcICQoLDA0ODw");
	format_of("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe", 65535,
	          "v1;ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe;65535;AAECAwQFBgcICQoLDA0ODw");
}

static void other_families(void **state)
{
	struct sockaddr_un peer = {.sun_family = AF_UNIX};
	char out[BINDING_MAX];

	(void)state;
	assert_int_equal(binding_format(out, (struct sockaddr *)&peer, challenge), -EAFNOSUPPORT);
	assert_int_equal(
	    binding_check_peer(SPAN_LITERAL("v1;192.0.2.7;1;AAECAwQFBgcICQoLDA0ODw"), (struct sockaddr *)&peer),
	    -EACCES);
}

static void other_peers(void **state)
{
	const char *binding = "v1;192.0.2.7;40112;AAECAwQFBgcICQoLDA0ODw";

	(void)state;
	assert_int_equal(check(binding, "192.0.2.7", 40112), 0);
	assert_int_equal(check(binding, "192.0.2.7", 40113), -EACCES);
	assert_int_equal(check(binding, "192.0.2.8", 40112), -EACCES);
	assert_int_equal(check(binding, "192.0.2.70", 40112), -EACCES);
	assert_int_equal(check(binding, "::ffff:192.0.2.7", 40112), -EACCES);
	assert_int_equal(check(binding, "::1", 40112), -EACCES);
}

static void malformed(void **state)
{
	static const char *const texts[] = {
	    "",
	    "v1",
	    ";;;",
	    "v1;;;",
	    "v2;192.0.2.7;40112;AAECAwQFBgcICQoLDA0ODw",
	    "V1;192.0.2.7;40112;AAECAwQFBgcICQoLDA0ODw",
	    " v1;192.0.2.7;40112;AAECAwQFBgcICQoLDA0ODw",
	    "v1;192.0.2.7;40112;AAECAwQFBgcICQoLDA0ODw ",
	    "v1;192.0.2.7;40112;AAECAwQFBgcICQoLDA0ODw\n",
	    "v1;192.0.2.7;40112;AAECAwQFBgcICQoLDA0ODw;",
	    "v1;192.0.2.7;40112;AAECAwQFBgcICQoLDA0ODw;x",
	    "v1;192.0.2.7;40112",
	    "v1;192.0.2.7;40112;",
	    "v1;192.0.2.7;40112;AAECAwQFBgcICQoLDA0OD",
	    "v1;192.0.2.7;40112;AAECAwQFBgcICQoLDA0ODww",
	    "v1;192.0.2.7;40112;AAECAwQFBgcICQoLDA0ODx",   /* unused bits set */
	    "v1;192.0.2.7;40112;AAECAwQFBgcICQoLDA0ODw==", /* padding */
	    "v1;192.0.2.7;40112;AAECAwQFBgcICQoLDA0O+/",
	    "v1;192.0.2.7;40112;AAECAwQFBgcICQ oLDA0ODw",
	    "v1;192.0.2.7;40112;AAECAwQFBgcICQo\xffLDA0ODw",
	    "v1;192.0.2.7;040112;AAECAwQFBgcICQoLDA0ODw",
	    "v1;192.0.2.7;00;AAECAwQFBgcICQoLDA0ODw",
	    "v1;192.0.2.7;+40112;AAECAwQFBgcICQoLDA0ODw",
	    "v1;192.0.2.7; 40112;AAECAwQFBgcICQoLDA0ODw",
	    "v1;192.0.2.7;-1;AAECAwQFBgcICQoLDA0ODw",
	    "v1;192.0.2.7;65536;AAECAwQFBgcICQoLDA0ODw",
	    "v1;192.0.2.7;105648;AAECAwQFBgcICQoLDA0ODw",
	    "v1;192.0.2.7;;AAECAwQFBgcICQoLDA0ODw",
	    "v1;192.0.2.07;40112;AAECAwQFBgcICQoLDA0ODw",
	    "v1;192.0.2;40112;AAECAwQFBgcICQoLDA0ODw",
	    "v1;192.0.2.256;40112;AAECAwQFBgcICQoLDA0ODw",
	    "v1;example.com;40112;AAECAwQFBgcICQoLDA0ODw",
	    "v1;[::1];443;AAECAwQFBgcICQoLDA0ODw",
	    "v1;0:0:0:0:0:0:0:1;443;AAECAwQFBgcICQoLDA0ODw",
	    "v1;2001:DB8::1;443;AAECAwQFBgcICQoLDA0ODw",
	    "v1;fe80::1%eth0;443;AAECAwQFBgcICQoLDA0ODw",
	    "v1,192.0.2.7,40112,AAECAwQFBgcICQoLDA0ODw",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (check(texts[i], "192.0.2.7", 40112) != -EINVAL)
			fail_msg("not refused: %s", texts[i]);
}

static void malformed_bytes(void **state)
{
	char text[] = "v1;192.0.2.7;40112;AAECAwQFBgcICQoLDA0ODw", longer[BINDING_MAX + 10];
	size_t len = strlen(text);

	(void)state;
	assert_int_equal(check_bytes(SPAN_EMPTY, "192.0.2.7", 40112), -EINVAL);
	for (size_t cut = 0; cut < len; cut++) {
		char *copy = malloc(cut + 1);
		memcpy(copy, text, cut);
		assert_int_equal(check_bytes(span_of(copy, cut), "192.0.2.7", 40112), -EINVAL);
		free(copy);
	}
	/* A NUL that ends the text for strcmp() must not end it for us. */
	assert_int_equal(check_bytes(span_of(text, len + 1), "192.0.2.7", 40112), -EINVAL);
	memset(longer, 'A', sizeof(longer));
	memcpy(longer, text, len);
	for (size_t n = len + 1; n <= sizeof(longer); n++)
		assert_int_equal(check_bytes(span_of(longer, n), "192.0.2.7", 40112), -EINVAL);
	for (size_t i = 0; i < 19; i++) {
		for (int c = 0; c < 256; c++) {
			char right = text[i];
			text[i] = (char)c;
			if (text[i] != right)
				assert_int_not_equal(check_bytes(span_of(text, len), "192.0.2.7", 40112), 0);
			text[i] = right;
		}
	}
}

/* ---------------------------------------------------------------- base64 */

static void base64_one_text(void **state)
{
	const uint8_t bytes[4] = {0xfb, 0xff, 0xfe, 0x80};
	uint8_t out[4];

	(void)state;
	assert_true(base64_decode(out, 4, SPAN_LITERAL("-__-gA"), BASE64_URL));
	assert_memory_equal(out, bytes, 4);
	assert_true(base64_decode(out, 4, SPAN_LITERAL("+//+gA=="), BASE64_STANDARD));
	assert_memory_equal(out, bytes, 4);
	assert_false(base64_decode(out, 4, SPAN_LITERAL("-__-gA=="), BASE64_URL));
	assert_false(base64_decode(out, 4, SPAN_LITERAL("+//+gA"), BASE64_URL));
	assert_false(base64_decode(out, 4, SPAN_LITERAL("-__-gA=="), BASE64_STANDARD));
	assert_false(base64_decode(out, 4, SPAN_LITERAL("+//+gA"), BASE64_STANDARD));
	assert_false(base64_decode(out, 4, SPAN_LITERAL("+//+gA=A"), BASE64_STANDARD));
	assert_false(base64_decode(out, 3, SPAN_LITERAL("-__-gA"), BASE64_URL));
	assert_false(base64_decode(out, 4, SPAN_EMPTY, BASE64_URL));
}

/* Whatever is accepted is written the same again. */
static void base64_every_pair(void **state)
{
	char text[2], again[8];
	uint8_t out[1];

	(void)state;
	for (int i = 0; i < 65536; i++) {
		text[0] = (char)(i & 0xff);
		text[1] = (char)(i >> 8);
		if (!base64_decode(out, 1, span_of(text, 2), BASE64_URL))
			continue;
		sodium_bin2base64(again, sizeof(again), out, 1, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
		assert_memory_equal(text, again, 2);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(formats),           cmocka_unit_test(other_families),  cmocka_unit_test(other_peers),
	    cmocka_unit_test(malformed),         cmocka_unit_test(malformed_bytes), cmocka_unit_test(base64_one_text),
	    cmocka_unit_test(base64_every_pair),
	};

	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
