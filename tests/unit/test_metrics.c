/* SPDX-License-Identifier: Apache-2.0
 *
 * Metrics: the table, the page, who may write it; and accounts, whose sums only grow.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

#include "daemon/gate/account.h"
#include "lib/fdpass.h"

static struct channel to_gate = {.fd = -1, .self = ROLE_STREAMER, .peer = ROLE_GATE};
static struct channel from_streamer = {.fd = -1, .self = ROLE_GATE, .peer = ROLE_STREAMER};

/* ---------------------------------------------------------------- the table */

static void test_table(void **state)
{
	size_t next = 0;

	(void)state;
	for (size_t i = 0; i < METRIC_COUNT; i++) {
		const struct metric_info *info = metric_info((enum metric)i);

		assert_int_equal(info->first, next);
		next += info->slots;
		assert_true(info->slots > 0 && info->by != 0);
		/* What the module refuses. */
		assert_true(strncmp(info->name, "daemon_", 7) == 0 || strncmp(info->name, "handoffd_", 9) == 0);
		assert_null(strpbrk(info->help, "\\\n|"));
		assert_true(info->help[0] != '\0' && info->help[strlen(info->help) - 1] != '.');
		bool total = strlen(info->name) > 6 && strcmp(info->name + strlen(info->name) - 6, "_total") == 0;
		assert_int_equal(total, info->type == METRIC_COUNTER);
		for (size_t k = 0; k < i; k++)
			assert_string_not_equal(info->name, metric_info((enum metric)k)->name);
	}
	assert_int_equal(next, METRIC_SLOT_COUNT);
	for (size_t i = 1; i < METRIC_BUCKETS; i++)
		assert_true(metric_bound(i - 1) < metric_bound(i));
	assert_true(metric_bound(METRIC_BUCKETS - 1) == UINT64_MAX);
	assert_string_equal(
	    metric_label_value(metric_info(METRIC_HANDOFF_ERRORS), METRIC_HANDOFF_ERRORS_FIRST + REASON_TOKEN_MAC),
	    "token-mac");
	assert_string_equal(metric_label_value(metric_info(METRIC_STREAMS), METRIC_STREAMS_LAST), "no-memory");
	assert_string_equal(metric_label_value(metric_info(METRIC_RUNS_ENDED), METRIC_RUNS_ENDED_LAST), "stopped");
	assert_string_equal(ending_name(ENDING_COUNT), "unknown");
	assert_string_equal(outcome_name(OUTCOME_COUNT), "unknown");
}

static void test_counting(void **state)
{
	uint64_t before = metrics_get(METRIC_BYTES_SENT_FIRST);

	(void)state;
	metrics_add(METRIC_BYTES_SENT, 5);
	metrics_add(METRIC_BYTES_SENT, 0);
	assert_int_equal(metrics_get(METRIC_BYTES_SENT_FIRST) - before, 5);
	metrics_count(METRIC_HANDOFF_ERRORS, REASON_TOKEN_MAC);
	metrics_count(METRIC_HANDOFF_ERRORS, REASON_COUNT); /* nowhere */
	assert_int_equal(metrics_get(METRIC_HANDOFF_ERRORS_FIRST + REASON_TOKEN_MAC), 1);
	assert_int_equal(metrics_get(METRIC_HANDOFF_ERRORS_LAST + 1), 0);
	metrics_set(METRIC_ACTIVE_STREAMS, 7);
	metrics_set(METRIC_PEAK_STREAMS, 7);
	metrics_set(METRIC_ACTIVE_STREAMS, 3);
	metrics_set(METRIC_PEAK_STREAMS, 3);
	assert_int_equal(metrics_get(METRIC_ACTIVE_STREAMS_FIRST), 3);
	assert_int_equal(metrics_get(METRIC_PEAK_STREAMS_FIRST), 7);
}

static void test_buckets(void **state)
{
	static const struct {
		int64_t microseconds;
		size_t bucket;
	} cases[] = {{-1, 0}, {0, 0}, {100, 0}, {101, 1}, {1000, 3}, {1001, 4}, {1800000000, 19}, {1800000001, 20}};
	uint64_t sum = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t slot = METRIC_STREAM_DURATION_FIRST + cases[i].bucket;
		uint64_t before = metrics_get(slot);

		metrics_observe(METRIC_STREAM_DURATION, cases[i].microseconds);
		assert_int_equal(metrics_get(slot), before + 1);
		sum += cases[i].microseconds > 0 ? (uint64_t)cases[i].microseconds : 0;
	}
	assert_int_equal(metrics_get(METRIC_STREAM_DURATION_LAST), sum);
}

/* ---------------------------------------------------------------- sharing */

