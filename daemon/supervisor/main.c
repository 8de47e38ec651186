/* SPDX-License-Identifier: Apache-2.0
 *
 * handoffd: the supervisor, where there is no systemd. It does the part of systemd's job that the roles rely
 * on: makes the sockets, starts each role under its user, starts again what crashes, passes signals on. It reads the
 * configuration and exit statuses, and nothing else from outside.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "daemon/common/log.h"
#include "daemon/common/notify.h"
#include "daemon/common/role.h"
#include "family.h"
#include "users.h"

struct options {
	const char *config_file;
	const char *libexec_dir;
	bool test;
};

/* The family that serves, the one that is to take its place, and those whose last streams are ending. */
static struct family *current, *next;
static size_t n_ending;
static size_t n_gates_ending; /* of those: with the keys as they were */
static struct options options;
static int own_notify_fd = -1;   /* where the supervisor itself reports */
static uint64_t own_watchdog_us; /* and how often, 0: never */
static bool stopping, failed;
static struct reloads reloads;

static void usage(FILE *stream)
{
	fprintf(stream,
	        "usage: handoffd [-c FILE] [-x DIRECTORY] [-t]\n"
	        "Starts and supervises the processes of handoffd.\n"
	        "  -c FILE       configuration, default %s\n"
	        "  -x DIRECTORY  where the roles' programs are, default %s\n"
	        "  -t            check the configuration and exit\n"
	        "  -h            this text\n"
	        "  -V            version\n",
	        CONFIG_DEFAULT_FILE, HANDOFFD_LIBEXECDIR);
}

static void read_options(int argc, char **argv)
{
	int option;

	options = (struct options){.config_file = CONFIG_DEFAULT_FILE, .libexec_dir = HANDOFFD_LIBEXECDIR};
	while ((option = getopt(argc, argv, "c:x:thV")) != -1) {
		switch (option) {
		case 'c':
			options.config_file = optarg;
			break;
		case 'x':
			options.libexec_dir = optarg;
			break;
		case 't':
			options.test = true;
			break;
		case 'h':
			usage(stdout);
			exit(0);
		case 'V':
			puts("handoffd " HANDOFFD_VERSION);
			exit(0);
		default:
			usage(stderr);
			exit(2);
		}
	}
	if (optind != argc) {
		usage(stderr);
		exit(2);
	}
}

/* The roles start in another directory. Kept for the life of the process. */
static const char *absolute(const char *path)
{
	const char *full = realpath(path, NULL);

	if (full == NULL)
		fatal("%s: %s", path, strerror(errno));
	return full;
}

static const struct config *load(const char *file)
{
	char *errors = NULL;
	const struct config *config = config_load(file, &errors);

	if (config == NULL) {
		fputs(errors != NULL ? errors : "out of memory\n", stderr);
		exit(1);
	}
	return config;
}

