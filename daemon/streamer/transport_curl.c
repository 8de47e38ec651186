/* SPDX-License-Identifier: Apache-2.0
 *
 * HTTP/1.1 through libcurl's multi interface, on the process's event loop. libcurl never makes a socket, resolves a
 * name or opens a file here:
 *
 * Where libcurl may have an idle connection in its cache, a transfer is started without one, and uses that. When
 * libcurl asks for a socket instead, the transfer fails at once, a connection is asked for from the dialer, and the
 * transfer is started again with it. Where there can be no idle one the dialer is asked first: libcurl would look at
 * all connections there are.
 *
 * libcurl forbids most calls from inside its callbacks, so a transfer that ends there is only marked, and removed when
 * the call into libcurl has returned.
 */
#include <curl/curl.h>
#include <errno.h>
#include <stdlib.h>

#include "clock.h"
#include "curl_headers.h"
#include "daemon/common/log.h"
#include "daemon/common/metrics.h"
#include "no_connect.h"
#include "places.h"
#include "tls_limit.h"
#include "transport.h"
#include "trust.h"
#include "wiped_memory.h"

#define HEADERS_MAX         65536 /* bytes of the upstream's head */
#define DIALS_MAX           3     /* connections for one transfer: a cached one can turn out to be closed */
#define IDLE_CONNECTIONS    256u
#define RELEASE_MS          1000        /* for an answer to end by itself after what was wanted of it has come */
#define RECEIVE_BUFFER      1024        /* libcurl keeps one for each transfer */
#define PLACEHOLDER_ADDRESS "127.0.0.1" /* nobody connects to it: sockets come connected */

TAILQ_HEAD(transfer_queue, transfer);

struct transport {
	CURLM *multi;
	CURLSH *share;
	X509_STORE *store; /* NULL for plain HTTP */
	struct ev_loop *loop;
	ev_timer timer;         /* libcurl's */
	ev_timer release_timer; /* for the first of released */
	struct dialer_link *dialer;
	struct places places; /* one for each transfer: no two share a connection */
	const struct config_upstream *upstream;
	char *url;
	struct curl_slist *resolve;
	struct curl_slist *headers;
	struct transfer_queue released; /* whose answers end by themselves, oldest first */
	struct transfer_queue doomed;   /* to be removed when libcurl has returned */
	unsigned inside;                /* calls into libcurl under way */
	bool may_be_idle;               /* a connection, in libcurl's cache */
};

struct transfer {
	struct transport *transport;
	CURL *easy;
	const struct transfer_events *events; /* NULL: nobody is interested any more */
	void *user;
	struct place place;
	struct dial_wait wait;
	TAILQ_ENTRY(transfer) queue; /* of released, or of doomed */
	struct request_body *body;   /* NULL once it has been sent */
	struct curl_slist *headers;  /* this transfer's own, then the transport's */
	int64_t release_until_ms;
	int64_t asked_ms; /* when the request went out; 0: it has not */
	int fd;           /* dialled and not given to libcurl yet; -1: none */
	struct transfer_head head;
	uint32_t headers_len;
	uint8_t dials;
	bool wants_socket; /* libcurl asked for one, and there was none */
	bool may_be_seen;  /* what it wants to send once more */
	bool has_head;
	bool paused;
	bool is_released;
	bool is_doomed;
};

/* ---------------------------------------------------------------- ending a transfer */

static void transfer_free(struct transfer *transfer)
{
	struct transport *transport = transfer->transport;

	if (transfer->is_released)
		TAILQ_REMOVE(&transport->released, transfer, queue);
	places_leave(&transport->places, &transfer->place);
	dial_cancel(transport->dialer, &transfer->wait);
	curl_multi_remove_handle(transport->multi, transfer->easy);
	curl_easy_cleanup(transfer->easy);
	curl_headers_free(transfer->headers, transport->headers);
	fd_close(&transfer->fd);
	free(transfer);
}

static void doom(struct transfer *transfer)
{
	struct transport *transport = transfer->transport;

	transfer->events = NULL;
	transfer->body = NULL;
	if (transfer->is_doomed)
		return;
	if (transport->inside == 0) {
		transfer_free(transfer);
		return;
	}
	if (transfer->is_released)
		TAILQ_REMOVE(&transport->released, transfer, queue);
	transfer->is_released = false;
	transfer->is_doomed = true;
	TAILQ_INSERT_TAIL(&transport->doomed, transfer, queue);
}

