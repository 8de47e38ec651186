/* SPDX-License-Identifier: Apache-2.0
 *
 * Relay: for a client whose socket cannot travel, since it is TLS or one of many streams on an HTTP/2 connection. The
 * daemon gets one end of a socketpair; what it writes there passes through httpd's filters to the client. This holds a
 * worker for as long as the answer takes, so relays are counted, over all children.
 */
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "lib/fdpass.h"

#include "module.h"

#define BUFFER_SIZE     16384
/* A stream of an HTTP/2 connection has no socket to watch: httpd tells of its end in a flag. */
#define CLIENT_CHECK_MS 100

struct relay {
	int ours, theirs;
	bool counted;
	int client;        /* the client's own socket, to see it hang up; -1: there is none */
	ap_filter_t *next; /* where the answer goes */
	bool head_waits;   /* for the first piece of the body to go with it */
	apr_bucket_brigade *bb;
	uint8_t buffer[BUFFER_SIZE];
};

/* ---------------------------------------------------------------- how many there are */

/* One a child, in memory that all children share; a child that dies takes its relays with it. */
struct seat {
	_Atomic pid_t pid; /* 0: free */
	_Atomic unsigned relays;
};

static struct seat *seats; /* of this generation of children */
static size_t n_seats;
static struct seat *own_seat;

static apr_status_t seats_free(void *unused)
{
	(void)unused;
	munmap(seats, n_seats * sizeof(*seats));
	seats = NULL;
	return APR_SUCCESS;
}

int relay_init(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s)
{
	int most = 0;

	(void)plog;
	(void)ptemp;
	ap_mpm_query(AP_MPMQ_HARD_LIMIT_DAEMONS, &most);
	/* Twice as many as children: one may begin before the end of another has been noticed. */
	n_seats = 2 * (size_t)(most > 0 ? most : 1);
	void *memory = mmap(NULL, n_seats * sizeof(*seats), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED) {
		ap_log_error(APLOG_MARK, APLOG_EMERG, errno, s, "AHSH0003: no memory to count relays in");
		return HTTP_INTERNAL_SERVER_ERROR;
	}
	seats = memory;
	apr_pool_cleanup_register(pconf, NULL, seats_free, apr_pool_cleanup_null);
	return OK;
}

void relay_init_child(apr_pool_t *pchild, server_rec *s)
{
	(void)pchild;
	(void)s;
	own_seat = NULL;
	for (size_t i = 0; i < n_seats && !own_seat; i++) {
		pid_t nobody = 0;
		if (atomic_compare_exchange_strong(&seats[i].pid, &nobody, getpid()))
			own_seat = &seats[i];
	}
}

void relay_child_status(server_rec *s, pid_t pid, ap_generation_t generation, int slot, mpm_child_status status)
{
	(void)s;
	(void)generation;
	(void)slot;
	if (status != MPM_CHILD_EXITED || !seats)
		return;
	for (size_t i = 0; i < n_seats; i++) {
		if (seats[i].pid != pid)
			continue;
		seats[i].relays = 0;
		seats[i].pid = 0;
	}
}

unsigned relay_count(void)
{
	unsigned n = 0;

	for (size_t i = 0; seats && i < n_seats; i++)
		n += seats[i].relays;
	return n;
}

static bool count_in(struct relay *relay, int most)
{
	if (!own_seat)
		return false;
	own_seat->relays++;
	relay->counted = true;
	return relay_count() <= (unsigned)most;
}

/* ---------------------------------------------------------------- the pair */

void relay_close(struct relay *relay)
{
	fd_close(&relay->ours);
	fd_close(&relay->theirs);
	if (relay->counted)
		own_seat->relays--;
	relay->counted = false;
}

static apr_status_t relay_cleanup(void *relay)
{
	relay_close(relay);
	return APR_SUCCESS;
}

enum reason relay_open(request_rec *r, struct handoff *handoff, struct outcome *outcome)
{
	conn_rec *c = r->connection;
	struct relay *relay = apr_palloc(r->pool, sizeof(*relay));
	int pair[2];

