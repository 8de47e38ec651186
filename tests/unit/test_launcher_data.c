/* SPDX-License-Identifier: Apache-2.0
 *
 * What a program is started with: data in a memfd and in the environment, facts, and nothing that a streamer makes up.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/launcher/data.h"
#include "daemon/launcher/environment.h"
#include "lib/fdpass.h"

#define NAME "HANDOFF_DATA="

/* ---------------------------------------------------------------- data */

static void assert_holds(int fd, const void *bytes, size_t len)
{
	char *read_back = malloc(len + 1);
	size_t size;

	assert_non_null(read_back);
	assert_int_equal(memfd_check_sealed(fd, &size), 0);
	assert_int_equal(size, len);
	/* From where the offset is. */
	assert_int_equal(read(fd, read_back, len + 1), len);
	assert_memory_equal(read_back, bytes, len);
	free(read_back);
}

static void test_bytes(void **state)
{
	struct data data;

	(void)state;
	assert_int_equal(data_of_bytes(SPAN_LITERAL("a question\n"), &data), 0);
	assert_holds(data.fd, "a question\n", 11);
	assert_string_equal(data.variable, NAME "a question\n");
	data_free(&data);
	assert_int_equal(data.fd, -1);
	assert_null(data.variable);
}

static void test_empty(void **state)
{
	struct data data;

	(void)state;
	assert_int_equal(data_of_bytes(SPAN_EMPTY, &data), 0);
	assert_holds(data.fd, "", 0);
	assert_string_equal(data.variable, NAME);
	data_free(&data);
}

static void test_a_nul_is_no_string(void **state)
{
	struct data data;

	(void)state;
	assert_int_equal(data_of_bytes(SPAN_LITERAL("a\0b"), &data), 0);
	assert_holds(data.fd, "a\0b", 3);
	assert_null(data.variable);
	data_free(&data);
}

/* The longest string that execve() takes, and one byte more. */
static void test_longest_variable(void **state)
{
	const size_t longest = DATA_VARIABLE_MAX - sizeof(NAME);
	char *text = malloc(longest + 1);

	(void)state;
	assert_non_null(text);
	memset(text, 'x', longest + 1);
	for (size_t more = 0; more < 2; more++)
		for (int in_memfd = 0; in_memfd < 2; in_memfd++) {
			struct span bytes = span_of(text, longest + more);
			struct data data;

			if (in_memfd)
				assert_int_equal(data_of_memfd(memfd_make_sealed(bytes), &data), 0);
			else
				assert_int_equal(data_of_bytes(bytes, &data), 0);
			assert_holds(data.fd, text, longest + more);
			if (more == 0)
				assert_int_equal(strlen(data.variable), DATA_VARIABLE_MAX - 1);
			else
				assert_null(data.variable);
			data_free(&data);
		}
	free(text);
}

static void test_memfd(void **state)
{
	int fd = memfd_make_sealed(SPAN_LITERAL("from the module"));
	struct data data;

	(void)state;
	/* Wherever somebody has left its offset. */
	assert_int_equal(lseek(fd, 5, SEEK_SET), 5);
	assert_int_equal(data_of_memfd(fd, &data), 0);
	assert_int_equal(data.fd, fd);
	assert_holds(data.fd, "from the module", 15);
	assert_string_equal(data.variable, NAME "from the module");
	data_free(&data);
	fd = memfd_make_sealed(SPAN_LITERAL("with a \0"));
	assert_int_equal(data_of_memfd(fd, &data), 0);
	assert_null(data.variable);
	data_free(&data);
}

static void assert_refused(int fd, int error)
{
	struct data data;

	assert_true(fd >= 0);
	assert_int_equal(data_of_memfd(fd, &data), error);
	assert_int_equal(data.fd, -1);
	assert_null(data.variable);
	/* It is closed. */
	assert_true(fcntl(fd, F_GETFD) < 0 && errno == EBADF);
}

static void test_no_sealed_memfd(void **state)
{
	static const int too_few[] = {
	    0,
	    F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK,
	    F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SEAL,
	    F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_SEAL,
	    F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL,
	    F_SEAL_FUTURE_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL,
	};
	int ends[2];

	(void)state;
	for (size_t i = 0; i < sizeof(too_few) / sizeof(too_few[0]); i++) {
		int fd = memfd_open("test");

		assert_int_equal(write(fd, "x", 1), 1);
		assert_int_equal(fcntl(fd, F_ADD_SEALS, too_few[i]), 0);
		assert_refused(fd, -EBADMSG);
	}
	assert_refused(open("/dev/null", O_RDONLY | O_CLOEXEC), -EBADMSG);
	assert_refused(open("/proc/self/exe", O_RDONLY | O_CLOEXEC), -EBADMSG);
	assert_return_code(pipe2(ends, O_CLOEXEC), errno);
	assert_refused(ends[0], -EBADMSG);
	close(ends[1]);
}

/* What a client sent is no program, on kernels that can make memfds so. */
static void test_no_executable_memfd(void **state)
{
	int noexec = memfd_open("test");
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct stat st;

	(void)state;
	assert_return_code(fstat(noexec, &st), errno);
	close(noexec);
	bool system_can = (st.st_mode & 0111) == 0;
	if (!system_can || fchmod(fd, 0700) != 0) {
		close(fd);
		skip();
	}
	assert_return_code(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL), errno);
	assert_refused(fd, -EACCES);
}

