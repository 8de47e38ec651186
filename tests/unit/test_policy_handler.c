/* SPDX-License-Identifier: Apache-2.0
 *
 * The policy of handlers at work, as a child puts it in force before it executes a program: policy_prepare() and
 * policy_enter(). In the manner of test_policy_apply.c, with a table of its own, since it is for ordinary programs.
 */
#include <fcntl.h>
#include <linux/fs.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <time.h>

#include "policy_support.h"

#define P(pointer) ((long)(pointer))

struct probe {
	const char *what;
	long number;
	long args[6];
	int expected;
};

static struct policy *policy;
static struct policy_prepared *prepared;
static char tree[] = "/tmp/handoff-policy-XXXXXX"; /* granted to be read */
static char file[64], created[64];

/* The policy's own paths, which are the same here, and one to read. */
static size_t make_grants(struct policy_grant grants[32])
{
	size_t n = 0;

	while (policy_path(policy, n, &grants[n]))
		n++;
	grants[n++] = (struct policy_grant){tree, PATH_READ};
	return n;
}

static void enter(void)
{
	struct policy_grant grants[32];
	size_t n = make_grants(grants);
	enum policy_layer layer;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || policy_enter(prepared, grants, n, &layer) != 0)
		_exit(EXIT_BROKEN);
}

static int try_call(const struct probe *probe)
{
	pid_t child = fork();

	assert_return_code(child, errno);
	if (child == 0) {
		const long *a = probe->args;

		enter();
		if (syscall(probe->number, a[0], a[1], a[2], a[3], a[4], a[5]) >= 0)
			_exit(OK);
		_exit(errno);
	}
	return outcome(child);
}

static void run_probes(const struct probe *probes, size_t n)
{
	size_t failures = 0;

	for (size_t i = 0; i < n; i++) {
		int result = try_call(&probes[i]);

		if (result == probes[i].expected)
			continue;
		print_error("%s: %s instead of %s\n", probes[i].what, result_name(result),
		            result_name(probes[i].expected));
		failures++;
	}
	assert_int_equal(failures, 0);
}
#define RUN(probes) run_probes((probes), sizeof(probes) / sizeof((probes)[0]))

static const struct timespec no_time;
static const char *const true_arguments[] = {"true", NULL};

static const struct probe working[] = {
    {"read a file that is granted", SYS_openat, {AT_FDCWD, P(file), O_RDONLY | O_CLOEXEC}, OK},
    {"read a directory that is granted", SYS_openat, {AT_FDCWD, P(tree), O_RDONLY | O_DIRECTORY}, OK},
    {"read below /usr", SYS_openat, {AT_FDCWD, P("/usr/bin"), O_RDONLY | O_DIRECTORY}, OK},
    {"look at any file", SYS_newfstatat, {AT_FDCWD, P("/"), 0, 0}, EFAULT},
    {"execve", SYS_execve, {P("/nothing"), 0, 0}, ENOENT},
    {"execve below /usr", SYS_execve, {P("/usr/bin/true"), P(true_arguments), 0}, OK},
    {"wait4", SYS_wait4, {-1, 0, WNOHANG, 0}, ECHILD},
    {"clone of a thread", SYS_clone, {CLONE_THREAD, 0, 0, 0, 0}, EINVAL},
    {"kill of nothing", SYS_kill, {0, 0}, OK},
    {"mmap of a file as code", SYS_mmap, {0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, -1, 0}, EBADF},
    {"mmap of a file, shared", SYS_mmap, {0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, -1, 0}, EBADF},
    {"memory", SYS_mmap, {0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0}, OK},
    {"own limits", SYS_prlimit64, {0, RLIMIT_NOFILE, 0, 0}, OK},
    {"socketpair", SYS_socketpair, {AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, 0}, EFAULT},
    {"send on a pair", SYS_sendto, {-1, 0, 0, MSG_NOSIGNAL, 0, 0}, EBADF},
    {"FIONREAD", SYS_ioctl, {-1, FIONREAD}, EBADF},
    {"FIOCLEX", SYS_ioctl, {-1, FIOCLEX}, EBADF},
    {"TCGETS", SYS_ioctl, {-1, TCGETS}, EBADF},
    {"F_SETLKW", SYS_fcntl, {-1, F_SETLKW}, EBADF},
    {"chmod", SYS_fchmod, {-1, 0755}, EBADF},
    {"memfd that is never executed", SYS_memfd_create, {0, 8 /* MFD_NOEXEC_SEAL */}, EFAULT},
    {"PR_SET_NAME", SYS_prctl, {PR_SET_NAME, P("x")}, OK},
    {"PR_SET_PDEATHSIG", SYS_prctl, {PR_SET_PDEATHSIG, SIGTERM}, OK},
    {"ppoll", SYS_ppoll, {0, 0, P(&no_time), 0, 0}, OK},
    {"pipe2", SYS_pipe2, {0, O_CLOEXEC}, EFAULT},
    {"setsid", SYS_setsid, {0}, OK},
    {"landlock_create_ruleset", 444, {0, 0, 0}, EFAULT},
};

