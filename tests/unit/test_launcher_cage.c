/* SPDX-License-Identifier: Apache-2.0
 *
 * The cage at work: real programs in it, as an unprivileged user, and what they see, reach and leave behind. Each test
 * runs with namespaces and without, where it makes sense.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/launcher/cage.h"
#include "lib/bytes.h"
#include "lib/fdpass.h"
#include "policy/language.h"

/* Nobody else's, also when this test runs twice at once: whoever runs under it comes from here. */
#define NOBODYS_ID ((uid_t)(1000000000 + getpid()))

static char *const no_environment[] = {(char *)(uintptr_t) "PATH=/usr/bin:/bin", NULL};

/* What a section says when it says nothing. */
static struct config_handler section(const char **command)
{
	struct config_handler handler = {.name = "test",
	                                 .command = {.item = command},
	                                 .directory = "/",
	                                 .policy = "",
	                                 .memory = 268435456,
	                                 .cpu_time_s = 30,
	                                 .processes = 32,
	                                 .files = 64,
	                                 .file_size = 67108864,
	                                 .temporary = 1048576,
	                                 .concurrency = 4,
	                                 .namespaces = LAYER_REQUIRED,
	                                 .cgroup = LAYER_OFF,
	                                 .proc = PROC_PRIVATE};

	while (command[handler.command.n] != NULL)
		handler.command.n++;
	return handler;
}

/* One prepared cage and what its last run wrote. */
struct bench {
	struct policy *policy;
	struct config_handler handler;
	const char *command[8];
	struct cage *cage;
	char out[65536], err[65536];
	struct cage_run run;
	struct cage_result result;
};

static int prepare(struct bench *bench, char *error, size_t error_size)
{
	if (bench->policy == NULL)
		bench->policy = policy_load("handler", NULL, error, error_size);
	assert_non_null(bench->policy);
	return cage_prepare(&bench->cage, &bench->handler, bench->policy, POLICY_ENFORCE, error, error_size);
}

static void set_up(struct bench *bench, const char *const *command, enum config_layer namespaces)
{
	*bench = (struct bench){0};
	for (size_t i = 0; command[i] != NULL; i++)
		bench->command[i] = command[i];
	bench->handler = section(bench->command);
	bench->handler.namespaces = namespaces;
}

static void must_prepare(struct bench *bench)
{
	char error[512] = "";

	if (prepare(bench, error, sizeof(error)) != 0)
		fail_msg("%s", error);
}

static void tear_down(struct bench *bench)
{
	cage_free(bench->cage);
	policy_free(bench->policy);
}

static void read_all(int fd, char *out, size_t size)
{
	size_t len = strlen(out);
	ssize_t n;

	while (len + 1 < size && (n = read(fd, out + len, size - len - 1)) > 0) {
		len += (size_t)n;
		out[len] = '\0';
	}
}

/* Start with this data; the read ends are the caller's. */
static void start(struct bench *bench, const char *data, int *out, int *err)
{
	int out_ends[2], err_ends[2];
	int data_fd = memfd_make_sealed(span_of_string(data));
	struct cage_io io;

	assert_return_code(pipe2(out_ends, O_CLOEXEC), errno);
	assert_return_code(pipe2(err_ends, O_CLOEXEC), errno);
	assert_true(data_fd >= 0);
	io = (struct cage_io){out_ends[1], err_ends[1], data_fd, no_environment};
	assert_int_equal(cage_start(bench->cage, &io, &bench->run), 0);
	close(out_ends[1]);
	close(err_ends[1]);
	close(data_fd);
	*out = out_ends[0];
	*err = err_ends[0];
}

static bool is_gone(const struct bench *bench, int timeout_ms)
{
	struct pollfd gone = {.fd = bench->run.pidfd, .events = POLLIN};

	return poll(&gone, 1, timeout_ms) == 1;
}

/* A whole run: its output, its result. */
static void run(struct bench *bench, const char *data)
{
	int out, err;

	bench->out[0] = bench->err[0] = '\0';
	start(bench, data, &out, &err);
	read_all(out, bench->out, sizeof(bench->out));
	read_all(err, bench->err, sizeof(bench->err));
	close(out);
	close(err);
	assert_true(is_gone(bench, 20000));
	cage_finish(bench->cage, &bench->run, &bench->result);
}

static void set_up_shell(struct bench *bench, enum config_layer namespaces, const char *script)
{
	const char *const command[] = {"/bin/sh", "-c", script, NULL};

	set_up(bench, command, namespaces);
}

static void run_shell(struct bench *bench, enum config_layer namespaces, const char *script)
{
	set_up_shell(bench, namespaces, script);
	must_prepare(bench);
	run(bench, "");
	tear_down(bench);
}

