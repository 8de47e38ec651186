/* SPDX-License-Identifier: Apache-2.0
 *
 * Transfer: the client's socket, the reply socket and the request go to the daemon in one message; then the daemon's
 * answer is awaited. At every moment at most one process may write to the client: docs/protocol.md, "Ownership".
 */
#include <errno.h>
#include <poll.h>
#include <time.h>

#include "lib/fdpass.h"

#include "module.h"

#define BACKOFF_FIRST_MS 10

/* Everything that stays the same from one attempt to the next. */
struct job {
	const struct handoff *handoff;
	struct outcome *outcome;
	const char *path;
	struct span message;
	int client;
	int memfd;           /* -1: the data is in the message */
	int64_t deadline_ms; /* of all attempts together */
};

enum attempt {
	ATTEMPT_DONE,  /* outcome is final */
	ATTEMPT_LATER, /* the daemon may be back in a moment */
	ATTEMPT_NOW,   /* a cached connection had ended: the next one */
};

static int64_t earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* When a step that may take this long must be over. */
static int64_t step_deadline(const struct job *job, enum setting limit)
{
	return earlier(clock_ms() + setting(job->handoff->config, limit), job->deadline_ms);
}

static enum attempt refused(const struct job *job, enum reason reason, int error, enum attempt attempt)
{
	job->outcome->reason = reason;
	job->outcome->error = error < 0 ? -error : error;
	return attempt;
}

/* ---------------------------------------------------------------- the message */

static struct span text_field(const char *text, size_t longest)
{
	size_t len = text ? strlen(text) : 0;

	return text ? span_of(text, len < longest ? len : longest) : SPAN_EMPTY;
}

static void header_line(apr_array_header_t *pieces, const char *name, const char *value)
{
	APR_ARRAY_PUSH(pieces, const char *) = name;
	APR_ARRAY_PUSH(pieces, const char *) = ": ";
	APR_ARRAY_PUSH(pieces, const char *) = value;
	APR_ARRAY_PUSH(pieces, const char *) = "\r\n";
}

/* The lines of one table that may travel. */
static void header_lines(apr_array_header_t *pieces, const apr_table_t *table)
{
	const apr_array_header_t *all = apr_table_elts(table);
	const apr_table_entry_t *entry = (const apr_table_entry_t *)(const void *)all->elts;

	for (int i = 0; i < all->nelts; i++) {
		const char *key = entry[i].key;
		/* Content-Type is a member of the request and written from there. */
		if (key && !wire_header_forbidden(span_of_string(key)) && ap_cstr_casecmp(key, "Content-Type") != 0)
			header_line(pieces, key, entry[i].val);
	}
}

static struct span response_headers(request_rec *r)
{
	apr_array_header_t *pieces = apr_array_make(r->pool, 32, sizeof(const char *));

	if (r->content_type)
		header_line(pieces, "Content-Type", r->content_type);
	header_lines(pieces, r->headers_out);
	header_lines(pieces, r->err_headers_out);
	return span_of_string(apr_array_pstrcat(r->pool, pieces, '\0'));
}

static const char *request_id(const request_rec *r)
{
	const char *unique_id = apr_table_get(r->subprocess_env, "UNIQUE_ID");

	return unique_id ? unique_id : r->log_id;
}

/* What the client asked for, before internal redirects. */
static const char *request_target(const request_rec *r)
{
	while (r->prev)
		r = r->prev;
	return r->unparsed_uri;
}

static enum reason message_build(request_rec *r, struct job *job)
{
	const struct handoff *handoff = job->handoff;
	const char *method = r->header_only ? "HEAD" : r->method;
	uint8_t *status = apr_palloc(r->pool, 2);
	struct wire_request request = {.flags = handoff->relay ? WIRE_FLAG_RELAY : 0};

