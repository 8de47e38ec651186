/* SPDX-License-Identifier: Apache-2.0
 *
 * The layers besides seccomp: the state of a caged process, and each right of Landlock as a pair, denied and open.
 */
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "policy_support.h"

#ifdef HANDOFF_SANITIZE

int main(void)
{
	puts("skipped: a sanitizer build leaves the cages out");
	return 0;
}

#else

/* A line of a file in /proc that begins with name, without the name and blanks. */
static void proc_line(pid_t pid, const char *file, const char *name, char *out, size_t size)
{
	char path[64];
	char line[256];
	FILE *stream;

	out[0] = '\0';
	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
	stream = fopen(path, "r");
	assert_non_null(stream);
	while (fgets(line, sizeof(line), stream) != NULL)
		if (strncmp(line, name, strlen(name)) == 0)
			snprintf(out, size, "%s", line + strlen(name) + strspn(line + strlen(name), " \t"));
	fclose(stream);
}

static void test_state_of_a_caged_process(void **state)
{
	(void)state;
	for (size_t r = 0; r < N_ROLES; r++) {
		int ready[2], stay[2];
		char text[256];
		pid_t child;

		assert_return_code(pipe2(ready, 0) | pipe2(stay, 0), errno);
		child = fork();
		assert_return_code(child, errno);
		if (child == 0) {
			close(stay[1]);
			apply(roles[r].name);
			if (write(ready[1], "r", 1) == 1)
				(void)!read(stay[0], text, 1);
			_exit(0);
		}
		close(ready[1]);
		assert_int_equal(read(ready[0], text, 1), 1);
		proc_line(child, "status", "Seccomp:", text, sizeof(text));
		assert_string_equal(text, "2\n");
		proc_line(child, "status", "Seccomp_filters:", text, sizeof(text));
		assert_string_equal(text, "1\n");
		proc_line(child, "status", "NoNewPrivs:", text, sizeof(text));
		assert_string_equal(text, "1\n");
		proc_line(child, "limits", "Max core file size", text, sizeof(text));
		assert_memory_equal(text, "0 ", 2);
		proc_line(child, "limits", "Max processes", text, sizeof(text));
		assert_memory_equal(text, "0 ", 2);
		close(ready[0]);
		close(stay[0]);
		close(stay[1]);
		assert_int_equal(outcome(child), OK);
	}
}

static void test_needs_no_new_privs(void **state)
{
	char error[256];
	pid_t child = fork();

	(void)state;
	assert_return_code(child, errno);
	if (child == 0) {
		struct policy_report report;
		struct policy *policy = policy_load("gate", NULL, error, sizeof(error));
		int rc = policy_apply(policy, POLICY_ENFORCE, &report, error, sizeof(error));

		_exit(-rc);
	}
	assert_int_equal(outcome(child), EPERM);
}

/* ---------------------------------------------------------------- Landlock, each right as a pair */

/* All rights denied, or one of them open, and one file readable; without seccomp, so that the call gets there. */
static void restrict_self(const char *open_right)
{
	char text[1024] = "role t\ndefault kill\nunknown ENOSYS\ncapabilities none\ndumpable no\nexec no\nfork no\n"
	                  "mdwe where-available\nrlimit core 0\n";
	char off[256] = "", error[256];
	struct policy *policy;

	for (size_t i = 0; i < RIGHT_COUNT; i++) {
		size_t len = strlen(text);

		if (open_right != NULL && strcmp(landlock_rights[i].name, open_right) == 0)
			snprintf(text + len, sizeof(text) - len, "landlock %s open # test\n", open_right);
		else
			snprintf(text + len, sizeof(text) - len, "landlock %s deny abi %d where-available\n",
			         landlock_rights[i].name, landlock_rights[i].abi);
	}
	if (open_right == NULL)
		strcat(text, "landlock path read-file /etc/hosts # test\n");
	policy = policy_parse("t.policy", span_of_string(text), error, sizeof(error));
	if (policy == NULL || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    landlock_apply(policy, landlock_abi(), off, sizeof(off), error, sizeof(error)) != 0) {
		fprintf(stderr, "%s\n", error);
		_exit(EXIT_BROKEN);
	}
	policy_free(policy);
}

static int errno_of(int rc)
{
	return rc < 0 ? errno : OK;
}

static int try_read(void)
{
	return errno_of(open("/etc/passwd", O_RDONLY | O_CLOEXEC));
}

static int try_granted(void)
{
	return errno_of(open("/etc/hosts", O_RDONLY | O_CLOEXEC));
}