static void run_python(struct bench *bench, enum config_layer namespaces, const char *program)
{
	const char *const command[] = {"/usr/bin/python3", "-S", "-c", program, NULL};

	set_up(bench, command, namespaces);
	must_prepare(bench);
	run(bench, "");
	tear_down(bench);
}

static const enum config_layer layers[] = {LAYER_REQUIRED, LAYER_OFF};
#define N_LAYERS 2

/* Processes of this user, but for this one. */
static size_t others(void)
{
	DIR *folder = opendir("/proc");
	const struct dirent *entry;
	size_t n = 0;

	assert_non_null(folder);
	while ((entry = readdir(folder)) != NULL) {
		char path[300], line[128];
		unsigned uid = 0;
		bool zombie = false;
		FILE *status;

		if (entry->d_name[0] < '0' || entry->d_name[0] > '9' || atol(entry->d_name) == (long)getpid())
			continue;
		snprintf(path, sizeof(path), "/proc/%s/status", entry->d_name);
		status = fopen(path, "re");
		while (status != NULL && fgets(line, sizeof(line), status) != NULL) {
			zombie |= strncmp(line, "State:\tZ", 8) == 0;
			sscanf(line, "Uid: %u", &uid);
		}
		if (status != NULL)
			fclose(status);
		n += uid == geteuid() && !zombie;
	}
	closedir(folder);
	return n;
}