	relay->ours = relay->theirs = -1;
	relay->counted = false;
	relay->client = c->master ? -1 : client_descriptor(c);
	apr_pool_cleanup_register(r->pool, relay, relay_cleanup, apr_pool_cleanup_null);
	handoff->relay = relay;
	if (!count_in(relay, setting(handoff->config, SETTING_RELAY_MAX)))
		return REASON_RELAY_LIMIT;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) {
		outcome->error = errno;
		return REASON_INTERNAL;
	}
	relay->ours = pair[0];
	relay->theirs = pair[1];
	return REASON_OK;
}

int relay_descriptor(const struct relay *relay)
{
	return relay->theirs;
}

/* ---------------------------------------------------------------- reading */

static bool client_gone(const conn_rec *c)
{
	return c->aborted || (c->master && c->master->aborted);
}

/* Give what is in the brigade to the filters. 0, or -ECONNABORTED. */
static int pass(request_rec *r, struct relay *relay)
{
	apr_status_t status = ap_pass_brigade(relay->next, relay->bb);

	apr_brigade_cleanup(relay->bb);
	relay->head_waits = false;
	return status == APR_SUCCESS && !client_gone(r->connection) ? 0 : -ECONNABORTED;
}

static int pass_flush(request_rec *r, struct relay *relay)
{
	APR_BRIGADE_INSERT_TAIL(relay->bb, apr_bucket_flush_create(r->connection->bucket_alloc));
	return pass(r, relay);
}

/* Wait until the daemon has written more or closed. 0 or -errno; -ECONNABORTED: the client has gone. */
static int await(const conn_rec *c, const struct relay *relay)
{
	struct pollfd fds[2] = {{.fd = relay->ours, .events = POLLIN}, {.fd = relay->client, .events = POLLRDHUP}};

	for (;;) {
		if (client_gone(c))
			return -ECONNABORTED;
		int n = poll(fds, 2, relay->client < 0 ? CLIENT_CHECK_MS : -1);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0 && fds[1].revents)
			return -ECONNABORTED;
		if (n > 0)
			return 0;
	}
}

/* At least one byte, at most size. -EPIPE at the end of file, -ECONNABORTED when the client has gone, or -errno. */
static ssize_t receive(request_rec *r, struct relay *relay, uint8_t *buffer, size_t size)
{
	for (;;) {
		ssize_t len = recv(relay->ours, buffer, size, MSG_DONTWAIT);
		if (len > 0)
			return len;
		if (len == 0 || errno == ECONNRESET)
			return -EPIPE;
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		int error = relay->head_waits ? pass_flush(r, relay) : 0;
		if (!error)
			error = await(r->connection, relay);
		if (error)
			return error;
	}
}

static int receive_all(request_rec *r, struct relay *relay, uint8_t *buffer, size_t size)
{
	while (size > 0) {
		ssize_t len = receive(r, relay, buffer, size);
		if (len < 0)
			return (int)len;
		buffer += len;
		size -= (size_t)len;
	}
	return 0;
}

/* ---------------------------------------------------------------- the answer */

static void header_set(request_rec *r, struct span line)
{
	const uint8_t *colon = memchr(line.data, ':', line.len);
	const char *name = apr_pstrmemdup(r->pool, (const char *)line.data, (size_t)(colon - line.data));
	const char *value =
	    apr_pstrmemdup(r->pool, (const char *)colon + 2, (size_t)(line.data + line.len - colon) - strlen(": \r\n"));

	if (ap_cstr_casecmp(name, "Content-Type") == 0)
		ap_set_content_type(r, value);
	else
		apr_table_addn(r->headers_out, name, value);
}