static void test_working(void **state)
{
	(void)state;
	RUN(working);
}

static const struct probe answered[] = {
    {"read a file that is not granted", SYS_openat, {AT_FDCWD, P("/etc/passwd"), O_RDONLY}, EACCES},
    {"read a directory that is not granted", SYS_openat, {AT_FDCWD, P("/"), O_RDONLY | O_DIRECTORY}, EACCES},
    {"write to a file that is granted to be read", SYS_openat, {AT_FDCWD, P(file), O_WRONLY}, EACCES},
    {"make a file", SYS_openat, {AT_FDCWD, P(created), O_WRONLY | O_CREAT, 0600}, EACCES},
    {"remove a file", SYS_unlinkat, {AT_FDCWD, P(file), 0}, EACCES},
    {"execute what is granted to be read", SYS_execve, {P(file), 0, 0}, EACCES},
    {"socket of TCP", SYS_socket, {AF_INET, SOCK_STREAM, 0}, EACCES},
    {"socket of the unix family", SYS_socket, {AF_UNIX, SOCK_STREAM, 0}, EACCES},
    {"socket of netlink", SYS_socket, {AF_NETLINK, SOCK_RAW, 0}, EACCES},
    {"connect", SYS_connect, {-1, 0, 0}, EACCES},
    {"sendto MSG_FASTOPEN", SYS_sendto, {-1, 0, 0, MSG_FASTOPEN, P("x"), 16}, EPERM},
    {"anonymous memory as code",
     SYS_mmap,
     {0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0},
     EACCES},
    {"a file as code that can be written", SYS_mmap, {0, 4096, 7, MAP_PRIVATE, -1, 0}, EACCES},
    {"memory made code", SYS_mprotect, {0, 4096, PROT_READ | PROT_EXEC}, EACCES},
    {"memfd", SYS_memfd_create, {P("x"), MFD_CLOEXEC}, EPERM},
    {"execveat", SYS_execveat, {-1, 0, 0, 0, 0}, EPERM},
    {"chmod with the set-user-id bit", SYS_fchmod, {-1, 04755}, EPERM},
    {"chmod with the set-group-id bit", SYS_fchmod, {-1, 02755}, EPERM},
    {"fchown", SYS_fchown, {-1, 0, 0}, EPERM},
    {"setuid", SYS_setuid, {0}, EPERM},
    {"capset", SYS_capset, {0, 0}, EPERM},
    {"PR_SET_DUMPABLE", SYS_prctl, {PR_SET_DUMPABLE, 0}, EPERM},
    {"F_SETPIPE_SZ", SYS_fcntl, {-1, F_SETPIPE_SZ, 1 << 20}, EPERM},
    {"window size", SYS_ioctl, {-1, TIOCGWINSZ}, ENOTTY},
    {"seccomp", SYS_seccomp, {0, 0, 0}, EINVAL},
    {"clone3", 435, {0, 0}, ENOSYS},
    {"a number nobody has", 500, {0}, ENOSYS},
    {"shmget", SYS_shmget, {0, 4096, 0600}, EACCES},
};

static void test_answered(void **state)
{
	(void)state;
	RUN(answered);
}

