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
#include <sys/resource.h>
#include <unistd.h>

#include "daemon/common/log.h"
#include "daemon/common/notify.h"
#include "family.h"
#include "users.h"

struct options {
	const char *config_file;
	const char *libexec_dir;
	bool test;
};

static struct family family = {.own_notify_fd = -1};

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

static void read_options(struct options *options, int argc, char **argv)
{
	int option;

	*options = (struct options){.config_file = CONFIG_DEFAULT_FILE, .libexec_dir = HANDOFFD_LIBEXECDIR};
	while ((option = getopt(argc, argv, "c:x:thV")) != -1) {
		switch (option) {
		case 'c':
			options->config_file = optarg;
			break;
		case 'x':
			options->libexec_dir = optarg;
			break;
		case 't':
			options->test = true;
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

	if (address == NULL)
		return;
	family.own_notify_fd = notify_open(address);
	if (family.own_notify_fd < 0)
		fatal("NOTIFY_SOCKET cannot be reached: %s", strerror(-family.own_notify_fd));
}

static void on_stop(struct ev_loop *loop, ev_signal *watcher, int events)
{
	(void)loop;
	(void)watcher;
	(void)events;
	family_stop(&family);
}

static void on_pass(struct ev_loop *loop, ev_signal *watcher, int events)
{
	(void)loop;
	(void)events;
	family_signal(&family, watcher->signum);
}

static void watch_signals(struct ev_loop *loop)
{
	static ev_signal watchers[4];
	static const struct {
		int number;
		void (*callback)(struct ev_loop *, ev_signal *, int);
	} signals[4] = {{SIGTERM, on_stop}, {SIGINT, on_stop}, {SIGHUP, on_pass}, {SIGUSR1, on_pass}};

	signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; i < 4; i++) {
		ev_signal_init(&watchers[i], signals[i].callback, signals[i].number);
		ev_signal_start(loop, &watchers[i]);
	}
}

int main(int argc, char **argv)
{
	const struct config *config;
	struct options options;
	int result;

	read_options(&options, argc, argv);
	log_open("handoffd");
	config = load(absolute(options.config_file));
	family.config = config;
	if (!users_check(config))
		return 1;
	if (options.test) {
		puts("configuration ok");
		return 0;
	}
	family.libexec_dir = absolute(options.libexec_dir);
	open_own_notify();
	raise_limits();
	family.loop = ev_default_loop(EVBACKEND_EPOLL | EVFLAG_NOENV);
	if (family.loop == NULL)
		fatal("no event loop");
	watch_signals(family.loop);
	if (runtime_dir_open(config->runtime_dir) < 0)
		return 1;
	for (size_t i = 0; i < CONFIG_SECTIONS_MAX; i++)
		family.listen_fds[i] = -1;
	result = family_start(&family);
	if (result == 0)
		ev_run(family.loop, 0);
	family_remove(&family);
	runtime_dir_close(config->runtime_dir);
	return result < 0 || family.failed ? 1 : 0;
}
