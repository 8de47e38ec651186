/* SPDX-License-Identifier: Apache-2.0
 *
 * The launcher's places: who gets one, in which order, and what leaving costs.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/launcher/queue.h"

#define N 8

static struct queue queue;
static struct place places[N];
static struct place *told[2 * N];
static int results[2 * N];
static size_t n_told;
static struct place *enters_when_told;

static void note(struct place *place, int result)
{
	assert_true(n_told < 2 * N);
	told[n_told] = place;
	results[n_told++] = result;
	if (enters_when_told != NULL) {
		struct place *entering = enters_when_told;

		enters_when_told = NULL;
		queue_leave(&queue, place);
		assert_int_equal(queue_enter(&queue, entering), 0);
	}
}

static void start(size_t n_places, size_t longest)
{
	memset(places, 0, sizeof(places));
	n_told = 0;
	enters_when_told = NULL;
	queue_init(&queue, n_places, longest, note);
}

static void assert_counts(size_t given, size_t waiting)
{
	assert_int_equal(queue.n_given, given);
	assert_int_equal(queue.n_waiting, waiting);
}

static void test_places_then_queue_then_nothing(void **state)
{
	(void)state;
	start(2, 3);
	for (size_t i = 0; i < 5; i++) {
		assert_int_equal(queue_enter(&queue, &places[i]), 0);
		assert_int_equal(places[i].state, i < 2 ? PLACE_GIVEN : PLACE_WAITED_FOR);
	}
	assert_int_equal(queue_enter(&queue, &places[5]), -EBUSY);
	assert_int_equal(places[5].state, PLACE_NONE);
	assert_counts(2, 3);
	assert_int_equal(n_told, 0);
}

static void test_first_come_first_served(void **state)
{
	(void)state;
	start(1, 8);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(queue_enter(&queue, &places[i]), 0);
	for (size_t i = 0; i < 4; i++)
		queue_leave(&queue, &places[i]);
	assert_int_equal(n_told, 3);
	for (size_t i = 0; i < 3; i++) {
		assert_ptr_equal(told[i], &places[i + 1]);
		assert_int_equal(results[i], 0);
	}
	assert_counts(0, 0);
}

static void test_who_comes_later_does_not_pass(void **state)
{
	(void)state;
	start(1, 8);
	queue_enter(&queue, &places[0]);
	queue_enter(&queue, &places[1]);
	queue_leave(&queue, &places[0]);
	/* The place went to the one that waited. */
	assert_int_equal(places[1].state, PLACE_GIVEN);
	assert_int_equal(queue_enter(&queue, &places[2]), 0);
	assert_int_equal(places[2].state, PLACE_WAITED_FOR);
	assert_counts(1, 1);
}

static void test_leaving_the_queue(void **state)
{
	(void)state;
	start(1, 3);
	for (size_t i = 0; i < 4; i++)
		queue_enter(&queue, &places[i]);
	queue_leave(&queue, &places[2]);
	assert_counts(1, 2);
	assert_int_equal(n_told, 0);
	/* Its room is free again. */
	assert_int_equal(queue_enter(&queue, &places[4]), 0);
	queue_leave(&queue, &places[0]);
	queue_leave(&queue, &places[1]);
	queue_leave(&queue, &places[3]);
	assert_int_equal(n_told, 3);
	assert_ptr_equal(told[0], &places[1]);
	assert_ptr_equal(told[1], &places[3]);
	assert_ptr_equal(told[2], &places[4]);
}

static void test_leaving_twice(void **state)
{
	(void)state;
	start(2, 2);
	for (size_t i = 0; i < 4; i++)
		queue_enter(&queue, &places[i]);
	for (int twice = 0; twice < 2; twice++) {
		queue_leave(&queue, &places[0]);
		queue_leave(&queue, &places[3]);
	}
	queue_leave(&queue, &places[7]);
	assert_counts(2, 0);
	assert_int_equal(n_told, 1);
}

static void test_without_queue(void **state)
{
	(void)state;
	start(1, 0);
	assert_int_equal(queue_enter(&queue, &places[0]), 0);
	assert_int_equal(queue_enter(&queue, &places[1]), -EBUSY);
	queue_leave(&queue, &places[0]);
	assert_int_equal(queue_enter(&queue, &places[1]), 0);
	assert_counts(1, 0);
}

static void test_told_may_leave_and_enter(void **state)
{
	(void)state;
	start(1, 3);
	for (size_t i = 0; i < 3; i++)
		queue_enter(&queue, &places[i]);
	enters_when_told = &places[3];
	/* places[1] gives its place on at once: places[2] has it, and places[3] waits. */
	queue_leave(&queue, &places[0]);
	assert_int_equal(n_told, 2);
	assert_int_equal(places[2].state, PLACE_GIVEN);
	assert_int_equal(places[3].state, PLACE_WAITED_FOR);
	assert_counts(1, 1);
}

static void test_closing(void **state)
{
	(void)state;
	start(1, 8);
	for (size_t i = 0; i < 3; i++)
		queue_enter(&queue, &places[i]);
	queue_close(&queue);
	assert_int_equal(n_told, 2);
	for (size_t i = 0; i < 2; i++) {
		assert_ptr_equal(told[i], &places[i + 1]);
		assert_int_equal(results[i], -ESHUTDOWN);
		assert_int_equal(places[i + 1].state, PLACE_NONE);
	}
	/* The one that was given stays given; after it there is none. */
	assert_counts(1, 0);
	queue_leave(&queue, &places[0]);
	assert_int_equal(queue_enter(&queue, &places[1]), -ESHUTDOWN);
	assert_counts(0, 0);
}

static void nothing(struct place *place, int result)
{
	(void)place;
	(void)result;
}

/* Whoever leaves from the middle of a long queue is not looked for: else this would take minutes. */
static void test_leaving_a_long_queue(void **state)
{
	const size_t many = 400000;
	struct place *crowd = calloc(many, sizeof(*crowd));

	(void)state;
	assert_non_null(crowd);
	queue_init(&queue, 1, many, nothing);
	for (size_t i = 0; i < many; i++)
		assert_int_equal(queue_enter(&queue, &crowd[i]), 0);
	/* 7 divides no power of 2 or 5: each one once, in no order of the queue's. */
	for (size_t i = 0; i < many; i++)
		queue_leave(&queue, &crowd[(i * 7 + many / 2) % many]);
	assert_counts(0, 0);
	assert_true(list_empty(&queue.waiting));
	free(crowd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_places_then_queue_then_nothing),
	    cmocka_unit_test(test_first_come_first_served),
	    cmocka_unit_test(test_who_comes_later_does_not_pass),
	    cmocka_unit_test(test_leaving_the_queue),
	    cmocka_unit_test(test_leaving_twice),
	    cmocka_unit_test(test_without_queue),
	    cmocka_unit_test(test_told_may_leave_and_enter),
	    cmocka_unit_test(test_closing),
	    cmocka_unit_test(test_leaving_a_long_queue),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
