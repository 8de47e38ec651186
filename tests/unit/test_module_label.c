/* SPDX-License-Identifier: Apache-2.0
 *
 * Security labels of peers: the comparison, and reading them where the kernel has some.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* The module is no program or library that a test could be linked with. */
#include "module/label.c" /* NOLINT(bugprone-suspicious-include) */

static void test_matches(void **state)
{
	static const struct {
		const char *configured, *actual;
		bool same;
	} cases[] = {
	    {"handoffd-gate", "handoffd-gate", true},
	    {"handoffd-gate", "handoffd-gate (enforce)", true},
	    {"handoffd-gate (enforce)", "handoffd-gate (enforce)", true},
	    {"handoffd-gate (complain)", "handoffd-gate (complain)", true},
	    {"handoffd-gate", "handoffd-gate (complain)", false},
	    {"handoffd-gate", "handoffd-gate (kill)", false},
	    {"handoffd-gate", "handoffd-gate2", false},
	    {"handoffd-gate", "handoffd-gate//child (enforce)", false},
	    {"handoffd-gate", "handoffd-gate (enforce) ", false},
	    {"handoffd-gate", "handoffd-gat", false},
	    {"handoffd-gate", "", false},
	    {"handoffd-gate", "Handoffd-gate", false},
	    {"handoffd-gate", "x handoffd-gate", false},
	    {"", "", false},
	    {"", " (enforce)", false},
	    {"unconfined", "unconfined", true},
	    {"system_u:system_r:handoffd_gate_t:s0", "system_u:system_r:handoffd_gate_t:s0", true},
	    {"system_u:system_r:handoffd_gate_t:s0", "system_u:system_r:handoffd_gate_t:s0:c1,c2", false},
	    {"system_u:system_r:handoffd_gate_t:s0", "system_u:system_r:httpd_t:s0", false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (label_matches(cases[i].configured, cases[i].actual) != cases[i].same)
			fail_msg("%s and %s", cases[i].configured, cases[i].actual);
}

static void test_read(void **state)
{
	char *label = (char *)1;
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	int error = label_read(pair[0], &label);
	if (error) { /* no security module here that labels sockets */
		assert_int_equal(error, -ENOPROTOOPT);
		assert_null(label);
	} else {
		assert_true(strlen(label) > 0);
		assert_true(label_matches(label, label));
		free(label);
	}
	close(pair[0]);
	close(pair[1]);
	assert_int_equal(label_read(pair[0], &label), -EBADF);
	assert_null(label);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_matches),
	    cmocka_unit_test(test_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
