/* SPDX-License-Identifier: Apache-2.0
 *
 * Asking the daemon: the status request goes the way of a handoff, over a connection whose peer was checked, and the
 * answer comes on a socket of its own.
 */
#include <errno.h>
#include <poll.h>

#include "lib/fdpass.h"
#include "lib/wire_status.h"

#include "status.h"

/* A gate answers at once, or, when its streamers are all busy, within a second. */
#define PATIENCE_MS 1500
#define TEXT_MAX    (16u << 20)

/* Wait for input until the deadline. 0 or -errno. */
static int wait_input(int fd, int64_t deadline_ms)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
	int n;

	do {
		int64_t left = deadline_ms - clock_ms();
		n = poll(&poll_fd, 1, left > 0 ? (int)left : 0);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return n == 0 ? -ETIMEDOUT : 0;
}

/* One part of the answer, its text behind what is in text already. 1 when it was the last, 0, or -errno. */
static int receive_part(int sock, uint8_t *buffer, uint32_t sequence, uint64_t *instance, apr_array_header_t *text,
                        int64_t deadline_ms)
{
	struct wire_status_part part;
	size_t n_fds;
	int error = wait_input(sock, deadline_ms);

	if (error)
		return error;
	ssize_t len = fdpass_receive(sock, buffer, WIRE_STATUS_PART_MAX, NULL, 0, &n_fds, MSG_DONTWAIT);
	if (len <= 0)
		return len == 0 ? -EPIPE : (int)len;
	if (wire_status_part_parse(span_of(buffer, (size_t)len), &part) != 0 || part.sequence != sequence ||
	    (sequence > 0 && part.instance != *instance) || (size_t)text->nelts + part.text.len > TEXT_MAX)
		return -EBADMSG;
	*instance = part.instance;
	for (size_t i = 0; i < part.text.len; i++)
		APR_ARRAY_PUSH(text, uint8_t) = part.text.data[i];
	return part.last;
}

/* Ask on a connection. 0 or -errno. */
static int ask(request_rec *r, int connection, uint64_t *instance, struct span *text, int64_t deadline_ms)
{
	apr_array_header_t *bytes = apr_array_make(r->pool, 32768, 1);
	uint8_t *buffer = apr_palloc(r->pool, WIRE_STATUS_PART_MAX);
	uint8_t message[WIRE_STATUS_REQUEST_LEN];
	struct iovec iov = {.iov_base = message, .iov_len = sizeof(message)};
	int pair[2];
	int result = 0;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0)
		return -errno;
	int ours FD_CLEANUP = pair[0], theirs FD_CLEANUP = pair[1];
	wire_status_write(message);
	int error = fdpass_send(connection, &iov, 1, &theirs, 1, MSG_DONTWAIT);
	if (error)
		return error;
	fd_close(&theirs);
	for (uint32_t sequence = 0; result == 0; sequence++)
		result = receive_part(ours, buffer, sequence, instance, bytes, deadline_ms);
	*text = span_of(bytes->elts, (size_t)bytes->nelts);
	return result < 0 ? result : 0;
}

static void down(struct status_listener *listener, const char *problem, const char *detail)
{
	listener->up = false;
	listener->problem = problem;
	listener->detail = detail;
}

/* Why no connection could be made. */
static void down_reason(request_rec *r, const struct directory_config *config, struct status_listener *listener,
                        enum reason reason, int error)
{
	const char *detail = apr_psprintf(r->pool, "%s: %s", reason_meaning(reason), strerror(-error));

	if (reason == REASON_DAEMON_PEER && !config->peers)
		detail = "SocketHandoffPeer is not set where the status is shown";
	down(listener, reason_name(reason), detail);
}

void status_fetch(request_rec *r, const struct directory_config *config, struct status_listener *listener,
                  struct span *text)
{
	int64_t deadline = clock_ms() + PATIENCE_MS;
	struct connection *connection;
	enum reason reason;
	bool cached = true;
	int error = -EPIPE;

	if (setting(config, SETTING_PROTOCOL) == PROTOCOL_RAW) {
		down(listener, "raw", "a receiver of the original's format cannot be asked");
		return;
	}
	/* A cached connection may have ended a moment ago; then the next one is tried. */
	while (cached && error == -EPIPE) {
		error = connection_get(&connection, &cached, config, listener->path, deadline, &reason);
		if (error) {
			down_reason(r, config, listener, reason, error);
			return;
		}
		error = ask(r, connection_fd(connection), &listener->instance, text, deadline);
		if (error)
			connection_close(connection);
		else
			connection_keep(connection);
	}
	if (error == -ETIMEDOUT)
		down(listener, reason_name(REASON_DAEMON_TIMEOUT), reason_meaning(REASON_DAEMON_TIMEOUT));
	else if (error)
		down(listener, "no-answer", strerror(-error));
	else
		listener->up = true;
}