static size_t descriptors(void)
{
	size_t n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static size_t mounts(void)
{
	FILE *file = fopen("/proc/self/mounts", "re");
	size_t n = 0;
	int byte;

	assert_non_null(file);
	while ((byte = fgetc(file)) != EOF)
		n += byte == '\n';
	fclose(file);
	return n;
}

static char tree[] = "/var/tmp/handoff-cage-XXXXXX";

static const char *in_tree(const char *name)
{
	static char paths[8][128];
	static unsigned next;
	char *path = paths[next++ % 8];

	snprintf(path, sizeof(paths[0]), "%s/%s", tree, name);
	return path;
}

static void write_file(const char *path, const char *text, mode_t mode)
{
	int fd FD_CLEANUP = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static const char *format(const char *text, ...) __attribute__((format(printf, 1, 2)));
static const char *format(const char *text, ...)
{
	static char made[4][4096];
	static unsigned next;
	char *out = made[next++ % 4];
	va_list arguments;

	va_start(arguments, text);
	vsnprintf(out, sizeof(made[0]), text, arguments);
	va_end(arguments);
	return out;
}

#define assert_exit(bench, code)                                                                                       \
	do {                                                                                                           \
		if ((bench)->result.error != 0 || !WIFEXITED((bench)->result.status) ||                                \
		    WEXITSTATUS((bench)->result.status) != (code))                                                     \
			fail_msg("error %d at %s, status %#x: %s%s", (bench)->result.error,                            \
			         (bench)->run.step != NULL ? (bench)->run.step : "", (unsigned)(bench)->result.status, \
			         (bench)->out, (bench)->err);                                                          \
	} while (0)

/* ---------------------------------------------------------------- what the program sees */

static void test_what_it_is(void **state)
{
	struct bench *bench = *state;

	for (size_t i = 0; i < N_LAYERS; i++) {
		run_python(bench, layers[i],
		           "import os\n"
		           "print(os.getresuid(), os.getresgid(), os.getgroups(), os.getsid(0) == os.getpid(),\n"
		           "      os.getpgrp() == os.getpid(), sorted(set(os.environ) - {'LC_CTYPE'}), os.getcwd(), "
		           "os.umask(0))\n"
		           "def is_open(fd):\n"
		           "    try: os.fstat(fd); return True\n"
		           "    except OSError: return False\n"
		           "print([fd for fd in range(64) if is_open(fd)], os.read(0, 1))\n");
		assert_exit(bench, 0);
		assert_string_equal(bench->out, format("(%1$d, %1$d, %1$d) (%1$d, %1$d, %1$d) [] True True "
		                                       "['PATH'] / 63\n[0, 1, 2, 3] b''\n",
		                                       (int)geteuid()));
	}
}

/* One that libc keeps to itself, and lets nobody change; whoever started the launcher may have ignored it. */
#define LIBC_SIGNAL 33

static void set_action(int number, void (*action)(int))
{
	/* The kernel's struct sigaction begins with the handler. */
	void *raw[4] = {(void *)(uintptr_t)action};

	assert_return_code(syscall(SYS_rt_sigaction, number, raw, NULL, 8), errno);
}

static void test_what_proc_says(void **state)
{
	struct bench *bench = *state;
	static const char *const lines[] = {"CapInh:\t0000000000000000\n",
	                                    "CapPrm:\t0000000000000000\n",
	                                    "CapEff:\t0000000000000000\n",
	                                    "CapBnd:\t0000000000000000\n",
	                                    "CapAmb:\t0000000000000000\n",
	                                    "NoNewPrivs:\t1\n",
	                                    "Seccomp:\t2\n",
	                                    "SigBlk:\t0000000000000000\n",
	                                    "SigIgn:\t0000000000000000\n"};
	sigset_t some, before;

	/* As in a launcher: what it ignores and blocks is not the program's. */
	set_action(SIGPIPE, SIG_IGN);
	set_action(LIBC_SIGNAL, SIG_IGN);
	sigemptyset(&some);
	sigaddset(&some, SIGUSR2);
	sigprocmask(SIG_BLOCK, &some, &before);
	run_shell(bench, LAYER_REQUIRED, "cat /proc/self/status; cd /proc; echo [0-9]*; cat sys/kernel/hostname");
	sigprocmask(SIG_SETMASK, &before, NULL);
	set_action(SIGPIPE, SIG_DFL);
	set_action(LIBC_SIGNAL, SIG_DFL);
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		if (strstr(bench->out, lines[i]) == NULL)
			fail_msg("not %s%s", lines[i], bench->out);
	/* Its own processes: the init hides, and nothing of the kernel is there. */
	assert_non_null(strstr(bench->out, "\n2\n"));
	assert_non_null(strstr(bench->err, "sys/kernel/hostname: No such file"));
	/* Without namespaces it has no /proc at all. */
	run_shell(bench, LAYER_OFF, "cat /proc/self/status");
	assert_string_equal(bench->out, "");
	assert_non_null(strstr(bench->err, "Permission denied"));
}

static void test_what_is_mounted(void **state)
{
	struct bench *bench = *state;
	char *rest = bench->out, *line;
	size_t n = 0;

	run_shell(bench, LAYER_REQUIRED, "cat /proc/self/mounts; hostname");
	assert_exit(bench, 0);
	while ((line = strsep(&rest, "\n")) != NULL && strchr(line, ' ') != NULL) {
		char place[256], kind[64], options[256];

		n++;
		assert_int_equal(sscanf(line, "%*s %255s %63s %255s", place, kind, options), 3);
		if (strncmp(place, "/dev/", 5) == 0)
			continue;
		assert_non_null(strstr(options, "nosuid"));
		assert_non_null(strstr(options, "nodev"));
		if (strcmp(place, "/usr") != 0)
			assert_non_null(strstr(options, "noexec"));
		if (strcmp(place, "/tmp") != 0 && strcmp(place, "/proc") != 0)
			assert_int_equal(strncmp(options, "ro,", 3), 0);
	}
	assert_in_range(n, 8, 20);
	assert_string_equal(line, "handler");
}

static void test_what_is_not_there(void **state)
{
	struct bench *bench = *state;

	for (size_t i = 0; i < N_LAYERS; i++) {
		run_shell(bench, layers[i],
		          "for f in /etc/passwd /etc/hostname /root /home /sys /var /run /boot /etc; do\n"
		          "    if cat $f 2>/dev/null || ls $f/ 2>/dev/null; then echo $f; fi; done\n"
		          "touch /usr/x 2>/dev/null && echo written\n"
		          "touch /x 2>/dev/null && echo written\n"
		          "touch /dev/x 2>/dev/null && echo written\n"
		          "cat /dev/mem /dev/kmsg /dev/tty 2>/dev/null && echo device\n"
		          "true >/dev/null </dev/zero && head -c 4 /dev/urandom | wc -c");
		assert_string_equal(bench->out, "4\n");
	}
}

static void test_network(void **state)
{
	struct bench *bench = *state;

	for (size_t i = 0; i < N_LAYERS; i++) {
		run_python(
		    bench, layers[i],
		    "import socket, errno\n"
		    "for f in socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, socket.AF_NETLINK, socket.AF_PACKET:\n"
		    "    try: socket.socket(f, socket.SOCK_RAW if f > 10 else socket.SOCK_STREAM); print('made', f)\n"
		    "    except OSError as e: print(errno.errorcode[e.errno])\n"
		    "a, b = socket.socketpair(); a.send(b'x'); print(b.recv(2))\n");
		assert_exit(bench, 0);
		assert_string_equal(bench->out, "EACCES\nEACCES\nEACCES\nEACCES\nEACCES\nb'x'\n");
	}
}

/* ---------------------------------------------------------------- data and files */

static void test_data(void **state)
{
	struct bench *bench = *state;

	for (size_t i = 0; i < N_LAYERS; i++) {
		set_up_shell(bench, layers[i], "cat <&3; echo x 2>/dev/null >&3 || echo sealed");
		must_prepare(bench);
		run(bench, "words\n");
		assert_string_equal(bench->out, "words\nsealed\n");
		run(bench, "");
		assert_string_equal(bench->out, "sealed\n");
		tear_down(bench);
	}
}

static void test_temporary(void **state)
{
	struct bench *bench = *state;

	set_up_shell(bench, LAYER_REQUIRED,
	             "cd /tmp; ls -A; echo '#!/bin/sh' >x; chmod 755 x; ./x 2>/dev/null; echo $?\n"
	             "head -c 900000 /dev/zero >y && echo fits; head -c 900000 /dev/zero >z 2>/dev/null || echo full\n"
	             "i=0; while [ $i -lt 2000 ] && true >f$i; do i=$((i + 1)); done 2>/dev/null\n"
	             "[ $i -lt 2000 ] && echo bounded");
	must_prepare(bench);
	for (int i = 0; i < 2; i++) {
		run(bench, "");
		assert_string_equal(bench->out, "126\nfits\nfull\nbounded\n");
	}
	tear_down(bench);
}

static void test_paths(void **state)
{
	struct bench *bench = *state;
	const char *readable[] = {in_tree("read"), NULL}, *writable[] = {in_tree("write"), NULL};
	const char *executable[] = {in_tree("execute"), NULL};

	for (size_t i = 0; i < N_LAYERS; i++) {
		set_up_shell(bench, layers[i],
		             format("cd %s || exit 9\n"
		                    "cat read/file; true >read/file || echo no; read/program || echo no; true "
		                    ">read/new || echo no\n"
		                    "cat write/file; echo b >>write/file && cat write/file; write/program || echo no\n"
		                    "true >write/new && mv write/new write/newer && rm write/newer && mkdir write/d && "
		                    "rmdir write/d "
		                    "&& echo yes\n"
		                    "mv write/file read/ || echo no; ln -s /etc/passwd write/link; cat write/link || "
		                    "echo no; rm write/link\n"
		                    "cat execute/file; execute/program; true >execute/file || echo no\n"
		                    "cat hidden/file || echo no",
		                    tree));
		bench->handler.read_paths = (struct config_list){readable, 1};
		bench->handler.write_paths = (struct config_list){writable, 1};
		bench->handler.execute_paths = (struct config_list){executable, 1};
		write_file(in_tree("write/file"), "w\n", 0644);
		must_prepare(bench);
		run(bench, "");
		tear_down(bench);
		assert_string_equal(bench->out, "r\nno\nno\nno\n"
		                                "w\nw\nb\nno\nyes\nno\nno\n"
		                                "e\nran\nno\n"
		                                "no\n");
	}
}

/* A path by another name, and one within another. */
static void test_links(void **state)
{
	struct bench *bench = *state;
	const char *readable[] = {in_tree("link"), in_tree("read"), in_tree("read/file"), NULL};

	for (size_t i = 0; i < N_LAYERS; i++) {
		set_up_shell(bench, layers[i], format("cat %1$s/link/file %1$s/read/file", tree));
		bench->handler.read_paths = (struct config_list){readable, 3};
		must_prepare(bench);
		run(bench, "");
		tear_down(bench);
		/* Without a private root there is no link that nobody granted. */
		assert_string_equal(bench->out, "r\nr\n");
	}
}

static void test_refusals(void **state)
{
	struct bench *bench = *state;
	char error[512];
	const char *missing[] = {"/nothing/here", NULL}, *root[] = {"/", NULL};
	const char *writable[] = {tree, NULL}, *within[] = {in_tree("read"), NULL};

	set_up_shell(bench, LAYER_REQUIRED, "true");
	bench->handler.read_paths = (struct config_list){missing, 1};
	assert_int_equal(prepare(bench, error, sizeof(error)), -ENOENT);
	assert_string_equal(error, "handler test: read-paths /nothing/here: No such file or directory");
	bench->handler.read_paths = (struct config_list){root, 1};
	assert_int_equal(prepare(bench, error, sizeof(error)), -EINVAL);
	assert_string_equal(error, "handler test: read-paths /: cannot be given to a program");
	bench->handler.read_paths = (struct config_list){within, 1};
	bench->handler.write_paths = (struct config_list){writable, 1};
	assert_int_equal(prepare(bench, error, sizeof(error)), -EINVAL);
	assert_non_null(strstr(error, "the program may not write where something else of it is granted"));
	bench->handler.read_paths = bench->handler.write_paths = (struct config_list){NULL, 0};
	/* Each run has its own /tmp: not a reason to do without namespaces. */
	static const enum config_layer wanted[] = {LAYER_REQUIRED, LAYER_WHERE_AVAILABLE};
	const char *own[] = {"/tmp", NULL};
	for (size_t i = 0; i < 2; i++) {
		bench->handler.namespaces = wanted[i];
		bench->handler.read_paths = (struct config_list){own, 1};
		assert_int_equal(prepare(bench, error, sizeof(error)), -EINVAL);
		assert_string_equal(error,
		                    "handler test: read-paths /tmp: lies where each run has a directory of its own; "
		                    "only with namespaces = off");
	}
	bench->handler.read_paths = (struct config_list){NULL, 0};
	bench->command[0] = "/nothing/here";
	assert_int_equal(prepare(bench, error, sizeof(error)), -ENOENT);
	assert_string_equal(error, "handler test: command /nothing/here: No such file or directory");
	tear_down(bench);
}

/* ---------------------------------------------------------------- programs */

static void test_programs(void **state)
{
	struct bench *bench = *state;
	static const struct {
		const char *command[5];
		const char *out;
	} programs[] = {
	    {{"/bin/sh", "-c", "x=$(echo a | tr a b); echo $x $((1 + 1))", NULL}, "b 2\n"},
	    {{"/bin/bash", "-c", "while read -r l; do echo $l; done < <(printf '1\\n2\\n')", NULL}, "1\n2\n"},
	    {{"/usr/bin/python3", "-c",
	      "import subprocess, threading, tempfile, json, random\n"
	      "t = threading.Thread(target=print, args=('thread',)); t.start(); t.join()\n"
	      "print(subprocess.run(['echo', 'child'], capture_output=True).stdout)",
	      NULL},
	     "thread\nb'child\\n'\n"},
	    {{"/usr/bin/perl", "-e", "print join(',', map { $_ * 2 } 1 .. 3), \"\\n\"; print `echo child`;", NULL},
	     "2,4,6\nchild\n"},
	    {{"/usr/bin/php", "-n", "-r", "echo strtoupper('x'), PHP_EOL, shell_exec('echo child'), json_encode([1]);",
	      NULL},
	     "X\nchild\n[1]"},
	    {{"/usr/bin/env", NULL}, "PATH=/usr/bin:/bin\n"},
	};

	for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++) {
		if (access(programs[i].command[0], X_OK) != 0) {
			print_message("%s is not here\n", programs[i].command[0]);
			continue;
		}
		for (size_t l = 0; l < N_LAYERS; l++) {
			set_up(bench, programs[i].command, layers[l]);
			must_prepare(bench);
			run(bench, "");
			tear_down(bench);
			assert_exit(bench, 0);
			assert_string_equal(bench->out, programs[i].out);
			assert_string_equal(bench->err, "");
		}
	}
}

/* A script that is the command, another that is an argument; the directory. */
static void test_scripts(void **state)
{
	struct bench *bench = *state;
	const char *const script[] = {in_tree("execute/program"), NULL};
	const char *const argument[] = {"/bin/sh", in_tree("read/program"), NULL};

	for (size_t i = 0; i < N_LAYERS; i++) {
		set_up(bench, script, layers[i]);
		must_prepare(bench);
		run(bench, "");
		tear_down(bench);
		assert_string_equal(bench->out, "ran\n");
		set_up(bench, argument, layers[i]);
		must_prepare(bench);
		run(bench, "");
		tear_down(bench);
		assert_string_equal(bench->out, "ran\n");
		set_up_shell(bench, layers[i], "pwd; cat file");
		bench->handler.directory = in_tree("read");
		must_prepare(bench);
		run(bench, "");
		assert_string_equal(bench->out, format("%s\nr\n", in_tree("read")));
		tear_down(bench);
	}
}

static void test_failure_to_execute(void **state)
{
	struct bench *bench = *state;
	const char *path = in_tree("vanishing");
	const char *const command[] = {path, NULL};

	for (size_t i = 0; i < N_LAYERS; i++) {
		int out, err;
		struct pollfd report;

		write_file(path, "#!/bin/sh\n", 0755);
		set_up(bench, command, layers[i]);
		must_prepare(bench);
		write_file(path,
		           "\x7f"
		           "ELF, but not really",
		           0755);
		start(bench, "", &out, &err);
		close(out);
		close(err);
		report = (struct pollfd){.fd = bench->run.report_fd, .events = POLLIN};
		assert_int_equal(poll(&report, 1, 10000), 1);
		assert_int_equal(cage_started(&bench->run), -ENOEXEC);
		assert_string_equal(bench->run.step, "execve");
		assert_true(is_gone(bench, 10000));
		cage_finish(bench->cage, &bench->run, &bench->result);
		/* And when nobody asked. */
		run(bench, "");
		assert_int_equal(bench->result.error, -ENOEXEC);
		assert_string_equal(bench->run.step, "execve");
		tear_down(bench);
		unlink(path);
	}
}

/* ---------------------------------------------------------------- results and limits */

/* A program counts as large as what it was forked from, until it executes; sanitizers make that large. */
#ifdef HANDOFF_SANITIZE
#define RSS_KIB_MAX 2000000
#else
#define RSS_KIB_MAX 200000
#endif

static void test_results(void **state)
{
	struct bench *bench = *state;

	for (size_t i = 0; i < N_LAYERS; i++) {
		run_shell(bench, layers[i], "exit 7");
		assert_exit(bench, 7);
		assert_int_equal(bench->result.limit, CAGE_LIMIT_NONE);
		run_shell(bench, layers[i], "kill -HUP $$");
		assert_true(WIFSIGNALED(bench->result.status) && WTERMSIG(bench->result.status) == SIGHUP);
		/* Counted with its children. */
		run_shell(bench, layers[i],
		          "sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i + 1)); done'; python3 -S -c 'x = b\"x\" * "
		          "50000000'");
		assert_exit(bench, 0);
		assert_in_range(bench->result.user_us, 20000, 20000000);
		assert_in_range(bench->result.max_rss_kib, 48000, RSS_KIB_MAX);
	}
}

static void test_limits(void **state)
{
	struct bench *bench = *state;

	for (size_t i = 0; i < N_LAYERS; i++) {
		run_python(bench, layers[i], "try: x = bytearray(300000000)\nexcept MemoryError: print('memory')\n");
		assert_string_equal(bench->out, "memory\n");
		run_python(
		    bench, layers[i],
		    "import os\nn = []\ntry:\n    while True: n.append(os.dup(0))\nexcept OSError: print(n[-1])\n");
		assert_string_equal(bench->out, "63\n");
		set_up_shell(bench, layers[i],
		             format("cd %s; head -c 100000 /dev/zero >big; stat -c %%s big", in_tree("write")));
		const char *writable[] = {in_tree("write"), NULL};
		bench->handler.write_paths = (struct config_list){writable, 1};
		bench->handler.file_size = 65536;
		must_prepare(bench);
		run(bench, "");
		tear_down(bench);
		assert_string_equal(bench->out, "65536\n");
		/* None of them can be raised. */
		run_shell(
		    bench, layers[i],
		    "ulimit -n 65 || echo no; ulimit -v 262145 || echo no; ulimit -u 1000 || echo no; ulimit -t 40 || "
		    "echo no; ulimit -c 1 || echo no; ulimit -n 60 && ulimit -n");
		assert_string_equal(bench->out, "no\nno\nno\nno\nno\n60\n");
	}
}

static void test_cpu_time(void **state)
{
	struct bench *bench = *state;
	static const char *const programs[] = {"while :; do :; done", "trap '' XCPU; while :; do :; done"};
	static const int signals[] = {SIGXCPU, SIGKILL};

	for (size_t i = 0; i < 2; i++) {
		set_up_shell(bench, layers[i], programs[i]);
		bench->handler.cpu_time_s = 1;
		must_prepare(bench);
		run(bench, "");
		tear_down(bench);
		assert_true(WIFSIGNALED(bench->result.status));
		assert_int_equal(WTERMSIG(bench->result.status), signals[i]);
		assert_int_equal(bench->result.limit, CAGE_LIMIT_CPU_TIME);
	}
}

static void test_processes(void **state)
{
	struct bench *bench = *state;

	for (size_t i = 0; i < N_LAYERS; i++) {
		run_python(bench, layers[i],
		           "import os, time\nn = 1\n"
		           "try:\n"
		           "    while True:\n"
		           "        if os.fork() == 0: time.sleep(1000)\n"
		           "        n += 1\n"
		           "except OSError: print(n)\n");
		/* A run alone in its namespace; all runs of the user together elsewhere, this process and the init too.
		 */
		assert_string_equal(bench->out, layers[i] == LAYER_REQUIRED ? "32\n" : "131\n");
		assert_int_equal(others(), 0);
	}
}

/* ---------------------------------------------------------------- the end of everything */

/* Children, orphans, sessions of their own, who ignore and stop. */
static const char *const escapes[] = {
    "sleep 1000 & exit 0",
    "(setsid sleep 1000 &) ; exit 0",
    "python3 -S -c 'import os, time\nfor i in range(3):\n    if os.fork(): os._exit(0)\n    "
    "os.setsid()\ntime.sleep(1000)' & sleep 0.2",
    "sh -c 'trap \"\" TERM HUP INT; while :; do sleep 1; done' & exit 0",
    "sh -c 'kill -STOP $$' & exit 0",
    "f() { f | f & }; f; sleep 0.5; exit 0",
    "f() { setsid sh -c \"$0\" & }; python3 -S -c 'import os\nwhile True:\n    try: os.fork()\n    except OSError: "
    "pass' & sleep 0.5",
};

static void test_nothing_stays(void **state)
{
	struct bench *bench = *state;

	for (size_t l = 0; l < N_LAYERS; l++) {
		for (size_t i = 0; i < sizeof(escapes) / sizeof(escapes[0]); i++) {
			int out, err;

			set_up_shell(bench, layers[l], escapes[i]);
			must_prepare(bench);
			start(bench, "", &out, &err);
			close(out);
			close(err);
			if (!is_gone(bench, 20000))
				fail_msg("still there: %s", escapes[i]);
			cage_finish(bench->cage, &bench->run, &bench->result);
			if (others() != 0)
				fail_msg("%zu left by: %s", others(), escapes[i]);
			tear_down(bench);
		}
	}
}

static void wait_for_word(int out)
{
	char byte;

	while (read(out, &byte, 1) == 1 && byte != '\n')
		;
}

/* From outside: TERM can be caught, KILL takes everything. */
static void test_signals(void **state)
{
	struct bench *bench = *state;
	static const struct {
		const char *script;
		bool kill;
		int status;
	} cases[] = {
	    {"trap 'exit 7' TERM; echo; while :; do sleep 0.05; done", false, 7 << 8},
	    {"echo; exec sleep 1000", false, SIGTERM},
	    {"trap '' TERM; setsid sleep 1000 & echo; while :; do sleep 1; done", true, SIGKILL},
	    /* It has stopped once its own parent sees that. */
	    {"sh -c 'sleep 1000 & kill -STOP $$' & sleep 0.3; echo; exec sleep 1000 >&-", false, SIGTERM},
	};

	for (size_t l = 0; l < N_LAYERS; l++) {
		for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
			int out, err;

			set_up_shell(bench, layers[l], cases[i].script);
			must_prepare(bench);
			start(bench, "", &out, &err);
			wait_for_word(out);
			cage_signal(bench->cage, &bench->run, SIGTERM);
			if (cases[i].kill) {
				assert_false(is_gone(bench, 200));
				cage_signal(bench->cage, &bench->run, SIGKILL);
			}
			assert_true(is_gone(bench, 10000));
			close(out);
			close(err);
			cage_finish(bench->cage, &bench->run, &bench->result);
			assert_int_equal(bench->result.status, cases[i].status);
			assert_int_equal(others(), 0);
			tear_down(bench);
		}
	}
}

