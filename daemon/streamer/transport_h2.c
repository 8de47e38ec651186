/* SPDX-License-Identifier: Apache-2.0
 *
 * HTTP/2 over TLS through nghttp2 and OpenSSL. Here: the transport's functions and the life of a transfer; h2.h says
 * what is where.
 *
 *     WAITING    for a connection
 *     RUNNING    a stream of a connection
 *     RELEASED   the same, and nobody is interested any more
 *     FAILED     until this turn's events have been seen to
 */
#include <errno.h>
#include <stdlib.h>

#include "clock.h"
#include "daemon/common/log.h"
#include "daemon/common/metrics.h"
#include "daemon/common/role.h"
#include "h2.h"
#include "trust.h"

#define RELEASE_MS 1000 /* for an answer to end by itself after what was wanted of it has come */

/* ---------------------------------------------------------------- ending a transfer */

/* Off the list that its place has it on. */
static void unlink_transfer(struct transfer *transfer)
{
	struct transport *transport = transfer->transport;

	switch ((enum transfer_place)transfer->place) {
	case TRANSFER_WAITING:
		TAILQ_REMOVE(&transport->waiting, transfer, queue);
		transport->n_waiting--;
		break;
	case TRANSFER_FAILED:
		TAILQ_REMOVE(&transport->failed, transfer, queue);
		break;
	case TRANSFER_RELEASED:
		TAILQ_REMOVE(&transport->released, transfer, queue);
		LIST_REMOVE(transfer, of_connection);
		break;
	case TRANSFER_RUNNING:
		LIST_REMOVE(transfer, of_connection);
		break;
	}
}

static void transfer_free(struct transfer *transfer)
{
	unlink_transfer(transfer);
	free(transfer);
}

static void end(struct transfer *transfer, enum transfer_error error)
{
	const struct transfer_events *events = transfer->events;
	void *user = transfer->user;

	transfer_free(transfer);
	if (events != NULL)
		events->end(user, error);
}

static void place(struct transfer *transfer, enum transfer_place where)
{
	struct transport *transport = transfer->transport;

	transfer->place = (uint8_t)where;
	if (where == TRANSFER_WAITING) {
		transfer->until_ms = clock_ms() + transport->upstream->connect_timeout_ms;
		TAILQ_INSERT_TAIL(&transport->waiting, transfer, queue);
		transport->n_waiting++;
	} else if (where == TRANSFER_FAILED) {
		TAILQ_INSERT_TAIL(&transport->failed, transfer, queue);
	} else {
		TAILQ_INSERT_TAIL(&transport->released, transfer, queue);
	}
	h2_pool_schedule(transport);
}

void transfer_fail(struct transfer *transfer, enum transfer_error error)
{
	unlink_transfer(transfer);
	if (error == TRANSFER_UNSEEN && transfer->connection->state != H2_OPEN)
		error = TRANSFER_MOVED;
	transfer->connection = NULL;
	transfer->unconsumed = 0;
	transfer->error = (uint8_t)error;
	place(transfer, TRANSFER_FAILED);
}

void transfer_begin(struct transfer *transfer, struct h2_connection *connection)
{
	int rc = h2_session_request(connection, transfer);

	if (rc == -EAGAIN) {
		h2_pool_enter(connection, H2_DRAINING);
		return;
	}
	if (rc != 0) {
		transfer_fail(transfer, TRANSFER_NO_MEMORY);
		return;
	}
	unlink_transfer(transfer);
	transfer->place = TRANSFER_RUNNING;
	transfer->connection = connection;
	LIST_INSERT_HEAD(&connection->transfers, transfer, of_connection);
}

void transfers_settle(struct transport *transport)
{
	struct transfer *transfer;

	while ((transfer = TAILQ_FIRST(&transport->failed)) != NULL)
		/* The analyzer does not see that end() takes it off the list. */
		/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
		end(transfer, (enum transfer_error)transfer->error);
}

/* ---------------------------------------------------------------- what h2_session.c tells */

/* The answer has begun and the request is sent: it is not sent again. */
static void let_go_of_body(struct transfer *transfer)
{
	if (transfer->body == NULL || !transfer->has_head || transfer->sent < request_body_length(transfer->body))
		return;
	transfer->body = NULL;
	if (transfer->events != NULL)
		transfer->events->request_sent(transfer->user);
}

void transfer_body_sent(struct transfer *transfer)
{
	let_go_of_body(transfer);
}

void transfer_take_head(struct transfer *transfer)
{
	let_go_of_body(transfer);
	if (transfer->events != NULL)
		transfer->events->head(transfer->user, &transfer->head);
}

void transfer_take_body(struct transfer *transfer, struct span piece)
{
	if (transfer->events != NULL)
		transfer->events->body(transfer->user, piece);
}

