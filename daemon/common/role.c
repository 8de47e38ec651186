/* SPDX-License-Identifier: Apache-2.0
 *
 * Role start: see role.h.
 */
#include "role.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "channel.h"
#include "log.h"
#include "notify.h"
#include "policy/policy.h"
#include "privileges.h"

#define LISTEN_FDS_START 3

extern char **environ;

/* What the environment of the start said; the environment itself is gone after environment_take(). */
struct environment {
	char notify_socket[CONFIG_PATH_MAX];
	size_t listen_fds;
	uint64_t watchdog_us;
};

struct options {
	const char *config_file;
	const char *instance;
	const char *backend;
	const char *worker;
	const char *handler;
	const char *generation;
};

static int notify_fd = -1;
static uint64_t watchdog_us;

/* What only some roles take. */
static const struct {
	const char *letters; /* as getopt() wants them */
	const char *synopsis;
	const char *help;
} own_options[ROLE_COUNT] = {
    [ROLE_GATE] = {"", "", ""},
    [ROLE_STREAMER] = {"b:n:i:", " -b BACKEND [-n WORKER] | -i BACKEND-WORKER",
                       "  -b BACKEND  name of the backend section this process serves\n"
                       "  -n WORKER   which of its workers this is, from 0\n"
                       "  -i B-W      both, as the instance name of a systemd unit\n"},
    [ROLE_DIALER] = {"", "", ""},
    [ROLE_LAUNCHER] = {"H:i:", " -H HANDLER | -i HANDLER",
                       "  -H HANDLER  name of the handler section whose program this process starts\n"
                       "  -i HANDLER  the same, as the instance name of a systemd unit\n"},
};

static void usage(const char *ident, enum role role)
{
	printf("usage: %s [-c FILE]%s\n"
	       "       %s -h | -V\n"
	       "\n"
	       "One process of handoffd; see handoffd(8). Started by systemd or by the supervisor handoffd.\n"
	       "  -c FILE     configuration, default %s\n%s"
	       "  -g NUMBER   generation, of processes that the supervisor replaces\n"
	       "  -h          this text\n"
	       "  -V          version\n",
	       ident, own_options[role].synopsis, ident, CONFIG_DEFAULT_FILE, own_options[role].help);
}

/* BACKEND-N, which systemd cannot split; a backend's name may hold a dash itself. Split in a copy: ps and
 * handoff-policy read the arguments. */
static void instance_split(struct options *options)
{
	static char copy[CONFIG_PATH_MAX];
	int len = snprintf(copy, sizeof(copy), "%s", options->instance);
	char *dash = strrchr(copy, '-');

	if (dash == NULL || (size_t)len >= sizeof(copy))
		fatal("the instance %s is not BACKEND-N", options->instance);
	*dash = '\0';
	options->backend = copy;
	options->worker = dash + 1;
}

static void options_read(struct options *options, const char *ident, enum role role, int argc, char **argv)
{
	char accepted[32];
	int option;

	snprintf(accepted, sizeof(accepted), "c:g:hV%s", own_options[role].letters);
	*options = (struct options){.config_file = CONFIG_DEFAULT_FILE, .worker = "0", .generation = "0"};
	while ((option = getopt(argc, argv, accepted)) != -1) {
		switch (option) {
		case 'c':
			options->config_file = optarg;
			break;
		case 'g':
			options->generation = optarg;
			break;
		case 'b':
			options->backend = optarg;
			break;
		case 'n':
			options->worker = optarg;
			break;
		case 'H':
			options->handler = optarg;
			break;
		case 'i':
			options->instance = optarg;
			break;
		case 'h':
			usage(ident, role);
			exit(0);
		case 'V':
			printf("%s %s\n", ident, HANDOFFD_VERSION);
			exit(0);
		default:
			exit(2);
		}
	}
	if (optind != argc)
		fatal("unexpected argument %s", argv[optind]);
	if (options->instance != NULL && role == ROLE_STREAMER)
		instance_split(options);
	else if (options->instance != NULL)
		options->handler = options->instance;
}

/* A decimal number up to max, or fatal(). */
static size_t number_of(const char *text, size_t max, const char *what)
{
	char *end;
	unsigned long value;

	errno = 0;
	value = strtoul(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || value > max)
		fatal("%s is %s, which is not a number from 0 to %zu", what, text, max);
	return value;
}

/* A reader of the log or a peer that goes away, or a file at its limit, is an error to handle, not a signal; nothing
 * blocked is inherited. */
static void signals_reset(void)
{
	sigset_t none;

	sigemptyset(&none);
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR || signal(SIGXFSZ, SIG_IGN) == SIG_ERR ||
	    sigprocmask(SIG_SETMASK, &none, NULL) != 0)
		fatal("cannot reset signals: %m");
}

/* Another WATCHDOG_PID: somebody else is waited for. */
static uint64_t watchdog_period(void)
{
	const char *usec = getenv("WATCHDOG_USEC");
	const char *pid = getenv("WATCHDOG_PID");

	if (usec == NULL || (pid != NULL && number_of(pid, INT32_MAX, "WATCHDOG_PID") != (size_t)getpid()))
		return 0;
	return number_of(usec, INT64_MAX, "WATCHDOG_USEC");
}