static int try_list(void)
{
	return errno_of(open("/etc", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

static char scratch[64];

static int try_truncate(void)
{
	return errno_of(truncate(scratch, 0));
}

static int try_tcp(bool do_bind)
{
	struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (do_bind)
		return errno_of(bind(fd, (struct sockaddr *)&name, sizeof(name)));
	/* Nobody listens on port 1: ECONNREFUSED is the answer of the network. */
	name.sin_port = htons(1);
	return errno_of(connect(fd, (struct sockaddr *)&name, sizeof(name)));
}

static int try_bind(void)
{
	return try_tcp(true);
}

static int try_connect(void)
{
	return try_tcp(false);
}

static int try_abstract(void)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int n = snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, "handoff-test-%d", (int)getppid());

	return errno_of(
	    connect(fd, (struct sockaddr *)&name, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n)));
}

static int try_signal(void)
{
	return errno_of(kill(getppid(), 0));
}

static int try_own_signal(void)
{
	return errno_of(kill(getpid(), 0));
}

static int landlocked(const char *open_right, int (*attempt)(void))
{
	pid_t child = fork();

	assert_return_code(child, errno);
	if (child == 0) {
		restrict_self(open_right);
		_exit(attempt());
	}
	return outcome(child);
}

static const struct {
	const char *what;
	const char *right; /* NULL: a right that stays, while all others are denied */
	int abi;
	int (*attempt)(void);
	int denied;
	int open;
} pairs[] = {
    {"read a file", "fs", 1, try_read, EACCES, OK},
    {"list a directory", "fs", 1, try_list, EACCES, OK},
    {"read the granted file", NULL, 1, try_granted, OK, OK},
    {"truncate", "fs-truncate", 3, try_truncate, EACCES, OK},
    {"bind a TCP port", "net-bind", 4, try_bind, EACCES, OK},
    {"connect to a TCP port", "net-connect", 4, try_connect, EACCES, ECONNREFUSED},
    {"connect to an abstract socket", "scope-abstract-unix", 6, try_abstract, EPERM, OK},
    {"signal a process outside", "scope-signal", 6, try_signal, EPERM, OK},
    {"signal itself", NULL, 6, try_own_signal, OK, OK},
};

static int abstract_listener(void)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int n = snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, "handoff-test-%d", (int)getpid());

	assert_return_code(
	    bind(fd, (struct sockaddr *)&name, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n)),
	    errno);
	assert_return_code(listen(fd, 16), errno);
	return fd;
}

static void test_landlock_pairs(void **state)
{
	int listener = abstract_listener();
	int file;

	(void)state;
	snprintf(scratch, sizeof(scratch), "/tmp/handoff-test-XXXXXX");
	file = mkstemp(scratch);
	assert_return_code(file, errno);
	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		if (landlock_abi() < pairs[i].abi) {
			print_message("skipped: %s: needs Landlock ABI %d, the kernel has %d\n", pairs[i].what,
			              pairs[i].abi, landlock_abi());
			continue;
		}
		if (landlocked(NULL, pairs[i].attempt) != pairs[i].denied)
			fail_msg("%s, denied: %s", pairs[i].what, result_name(landlocked(NULL, pairs[i].attempt)));
		if (landlocked(pairs[i].right, pairs[i].attempt) != pairs[i].open)
			fail_msg("%s, open: %s", pairs[i].what,
			         result_name(landlocked(pairs[i].right, pairs[i].attempt)));
	}
	close(file);
	unlink(scratch);
	close(listener);
}

/* What an old kernel lacks is named where the policy lets it go, and an error where it does not. */
static void test_older_abi(void **state)
{
	char off[256] = "", error[256] = "";
	struct policy *policy = policy_load("gate", NULL, error, sizeof(error));
	pid_t child;

	(void)state;
	assert_non_null(policy);
	if (landlock_abi() < 2) {
		print_message("skipped: needs Landlock ABI 2, the kernel has %d\n", landlock_abi());
		policy_free(policy);
		return;
	}
	child = fork();
	assert_return_code(child, errno);
	if (child == 0) {
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
		    landlock_apply(policy, 2, off, sizeof(off), error, sizeof(error)) != 0)
			_exit(EXIT_BROKEN);
		_exit(strcmp(off, "landlock-fs-truncate,landlock-net-bind,landlock-net-connect,landlock-fs-ioctl-dev,"
		                  "landlock-scope-abstract-unix,landlock-scope-signal") == 0
		          ? try_read()
		          : EXIT_BROKEN);
	}
	assert_int_equal(outcome(child), EACCES);
	assert_int_equal(landlock_apply(policy, 0, off, sizeof(off), error, sizeof(error)), -EOPNOTSUPP);
	assert_string_equal(error, "landlock-fs needs Landlock ABI 1, the kernel has 0");
	policy_free(policy);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_state_of_a_caged_process),
	    cmocka_unit_test(test_needs_no_new_privs),
	    cmocka_unit_test(test_landlock_pairs),
	    cmocka_unit_test(test_older_abi),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