/* The response is the daemon's now. What the application and mod_headers set has travelled there and back. */
static void head_apply(request_rec *r, const struct wire_relay_head *head)
{
	struct span rest = head->headers;

	apr_table_clear(r->headers_out);
	apr_table_clear(r->err_headers_out);
	r->content_type = NULL;
	r->content_encoding = NULL;
	r->content_languages = NULL;
	while (rest.len > 0) {
		const uint8_t *end = memchr(rest.data, '\n', rest.len);
		struct span line = span_of(rest.data, (size_t)(end - rest.data) + 1);
		header_set(r, line);
		rest = span_of(rest.data + line.len, rest.len - line.len);
	}
	r->status = head->status;
	r->status_line = NULL;
	r->no_cache = 0; /* it would add an Expires header */
	/* A short answer would be cut to it. */
	apr_table_unset(r->headers_in, "Range");
}

static int head_read(request_rec *r, struct relay *relay)
{
	struct wire_relay_head head;

	int error = receive_all(r, relay, relay->buffer, WIRE_HEADER_LEN);
	if (error)
		return error;
	size_t len = wire_relay_head_length(relay->buffer);
	if (len == 0)
		return -EBADMSG;
	uint8_t *message = apr_palloc(r->pool, len);
	memcpy(message, relay->buffer, WIRE_HEADER_LEN);
	error = receive_all(r, relay, message + WIRE_HEADER_LEN, len - WIRE_HEADER_LEN);
	if (!error)
		error = wire_relay_head_parse(span_of(message, len), &head);
	if (!error)
		head_apply(r, &head);
	return error;
}

/* Copy the body. 0 when it is whole, or -errno. */
static int body_copy(request_rec *r, struct relay *relay)
{
	apr_bucket_alloc_t *alloc = r->connection->bucket_alloc;
	struct wire_pieces pieces = {0};

	for (;;) {
		ssize_t len = receive(r, relay, relay->buffer, sizeof(relay->buffer));
		if (len < 0)
			return (int)len;
		struct span input = span_of(relay->buffer, (size_t)len), body;
		int error;
		while ((error = wire_pieces_next(&pieces, &input, &body)) > 0)
			APR_BRIGADE_INSERT_TAIL(relay->bb,
			                        apr_bucket_transient_create((const char *)body.data, body.len, alloc));
		if (error)
			return error;
		if (pieces.ended) {
			APR_BRIGADE_INSERT_TAIL(relay->bb, apr_bucket_eos_create(alloc));
			return pass(r, relay);
		}
		error = APR_BRIGADE_EMPTY(relay->bb) ? 0 : pass_flush(r, relay);
		if (error)
			return error;
	}
}

/* End a response that is not whole so that the client can tell: no last chunk, or a reset of the HTTP/2 stream. */
static void cut(request_rec *r, struct relay *relay)
{
	conn_rec *c = r->connection;

	apr_brigade_cleanup(relay->bb);
	c->keepalive = AP_CONN_CLOSE;
	APR_BRIGADE_INSERT_TAIL(relay->bb, ap_bucket_error_create(HTTP_BAD_GATEWAY, NULL, r->pool, c->bucket_alloc));
	APR_BRIGADE_INSERT_TAIL(relay->bb, apr_bucket_eos_create(c->bucket_alloc));
	pass(r, relay);
}

enum relay_end relay_run(request_rec *r, struct relay *relay, ap_filter_t *next)
{
	/* Our own copy would hide the end of file. */
	fd_close(&relay->theirs);
	relay->next = next;
	relay->bb = apr_brigade_create(r->pool, r->connection->bucket_alloc);
	relay->head_waits = false;

	int error = head_read(r, relay);
	bool answered = !error;
	if (answered) {
		relay->head_waits = true;
		error = body_copy(r, relay);
	}
	/* The daemon stops as soon as it sees this. */
	relay_close(relay);
	if (!error)
		return RELAY_DONE;
	if (error == -ECONNABORTED) {
		r->connection->aborted = 1;
		return RELAY_CLIENT_GONE;
	}
	if (!answered)
		return RELAY_UNANSWERED;
	cut(r, relay);
	return RELAY_CUT;
}