	put_le16(status, (uint16_t)r->status);
	request.field[WIRE_TOKEN] = text_field(handoff->controls.value[CONTROL_TOKEN], 128);
	request.field[WIRE_BINDING] = span_of_string(handoff->binding);
	request.field[WIRE_SOCKET_PATH] = span_of_string(job->path);
	request.field[WIRE_SUBJECT] = text_field(handoff->controls.value[CONTROL_SUBJECT], 256);
	request.field[WIRE_DATA_DIGEST] = span_of(handoff->data_digest, sizeof(handoff->data_digest));
	request.field[WIRE_METHOD] = span_of_string(method);
	request.field[WIRE_TARGET] = text_field(request_target(r), 8192);
	request.field[WIRE_PROTOCOL] = span_of_string(r->proto_num > HTTP_VERSION(1, 0) ? "HTTP/1.1" : "HTTP/1.0");
	request.field[WIRE_CLIENT_ADDRESS] = text_field(r->useragent_ip, 64);
	request.field[WIRE_SERVER_NAME] = text_field(r->server->server_hostname, 256);
	request.field[WIRE_REQUEST_ID] = text_field(request_id(r), 64);
	request.field[WIRE_STATUS] = span_of(status, 2);
	request.field[WIRE_RESPONSE_HEADERS] = response_headers(r);
	if (job->memfd >= 0)
		request.flags |= WIRE_FLAG_MEMFD;
	else
		request.field[WIRE_DATA] = handoff->data;

	if (!wire_headers_valid(request.field[WIRE_RESPONSE_HEADERS]))
		return REASON_MESSAGE_MALFORMED;
	size_t size = wire_request_size(&request);
	if (size == 0)
		return REASON_MESSAGE_MALFORMED;
	uint8_t *message = apr_palloc(r->pool, size);
	wire_request_write(&request, message, size);
	job->message = span_of(message, size);
	return REASON_OK;
}

/* ---------------------------------------------------------------- one attempt */