/* ---------------------------------------------------------------- environment */

static const char *section[] = {"LANG=C.UTF-8", "GREETING=hello world", NULL};
static const struct config_handler handler = {.environment = {section, 2}};

static void assert_environment(const struct environment *environment, const char *const *wanted)
{
	size_t i = 0;

	for (; wanted[i] != NULL; i++) {
		assert_non_null(environment->variables[i]);
		assert_string_equal(environment->variables[i], wanted[i]);
	}
	assert_null(environment->variables[i]);
}

static void test_environment(void **state)
{
	static const char facts[] = "HANDOFF_ID=7\0HANDOFF_METHOD=GET\0HANDOFF_TARGET=/a?b=c\0HANDOFF_SUBJECT=";
	static const char *const wanted[] = {
	    "PATH=/usr/bin:/bin",    "LANG=C.UTF-8",     "GREETING=hello world", "HANDOFF_ID=7", "HANDOFF_METHOD=GET",
	    "HANDOFF_TARGET=/a?b=c", "HANDOFF_SUBJECT=", "HANDOFF_DATA_FD=3",    NAME "x",       NULL};
	struct environment environment;
	char data[] = NAME "x";

	(void)state;
	assert_int_equal(environment_make(&environment, &handler, span_of(facts, sizeof(facts)), 4, data), 0);
	assert_environment(&environment, wanted);
	environment_free(&environment);
	assert_null(environment.variables);
}

static void test_environment_of_nothing(void **state)
{
	static const struct config_handler bare;
	static const char *own_path[] = {"A=1", "PATH=/opt/bin", NULL};
	static const struct config_handler with_path = {.environment = {own_path, 2}};
	static const char *const wanted[] = {"PATH=/usr/bin:/bin", "HANDOFF_DATA_FD=3", NULL};
	static const char *const wanted_path[] = {"PATH=/opt/bin", "A=1", "HANDOFF_DATA_FD=3", NULL};
	struct environment environment;

	(void)state;
	assert_int_equal(environment_make(&environment, &bare, SPAN_EMPTY, 0, NULL), 0);
	assert_environment(&environment, wanted);
	environment_free(&environment);
	assert_int_equal(environment_make(&environment, &with_path, SPAN_EMPTY, 0, NULL), 0);
	assert_environment(&environment, wanted_path);
	environment_free(&environment);
}

static void test_control_bytes_are_left_out(void **state)
{
	static const char facts[] = "HANDOFF_ID=7\0HANDOFF_TARGET=/a\tb\0HANDOFF_SUBJECT=a\nb\0"
	                            "HANDOFF_CLIENT=\x7f\0HANDOFF_SERVER_NAME=\xc3\xa4";
	static const struct config_handler bare;
	static const char *const wanted[] = {"PATH=/usr/bin:/bin", "HANDOFF_ID=7", "HANDOFF_SERVER_NAME=\xc3\xa4",
	                                     "HANDOFF_DATA_FD=3", NULL};
	struct environment environment;

	(void)state;
	assert_int_equal(environment_make(&environment, &bare, span_of(facts, sizeof(facts)), 5, NULL), 0);
	assert_environment(&environment, wanted);
	environment_free(&environment);
}

/* n strings are said to be in these bytes. */
static void assert_no_facts(const char *bytes, size_t len, size_t n)
{
	struct environment environment;

	assert_int_equal(environment_make(&environment, &handler, span_of(bytes, len), n, NULL), -EBADMSG);
	assert_null(environment.variables);
	assert_null(environment.block);
}

static void test_no_facts(void **state)
{
#define NO_FACTS(text, n) assert_no_facts(text, sizeof(text), n)
	(void)state;
	NO_FACTS("LD_PRELOAD=/tmp/x.so", 1);
	NO_FACTS("PATH=/tmp", 1);
	NO_FACTS("HANDOFF_DATA=x", 1);
	NO_FACTS("HANDOFF_DATA_FD=5", 1);
	NO_FACTS("HANDOFF_ANYTHING=x", 1);
	NO_FACTS("HANDOFF_ID", 1);
	NO_FACTS("HANDOFF_ID=1\0HANDOFF_ID=2", 2);
	NO_FACTS("HANDOFF_ID=1\0HANDOFF_METHOD=GET", 1); /* something is left over */
	NO_FACTS("HANDOFF_ID=1", 2);                     /* something is missing */
	NO_FACTS("HANDOFF_ID=1", 0);
	NO_FACTS("", 1);
	NO_FACTS("HANDOFF_ID=1", (size_t)UINT32_MAX);
	assert_no_facts("HANDOFF_ID=1", strlen("HANDOFF_ID=1"), 1); /* without its NUL */
	assert_no_facts("", 0, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_bytes),
	    cmocka_unit_test(test_empty),
	    cmocka_unit_test(test_a_nul_is_no_string),
	    cmocka_unit_test(test_longest_variable),
	    cmocka_unit_test(test_memfd),
	    cmocka_unit_test(test_no_sealed_memfd),
	    cmocka_unit_test(test_no_executable_memfd),
	    cmocka_unit_test(test_environment),
	    cmocka_unit_test(test_environment_of_nothing),
	    cmocka_unit_test(test_control_bytes_are_left_out),
	    cmocka_unit_test(test_no_facts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
