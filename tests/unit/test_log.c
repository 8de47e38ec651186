/* SPDX-License-Identifier: Apache-2.0
 *
 * The log: what a line looks like, what never reaches it raw, and that a reader who does not read stops nobody.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/common/log.h"

static int saved_stderr;
static char output[65536];

/* Standard error becomes fd, which stays the caller's. */
static void stderr_to(int fd)
{
	saved_stderr = dup(STDERR_FILENO);
	assert_true(saved_stderr >= 0);
	assert_return_code(dup2(fd, STDERR_FILENO), errno);
	log_open("handoffd-test");
}

static void stderr_back(void)
{
	dup2(saved_stderr, STDERR_FILENO);
	close(saved_stderr);
	log_level(LOG_INFO);
}

/* What the test logged since stderr_to() a pipe, without the "ident[pid]: ". */
static const char *read_output(int fd)
{
	ssize_t n = read(fd, output, sizeof(output) - 1);
	char *start;

	assert_true(n >= 0);
	output[n] = '\0';
	start = strstr(output, "]: ");
	return start == NULL ? output : start + 3;
}

static void check_line(const struct log_field *fields, const char *expected)
{
	int ends[2];

	assert_return_code(pipe2(ends, O_CLOEXEC), errno);
	stderr_to(ends[1]);
	log_fields(LOG_INFO, "test", fields);
	stderr_back();
	assert_string_equal(read_output(ends[0]), expected);
	close(ends[0]);
	close(ends[1]);
}

static void test_fields(void **state)
{
	(void)state;
	check_line((struct log_field[]){LOG_END}, "event=test\n");
	check_line((struct log_field[]){LOG_STR("reason", "token-mac"), LOG_INT("n", -5), LOG_END},
	           "event=test reason=token-mac n=-5\n");
	check_line((struct log_field[]){LOG_INT("min", INT64_MIN), LOG_END}, "event=test min=-9223372036854775808\n");
}

static void test_escaping(void **state)
{
	(void)state;
	check_line((struct log_field[]){LOG_STR("v", ""), LOG_END}, "event=test v=\"\"\n");
	check_line((struct log_field[]){LOG_STR("v", "a b"), LOG_END}, "event=test v=\"a b\"\n");
	check_line((struct log_field[]){LOG_STR("v", "a=b"), LOG_END}, "event=test v=\"a=b\"\n");
	check_line((struct log_field[]){LOG_STR("v", "\"x\\\n\t\r\x1b[0m\x7f\xc3\xa9"), LOG_END},
	           "event=test v=\"\\\"x\\\\\\n\\t\\x0d\\x1b[0m\\x7f\\xc3\\xa9\"\n");
	check_line((struct log_field[]){LOG_SPAN("v", SPAN_LITERAL("a\0b")), LOG_END}, "event=test v=\"a\\x00b\"\n");
}

static void test_forged_line(void **state)
{
	(void)state;
	check_line((struct log_field[]){LOG_STR("target", "/\nhandoffd-gate[1]: event=accepted"), LOG_END},
	           "event=test target=\"/\\nhandoffd-gate[1]: event=accepted\"\n");
}

static void test_long_value_is_cut(void **state)
{
	int ends[2];
	char *value = malloc(20001);
	size_t len;

	(void)state;
	memset(value, '\n', 20000);
	value[20000] = '\0';
	assert_return_code(pipe2(ends, O_CLOEXEC), errno);
	stderr_to(ends[1]);
	log_event(LOG_INFO, "test", LOG_STR("v", value), LOG_STR("w", "left out"));
	stderr_back();
	read_output(ends[0]);
	len = strlen(output);
	assert_true(len <= 4096);
	assert_string_equal(output + len - 4, "\\n\"\n");
	close(ends[0]);
	close(ends[1]);
	free(value);
}

static void test_level(void **state)
{
	int ends[2];

	(void)state;
	assert_return_code(pipe2(ends, O_CLOEXEC | O_NONBLOCK), errno);
	stderr_to(ends[1]);
	log_event(LOG_DEBUG, "hidden");
	log_level(LOG_DEBUG);
	log_event(LOG_DEBUG, "shown");
	stderr_back();
	assert_string_equal(read_output(ends[0]), "event=shown\n");
	close(ends[0]);
	close(ends[1]);
}

/* More than the reader takes: dropped, counted, and said in the first line that gets through again. alarm() ends the
 * test if a write blocks. */
static void fill_and_drain(int reader, int writer)
{
	const char *dropped;

	alarm(10);
	stderr_to(writer);
	for (int i = 0; i < 20000; i++)
		log_event(LOG_INFO, "flood", LOG_STR("text", "0123456789012345678901234567890123456789"));
	while (recv(reader, output, sizeof(output), MSG_DONTWAIT) > 0 ||
	       (errno == ENOTSOCK && read(reader, output, sizeof(output)) > 0))
		;
	log_event(LOG_INFO, "after");
	stderr_back();
	alarm(0);
	dropped = strstr(read_output(reader), "event=after log-dropped=");
	assert_non_null(dropped);
	assert_true(atoi(dropped + strlen("event=after log-dropped=")) > 0);
}

static void test_full_pipe(void **state)
{
	int ends[2];

	(void)state;
	assert_return_code(pipe2(ends, O_CLOEXEC), errno);
	assert_return_code(fcntl(ends[0], F_SETFL, O_NONBLOCK), errno);
	fill_and_drain(ends[0], ends[1]);
	/* The writer's description is shared with whoever started us: it must not have become non-blocking. */
	assert_int_equal(fcntl(ends[1], F_GETFL) & O_NONBLOCK, 0);
	close(ends[0]);
	close(ends[1]);
}

static void test_full_socket(void **state)
{
	int ends[2];

	(void)state;
	assert_return_code(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), errno);
	fill_and_drain(ends[0], ends[1]);
	assert_int_equal(fcntl(ends[1], F_GETFL) & O_NONBLOCK, 0);
	close(ends[0]);
	close(ends[1]);
}

static void test_journal_prefix(void **state)
{
	int ends[2];
	struct stat status;
	char stream[64];

	(void)state;
	assert_return_code(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), errno);
	assert_return_code(fstat(ends[1], &status), errno);
	snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)status.st_dev, (uintmax_t)status.st_ino);
	setenv("JOURNAL_STREAM", stream, 1);
	stderr_to(ends[1]);
	log_event(LOG_WARNING, "w");
	stderr_back();
	unsetenv("JOURNAL_STREAM");
	read_output(ends[0]);
	assert_memory_equal(output, "<4>handoffd-test[", 17);
	close(ends[0]);
	close(ends[1]);
}

static void test_fatal(void **state)
{
	int ends[2];
	int status;
	pid_t child;

	(void)state;
	assert_return_code(pipe2(ends, O_CLOEXEC), errno);
	child = fork();
	assert_return_code(child, errno);
	if (child == 0) {
		stderr_to(ends[1]);
		fatal("no %s", "way");
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
	assert_string_equal(read_output(ends[0]), "event=fatal message=\"no way\"\n");
	close(ends[0]);
	close(ends[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_fields),      cmocka_unit_test(test_escaping),
	    cmocka_unit_test(test_forged_line), cmocka_unit_test(test_long_value_is_cut),
	    cmocka_unit_test(test_level),       cmocka_unit_test(test_full_pipe),
	    cmocka_unit_test(test_full_socket), cmocka_unit_test(test_journal_prefix),
	    cmocka_unit_test(test_fatal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