/* Everything goes with the launcher, however it goes. */
static void test_launcher_dies(void **state)
{
	struct bench *bench = *state;

	for (size_t l = 0; l < N_LAYERS; l++) {
		int ready[2];
		char byte;
		pid_t launcher;

		assert_return_code(pipe2(ready, O_CLOEXEC), errno);
		launcher = fork();
		assert_return_code(launcher, errno);
		if (launcher == 0) {
			int out, err;

			set_up_shell(bench, layers[l],
			             "trap '' TERM; setsid sleep 1000 & echo; while :; do sleep 1; done");
			must_prepare(bench);
			start(bench, "", &out, &err);
			wait_for_word(out);
			if (write(ready[1], "x", 1) == 1)
				pause();
			_exit(1);
		}
		assert_int_equal(read(ready[0], &byte, 1), 1);
		assert_true(others() >= 4);
		kill(launcher, SIGKILL);
		waitpid(launcher, NULL, 0);
		for (int i = 0; i < 100 && others() != 0; i++)
			usleep(50000);
		assert_int_equal(others(), 0);
		close(ready[0]);
		close(ready[1]);
	}
}

/* The init is not the program's to kill, stop or read, nor is the launcher. */
static void test_init_is_out_of_reach(void **state)
{
	struct bench *bench = *state;

	for (size_t l = 0; l < N_LAYERS; l++) {
		if (layers[l] == LAYER_OFF && landlock_abi() < 6)
			continue;
		run_shell(
		    bench, layers[l],
		    format("kill -KILL $PPID; kill -STOP $PPID; kill -KILL %d; kill -USR1 $PPID; sleep 0.2\n"
		           "cat /proc/$PPID/environ /proc/$PPID/maps /proc/$PPID/status; ls /proc/$PPID/fd; echo alive",
		           (int)getpid()));
		assert_exit(bench, 0);
		assert_string_equal(bench->out, "alive\n");
	}
}