static const struct probe killing[] = {
    {"clone with a user namespace", SYS_clone, {CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0}, KILLED},
    {"clone with a mount namespace", SYS_clone, {CLONE_NEWNS | SIGCHLD, 0, 0, 0, 0}, KILLED},
    {"clone with a pid namespace", SYS_clone, {CLONE_NEWPID | SIGCHLD, 0, 0, 0, 0}, KILLED},
    {"clone with a network", SYS_clone, {CLONE_NEWNET | SIGCHLD, 0, 0, 0, 0}, KILLED},
    {"unshare", SYS_unshare, {CLONE_NEWUSER}, KILLED},
    {"setns", SYS_setns, {-1, 0}, KILLED},
    {"ptrace", SYS_ptrace, {16, 1, 0, 0}, KILLED},
    {"process_vm_readv", SYS_process_vm_readv, {1, 0, 0, 0, 0, 0}, KILLED},
    {"process_vm_writev", SYS_process_vm_writev, {1, 0, 0, 0, 0, 0}, KILLED},
    {"pidfd_getfd", SYS_pidfd_getfd, {-1, 0, 0}, KILLED},
    {"limits of others", SYS_prlimit64, {1, RLIMIT_NOFILE, 0, 0}, KILLED},
    {"mount", SYS_mount, {0, 0, 0, 0, 0}, KILLED},
    {"umount2", SYS_umount2, {0, 0}, KILLED},
    {"pivot_root", SYS_pivot_root, {0, 0}, KILLED},
    {"chroot", SYS_chroot, {0}, KILLED},
    {"mknodat", SYS_mknodat, {-1, 0, S_IFCHR, 0}, KILLED},
    {"make a file with the set-user-id bit", SYS_openat, {AT_FDCWD, P("x"), O_CREAT | O_WRONLY, 04755}, KILLED},
    {"open_by_handle_at", SYS_open_by_handle_at, {-1, 0, 0}, KILLED},
    {"socketpair of datagrams", SYS_socketpair, {AF_UNIX, SOCK_DGRAM, 0, 0}, KILLED},
    {"sendto an address", SYS_sendto, {-1, 0, 0, 0, P("x"), 16}, KILLED},
    {"bind", SYS_bind, {-1, 0, 0}, KILLED},
    {"listen", SYS_listen, {-1, 1}, KILLED},
    {"accept4", SYS_accept4, {-1, 0, 0, 0}, KILLED},
    {"TIOCSTI", SYS_ioctl, {-1, TIOCSTI}, KILLED},
    {"F_SETOWN", SYS_fcntl, {-1, F_SETOWN}, KILLED},
    {"io_uring_setup", SYS_io_uring_setup, {1, 0}, KILLED},
    {"bpf", SYS_bpf, {0, 0, 0}, KILLED},
    {"perf_event_open", SYS_perf_event_open, {0, 0, 0, 0, 0}, KILLED},
    {"userfaultfd", SYS_userfaultfd, {0}, KILLED},
    {"keyctl", SYS_keyctl, {0, 0, 0, 0, 0}, KILLED},
    {"add_key", SYS_add_key, {0, 0, 0, 0, 0}, KILLED},
    {"request_key", SYS_request_key, {0, 0, 0, 0}, KILLED},
    {"personality", SYS_personality, {0xffffffff}, KILLED},
    {"vmsplice", SYS_vmsplice, {-1, 0, 0, 0}, KILLED},
    {"a number above all", 600, {0}, KILLED},
};

static void test_killing(void **state)
{
	(void)state;
	RUN(killing);
}

/* ---------------------------------------------------------------- its layers */

static void test_layers(void **state)
{
	pid_t child = fork();

	(void)state;
	assert_return_code(child, errno);
	if (child == 0) {
		struct rlimit limit;

		enter();
		if (getrlimit(RLIMIT_CORE, &limit) != 0 || limit.rlim_cur != 0 || limit.rlim_max != 0)
			_exit(1);
		_exit(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? OK : 2);
	}
	assert_int_equal(outcome(child), OK);
}

/* A policy for children says what a layer needs, and so does the role's own. */
static void test_needs_no_new_privs(void **state)
{
	pid_t child = fork();

	(void)state;
	assert_return_code(child, errno);
	if (child == 0) {
		enum policy_layer layer = POLICY_LAYER_RLIMITS;
		int rc = policy_enter(prepared, NULL, 0, &layer);

		/* Landlock takes CAP_SYS_ADMIN for it, the filter nothing. */
		_exit(rc == -EPERM && layer == (geteuid() == 0 ? POLICY_LAYER_SECCOMP : POLICY_LAYER_LANDLOCK) ? OK
		                                                                                               : 1);
	}
	assert_int_equal(outcome(child), OK);
}

static int make_tree(void **state)
{
	struct policy_report report;
	char error[256];
	int fd;

	(void)state;
	policy = policy_load("handler", NULL, error, sizeof(error));
	if (policy == NULL || policy_prepare(policy, POLICY_ENFORCE, &prepared, &report, error, sizeof(error)) != 0) {
		print_error("%s\n", error);
		return -1;
	}
	if (mkdtemp(tree) == NULL)
		return -1;
	snprintf(file, sizeof(file), "%s/file", tree);
	snprintf(created, sizeof(created), "%s/created", tree);
	fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	return fd < 0 ? -1 : close(fd);
}

static int remove_tree(void **state)
{
	(void)state;
	unlink(file);
	rmdir(tree);
	policy_prepared_free(prepared);
	policy_free(policy);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_working), cmocka_unit_test(test_answered),           cmocka_unit_test(test_killing),
	    cmocka_unit_test(test_layers),  cmocka_unit_test(test_needs_no_new_privs),
	};

#ifdef HANDOFF_SANITIZE
	puts("skipped: the filter would be in force for a sanitizer's run time");
	return 0;
#endif
	return cmocka_run_group_tests(tests, make_tree, remove_tree);
}
