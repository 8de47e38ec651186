/* SPDX-License-Identifier: Apache-2.0
 *
 * Challenges: no two are alike, whichever thread or process asks, and what was handed out is not kept.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* The module is no program or library that a test could be linked with. */
#include "module/challenge.c" /* NOLINT(bugprone-suspicious-include) */

#define EACH    2000 /* more than the store holds */
#define THREADS 8

static uint8_t taken[THREADS * EACH][BINDING_CHALLENGE_LEN];

static int compare(const void *a, const void *b)
{
	return memcmp(a, b, BINDING_CHALLENGE_LEN);
}

static void assert_distinct(size_t n)
{
	qsort(taken, n, sizeof(taken[0]), compare);
	for (size_t i = 1; i < n; i++)
		assert_int_not_equal(compare(taken[i - 1], taken[i]), 0);
}

static void *take_many(void *first)
{
	for (size_t i = 0; i < EACH; i++)
		challenge_take(((uint8_t(*)[BINDING_CHALLENGE_LEN])first)[i]);
	return NULL;
}

static void without_a_store(void **state)
{
	(void)state;
	assert_null(store);
	take_many(taken);
	assert_distinct(EACH);
}

static void used_ones_are_wiped(void **state)
{
	static const uint8_t zero[BINDING_CHALLENGE_LEN];
	uint8_t challenge[BINDING_CHALLENGE_LEN];

	(void)state;
	challenge_take(challenge);
	assert_int_equal(store->left, CHALLENGES - 1);
	for (size_t i = 0; i < CHALLENGES; i++)
		assert_int_equal(memcmp(store->bytes[i], zero, sizeof(zero)) == 0, i == CHALLENGES - 1);
	assert_int_not_equal(memcmp(challenge, zero, sizeof(zero)), 0);
}

static void threads(void **state)
{
	pthread_t thread[THREADS];

	(void)state;
	for (size_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, take_many, taken[i * EACH]), 0);
	for (size_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(thread[i], NULL), 0);
	assert_distinct(THREADS * EACH);
}

/* Also in the middle of a take, with the lock held. */
static void forked(void **state)
{
	int out[2];

	(void)state;
	challenge_take(taken[0]);
	assert_true(store->left > 0);
	assert_int_equal(pipe(out), 0);
	pthread_mutex_lock(&store->lock);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		alarm(10);
		challenge_take(taken[0]);
		_exit(write(out[1], taken[0], BINDING_CHALLENGE_LEN) == BINDING_CHALLENGE_LEN ? 0 : 1);
	}
	pthread_mutex_unlock(&store->lock);
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(read(out[0], taken[1], BINDING_CHALLENGE_LEN), BINDING_CHALLENGE_LEN);
	close(out[0]);
	close(out[1]);
	for (size_t i = 2; i < CHALLENGES + 2; i++)
		challenge_take(taken[i]);
	assert_distinct(CHALLENGES + 2);
}

static int start(void **state)
{
	(void)state;
	challenge_init();
	return store ? 0 : -1;
}

int main(void)
{
	const struct CMUnitTest alone[] = {cmocka_unit_test(without_a_store)};
	const struct CMUnitTest stored[] = {
	    cmocka_unit_test(used_ones_are_wiped),
	    cmocka_unit_test(threads),
	    cmocka_unit_test(forked),
	};

	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(alone, NULL, NULL) + cmocka_run_group_tests(stored, start, NULL);
}