static void test_many_runs(void **state)
{
	struct bench *bench = *state;
	size_t fds = descriptors(), places = mounts();

	for (size_t l = 0; l < N_LAYERS; l++) {
		set_up_shell(bench, layers[l], "sleep 1000 & [ $(($$ % 2)) = 0 ] || sleep 0.01; :");
		must_prepare(bench);
		for (int i = 0; i < 150; i++) {
			int out, err;

			start(bench, "", &out, &err);
			close(out);
			close(err);
			if (i % 3 == 0) {
				struct timespec pause = {.tv_nsec = rand() % 8000000};

				nanosleep(&pause, NULL);
				cage_signal(bench->cage, &bench->run, SIGKILL);
			}
			assert_true(is_gone(bench, 10000));
			cage_finish(bench->cage, &bench->run, &bench->result);
		}
		tear_down(bench);
	}
	assert_int_equal(others(), 0);
	assert_int_equal(descriptors(), fds);
	assert_int_equal(mounts(), places);
}

/* ---------------------------------------------------------------- what is not to be had */

static void test_without_user_namespaces(void **state)
{
	struct bench *bench = *state;
	pid_t child = fork();
	int status;

	assert_return_code(child, errno);
	if (child == 0) {
		scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
		char error[512];

		seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
		                 SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_NEWUSER, CLONE_NEWUSER));
		if (seccomp_load(filter) != 0)
			_exit(2);
		set_up_shell(bench, LAYER_REQUIRED, "echo here");
		if (prepare(bench, error, sizeof(error)) != -EPERM ||
		    strcmp(error, "namespaces are required, and fail at clone: Operation not permitted") != 0)
			_exit(3);
		bench->handler.namespaces = LAYER_WHERE_AVAILABLE;
		must_prepare(bench);
		if (strncmp(cage_off(bench->cage), "cgroup,namespaces", 17) != 0)
			_exit(4);
		run(bench, "");
		_exit(strcmp(bench->out, "here\n") == 0 ? 0 : 5);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

