/* SPDX-License-Identifier: Apache-2.0
 *
 * When an upstream is asked, and who gets one of a limited number of connections.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

#include "daemon/common/log.h"
#include "daemon/streamer/breaker.h"
#include "daemon/streamer/places.h"

static const struct config_upstream upstream = {.name = "up", .breaker_failures = 3, .breaker_time_s = 10};

static bool ask(struct breaker *breaker, int64_t now_ms, bool *probe)
{
	unsigned retry_after;
	bool allowed = breaker_ask(breaker, now_ms, probe, &retry_after);

	assert_true(allowed ? retry_after == 0 : retry_after > 0 && retry_after <= upstream.breaker_time_s);
	return allowed;
}

static void test_breaker(void **state)
{
	struct breaker breaker = {.upstream = &upstream};
	unsigned retry_after;
	bool probe;

	(void)state;
	breaker_failed(&breaker, 0);
	breaker_failed(&breaker, 0);
	breaker_succeeded(&breaker); /* not in a row */
	breaker_failed(&breaker, 0);
	breaker_failed(&breaker, 0);
	assert_true(ask(&breaker, 0, &probe) && !probe);
	breaker_failed(&breaker, 1000);
	assert_false(breaker_ask(&breaker, 1001, &probe, &retry_after));
	assert_int_equal(retry_after, 10);
	breaker_failed(&breaker, 5000); /* was under way, prolongs nothing */
	assert_false(breaker_ask(&breaker, 10999, &probe, &retry_after));
	assert_int_equal(retry_after, 1);
	/* One probe at a time, until somebody knows. */
	assert_true(ask(&breaker, 11000, &probe) && probe);
	assert_false(ask(&breaker, 11000, &probe));
	breaker_forget(&breaker);
	assert_true(ask(&breaker, 11001, &probe) && probe);
	breaker_failed(&breaker, 12000);
	assert_false(ask(&breaker, 21999, &probe));
	assert_true(ask(&breaker, 22000, &probe) && probe);
	breaker_succeeded(&breaker);
	assert_true(ask(&breaker, 22000, &probe) && !probe);
	breaker_failed(&breaker, 22000);
	assert_true(ask(&breaker, 22000, &probe) && !probe);
}

#define N_PLACES 4
static struct place seats[N_PLACES];
static int results[N_PLACES];
static size_t order[N_PLACES], n_told;

static void told(struct place *place, int rc)
{
	results[place - seats] = rc;
	order[n_told++] = (size_t)(place - seats);
}

static void test_places(void **state)
{
	struct ev_loop *loop = ev_loop_new(EVFLAG_AUTO);
	struct places places;

	(void)state;
	places_init(&places, loop, 1, 50);
	for (size_t i = 0; i < N_PLACES; i++) {
		seats[i].done = told;
		results[i] = 1;
		assert_int_equal(places_take(&places, &seats[i]), i == 0);
	}
	/* The first that waits leaves; the second gets the place, and nobody from within. */
	places_leave(&places, &seats[1]);
	places_leave(&places, &seats[0]);
	places_leave(&places, &seats[0]);
	assert_int_equal(n_told, 0);
	/* Who comes now does not overtake. */
	assert_false(places_take(&places, &seats[0]));
	ev_run(loop, EVRUN_ONCE);
	assert_int_equal(n_told, 1);
	assert_int_equal(order[0], 2);
	assert_int_equal(results[2], 0);
	/* Nobody leaves any more: the others hear so, in order. */
	ev_run(loop, 0);
	assert_int_equal(n_told, 3);
	assert_int_equal(order[1], 3);
	assert_int_equal(order[2], 0);
	assert_int_equal(results[3], -EBUSY);
	assert_int_equal(results[0], -EBUSY);
	assert_int_equal(results[1], 1);
	places_leave(&places, &seats[2]);
	assert_int_equal(places.n_taken, 0);
	assert_true(places_take(&places, &seats[1]));
	ev_loop_destroy(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_breaker),
	    cmocka_unit_test(test_places),
	};

	log_level(LOG_CRIT);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
