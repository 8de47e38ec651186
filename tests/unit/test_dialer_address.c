/* SPDX-License-Identifier: Apache-2.0
 *
 * Which addresses a name may lead to, and how long an upstream is left alone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

#include "daemon/dialer/address.h"
#include "daemon/dialer/backoff.h"

/* The first and the last address of each range, and their neighbours. */
static const char *const not_public[] = {
    "0.0.0.0",
    "0.255.255.255",
    "10.0.0.0",
    "10.255.255.255",
    "100.64.0.0",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.255",
    "169.254.0.0",
    "169.254.169.254",
    "172.16.0.0",
    "172.31.255.255",
    "192.0.0.0",
    "192.0.0.255",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.0",
    "192.168.255.255",
    "198.18.0.0",
    "198.19.255.255",
    "198.51.100.7",
    "203.0.113.255",
    "224.0.0.0",
    "239.255.255.255",
    "240.0.0.0",
    "255.255.255.255",
    /* IPv6 */
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "64:ff9b::127.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::8.8.8.8",
    "100::1",
    "2001::1",
    "2001:1ff::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "2002:808:808::1",
    "3fff::1",
    "3fff:fff::1",
    "4000::1",
    "fc00::1",
    "fdff::1",
    "fe80::1",
    "febf::1",
    "fec0::1",
    "ff02::1",
    "ffff::1",
};
static const char *const public[] = {
    "1.0.0.0",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "169.253.255.255",
    "169.255.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.0",
    "192.0.3.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "203.0.112.255",
    "203.0.114.0",
    "223.255.255.255",
    /* IPv6 */
    "64:ff9b::8.8.8.8",
    "2001:200::1",
    "2001:db7::1",
    "2001:db9::1",
    "2003::1",
    "2606:4700::1",
    "3ffe::1",
    "3fff:1000::1",
};

static void test_public(void **state)
{
	union address address;

	(void)state;
	for (size_t i = 0; i < sizeof(not_public) / sizeof(not_public[0]); i++) {
		assert_true(address_parse(not_public[i], &address));
		if (address_is_public(&address))
			fail_msg("%s is said to be public", not_public[i]);
	}
	for (size_t i = 0; i < sizeof(public) / sizeof(public[0]); i++) {
		assert_true(address_parse(public[i], &address));
		if (!address_is_public(&address))
			fail_msg("%s is said not to be public", public[i]);
	}
	assert_false(address_parse("example.org", &address));
	assert_false(address_parse("127.1", &address));
}

static void test_backoff(void **state)
{
	struct backoff backoff = {0};

	(void)state;
	backoff_failed(&backoff, 0., 1., -ECONNREFUSED);
	assert_int_equal(backoff_error(&backoff, 1.), 0);
	/* It began before the other failed. */
	backoff_failed(&backoff, 0.5, 1.1, -ETIMEDOUT);
	assert_int_equal(backoff_error(&backoff, 1.1), 0);
	backoff_failed(&backoff, 2., 2., -ETIMEDOUT);
	assert_int_equal(backoff_error(&backoff, 2.09), -ETIMEDOUT);
	assert_int_equal(backoff_error(&backoff, 2.11), 0);
	backoff_failed(&backoff, 3., 3., -ECONNREFUSED);
	assert_int_equal(backoff_error(&backoff, 3.19), -ECONNREFUSED);
	assert_int_equal(backoff_error(&backoff, 3.21), 0);
	for (int i = 4; i < 5000; i += 3)
		backoff_failed(&backoff, i, i, -ECONNREFUSED);
	backoff_failed(&backoff, 6000., 6000., -ECONNREFUSED);
	assert_int_equal(backoff_error(&backoff, 6001.9), -ECONNREFUSED);
	assert_int_equal(backoff_error(&backoff, 6002.1), 0);
	backoff_succeeded(&backoff);
	backoff_failed(&backoff, 6000.5, 6001., -ECONNREFUSED);
	assert_int_equal(backoff_error(&backoff, 6001.), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_public),
	    cmocka_unit_test(test_backoff),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