static void end(struct transfer *transfer, enum transfer_error error)
{
	const struct transfer_events *events = transfer->events;
	void *user = transfer->user;

	transfer->events = NULL;
	transfer_free(transfer);
	if (events != NULL)
		events->end(user, error);
}

static enum transfer_error error_of(CURLcode code)
{
	switch (code) {
	case CURLE_OK:
		return TRANSFER_OK;
	case CURLE_COULDNT_CONNECT:
		return TRANSFER_UNREACHABLE;
	case CURLE_OPERATION_TIMEDOUT:
		return TRANSFER_TIMEOUT;
	case CURLE_OUT_OF_MEMORY:
		return TRANSFER_NO_MEMORY;
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CIPHER:
	case CURLE_SSL_ISSUER_ERROR:
		return TRANSFER_TLS;
	default:
		return TRANSFER_BROKEN;
	}
}

static void dial(struct transfer *transfer)
{
	transfer->wants_socket = false;
	transfer->dials++;
	curl_easy_setopt(transfer->easy, CURLOPT_FRESH_CONNECT, 1L); /* it need not look for one once more */
	dial_start(transfer->transport->dialer, &transfer->wait);
}

/* libcurl is done with the transfer. */
static void finished(struct transfer *transfer, CURLcode code)
{
	if (code == CURLE_COULDNT_CONNECT && transfer->wants_socket && transfer->events != NULL &&
	    transfer->dials < DIALS_MAX) {
		curl_multi_remove_handle(transfer->transport->multi, transfer->easy);
		dial(transfer);
		return;
	}
	if (code == CURLE_OK)
		transfer->transport->may_be_idle = true;
	if (code == CURLE_OK && !transfer->has_head)
		code = CURLE_WEIRD_SERVER_REPLY;
	if (transfer->may_be_seen)
		code = CURLE_GOT_NOTHING;
	if (code != CURLE_OK && transfer->events != NULL)
		log_event(LOG_WARNING, "upstream-failed", LOG_STR("upstream", transfer->transport->upstream->name),
		          LOG_STR("error", curl_easy_strerror(code)));
	end(transfer, error_of(code));
}

/* After each call into libcurl that may have run transfers. */
static void settle(struct transport *transport)
{
	struct transfer *transfer;
	CURLMsg *message;
	int left;

	if (transport->inside > 0)
		return;
	while ((transfer = TAILQ_FIRST(&transport->doomed)) != NULL) {
		TAILQ_REMOVE(&transport->doomed, transfer, queue);
		transfer_free(transfer);
	}
	while ((message = curl_multi_info_read(transport->multi, &left)) != NULL) {
		if (message->msg != CURLMSG_DONE)
			continue;
		CURLcode code = message->data.result;
		if (curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&transfer) == CURLE_OK)
			finished(transfer, code);
	}
}

/* ---------------------------------------------------------------- libcurl on the event loop */

static void action(struct transport *transport, curl_socket_t fd, int events)
{
	int running;

	transport->inside++;
	curl_multi_socket_action(transport->multi, fd, events, &running);
	transport->inside--;
	settle(transport);
}

static void on_socket(struct ev_loop *loop, ev_io *watcher, int revents)
{
	(void)loop;
	action(watcher->data, watcher->fd,
	       ((revents & EV_READ) ? CURL_CSELECT_IN : 0) | ((revents & EV_WRITE) ? CURL_CSELECT_OUT : 0));
}

static void on_timer(struct ev_loop *loop, ev_timer *timer, int revents)
{
	(void)loop;
	(void)revents;
	action(timer->data, CURL_SOCKET_TIMEOUT, 0);
}

