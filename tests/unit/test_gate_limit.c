/* SPDX-License-Identifier: Apache-2.0
 *
 * Limits of listeners and subjects: what is let in, when it may come again, and that nothing is left behind.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "daemon/gate/limit.h"

#define SECOND_US ((int64_t)1000000)

static struct limiter limiter;
static void *tickets;
static uint64_t next_id;

static enum reason enter(const char *subject, int64_t now_us, unsigned *retry_after)
{
	struct ticket *ticket = NULL;
	enum reason reason = limiter_enter(&limiter, span_of_string(subject), now_us, &ticket, retry_after);

	if (reason == REASON_OK)
		tickets_add(&tickets, ticket, ++next_id);
	else
		assert_null(ticket);
	return reason;
}

static void start(const struct config_listen *config)
{
	limiter_init(&limiter, config);
	tickets = NULL;
	next_id = 0;
}

/* End what runs, and have the limiter forget all subjects: one handoff much later, which a full listener refuses before
 * its own subject would be remembered. The sanitizers see what is lost. */
static void finish(void)
{
	static const struct config_listen full = {.max_streams = 1};
	unsigned retry_after = 0;

	tickets_end_all(&tickets);
	assert_int_equal(limiter.quota.streams, 0);
	limiter.config = &full;
	limiter.quota.streams = 1;
	assert_int_equal(enter("", INT64_MAX / 2, &retry_after), REASON_STREAMS_LIMITED);
	assert_true(list_empty(&limiter.idle));
	assert_null(limiter.subjects);
}

static void test_none(void **state)
{
	static const struct config_listen config;
	struct ticket *ticket;
	unsigned retry_after = 0;

	(void)state;
	start(&config);
	for (int i = 0; i < 1000; i++) {
		assert_int_equal(limiter_enter(&limiter, SPAN_LITERAL("a"), 1, &ticket, &retry_after), REASON_OK);
		assert_null(ticket); /* does not count */
	}
	ticket_end(NULL);
}

static void test_streams(void **state)
{
	static const struct config_listen config = {.max_streams = 3, .max_streams_per_subject = 2};
	unsigned retry_after = 0;

	(void)state;
	start(&config);
	assert_int_equal(enter("a", 1, &retry_after), REASON_OK);
	assert_int_equal(enter("a", 1, &retry_after), REASON_OK);
	assert_int_equal(enter("a", 1, &retry_after), REASON_STREAMS_LIMITED);
	assert_int_equal(retry_after, 5);
	assert_int_equal(enter("ab", 1, &retry_after), REASON_OK);
	assert_int_equal(enter("b", 1, &retry_after), REASON_STREAMS_LIMITED); /* of the listener */
	tickets_end(&tickets, 1);
	tickets_end(&tickets, 1); /* said twice */
	tickets_end(&tickets, 99);
	assert_int_equal(limiter.quota.streams, 2);
	assert_int_equal(enter("a", 1, &retry_after), REASON_OK);
	assert_int_equal(enter("a", 1, &retry_after), REASON_STREAMS_LIMITED);
	tickets_end_all(&tickets);
	assert_int_equal(limiter.quota.streams, 0);
	assert_int_equal(enter("b", 2, &retry_after), REASON_OK);
	finish();
}

static void test_no_subject(void **state)
{
	static const struct config_listen config = {.max_streams_per_subject = 1};
	unsigned retry_after = 0;

	(void)state;
	start(&config);
	assert_int_equal(enter("", 1, &retry_after), REASON_OK);
	assert_int_equal(enter("", 1, &retry_after), REASON_STREAMS_LIMITED);
	assert_int_equal(enter("x", 1, &retry_after), REASON_OK);
	finish();
}

/* As many as a minute has at once, then one each time that one more is due. */
static void test_rate(void **state)
{
	static const struct config_listen config = {.rate_per_subject = 6};
	unsigned retry_after = 0;
	int64_t now = 1000 * SECOND_US;

	(void)state;
	start(&config);
	for (int i = 0; i < 6; i++)
		assert_int_equal(enter("a", now, &retry_after), REASON_OK);
	assert_int_equal(enter("a", now, &retry_after), REASON_RATE_LIMITED);
	assert_int_equal(retry_after, 10);
	assert_int_equal(enter("b", now, &retry_after), REASON_OK);
	assert_int_equal(enter("a", now + 10 * SECOND_US - 1, &retry_after), REASON_RATE_LIMITED);
	assert_int_equal(retry_after, 1);
	assert_int_equal(enter("a", now + 10 * SECOND_US, &retry_after), REASON_OK);
	assert_int_equal(enter("a", now + 10 * SECOND_US, &retry_after), REASON_RATE_LIMITED);
	/* Refusals cost nothing, and a minute's silence restores all of it. */
	for (int i = 0; i < 6; i++)
		assert_int_equal(enter("a", now + 100 * SECOND_US, &retry_after), REASON_OK);
	assert_int_equal(enter("a", now + 100 * SECOND_US, &retry_after), REASON_RATE_LIMITED);
	finish();
}

static void test_listener_rate_goes_first(void **state)
{
	static const struct config_listen config = {.rate = 2, .rate_per_subject = 100};
	unsigned retry_after = 0;

	(void)state;
	start(&config);
	assert_int_equal(enter("a", 1, &retry_after), REASON_OK);
	assert_int_equal(enter("b", 1, &retry_after), REASON_OK);
	assert_int_equal(enter("c", 1, &retry_after), REASON_RATE_LIMITED);
	assert_int_equal(retry_after, 30);
	finish();
}

static size_t idle_count(void)
{
	size_t n = 0;

	for (struct list *node = limiter.idle.next; node != &limiter.idle; node = node->next)
		n++;
	return n;
}

/* Who comes once does not cost memory for ever. */
static void test_subjects_are_forgotten(void **state)
{
	static const struct config_listen config = {.rate_per_subject = 60};
	unsigned retry_after = 0;
	char name[32];

	(void)state;
	start(&config);
	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "user-%d", i);
		assert_int_equal(enter(name, SECOND_US, &retry_after), REASON_OK);
	}
	assert_int_equal(idle_count(), 0); /* all have a stream */
	tickets_end_all(&tickets);
	assert_int_equal(idle_count(), 1000);
	assert_int_equal(enter("other", 3 * SECOND_US, &retry_after), REASON_OK);
	assert_int_equal(idle_count(), 0);
	tickets_end_all(&tickets);
	assert_int_equal(enter("last", 9 * SECOND_US, &retry_after), REASON_OK);
	finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_none),
	    cmocka_unit_test(test_streams),
	    cmocka_unit_test(test_no_subject),
	    cmocka_unit_test(test_rate),
	    cmocka_unit_test(test_listener_rate_goes_first),
	    cmocka_unit_test(test_subjects_are_forgotten),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