/* Wait for events until the deadline. 1 when there are some, 0 when the time is over, or -errno. */
static int wait_for(int fd, short events, int64_t deadline_ms)
{
	struct pollfd poll_fd = {.fd = fd, .events = events};
	int n;

	do {
		int64_t left = deadline_ms - clock_ms();
		n = poll(&poll_fd, 1, left > 0 ? (int)left : 0);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/* Send the message, waiting for room until the deadline. 0 or -errno; -ETIMEDOUT when there never was room. */
static int send_message(const struct job *job, int sock, const int *fds, size_t n_fds)
{
	const struct iovec iov = {.iov_base = (void *)(uintptr_t)job->message.data, .iov_len = job->message.len};
	int64_t deadline = step_deadline(job, SETTING_SEND_MS);

	for (;;) {
		int error = fdpass_send(sock, &iov, 1, fds, n_fds, MSG_DONTWAIT);
		if (error != -EAGAIN)
			return error;
		int ready = wait_for(sock, POLLOUT, deadline);
		if (ready <= 0)
			return ready < 0 ? ready : -ETIMEDOUT;
	}
}

/* After an error in sending nobody but us holds the client. */
static enum attempt send_failed(const struct job *job, int error, bool cached)
{
	switch (error) {
	case -EPIPE:
	case -ECONNRESET:
	case -ENOTCONN:
		return refused(job, REASON_DAEMON_UNREACHABLE, error, cached ? ATTEMPT_NOW : ATTEMPT_LATER);
	case -ETOOMANYREFS:
	case -ENOBUFS:
		return refused(job, REASON_DAEMON_UNREACHABLE, error, ATTEMPT_LATER);
	case -ETIMEDOUT:
		return refused(job, REASON_DAEMON_TIMEOUT, error, ATTEMPT_DONE);
	default:
		return refused(job, REASON_INTERNAL, error, ATTEMPT_DONE);
	}
}

static enum attempt reply_judge(const struct job *job, struct span message)
{
	struct wire_reply reply;

	if (wire_reply_parse(message, &reply) != 0) {
		job->outcome->lost = true;
		return refused(job, REASON_MESSAGE_MALFORMED, EBADMSG, ATTEMPT_DONE);
	}
	job->outcome->stream_id = reply.stream_id;
	if (reply.kind == WIRE_ACCEPTED)
		return refused(job, REASON_OK, 0, ATTEMPT_DONE);
	job->outcome->by_daemon = true;
	job->outcome->retry_after = reply.retry_after;
	job->outcome->status = reply.status >= 400 && reply.status <= 599 ? reply.status : HTTP_SERVICE_UNAVAILABLE;
	/* A refusal is a refusal, also one without a reason. */
	return refused(job, reply.reason == REASON_OK ? REASON_INTERNAL : reply.reason, 0, ATTEMPT_DONE);
}

/* Wait until somebody has taken the client, or it is sure that nobody can any more. */
static enum attempt reply_await(const struct job *job, int sock)
{
	uint8_t buffer[WIRE_REPLY_LEN];
	size_t n_fds;

	bool in_time = wait_for(sock, POLLIN, step_deadline(job, SETTING_ACCEPT_MS)) > 0;
	/* From here on an acceptance fails at its sender. One that was sent before is still in the queue and counts. */
	if (!in_time)
		shutdown(sock, SHUT_RDWR);
	ssize_t len = fdpass_receive(sock, buffer, sizeof(buffer), NULL, 0, &n_fds, MSG_DONTWAIT);
	if (len > 0)
		return reply_judge(job, span_of(buffer, (size_t)len));
	if (len < 0 && len != -EAGAIN && len != -ECONNRESET)
		return reply_judge(job, SPAN_EMPTY);
	if (!in_time)
		return refused(job, REASON_DAEMON_TIMEOUT, ETIMEDOUT, ATTEMPT_DONE);
	/* End of file: all copies of the other end are closed, and with them the copies of the client. */
	return refused(job, REASON_DAEMON_UNREACHABLE, EPIPE, ATTEMPT_LATER);
}

static bool connect_again_later(int error)
{
	return error == -EAGAIN || error == -ENOENT || error == -ECONNREFUSED;
}

/* Send the data, the client with its first bytes. On SOCK_SEQPACKET that is one message, on SOCK_STREAM as many pieces
 * as the receiver makes room for. Returns 0 or -errno, with what has gone in *sent. */
static int send_raw(const struct job *job, int sock, size_t *sent)
{
	for (*sent = 0; *sent < job->message.len;) {
		struct span rest = span_of(job->message.data + *sent, job->message.len - *sent);
		ssize_t len = fdpass_send_some(sock, rest, &job->client, *sent == 0, MSG_DONTWAIT);
		if (len >= 0) {
			*sent += (size_t)len;
			continue;
		}
		if (len != -EAGAIN)
			return (int)len;
		int ready = wait_for(sock, POLLOUT, step_deadline(job, SETTING_SEND_MS));
		if (ready <= 0)
			return ready < 0 ? ready : -ETIMEDOUT;
	}
	return 0;
}

/* Raw mode: the data and the client, and nobody answers. */
static enum attempt attempt_raw(const struct job *job, struct connection *connection)
{
	size_t sent;
	int error = send_raw(job, connection_fd(connection), &sent);

	connection_close(connection);
	if (!error)
		return refused(job, REASON_OK, 0, ATTEMPT_DONE);
	if (error == -EMSGSIZE)
		return refused(job, REASON_DATA_TOO_LARGE, error, ATTEMPT_DONE);
	/* The client went with the first bytes: it may be the receiver's. */
	job->outcome->lost = sent > 0;
	return sent > 0 ? refused(job, REASON_DAEMON_UNREACHABLE, error, ATTEMPT_DONE) : send_failed(job, error, false);
}

static enum attempt attempt_handoff(const struct job *job, struct connection *connection, bool cached)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) {
		int error = errno;
		connection_keep(connection);
		return refused(job, REASON_INTERNAL, error, ATTEMPT_DONE);
	}
	int ours FD_CLEANUP = pair[0], theirs FD_CLEANUP = pair[1];
	const int fds[WIRE_FDS_MAX] = {
	    [WIRE_FD_CLIENT] = job->client, [WIRE_FD_REPLY] = theirs, [WIRE_FD_DATA] = job->memfd};

	int error = send_message(job, connection_fd(connection), fds, job->memfd >= 0 ? WIRE_FDS_MAX : WIRE_FD_DATA);
	/* Our own copy would hide the end of file. */
	fd_close(&theirs);
	if (error) {
		connection_close(connection);
		return send_failed(job, error, cached);
	}
	connection_keep(connection);
	return reply_await(job, ours);
}