/* As many descriptors as the roles are allowed to have: their policies take what they need of it. */
static void raise_limits(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static void open_own_notify(void)
{
	const char *address = getenv("NOTIFY_SOCKET");
	const char *usec = getenv("WATCHDOG_USEC");
	const char *pid = getenv("WATCHDOG_PID");

	if (address == NULL)
		return;
	own_notify_fd = notify_open(address);
	if (usec != NULL && (pid == NULL || strtol(pid, NULL, 10) == (long)getpid()))
		own_watchdog_us = strtoull(usec, NULL, 10);
	if (own_notify_fd < 0)
		fatal("NOTIFY_SOCKET cannot be reached: %s", strerror(-own_notify_fd));
}

/* ---------------------------------------------------------------- families */

static void leave_when_alone(struct ev_loop *loop)
{
	if (current == NULL && next == NULL && n_ending == 0)
		ev_break(loop, EVBREAK_ALL);
}

static void on_gate_gone(struct family *family)
{
	(void)family;
	if (--n_gates_ending > 0 || current == NULL)
		return;
	reloads.done = current->config->generation;
	runtime_dir_note(&reloads);
}

static void reload_failed(unsigned number)
{
	reloads.failed = number;
	runtime_dir_note(&reloads);
}

static void reload_changes_nothing(unsigned number)
{
	log_event(LOG_ERR, "reload-failed", LOG_STR("detail", "the processes that run stay"));
	reload_failed(number);
}

static void on_gone(struct family *family)
{
	struct ev_loop *loop = family->loop;

	if (family == next) {
		next = NULL;
		if (!stopping)
			reload_changes_nothing(family->config->generation);
	} else if (family == current) {
		failed = family->failed;
		current = NULL;
	} else {
		n_ending--;
	}
	family_free(family, current);
	leave_when_alone(loop);
}

static void on_ready(struct family *family)
{
	log_event(LOG_NOTICE, current == family ? "ready" : "reloaded", LOG_INT("processes", family->n_children));
	notify_send(own_notify_fd, "READY=1");
	if (current == family) {
		runtime_dir_note(&reloads);
		return;
	}
	next = NULL;
	n_ending++;
	n_gates_ending++;
	struct family *before = current;
	current = family;
	family_retire(before);
}

static struct family *family_make(struct ev_loop *loop, const struct config *config)
{
	struct family *family = family_new(loop, config, options.libexec_dir);

	if (family == NULL)
		fatal("out of memory");
	family->on_ready = on_ready;
	family->on_gate_gone = on_gate_gone;
	family->on_gone = on_gone;
	return family;
}

/* ---------------------------------------------------------------- signals */

static void on_stop(struct ev_loop *loop, ev_signal *watcher, int events)
{
	(void)watcher;
	(void)events;
	if (stopping)
		return;
	stopping = true;
	log_event(LOG_NOTICE, "stopping");
	notify_send(own_notify_fd, "STOPPING=1");
	if (next != NULL)
		family_stop(next);
	if (current != NULL)
		family_stop(current);
	/* Those that are ending have been told. */
	leave_when_alone(loop);
}

static void on_pass(struct ev_loop *loop, ev_signal *watcher, int events)
{
	(void)loop;
	(void)events;
	if (current != NULL)
		family_signal(current, watcher->signum);
}

/* The configuration as it is now; NULL, and each error logged, when it cannot be used. */
static struct config *load_again(void)
{
	char *errors = NULL;
	struct config *config = config_load(current->config->file, &errors);
	char *rest = errors;

	if (config == NULL && errors == NULL)
		log_event(LOG_ERR, "config", LOG_STR("error", "out of memory"));
	for (char *line = errors != NULL ? strtok_r(rest, "\n", &rest) : NULL; line != NULL;
	     line = strtok_r(NULL, "\n", &rest))
		log_event(LOG_ERR, "config", LOG_STR("error", line));
	free(errors);
	if (config == NULL || !users_check(config))
		return NULL;
	if (strcmp(config->runtime_dir, current->config->runtime_dir) != 0) {
		log_event(LOG_ERR, "config", LOG_STR("error", "runtime-dir cannot change without a restart"));
		return NULL;
	}
	config->generation = reloads.begun;
	return config;
}

/* Start all roles anew, with configuration, keys and programs as they are now; once they are ready they take over. */
static void on_reload(struct ev_loop *loop, ev_signal *watcher, int events)
{
	struct config *config;

	(void)watcher;
	(void)events;
	reloads.begun++;
	if (stopping || current == NULL || current->state != FAMILY_RUNNING || next != NULL) {
		log_event(LOG_WARNING, "reload-refused", LOG_STR("detail", "not while starting or stopping"));
		reload_failed(reloads.begun);
		return;
	}
	log_event(LOG_NOTICE, "reloading");
	/* Before anything is read: whoever changes a file from now on must wait for another one. */
	runtime_dir_note(&reloads);
	config = load_again();
	if (config == NULL) {
		reload_changes_nothing(reloads.begun);
		return;
	}
	next = family_make(loop, config);
	if (family_start(next, current) < 0)
		family_stop(next);
}

static void watch_signals(struct ev_loop *loop)
{
	static ev_signal watchers[4];
	static const struct {
		int number;
		void (*callback)(struct ev_loop *, ev_signal *, int);
	} signals[4] = {{SIGTERM, on_stop}, {SIGINT, on_stop}, {SIGHUP, on_reload}, {SIGUSR1, on_pass}};

	signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; i < 4; i++) {
		ev_signal_init(&watchers[i], signals[i].callback, signals[i].number);
		ev_signal_start(loop, &watchers[i]);
	}
}

/* The children inherit it: policy/supervisor.policy. */
static void confine(const struct config *config)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		fatal("no_new_privs: %m");
	role_cage("supervisor", config, "");
}

int main(int argc, char **argv)
{
	static const struct config *config; /* for as long as the process lives */
	struct ev_loop *loop;

	read_options(argc, argv);
	log_open("handoffd");
	config = load(absolute(options.config_file));
	if (!users_check(config))
		return 1;
	if (options.test) {
		puts("configuration ok");
		return 0;
	}
	options.libexec_dir = absolute(options.libexec_dir);
	open_own_notify();
	raise_limits();
	confine(config);
	loop = ev_default_loop(EVBACKEND_EPOLL | EVFLAG_NOENV);
	if (loop == NULL)
		fatal("no event loop");
	watch_signals(loop);
	notify_watchdog(loop, own_notify_fd, own_watchdog_us);
	if (runtime_dir_open(config->runtime_dir) < 0)
		return 1;
	current = family_make(loop, config);
	if (family_start(current, NULL) < 0) {
		current->failed = true;
		family_stop(current);
	}
	if (current != NULL)
		ev_run(loop, 0);
	runtime_dir_close(config->runtime_dir);
	return failed ? 1 : 0;
}