static int watch_socket(CURL *easy, curl_socket_t fd, int what, void *user, void *watcher_of_socket)
{
	struct transport *transport = user;
	ev_io *watcher = watcher_of_socket;

	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		if (watcher != NULL)
			ev_io_stop(transport->loop, watcher);
		free(watcher);
		return 0;
	}
	if (watcher == NULL) {
		watcher = calloc(1, sizeof(*watcher));
		if (watcher == NULL)
			return -1;
		ev_io_init(watcher, on_socket, fd, EV_READ);
		watcher->data = transport;
		curl_multi_assign(transport->multi, fd, watcher);
	}
	ev_io_stop(transport->loop, watcher);
	ev_io_set(watcher, fd, ((what & CURL_POLL_IN) ? EV_READ : 0) | ((what & CURL_POLL_OUT) ? EV_WRITE : 0));
	ev_io_start(transport->loop, watcher);
	return 0;
}

static int set_timer(CURLM *multi, long timeout_ms, void *user)
{
	struct transport *transport = user;

	(void)multi;
	ev_timer_stop(transport->loop, &transport->timer);
	if (timeout_ms >= 0) {
		ev_timer_set(&transport->timer, (double)timeout_ms / 1000, 0.0);
		ev_timer_start(transport->loop, &transport->timer);
	}
	return 0;
}

/* ---------------------------------------------------------------- callbacks of one transfer */

/* The request is about to go out. */
static int on_request(void *user, char *peer, char *own, int peer_port, int own_port)
{
	struct transfer *transfer = user;

	(void)peer;
	(void)own;
	(void)peer_port;
	(void)own_port;
	transfer->asked_ms = clock_ms();
	return CURL_PREREQFUNC_OK;
}

/* libcurl wants one after the request went out when a kept connection has closed: to send it once more. */
static curl_socket_t give_socket(void *user, curlsocktype purpose, struct curl_sockaddr *address)
{
	struct transfer *transfer = user;
	int fd = transfer->fd;

	(void)purpose;
	(void)address;
	transfer->may_be_seen = transfer->asked_ms != 0 && clock_ms() - transfer->asked_ms >= TRANSFER_CROSSED_MS;
	if (transfer->may_be_seen)
		return CURL_SOCKET_BAD;
	transfer->wants_socket = fd < 0;
	if (fd < 0)
		transfer->transport->may_be_idle = false;
	transfer->fd = -1;
	return fd < 0 ? CURL_SOCKET_BAD : fd;
}

/* The answer has begun, so libcurl does not send the request again: it may still be sending it, however. */
static void let_go_of_body(struct transfer *transfer)
{
	curl_off_t uploaded = 0;

	curl_easy_getinfo(transfer->easy, CURLINFO_SIZE_UPLOAD_T, &uploaded);
	if (transfer->body == NULL || (uint64_t)uploaded < request_body_length(transfer->body))
		return;
	transfer->body = NULL;
	if (transfer->events != NULL)
		transfer->events->request_sent(transfer->user);
}

static void head_complete(struct transfer *transfer)
{
	long status = 0;

	curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
	if (status < 200)
		return; /* an interim answer; the final one follows */
	transfer->has_head = true;
	transfer->head.status = (unsigned)status;
	if (transfer->fd >= 0) {
		/* libcurl found a cached connection after all. Whoever waits has a dial of his own under way. */
		fd_close(&transfer->fd);
	}
	let_go_of_body(transfer);
	if (transfer->events != NULL)
		transfer->events->head(transfer->user, &transfer->head);
}

/* One header line, NUL-terminated and cut at a length beyond which nothing is of interest. */
static bool take_line(struct transfer *transfer, char *line)
{
	char *value;

	line[strcspn(line, "\r\n")] = '\0';
	if (line[0] == '\0') {
		head_complete(transfer);
		return true;
	}
	value = strchr(line, ':');
	if (value == NULL)
		return true; /* the status line */
	*value++ = '\0';
	return upstream_head_take(&transfer->head, line, value + strspn(value, " \t"));
}

static size_t on_header(char *line, size_t size, size_t n, void *user)
{
	struct transfer *transfer = user;
	size_t len = size * n;
	char copy[128];
	size_t copied = len < sizeof(copy) ? len : sizeof(copy) - 1;

	transfer->headers_len += (uint32_t)len;
	if (transfer->headers_len > HEADERS_MAX)
		return 0;
	if (transfer->has_head)
		return len; /* trailers */
	memcpy(copy, line, copied);
	copy[copied] = '\0';
	return take_line(transfer, copy) ? len : 0;
}

