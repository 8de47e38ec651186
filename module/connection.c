/* SPDX-License-Identifier: Apache-2.0
 *
 * Connections to daemons: opened in the child, kept open between handoffs, last used first. Reaching a path touches the
 * file system and checks who listens; with a cached connection both have been done, and what was found is compared
 * with the configuration again, since another section may allow less.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#include "lib/fdpass.h"

#include "apr_hash.h"

#include "label.h"
#include "module.h"

/* Paths come from applications: only so many are remembered. */
#define LISTENERS_MAX 256

struct connection {
	struct connection *next;
	struct listener *listener; /* NULL: not kept */
	int fd;
	struct ucred peer;
	char *label;      /* of the peer, malloc()ed; NULL: the kernel gave none */
	char real_path[]; /* where the listener's socket was found */
};

/* One socket path and its idle connections. Never removed while the child lives. */
struct listener {
	struct connection *idle;
};

static struct {
	pthread_mutex_t lock; /* held for pointer work only */
	apr_pool_t *pool;
	apr_hash_t *listeners; /* by path */
} cache = {.lock = PTHREAD_MUTEX_INITIALIZER};

int64_t clock_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static apr_status_t cache_close(void *unused)
{
	(void)unused;
	for (apr_hash_index_t *i = apr_hash_first(NULL, cache.listeners); i; i = apr_hash_next(i)) {
		void *value;
		apr_hash_this(i, NULL, NULL, &value);
		struct listener *listener = value;
		while (listener->idle) {
			struct connection *connection = listener->idle;
			listener->idle = connection->next;
			connection_close(connection);
		}
	}
	cache.listeners = NULL;
	return APR_SUCCESS;
}

void connection_init(apr_pool_t *pchild, server_rec *s)
{
	(void)s;
	/* A pool of its own: httpd's threads use pchild without our lock. */
	apr_pool_create(&cache.pool, pchild);
	cache.listeners = apr_hash_make(cache.pool);
	apr_pool_cleanup_register(cache.pool, NULL, cache_close, apr_pool_cleanup_null);
}

int connection_fd(const struct connection *connection)
{
	return connection->fd;
}

void connection_close(struct connection *connection)
{
	fd_close(&connection->fd);
	free(connection->label);
	free(connection);
}

/* ---------------------------------------------------------------- what the configuration allows */

static bool label_allowed(const struct directory_config *config, const char *label)
{
	if (!config->labels)
		return true;
	for (int i = 0; label && i < config->labels->nelts; i++)
		if (label_matches(APR_ARRAY_IDX(config->labels, i, const char *), label))
			return true;
	return false;
}

static bool user_allowed(const struct directory_config *config, const struct ucred *peer)
{
	if (!config->peers) /* raw mode without token only: config_check() sees to it */
		return setting(config, SETTING_PROTOCOL) == PROTOCOL_RAW && !setting(config, SETTING_REQUIRE_TOKEN);
	for (int i = 0; i < config->peers->nelts; i++) {
		const struct peer_rule *rule = &APR_ARRAY_IDX(config->peers, i, struct peer_rule);
		if (rule->id == (rule->is_group ? peer->gid : peer->uid))
			return true;
	}
	return false;
}

static bool peer_allowed(const struct connection *connection, const struct directory_config *config)
{
	return user_allowed(config, &connection->peer) && label_allowed(config, connection->label);
}

static bool connection_allowed(const struct connection *connection, const struct directory_config *config)
{
	return peer_allowed(connection, config) && path_below(connection->real_path, config_prefix(config));
}

/* ---------------------------------------------------------------- cached connections */

/* The daemon sends nothing on it: whatever is to be seen there is its end. */
static bool connection_stands(const struct connection *connection)
{
	struct pollfd poll_fd = {.fd = connection->fd, .events = POLLIN | POLLRDHUP};

	return poll(&poll_fd, 1, 0) == 0;
}

static struct connection *cache_take(const char *path)
{
	struct connection *connection = NULL;

	pthread_mutex_lock(&cache.lock);
	struct listener *listener = apr_hash_get(cache.listeners, path, APR_HASH_KEY_STRING);
	if (listener && listener->idle) {
		connection = listener->idle;
		listener->idle = connection->next;
	}
	pthread_mutex_unlock(&cache.lock);
	return connection;
}

/* The entry for a path, made when there is room; NULL when there is none. */
static struct listener *cache_listener(const char *path)
{
	pthread_mutex_lock(&cache.lock);
	struct listener *listener = apr_hash_get(cache.listeners, path, APR_HASH_KEY_STRING);
	if (!listener && apr_hash_count(cache.listeners) < LISTENERS_MAX) {
		listener = apr_pcalloc(cache.pool, sizeof(*listener));
		apr_hash_set(cache.listeners, apr_pstrdup(cache.pool, path), APR_HASH_KEY_STRING, listener);
	}
	pthread_mutex_unlock(&cache.lock);
	return listener;
}

void connection_keep(struct connection *connection)
{
	struct listener *listener = connection->listener;

	if (!listener) {
		connection_close(connection);
		return;
	}
	pthread_mutex_lock(&cache.lock);
	connection->next = listener->idle;
	listener->idle = connection;
	pthread_mutex_unlock(&cache.lock);
}