/* The page that a process of its own shares; it counts n handoffs and runs until its channel is closed. */
static int page_of_child(pid_t *child, uint64_t n)
{
	static _Alignas(8) uint8_t buffer[MESSAGE_MAX];
	struct message message;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	*child = fork();
	assert_return_code(*child, errno);
	if (*child == 0) {
		to_gate.fd = pair[1];
		close(pair[0]);
		if (metrics_share() != 0)
			_exit(1);
		metrics_add(METRIC_HANDOFFS, n);
		metrics_set(METRIC_ACTIVE_STREAMS, n);
		metrics_set(METRIC_PEAK_STREAMS, n);
		if (metrics_announce(&to_gate, 7) != 0)
			_exit(2);
		recv(pair[1], buffer, 1, 0);
		_exit(0);
	}
	close(pair[1]);
	assert_int_equal(recv(pair[0], buffer, 1, MSG_PEEK), 1);
	from_streamer.fd = pair[0];
	assert_int_equal(channel_receive(&from_streamer, buffer, &message), 1);
	assert_int_equal(message.type, MESSAGE_STREAMER_METRICS);
	assert_true(((const struct message_metrics *)message.body)->layout == metrics_layout());
	assert_true(((const struct message_metrics *)message.body)->sections == 7);
	return message.fds[0];
}

static void end_child(pid_t child)
{
	int status;

	channel_close(&from_streamer);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

static void test_only_the_owner_writes(void **state)
{
	pid_t child;
	int fd FD_CLEANUP = page_of_child(&child, 2);

	(void)state;
	assert_int_equal(metrics_check(fd), 0);
	assert_true(mmap(NULL, METRICS_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
	assert_true(pwrite(fd, "x", 1, 0) < 0 && errno == EPERM);
	assert_true(ftruncate(fd, 0) < 0 && errno == EPERM);
	assert_true(ftruncate(fd, 8192) < 0 && errno == EPERM);
	assert_true(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) < 0 && errno == EPERM);
	assert_true(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) < 0);
	end_child(child);
}

static int memfd_of(size_t size, int seals)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static void test_what_is_no_page(void **state)
{
	const int all = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;
	int pair[2];

	(void)state;
	int null FD_CLEANUP = open("/dev/zero", O_RDWR | O_CLOEXEC);
	assert_true(metrics_check(null) < 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_true(metrics_check(pair[0]) < 0);
	fd_close_all(pair, 2);
	assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
	assert_true(metrics_check(pair[0]) < 0);
	fd_close_all(pair, 2);
	for (int seal = 1; seal <= F_SEAL_FUTURE_WRITE; seal <<= 1) {
		if (seal == F_SEAL_WRITE)
			continue;
		int fd FD_CLEANUP = memfd_of(METRICS_PAGE_SIZE, all & ~seal);
		assert_int_equal(metrics_check(fd), -EPERM);
	}
	int small FD_CLEANUP = memfd_of(METRICS_PAGE_SIZE - 1, all), large FD_CLEANUP = memfd_of(8192, all);
	int right FD_CLEANUP = memfd_of(METRICS_PAGE_SIZE, all);
	assert_int_equal(metrics_check(small), -EINVAL);
	assert_int_equal(metrics_check(large), -EINVAL);
	assert_int_equal(metrics_check(right), 0);
	assert_int_equal(metrics_check(-1), -EBADF);
}

/* ---------------------------------------------------------------- accounts */

static uint64_t sum(const struct account *account, bool connected, size_t slot)
{
	uint64_t slots[METRIC_SLOT_COUNT] = {0};

	account_add(account, connected, slots);
	return slots[slot];
}

static void expect(const struct account *account, bool connected, uint64_t handoffs, uint64_t active, uint64_t peak)
{
	assert_int_equal(sum(account, connected, METRIC_HANDOFFS_FIRST), handoffs);
	assert_int_equal(sum(account, connected, METRIC_ACTIVE_STREAMS_FIRST), active);
	assert_int_equal(sum(account, connected, METRIC_PEAK_STREAMS_FIRST), peak);
}

static void test_account(void **state)
{
	struct account account;
	pid_t first, second;

	(void)state;
	account_init(&account);
	expect(&account, false, 0, 0, 0);
	int fd = page_of_child(&first, 5);
	int again = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	assert_int_equal(account_take(&account, fd), 0);
	expect(&account, true, 5, 5, 5);
	/* Connected again, the same process counts once. */
	assert_int_equal(account_take(&account, again), 0);
	expect(&account, true, 5, 5, 5);
	assert_int_equal(account.lost, 0);
	/* Dead, what it had counted stays; what it had open does not. */
	end_child(first);
	expect(&account, false, 5, 0, 5);
	assert_int_equal(account_take(&account, page_of_child(&second, 3)), 0);
	expect(&account, true, 8, 3, 5);
	assert_int_equal(account.lost, 5);
	end_child(second);
	expect(&account, false, 8, 0, 5);
	/* What is no page changes nothing, and is closed. */
	int wrong = open("/dev/zero", O_RDWR | O_CLOEXEC);
	assert_true(account_take(&account, wrong) < 0);
	assert_true(fcntl(wrong, F_GETFD) < 0 && errno == EBADF);
	expect(&account, false, 8, 0, 5);
	fd_close(&account.page.fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_table),           cmocka_unit_test(test_counting),
	    cmocka_unit_test(test_buckets),         cmocka_unit_test(test_only_the_owner_writes),
	    cmocka_unit_test(test_what_is_no_page), cmocka_unit_test(test_account),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