static size_t on_body(char *data, size_t size, size_t n, void *user)
{
	struct transfer *transfer = user;
	size_t len = size * n;

	if (transfer->is_doomed)
		return 0; /* ends the transfer */
	if (transfer->events != NULL)
		transfer->events->body(transfer->user, span_of(data, len));
	return len;
}

static size_t on_read(char *out, size_t size, size_t n, void *user)
{
	struct transfer *transfer = user;

	return transfer->body != NULL ? request_body_read(transfer->body, out, size * n) : CURL_READFUNC_ABORT;
}

/* Before a request is sent once more, on another connection. */
static int on_seek(void *user, curl_off_t offset, int origin)
{
	struct transfer *transfer = user;

	if (transfer->body == NULL || offset != 0 || origin != SEEK_SET)
		return CURL_SEEKFUNC_FAIL;
	request_body_rewind(transfer->body);
	return CURL_SEEKFUNC_OK;
}

static CURLcode on_ssl_context(CURL *easy, void *context, void *user)
{
	struct transport *transport = user;

	(void)easy;
	SSL_CTX_set1_cert_store(context, transport->store);
	tls_limit(context);
	return CURLE_OK;
}

/* ---------------------------------------------------------------- starting one */

static int run(struct transfer *transfer)
{
	transfer->asked_ms = 0;
	return curl_multi_add_handle(transfer->transport->multi, transfer->easy) == CURLM_OK ? 0 : -ENOMEM;
}

static void on_dialled(struct dial_wait *wait, int fd)
{
	struct transfer *transfer = (struct transfer *)((char *)wait - offsetof(struct transfer, wait));

	if (fd < 0) {
		end(transfer, fd == -ETIMEDOUT ? TRANSFER_TIMEOUT : TRANSFER_UNREACHABLE);
		return;
	}
	transfer->fd = fd;
	if (run(transfer) != 0)
		end(transfer, TRANSFER_NO_MEMORY);
}

#define SET(option, value) (rc = rc != CURLE_OK ? rc : curl_easy_setopt(easy, option, value))

static CURLcode set_connection_options(CURL *easy, struct transport *transport)
{
	CURLcode rc = CURLE_OK;

	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	SET(CURLOPT_BUFFERSIZE, (long)RECEIVE_BUFFER);
	SET(CURLOPT_PROTOCOLS_STR, transport->upstream->tls ? "https" : "http");
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_PROXY, "");
	SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	SET(CURLOPT_DNS_CACHE_TIMEOUT, -1L);
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long)transport->upstream->connect_timeout_ms);
	if (transport->resolve != NULL)
		SET(CURLOPT_RESOLVE, transport->resolve);
	if (transport->store != NULL) {
		SET(CURLOPT_CAINFO, NULL);
		SET(CURLOPT_CAPATH, NULL);
		SET(CURLOPT_SSL_VERIFYPEER, 1L);
		SET(CURLOPT_SSL_VERIFYHOST, 2L);
		SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
		SET(CURLOPT_SSL_CTX_FUNCTION, on_ssl_context);
		SET(CURLOPT_SSL_CTX_DATA, transport);
	}
	/* Without TLS too: else each transfer makes room for sessions of its own. */
	SET(CURLOPT_SHARE, transport->share);
	return rc;
}

/* What lies in memory goes out with the head, without a buffer of libcurl's between. */
static CURLcode set_body(struct transfer *transfer)
{
	CURL *easy = transfer->easy;
	struct span text = request_body_text(transfer->body);
	CURLcode rc = CURLE_OK;

	SET(CURLOPT_POST, 1L);
	SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request_body_length(transfer->body));
	if (text.data != NULL) {
		SET(CURLOPT_POSTFIELDS, text.data);
		return rc;
	}
	SET(CURLOPT_READFUNCTION, on_read);
	SET(CURLOPT_READDATA, transfer);
	SET(CURLOPT_SEEKFUNCTION, on_seek);
	SET(CURLOPT_SEEKDATA, transfer);
	return rc;
}