/* ---------------------------------------------------------------- new connections */

/* Take a descriptor out of a variable that would close it. */
static int fd_take(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

/* Open the socket file itself, without following a link to it, and find out where it really is. Returns an O_PATH
 * descriptor, or -errno. */
static int socket_open(const char *path, char real_path[PATH_MAX])
{
	int fd FD_CLEANUP = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	char link[32];
	struct stat status;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &status) != 0)
		return -errno;
	if (!S_ISSOCK(status.st_mode))
		return -ENOTSOCK;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t len = readlink(link, real_path, PATH_MAX - 1);
	if (len < 0)
		return -errno;
	real_path[len] = '\0';
	return fd_take(&fd);
}

/* A path that cannot be opened: outside of the prefix it is forbidden, whatever may be there. */
static enum reason socket_open_reason(const struct directory_config *config, const char *path, int error)
{
	apr_pool_t *pool;
	enum reason reason = REASON_DAEMON_UNREACHABLE;

	if (error == -ENOTSOCK || error == -ELOOP)
		return REASON_PATH_FORBIDDEN;
	if (apr_pool_create(&pool, NULL) != APR_SUCCESS)
		return REASON_NO_MEMORY;
	const char *resolved = path_resolve(pool, path);
	if (!resolved || !path_below(resolved, config_prefix(config)))
		reason = REASON_PATH_FORBIDDEN;
	apr_pool_destroy(pool);
	return reason;
}

/* Connect to the inode behind an O_PATH descriptor. connect() itself waits for room in the backlog, no longer than
 * SO_SNDTIMEO says. Returns a descriptor or -errno. */
static int socket_connect(int path_fd, int type, int64_t deadline_ms)
{
	int fd FD_CLEANUP = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int64_t left = deadline_ms - clock_ms();
	int result;

	if (fd < 0)
		return -errno;
	if (left < 1)
		left = 1;
	struct timeval wait = {.tv_sec = left / 1000, .tv_usec = left % 1000 * 1000};
	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait)) != 0)
		return -errno;
	snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d", path_fd);
	do
		result = connect(fd, (struct sockaddr *)&address, sizeof(address));
	while (result != 0 && errno == EINTR);
	if (result != 0 || fcntl(fd, F_SETFL, O_NONBLOCK) != 0)
		return -errno;
	return fd_take(&fd);
}

/* In raw mode receivers decide what they listen on: the original's of today on SOCK_SEQPACKET, earlier ones on
 * SOCK_STREAM. */
static int socket_connect_raw(int path_fd, int64_t deadline_ms)
{
	int fd = socket_connect(path_fd, SOCK_SEQPACKET, deadline_ms);

	return fd == -EPROTOTYPE ? socket_connect(path_fd, SOCK_STREAM, deadline_ms) : fd;
}

/* Before anything is sent: who listens there? */
static int connection_check(struct connection *connection, const struct directory_config *config, enum reason *reason)
{
	*reason = REASON_DAEMON_PEER;
	int error = peer_credentials(connection->fd, &connection->peer);
	if (error)
		return error;
	/* Where there is no label, whoever asks for one is refused. */
	error = label_read(connection->fd, &connection->label);
	if (error && config->labels)
		return error;
	return peer_allowed(connection, config) ? 0 : -EACCES;
}

static int connection_open(struct connection **out, const struct directory_config *config, const char *path,
                           int64_t deadline_ms, enum reason *reason)
{
	bool raw = setting(config, SETTING_PROTOCOL) == PROTOCOL_RAW;
	char real_path[PATH_MAX];

	int path_fd FD_CLEANUP = socket_open(path, real_path);
	if (path_fd < 0) {
		*reason = socket_open_reason(config, path, path_fd);
		return path_fd;
	}
	*reason = REASON_PATH_FORBIDDEN;
	if (!path_below(real_path, config_prefix(config)))
		return -EACCES;

	*reason = REASON_DAEMON_UNREACHABLE;
	int fd FD_CLEANUP =
	    raw ? socket_connect_raw(path_fd, deadline_ms) : socket_connect(path_fd, SOCK_SEQPACKET, deadline_ms);
	if (fd < 0)
		return fd;
	size_t size = strlen(real_path) + 1;
	struct connection *connection = malloc(sizeof(*connection) + size);
	if (!connection) {
		*reason = REASON_NO_MEMORY;
		return -ENOMEM;
	}
	*connection = (struct connection){.fd = fd_take(&fd)};
	memcpy(connection->real_path, real_path, size);
	int error = connection_check(connection, config, reason);
	if (error) {
		connection_close(connection);
		return error;
	}
	connection->listener = raw ? NULL : cache_listener(path);
	*out = connection;
	return 0;
}

int connection_get(struct connection **out, bool *cached, const struct directory_config *config, const char *path,
                   int64_t deadline_ms, enum reason *reason)
{
	bool raw = setting(config, SETTING_PROTOCOL) == PROTOCOL_RAW;
	struct connection *connection;

	while (!raw && (connection = cache_take(path)) != NULL) {
		if (connection_stands(connection) && connection_allowed(connection, config)) {
			*out = connection;
			*cached = true;
			return 0;
		}
		connection_close(connection);
	}
	*cached = false;
	return connection_open(out, config, path, deadline_ms, reason);
}