static void test_off(void **state)
{
	struct bench *bench = *state;
	char error[512];

	set_up_shell(bench, LAYER_REQUIRED, "true");
	must_prepare(bench);
	assert_null(strstr(cage_off(bench->cage), "namespaces"));
	assert_null(strstr(cage_off(bench->cage), "proc"));
	cage_free(bench->cage);
	bench->cage = NULL;
	/* Nobody gave this process a part of the tree. */
	bench->handler.cgroup = LAYER_REQUIRED;
	assert_true(prepare(bench, error, sizeof(error)) < 0);
	assert_int_equal(strncmp(error, "a cgroup is required, and none is given to this process: ", 57), 0);
	tear_down(bench);
	set_up_shell(bench, LAYER_REQUIRED, "ls /proc");
	bench->handler.proc = PROC_NONE;
	must_prepare(bench);
	run(bench, "");
	assert_string_equal(bench->out, "");
	tear_down(bench);
}

static int as_root;
static char root_error[512];

/* Tried before this process gave root up. */
static void try_as_root(void)
{
	struct bench *bench = calloc(1, sizeof(*bench));

	set_up_shell(bench, LAYER_REQUIRED, "true");
	as_root = prepare(bench, root_error, sizeof(root_error));
	tear_down(bench);
	free(bench);
}