static CURLcode set_options(struct transfer *transfer)
{
	struct transport *transport = transfer->transport;
	CURL *easy = transfer->easy;
	CURLcode rc = set_connection_options(easy, transport);

	SET(CURLOPT_URL, transport->url);
	SET(CURLOPT_HTTPHEADER, transfer->headers);
	SET(CURLOPT_OPENSOCKETFUNCTION, give_socket);
	SET(CURLOPT_OPENSOCKETDATA, transfer);
	SET(CURLOPT_PREREQFUNCTION, on_request);
	SET(CURLOPT_PREREQDATA, transfer);
	SET(CURLOPT_HEADERFUNCTION, on_header);
	SET(CURLOPT_HEADERDATA, transfer);
	SET(CURLOPT_WRITEFUNCTION, on_body);
	SET(CURLOPT_WRITEDATA, transfer);
	SET(CURLOPT_PRIVATE, transfer);
	return rc == CURLE_OK ? set_body(transfer) : rc;
}

/* On a connection that is there already, or on one that is to come. */
static int run_or_dial(struct transfer *transfer)
{
	if (transfer->transport->may_be_idle)
		return run(transfer);
	dial(transfer);
	return 0;
}

static void on_place(struct place *place, int rc)
{
	struct transfer *transfer = (struct transfer *)((char *)place - offsetof(struct transfer, place));

	if (rc != 0)
		end(transfer, TRANSFER_BUSY);
	else if (run_or_dial(transfer) != 0)
		end(transfer, TRANSFER_NO_MEMORY);
}

static int begin(struct transfer *transfer)
{
	if (places_take(&transfer->transport->places, &transfer->place))
		return run_or_dial(transfer);
	metrics_add(METRIC_CONNECTION_WAITS, 1);
	return 0;
}

static int headers_make(struct transfer *transfer, const struct transfer_request *request)
{
	int rc = 0;

	for (size_t i = 0; i < request->n_fields && rc == 0; i++)
		rc = curl_headers_add(&transfer->headers, &request->fields[i]);
	return rc;
}

static struct transfer *start(struct transport *transport, const struct transfer_request *request,
                              const struct transfer_events *events, void *user)
{
	struct transfer *transfer = calloc(1, sizeof(*transfer));

	if (transfer == NULL)
		return NULL;
	*transfer = (struct transfer){.transport = transport,
	                              .easy = curl_easy_init(),
	                              .events = events,
	                              .user = user,
	                              .place = {.done = on_place},
	                              .wait = {.done = on_dialled},
	                              .body = request->body,
	                              .headers = transport->headers,
	                              .fd = -1};
	if (transfer->easy == NULL || headers_make(transfer, request) != 0 || set_options(transfer) != CURLE_OK ||
	    begin(transfer) != 0) {
		transfer_free(transfer);
		return NULL;
	}
	metrics_add(METRIC_TRANSFERS, 1);
	return transfer;
}

/* ---------------------------------------------------------------- the rest of the interface */

static void pause_transfer(struct transfer *transfer, bool paused)
{
	struct transport *transport = transfer->transport;

	if (transfer->paused == paused || transfer->events == NULL)
		return;
	transfer->paused = paused;
	/* Going on may call back at once. */
	transport->inside++;
	curl_easy_pause(transfer->easy, paused ? CURLPAUSE_RECV : CURLPAUSE_CONT);
	transport->inside--;
	settle(transport);
}

static void cancel(struct transfer *transfer)
{
	metrics_add(METRIC_TRANSFERS_CANCELLED, 1);
	doom(transfer);
}

static void release_arm(struct transport *transport)
{
	struct transfer *first = TAILQ_FIRST(&transport->released);
	int64_t left;

	if (first == NULL || ev_is_active(&transport->release_timer))
		return;
	left = first->release_until_ms - clock_ms();
	ev_timer_set(&transport->release_timer, left > 0 ? (double)left / 1000 : 0.0, 0.0);
	ev_timer_start(transport->loop, &transport->release_timer);
}

static void on_release_timer(struct ev_loop *loop, ev_timer *timer, int revents)
{
	struct transport *transport = timer->data;
	struct transfer *first;

	(void)loop;
	(void)revents;
	/* The analyzer does not see that doom() takes it off the list. */
	/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
	while ((first = TAILQ_FIRST(&transport->released)) != NULL && first->release_until_ms <= clock_ms())
		cancel(first);
	release_arm(transport);
}