/* Take what is ours, then leave no environment: not to libraries, and not in /proc/PID/environ. What stays is
 * CREDENTIALS_DIRECTORY, for config_secret_path(). */
static void environment_take(struct environment *taken)
{
	const char *notify = getenv("NOTIFY_SOCKET");
	const char *pid = getenv("LISTEN_PID");
	const char *fds = getenv("LISTEN_FDS");
	const char *credentials = getenv("CREDENTIALS_DIRECTORY");
	char *kept = credentials == NULL ? NULL : strdup(credentials);

	*taken = (struct environment){0};
	if (notify != NULL) {
		if (strlen(notify) >= sizeof(taken->notify_socket))
			fatal("NOTIFY_SOCKET is too long");
		memcpy(taken->notify_socket, notify, strlen(notify) + 1);
	}
	/* Another LISTEN_PID: the descriptors were meant for a process that started us. */
	if (pid != NULL && fds != NULL && number_of(pid, INT32_MAX, "LISTEN_PID") == (size_t)getpid())
		taken->listen_fds = number_of(fds, CONFIG_SECTIONS_MAX, "LISTEN_FDS");
	taken->watchdog_us = watchdog_period();
	for (char **entry = environ; *entry != NULL; entry++)
		explicit_bzero(*entry, strlen(*entry));
	if (clearenv() != 0 || (credentials != NULL && (kept == NULL || setenv("CREDENTIALS_DIRECTORY", kept, 1) != 0)))
		fatal("cannot empty the environment");
	free(kept);
}

/* Standard input and output lead nowhere, standard error is the log, then the announced sockets; nothing else. */
static void descriptors_reduce(size_t n_listen_fds)
{
	int null;

	if (close_range(LISTEN_FDS_START + (unsigned)n_listen_fds, ~0U, 0) != 0)
		fatal("close_range: %m");
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0)
		fatal("/dev/null: %m");
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if ((fd != STDERR_FILENO || fcntl(fd, F_GETFD) < 0) && dup2(null, fd) < 0)
			fatal("/dev/null: %m");
	if (null > STDERR_FILENO)
		close(null);
}

static int socket_option(int fd, int name)
{
	int value = -1;
	socklen_t len = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, name, &value, &len) == 0 ? value : -1;
}

static void listen_fds_take(struct role_context *context, size_t n)
{
	context->n_listen_fds = n;
	context->listen_fds = calloc(n + 1, sizeof(*context->listen_fds));
	if (context->listen_fds == NULL)
		fatal("out of memory");
	for (size_t i = 0; i < n; i++) {
		int fd = LISTEN_FDS_START + (int)i;
		int flags = fcntl(fd, F_GETFL);

		if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
			fatal("inherited descriptor %d: %m", fd);
		context->listen_fds[i] = fd;
	}
}

static void config_read(struct role_context *context, const char *file)
{
	char *errors = NULL;
	char *rest;

	context->config = config_load(file, &errors);
	if (context->config != NULL) {
		if (context->config->log_debug)
			log_level(LOG_DEBUG);
		return;
	}
	rest = errors;
	for (char *line = strtok_r(rest, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest))
		log_event(LOG_ERR, "config", LOG_STR("error", line));
	free(errors);
	fatal("configuration %s cannot be used", file);
}

static void backend_choose(struct role_context *context, const struct options *options)
{
	const struct config *config = context->config;

	if (options->backend == NULL)
		fatal("a streamer needs -b BACKEND");
	while (context->backend < config->n_backends &&
	       strcmp(config->backends[context->backend].name, options->backend) != 0)
		context->backend++;
	if (context->backend == config->n_backends)
		fatal("the configuration has no backend \"%s\"", options->backend);
	context->worker = number_of(options->worker, config->backends[context->backend].workers - 1, "WORKER");
}

static void handler_choose(struct role_context *context, const struct options *options)
{
	const struct config *config = context->config;

	if (options->handler == NULL)
		fatal("a launcher needs -H HANDLER");
	while (context->handler < config->n_handlers &&
	       strcmp(config->handlers[context->handler].name, options->handler) != 0)
		context->handler++;
	if (context->handler == config->n_handlers)
		fatal("the configuration has no handler \"%s\"", options->handler);
}

static bool is_bound_to(int fd, const char *path)
{
	struct sockaddr_un name = {0};
	/* One byte is kept back so that the path always ends. */
	socklen_t len = sizeof(name) - 1;

	return getsockname(fd, (struct sockaddr *)&name, &len) == 0 &&
	       strncmp(name.sun_path, path, sizeof(name.sun_path)) == 0;
}

static bool is_legacy_listener(const struct config *config, int fd)
{
	for (size_t i = 0; i < config->n_listens; i++)
		if (config->listens[i].legacy && is_bound_to(fd, config->listens[i].path))
			return true;
	return false;
}

/* With the configuration at hand: only legacy listeners may have byte streams. Whether it can listen, role_confine()
 * will see. */