static enum attempt attempt(const struct job *job)
{
	const struct directory_config *config = job->handoff->config;
	struct connection *connection;
	enum reason reason;
	bool cached;

	int error =
	    connection_get(&connection, &cached, config, job->path, step_deadline(job, SETTING_CONNECT_MS), &reason);
	if (error) {
		bool later = reason == REASON_DAEMON_UNREACHABLE && connect_again_later(error);
		return refused(job, reason, error, later ? ATTEMPT_LATER : ATTEMPT_DONE);
	}
	if (setting(config, SETTING_PROTOCOL) == PROTOCOL_RAW)
		return attempt_raw(job, connection);
	return attempt_handoff(job, connection, cached);
}

/* ---------------------------------------------------------------- all attempts */

/* Sleep before the next attempt. False when the deadline would pass. */
static bool back_off(const struct job *job, int retry)
{
	int64_t wait = (int64_t)BACKOFF_FIRST_MS << retry;
	struct timespec rest = {.tv_sec = wait / 1000, .tv_nsec = wait % 1000 * 1000000};

	if (clock_ms() + wait >= job->deadline_ms)
		return false;
	while (nanosleep(&rest, &rest) != 0 && errno == EINTR)
		;
	return true;
}

static void attempt_all(const struct job *job)
{
	int retries = setting(job->handoff->config, SETTING_RETRIES);
	int retry = 0;

	for (;;) {
		enum attempt result = attempt(job);
		if (result == ATTEMPT_DONE)
			return;
		if (result == ATTEMPT_LATER && (retry >= retries || !back_off(job, retry++)))
			return;
	}
}

/* The data as it travels: in the message, or sealed in a memfd. */
static enum reason job_prepare(request_rec *r, struct job *job)
{
	const struct handoff *handoff = job->handoff;

	if (setting(handoff->config, SETTING_PROTOCOL) == PROTOCOL_RAW) {
		/* A descriptor needs a byte to travel with. */
		job->message = handoff->data.len > 0 ? handoff->data : span_of("", 1);
		return REASON_OK;
	}
	if (!handoff->binding[0])
		return REASON_CLIENT_GONE;
	if (handoff->data.len > WIRE_INLINE_DATA_MAX) {
		job->memfd = memfd_make_sealed(handoff->data);
		if (job->memfd < 0) {
			job->outcome->error = -job->memfd;
			return REASON_INTERNAL;
		}
	}
	return message_build(r, job);
}

void transfer(request_rec *r, const struct handoff *handoff, int client, struct outcome *outcome)
{
	struct job job = {
	    .handoff = handoff,
	    .outcome = outcome,
	    .path = handoff->controls.value[CONTROL_SOCKET],
	    .client = client,
	    .memfd = -1,
	    .deadline_ms = clock_ms() + setting(handoff->config, SETTING_CONNECT_MS) +
	                   setting(handoff->config, SETTING_SEND_MS) + setting(handoff->config, SETTING_ACCEPT_MS),
	};

	outcome->reason = job_prepare(r, &job);
	if (outcome->reason == REASON_OK)
		attempt_all(&job);
	fd_close(&job.memfd);
}