static void test_root_is_refused(void **state)
{
	(void)state;
	if (as_root == 1)
		skip();
	assert_int_equal(as_root, -EPERM);
	assert_string_equal(root_error, "root is no user for handlers");
}

/* ---------------------------------------------------------------- */

static int make_tree(void **state)
{
	static const char *const folders[] = {"read", "write", "execute", "hidden"};

	umask(022);
	if (mkdtemp(tree) == NULL)
		return -1;
	for (size_t i = 0; i < 4; i++) {
		const char letter[] = {folders[i][0], '\n', '\0'};

		mkdir(in_tree(folders[i]), 0755);
		write_file(format("%s/%s/file", tree, folders[i]), letter, 0644);
		write_file(format("%s/%s/program", tree, folders[i]), "#!/bin/sh\necho ran\n", 0755);
	}
	*state = calloc(1, sizeof(struct bench));
	return *state == NULL ? -1 : symlink("read", in_tree("link"));
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *walk)
{
	(void)status;
	(void)type;
	(void)walk;
	return remove(path);
}

static int remove_tree(void **state)
{
	free(*state);
	return nftw(tree, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_what_it_is),
	    cmocka_unit_test(test_what_proc_says),
	    cmocka_unit_test(test_what_is_mounted),
	    cmocka_unit_test(test_what_is_not_there),
	    cmocka_unit_test(test_network),
	    cmocka_unit_test(test_data),
	    cmocka_unit_test(test_temporary),
	    cmocka_unit_test(test_paths),
	    cmocka_unit_test(test_links),
	    cmocka_unit_test(test_refusals),
	    cmocka_unit_test(test_programs),
	    cmocka_unit_test(test_scripts),
	    cmocka_unit_test(test_failure_to_execute),
	    cmocka_unit_test(test_results),
	    cmocka_unit_test(test_limits),
	    cmocka_unit_test(test_cpu_time),
	    cmocka_unit_test(test_processes),
	    cmocka_unit_test(test_nothing_stays),
	    cmocka_unit_test(test_signals),
	    cmocka_unit_test(test_launcher_dies),
	    cmocka_unit_test(test_init_is_out_of_reach),
	    cmocka_unit_test(test_many_runs),
	    cmocka_unit_test(test_without_user_namespaces),
	    cmocka_unit_test(test_off),
	    cmocka_unit_test(test_root_is_refused),
	};

	as_root = 1;
	if (geteuid() == 0) {
		try_as_root();
		if (setgroups(0, NULL) != 0 || setresgid(NOBODYS_ID, NOBODYS_ID, NOBODYS_ID) != 0 ||
		    setresuid(NOBODYS_ID, NOBODYS_ID, NOBODYS_ID) != 0) {
			perror("setresuid");
			return 1;
		}
	}
	/* As a launcher. */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return 1;
	return cmocka_run_group_tests(tests, make_tree, remove_tree);
}