static void release(struct transfer *transfer)
{
	struct transport *transport = transfer->transport;

	/* An answer that did not wait for the request's end still needs the body. */
	if (transfer->paused || transfer->is_doomed || transfer->body != NULL) {
		cancel(transfer);
		return;
	}
	transfer->events = NULL;
	transfer->is_released = true;
	transfer->release_until_ms = clock_ms() + RELEASE_MS;
	TAILQ_INSERT_TAIL(&transport->released, transfer, queue);
	release_arm(transport);
}

/* ---------------------------------------------------------------- before the cage */

static bool is_address(const char *host)
{
	return host[0] == '[' || strchr(host, ':') != NULL || host[strspn(host, "0123456789.")] == '\0';
}

/* Keeps libcurl away from DNS. */
static struct curl_slist *resolve_make(const struct config_upstream *upstream)
{
	char *entry;

	if (is_address(upstream->host))
		return NULL;
	if (asprintf(&entry, "%s:%u:%s", upstream->host, upstream->port, PLACEHOLDER_ADDRESS) < 0)
		fatal("out of memory");
	return curl_headers_node(entry, NULL);
}

static void multi_make(struct transport *transport)
{
	size_t most = transport->upstream->max_connections;

	transport->multi = curl_multi_init();
	transport->share = curl_share_init();
	if (transport->multi == NULL || transport->share == NULL)
		fatal("cannot initialise libcurl");
	curl_share_setopt(transport->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
	curl_multi_setopt(transport->multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
	curl_multi_setopt(transport->multi, CURLMOPT_SOCKETDATA, transport);
	curl_multi_setopt(transport->multi, CURLMOPT_TIMERFUNCTION, set_timer);
	curl_multi_setopt(transport->multi, CURLMOPT_TIMERDATA, transport);
	curl_multi_setopt(transport->multi, CURLMOPT_MAXCONNECTS,
	                  (long)(most < IDLE_CONNECTIONS ? most : IDLE_CONNECTIONS));
	curl_multi_setopt(transport->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
}

static struct transport *init(struct streamer *streamer, const struct config_upstream *upstream, const char *path,
                              const char *authorization)
{
	struct transport *transport = calloc(1, sizeof(*transport));

	if (transport == NULL ||
	    curl_global_init_mem(CURL_GLOBAL_DEFAULT, malloc, wiped_free, wiped_realloc, strdup, calloc) != CURLE_OK)
		fatal("cannot initialise libcurl");
	transport->loop = streamer->loop;
	transport->dialer = &streamer->dialer;
	transport->upstream = upstream;
	places_init(&transport->places, streamer->loop, upstream->max_connections, upstream->connect_timeout_ms);
	if (asprintf(&transport->url, "%s%s", upstream->url, path) < 0)
		fatal("out of memory");
	transport->resolve = resolve_make(upstream);
	/* An empty Expect keeps libcurl from waiting for "100 Continue" before a long body. */
	transport->headers =
	    curl_headers_node("Content-Type: application/json",
	                      curl_headers_node("Accept: text/event-stream", curl_headers_node("Expect:", NULL)));
	/* In the list that all share, not as an option that each transfer would copy. */
	transport->headers = curl_headers_node("User-Agent: handoffd/" HANDOFFD_VERSION, transport->headers);
	if (authorization[0] != '\0')
		transport->headers = curl_headers_node(authorization, transport->headers);
	if (upstream->tls) {
		transport->store = trust_load(upstream->ca_file);
		if (transport->store == NULL || trust_warm_up() != 0)
			fatal("upstream \"%s\": no certificates to verify it with in %s", upstream->name,
			      upstream->ca_file[0] != '\0' ? upstream->ca_file : "the system's bundle");
	}
	TAILQ_INIT(&transport->released);
	TAILQ_INIT(&transport->doomed);
	ev_timer_init(&transport->timer, on_timer, 0.0, 0.0);
	ev_timer_init(&transport->release_timer, on_release_timer, 0.0, 0.0);
	transport->timer.data = transport->release_timer.data = transport;
	multi_make(transport);
	no_connect_begin();
	return transport;
}

const struct transport_ops transport_curl = {
    .init = init,
    .start = start,
    .pause = pause_transfer,
    .release = release,
    .cancel = cancel,
};
