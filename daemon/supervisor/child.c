/* SPDX-License-Identifier: Apache-2.0
 *
 * Child: fork, become what the role is to be, exec.
 */
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "daemon/common/channel.h"
#include "daemon/common/log.h"
#include "daemon/common/privileges.h"
#include "daemon/common/role.h"
#include "family.h"

#define LISTEN_FDS_START 3
#define NAME_MAX_LEN     16

__attribute__((noreturn)) static void give_up(const struct child *child, const char *step, const char *detail)
{
	log_event(LOG_CRIT, "start-failed", LOG_STR("role", role_name(child->role)), LOG_STR("step", step),
	          LOG_STR("detail", detail));
	_exit(1);
}

/* Put the sockets at 3, 4... where LISTEN_FDS says they are, and let them stay open over exec. */
static int place_sockets(const int *fds, size_t n)
{
	int moved[CONFIG_SECTIONS_MAX];
	int first_free = LISTEN_FDS_START + (int)n;

	if (n > CONFIG_SECTIONS_MAX)
		return -E2BIG;
	/* Out of the way first: one may be where another belongs. */
	for (size_t i = 0; i < n; i++) {
		moved[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, first_free);
		if (moved[i] < 0)
			return -errno;
	}
	for (size_t i = 0; i < n; i++)
		if (dup2(moved[i], LISTEN_FDS_START + (int)i) < 0)
			return -errno;
	return 0;
}

/* libev's handlers end with exec; what is ignored stays so. A role that does not know these two ignores them. */
static int reset_signals(void)
{
	sigset_t none;

	sigemptyset(&none);
	if (signal(SIGHUP, SIG_IGN) == SIG_ERR || signal(SIGUSR1, SIG_IGN) == SIG_ERR ||
	    sigprocmask(SIG_SETMASK, &none, NULL) < 0)
		return -errno;
	return 0;
}

struct environment {
	char listen_pid[32];
	char listen_fds[32];
	char listen_names[sizeof("LISTEN_FDNAMES=") + CONFIG_SECTIONS_MAX * NAME_MAX_LEN];
	char notify_socket[sizeof("NOTIFY_SOCKET=") + CONFIG_PATH_MAX];
	char journal_stream[64];
	char watchdog_usec[48];
	char *list[8];
};

#ifdef HANDOFF_SANITIZE
/* A sanitizer build takes its options from the environment. */
static size_t keep_sanitizer_options(char **list)
{
	static char kept[2][256];
	static const char *const names[2] = {"ASAN_OPTIONS", "UBSAN_OPTIONS"};
	size_t n = 0;

	for (size_t i = 0; i < 2; i++) {
		if (getenv(names[i]) == NULL)
			continue;
		snprintf(kept[i], sizeof(kept[i]), "%s=%s", names[i], getenv(names[i]));
		list[n++] = kept[i];
	}
	return n;
}
#endif

static void environment_make(struct environment *environment, const struct child *child, size_t n_listen_fds)
{
	const char *journal = getenv("JOURNAL_STREAM");
	size_t n = 0;
	int len = snprintf(environment->listen_names, sizeof(environment->listen_names), "LISTEN_FDNAMES=");

	for (size_t i = 0; i < n_listen_fds; i++)
		len += snprintf(environment->listen_names + len, sizeof(environment->listen_names) - (size_t)len,
		                "%s%s-%zu", i == 0 ? "" : ":", role_name(child->role), i);
	snprintf(environment->listen_pid, sizeof(environment->listen_pid), "LISTEN_PID=%d", (int)getpid());
	snprintf(environment->listen_fds, sizeof(environment->listen_fds), "LISTEN_FDS=%zu", n_listen_fds);
	snprintf(environment->notify_socket, sizeof(environment->notify_socket), "NOTIFY_SOCKET=%s",
	         child->notify_path);
	environment->list[n++] = environment->listen_pid;
	environment->list[n++] = environment->listen_fds;
	environment->list[n++] = environment->listen_names;
	environment->list[n++] = environment->notify_socket;
	if (child->family->config->watchdog_s > 0) {
		snprintf(environment->watchdog_usec, sizeof(environment->watchdog_usec), "WATCHDOG_USEC=%u000000",
		         child->family->config->watchdog_s);
		environment->list[n++] = environment->watchdog_usec;
	}
	if (journal != NULL && strlen(journal) < 40) {
		snprintf(environment->journal_stream, sizeof(environment->journal_stream), "JOURNAL_STREAM=%s",
		         journal);
		environment->list[n++] = environment->journal_stream;
	}
#ifdef HANDOFF_SANITIZE
	n += keep_sanitizer_options(environment->list + n);
#endif
	environment->list[n] = NULL;
}

static void become_user(const struct child *child)
{
	struct privileges_report report;
	char error[256];

	if (privileges_drop(role_expected_uid(child->user), child->user->gid, &report, error, sizeof(error)) < 0)
		give_up(child, "privileges", error);
}

/* The end of this process's time as a supervisor. */
__attribute__((noreturn)) static void run(const struct child *child, const char *libexec_dir, pid_t parent,
                                          const int *listen_fds, size_t n_listen_fds)
{
	const struct config *config = child->family->config;
	struct environment environment;
	char path[PATH_MAX];
	char worker[16], generation[16];
	char *arguments[10];
	size_t n = 0;
	int result = reset_signals();

	if (result == 0)
		result = place_sockets(listen_fds, n_listen_fds);
	if (result < 0)
		give_up(child, "descriptors and signals", strerror(-result));
	if (snprintf(path, sizeof(path), "%s/handoffd-%s", libexec_dir, role_name(child->role)) >= (int)sizeof(path))
		give_up(child, "path", "too long");
	if (chdir("/") < 0)
		give_up(child, "chdir", strerror(errno));
	become_user(child);
	/* The kernel forgets this when the uid changes, so it comes after. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		give_up(child, "parent", "the supervisor is gone");

	snprintf(worker, sizeof(worker), "%zu", child->worker);
	arguments[n++] = path;
	arguments[n++] = "-c";
	arguments[n++] = (char *)(uintptr_t)config->file;
	if (config->generation > 0) {
		snprintf(generation, sizeof(generation), "%u", config->generation);
		arguments[n++] = "-g";
		arguments[n++] = generation;
	}
	if (child->role == ROLE_STREAMER) {
		arguments[n++] = "-b";
		arguments[n++] = (char *)(uintptr_t)config->backends[child->backend].name;
		arguments[n++] = "-n";
		arguments[n++] = worker;
	}
	if (child->role == ROLE_LAUNCHER) {
		arguments[n++] = "-H";
		arguments[n++] = (char *)(uintptr_t)config->handlers[child->handler].name;
	}
	arguments[n] = NULL;
	environment_make(&environment, child, n_listen_fds);
	execve(path, arguments, environment.list);
	give_up(child, path, strerror(errno));
}

pid_t child_start(const struct child *child, const char *libexec_dir, const int *listen_fds, size_t n_listen_fds)
{
	pid_t parent = getpid();
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (pid == 0)
		run(child, libexec_dir, parent, listen_fds, n_listen_fds);
	return pid;
}