void transfer_take_end(struct transfer *transfer)
{
	/* An answer that did not wait for the whole request: the rest of that is not sent. */
	h2_session_forget(transfer, transfer->body != NULL, NGHTTP2_NO_ERROR);
	end(transfer, transfer->has_head ? TRANSFER_OK : TRANSFER_BROKEN);
}

/* ---------------------------------------------------------------- the transport's functions */

static size_t fields_len(const struct transfer_request *request)
{
	size_t len = 0;

	for (size_t i = 0; i < request->n_fields; i++)
		len += strlen(request->fields[i].name) + strlen(request->fields[i].value) + 2;
	return len;
}

static void fields_copy(struct transfer *transfer, const struct transfer_request *request)
{
	char *next = transfer->fields;

	for (size_t i = 0; i < request->n_fields; i++) {
		next = stpcpy(next, request->fields[i].name) + 1;
		next = stpcpy(next, request->fields[i].value) + 1;
	}
	transfer->n_fields = request->n_fields;
}

static struct transfer *start(struct transport *transport, const struct transfer_request *request,
                              const struct transfer_events *events, void *user)
{
	struct transfer *transfer = calloc(1, sizeof(*transfer) + fields_len(request));

	if (transfer == NULL)
		return NULL;
	transfer->transport = transport;
	transfer->events = events;
	transfer->user = user;
	transfer->body = request->body;
	fields_copy(transfer, request);
	place(transfer, TRANSFER_WAITING);
	metrics_add(METRIC_TRANSFERS, 1);
	return transfer;
}

static void pause_transfer(struct transfer *transfer, bool paused)
{
	transfer->paused = paused;
	if (!paused && transfer->unconsumed > 0)
		h2_session_resume(transfer);
}

static void cancel(struct transfer *transfer)
{
	metrics_add(METRIC_TRANSFERS_CANCELLED, 1);
	if (transfer->connection != NULL)
		h2_session_forget(transfer, true, NGHTTP2_CANCEL);
	transfer_free(transfer);
}

static void release(struct transfer *transfer)
{
	if (transfer->place != TRANSFER_RUNNING || transfer->paused || transfer->body != NULL) {
		cancel(transfer);
		return;
	}
	transfer->events = NULL;
	transfer->until_ms = clock_ms() + RELEASE_MS;
	place(transfer, TRANSFER_RELEASED);
}

void transfers_expire(struct transport *transport, int64_t now_ms)
{
	struct transfer *first;

	/* While connections are on their way, what becomes of those decides. */
	while ((first = TAILQ_FIRST(&transport->waiting)) != NULL && transport->n_connecting == 0 &&
	       first->until_ms <= now_ms)
		transfer_fail(first, TRANSFER_BUSY);
	/* The same. */
	/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
	while ((first = TAILQ_FIRST(&transport->released)) != NULL && first->until_ms <= now_ms)
		cancel(first);
}

/* ---------------------------------------------------------------- before the cage */

/* The value of the header line. */
static const char *value_of(const char *line)
{
	const char *colon = strchr(line, ':');

	return colon == NULL ? "" : colon + 1 + strspn(colon + 1, " ");
}

/* https://AUTHORITY/PATH, as the configuration has checked it. */
static void take_url(struct transport *transport, const char *path)
{
	const char *authority = strstr(transport->upstream->url, "://") + 3;
	size_t len = strcspn(authority, "/");

	transport->authority = strndup(authority, len);
	if (transport->authority == NULL || asprintf(&transport->path, "%s%s", authority + len, path) < 0)
		fatal("out of memory");
}

static struct transport *init(struct streamer *streamer, const struct config_upstream *upstream, const char *path,
                              const char *authorization)
{
	struct transport *transport = calloc(1, sizeof(*transport));
	X509_STORE *store = trust_load(upstream->ca_file);

	if (transport == NULL)
		fatal("out of memory");
	if (store == NULL || trust_warm_up() != 0)
		fatal("upstream \"%s\": no certificates to verify it with in %s", upstream->name,
		      upstream->ca_file[0] != '\0' ? upstream->ca_file : "the system's bundle");
	transport->streamer = streamer;
	transport->upstream = upstream;
	transport->authorization = value_of(authorization);
	transport->tls = tls_client_new(store, upstream->host, SPAN_LITERAL("h2"));
	if (transport->tls == NULL)
		fatal("cannot initialise TLS");
	take_url(transport, path);
	TAILQ_INIT(&transport->waiting);
	TAILQ_INIT(&transport->failed);
	TAILQ_INIT(&transport->released);
	h2_session_init(transport);
	h2_pool_init(transport);
	return transport;
}

const struct transport_ops transport_h2 = {
    .init = init,
    .start = start,
    .pause = pause_transfer,
    .release = release,
    .cancel = cancel,
};