static void listen_types_check(const struct role_context *context)
{
	for (size_t i = 0; i < context->n_listen_fds; i++) {
		int fd = context->listen_fds[i];
		int type = socket_option(fd, SO_TYPE);
		bool right = type == SOCK_SEQPACKET || (type == SOCK_STREAM && is_legacy_listener(context->config, fd));

		if (socket_option(fd, SO_DOMAIN) != AF_UNIX || !right)
			fatal(
			    "inherited descriptor %d is not an AF_UNIX SOCK_SEQPACKET socket, nor a legacy listener's",
			    fd);
	}
}

void role_begin(struct role_context *context, enum role role, int argc, char **argv)
{
	static char ident[32];
	struct environment environment;
	struct options options;

	*context = (struct role_context){.role = role};
	snprintf(ident, sizeof(ident), "handoffd-%s", role_name(role));
	/* The log needs the environment that is emptied next; descriptors are closed before anything opens one. */
	log_open(ident);
	options_read(&options, ident, role, argc, argv);
	signals_reset();
	environment_take(&environment);
	descriptors_reduce(environment.listen_fds);
	listen_fds_take(context, environment.listen_fds);
	umask(077);
	watchdog_us = environment.watchdog_us;
	if (environment.notify_socket[0] != '\0') {
		notify_fd = notify_open(environment.notify_socket);
		if (notify_fd < 0)
			fatal("NOTIFY_SOCKET %s: %s", environment.notify_socket, strerror(-notify_fd));
	}
	config_read(context, options.config_file);
	context->config->generation = (unsigned)number_of(options.generation, UINT32_MAX, "GENERATION");
	listen_types_check(context);
	if (role == ROLE_STREAMER)
		backend_choose(context, &options);
	if (role == ROLE_LAUNCHER)
		handler_choose(context, &options);
}

int role_listen_fd(const struct role_context *context, const char *path)
{
	for (size_t i = 0; i < context->n_listen_fds; i++)
		if (is_bound_to(context->listen_fds[i], path))
			return context->listen_fds[i];
	fatal("no inherited socket is bound to %s", path);
}

uid_t role_expected_uid(const struct config_user *user)
{
	return user->name[0] == '\0' ? geteuid() : user->uid;
}

static void privileges_leave(const struct config_user *user, struct privileges_report *report)
{
	char error[256];

	if (geteuid() == 0 && user->name[0] == '\0')
		fatal("started as root, and the configuration names no user to become");
	if (privileges_drop(role_expected_uid(user), user->gid, report, error, sizeof(error)) != 0)
		fatal("cannot drop privileges: %s", error);
}

void role_cage(const char *name, const struct config *config, const char *already_off)
{
	struct policy_report report;
	char error[512];
	char off[sizeof(report.off) + 128];
	struct policy *policy = policy_load(name, config->policy_dir, error, sizeof(error));

	if (policy == NULL)
		fatal("policy: %s", error);
	if (policy_override(policy) != NULL)
		log_event(LOG_WARNING, "policy-replaced", LOG_STR("file", policy_override(policy)));
	if (config->seccomp != POLICY_ENFORCE)
		log_event(LOG_WARNING, "cage-weakened",
		          LOG_STR("seccomp", config->seccomp == POLICY_LOG ? "log" : "trap"));
	if (policy_apply(policy, config->seccomp, &report, error, sizeof(error)) != 0)
		fatal("cannot apply the policy: %s", error);
	policy_free(policy);
	snprintf(off, sizeof(off), "%s%s%s", already_off, already_off[0] != '\0' && report.off[0] != '\0' ? "," : "",
	         report.off);
	log_event(LOG_NOTICE, "caged", LOG_STR("role", name), LOG_INT("uid", geteuid()),
	          LOG_INT("landlock", report.landlock_abi), LOG_INT("instructions", report.instructions),
	          LOG_STR("off", off));
}

static void listen_again(const struct role_context *context, int backlog)
{
	for (size_t i = 0; i < context->n_listen_fds; i++)
		if (listen(context->listen_fds[i], backlog) != 0)
			fatal("listen on inherited descriptor %d: %m", context->listen_fds[i]);
}

void role_confine(const struct role_context *context, const struct config_user *user, int backlog)
{
	struct privileges_report privileges;

	privileges_leave(user, &privileges);
	listen_again(context, backlog);
	role_cage(role_name(context->role), context->config, privileges.off);
}

void role_ready(const struct role_context *context, struct ev_loop *loop)
{
	int rc = notify_send(notify_fd, "READY=1");

	if (rc != 0)
		fatal("cannot report readiness: %s", strerror(-rc));
	notify_watchdog(loop, notify_fd, watchdog_us);
	log_event(LOG_INFO, "ready", LOG_STR("role", role_name(context->role)));
}

void role_stopping(const struct role_context *context)
{
	/* Whoever started us may be gone already; stopping goes on. */
	notify_send(notify_fd, "STOPPING=1");
	log_event(LOG_INFO, "stopping", LOG_STR("role", role_name(context->role)));
}
