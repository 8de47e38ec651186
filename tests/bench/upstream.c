/* SPDX-License-Identifier: Apache-2.0
 *
 * Upstream: an OpenAI-compatible service that costs little. HTTP/1.1, plain or over TLS, and HTTP/2 over TLS. Every
 * request gets so many messages, so many milliseconds apart, the first at once; in the first stands the prompt, which
 * is what begins with "bench-" in the request.
 *
 *     upstream -n MESSAGES -g MILLISECONDS [-c CERTIFICATE -k KEY [-2]]
 *
 * Prints its port. For each line on standard input it prints one of JSON: how many calls began, got the whole answer,
 * or were given up, and when (CLOCK_MONOTONIC) the last of those was; it ends with the input.
 */
#include "upstream.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define EVENTS_MAX 256
#define BACKLOG    4096

/* By whether they are dense, and in chunks. */
static struct answer_text texts[2][2];

static struct {
	uint32_t messages, dense_messages;
	int64_t gap_ms;
	SSL_CTX *tls;
	bool h2;
	int epoll, listener;
	TAILQ_HEAD(, call) waiting;
	TAILQ_HEAD(, connection) dirty;
	size_t begun, whole, given_up, connections;
	double given_up_at;
} run = {.messages = 18,
         .dense_messages = 300,
         .gap_ms = 1000,
         .waiting = TAILQ_HEAD_INITIALIZER(run.waiting),
         .dirty = TAILQ_HEAD_INITIALIZER(run.dirty)};

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static int64_t now_ms(void)
{
	return (int64_t)(now() * 1000);
}

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

/* ---------------------------------------------------------------- the answer */

static void add(struct answer_text *text, const char *bytes, size_t len)
{
	if (text->len + len > text->room) {
		text->room = 2 * (text->len + len);
		text->bytes = realloc(text->bytes, text->room);
	}
	if (text->bytes == NULL)
		fail("memory");
	memcpy(text->bytes + text->len, bytes, len);
	text->len += len;
}

/* An event, in a chunk of its own where there are chunks. */
static void add_event(struct answer_text *text, bool chunked, const char *event)
{
	char size[16];

	if (chunked)
		add(text, size, (size_t)snprintf(size, sizeof(size), "%zx\r\n", strlen(event)));
	add(text, event, strlen(event));
	if (chunked)
		add(text, "\r\n", 2);
}

static void make_text(struct answer_text *text, uint32_t messages, bool chunked)
{
	static const char head[] =
	    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
	char event[512], word[32];

	text->messages = messages;
	text->ends = calloc(messages, sizeof(*text->ends));
	if (text->ends == NULL)
		fail("memory");
	if (chunked)
		add(text, head, sizeof(head) - 1);
	for (uint32_t i = 0; i < messages; i++) {
		snprintf(word, sizeof(word), i == 0 ? "################" : " word %u", i);
		snprintf(event, sizeof(event),
		         "data: {\"id\":\"chatcmpl-123\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,"
		         "\"model\":\"bench\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"%s\"},"
		         "\"finish_reason\":%s}]}\n\n",
		         word, i == messages - 1 ? "\"stop\"" : "null");
		add_event(text, chunked, event);
		text->ends[i] = text->len;
	}
	add_event(text, chunked, "data: [DONE]\n\n");
	if (chunked)
		add(text, "0\r\n\r\n", 5);
	text->ends[messages - 1] = text->len;
	text->prompt_at =
	    (size_t)((char *)memmem(text->bytes, text->len, "################", PROMPT_LEN) - text->bytes);
}

size_t call_read(struct call *call, char *out, size_t size)
{
	const struct answer_text *text = call->text;
	size_t due = call->messages == 0 ? 0 : text->ends[call->messages - 1];
	size_t at = call->position;
	size_t len = due - at < size ? due - at : size;

	memcpy(out, text->bytes + at, len);
	for (size_t i = 0; i < PROMPT_LEN; i++)
		if (text->prompt_at + i >= at && text->prompt_at + i < at + len)
			out[text->prompt_at + i - at] = call->prompt[i];
	call->position += len;
	return len;
}

/* ---------------------------------------------------------------- calls */

struct call *call_new(struct connection *connection)
{
	struct call *call = calloc(1, sizeof(*call));

	if (call == NULL || (call->request = malloc(REQUEST_MAX)) == NULL)
		fail("memory");
	call->connection = connection;
	LIST_INSERT_HEAD(&connection->calls, call, calls);
	return call;
}

static void call_wait(struct call *call)
{
	call->is_waiting = call->messages < call->text->messages;
	if (!call->is_waiting)
		return;
	call->due_ms = now_ms() + run.gap_ms;
	TAILQ_INSERT_TAIL(&run.waiting, call, waiting); /* all wait equally long */
}

void call_begin(struct call *call)
{
	const char *prompt = memmem(call->request, call->request_len, "bench-", 6);
	bool dense = prompt == NULL;

	if (dense)
		prompt = memmem(call->request, call->request_len, "dense-", 6);
	if (prompt == NULL || call->request_len - (size_t)(prompt - call->request) < PROMPT_LEN) {
		fprintf(stderr, "upstream: a request without a prompt\n");
		exit(1);
	}
	memcpy(call->prompt, prompt, PROMPT_LEN);
	free(call->request);
	call->request = NULL;
	run.begun++;
	call->text = &texts[dense][call->connection->h2 == NULL];
	call->messages = dense || run.gap_ms == 0 ? call->text->messages : 1;
	call_wait(call);
}

static void call_free(struct call *call)
{
	if (call->is_waiting)
		TAILQ_REMOVE(&run.waiting, call, waiting);
	LIST_REMOVE(call, calls);
	free(call->request);
	free(call);
}

void call_end(struct call *call, bool whole)
{
	run.whole += whole;
	run.given_up += !whole;
	if (!whole)
		run.given_up_at = now();
	call_free(call);
}

/* ---------------------------------------------------------------- connections */

static void want(struct connection *connection, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = connection};

	epoll_ctl(run.epoll, EPOLL_CTL_MOD, connection->fd, &event);
}

void connection_dirty(struct connection *connection)
{
	if (connection->is_dirty)
		return;
	connection->is_dirty = true;
	TAILQ_INSERT_TAIL(&run.dirty, connection, dirty);
}

/* How much the socket took, or -1. */
static ssize_t write_some(struct connection *connection, const char *bytes, size_t len)
{
	if (connection->ssl == NULL) {
		ssize_t sent = send(connection->fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		return sent < 0 && errno == EAGAIN ? 0 : sent;
	}
	ERR_clear_error(); /* it is one queue for all connections */
	int sent = SSL_write(connection->ssl, bytes, (int)len);
	if (sent > 0)
		return sent;
	int error = SSL_get_error(connection->ssl, sent);
	return error == SSL_ERROR_WANT_WRITE || error == SSL_ERROR_WANT_READ ? 0 : -1;
}

bool connection_write(struct connection *connection, const char *bytes, size_t len)
{
	while (connection->pending == NULL && len > 0) {
		ssize_t sent = write_some(connection, bytes, len);

		if (sent < 0)
			return false;
		if (sent == 0)
			break;
		bytes += sent;
		len -= (size_t)sent;
	}
	if (len == 0)
		return true;
	connection->pending = realloc(connection->pending, connection->pending_len + len);
	if (connection->pending == NULL)
		fail("memory");
	memcpy(connection->pending + connection->pending_len, bytes, len);
	connection->pending_len += len;
	want(connection, EPOLLIN | EPOLLOUT);
	return true;
}

/* False: the connection is dead. */
static bool write_pending(struct connection *connection)
{
	while (connection->pending_start < connection->pending_len) {
		ssize_t sent = write_some(connection, connection->pending + connection->pending_start,
		                          connection->pending_len - connection->pending_start);

		if (sent <= 0)
			return sent == 0;
		connection->pending_start += (size_t)sent;
	}
	free(connection->pending);
	connection->pending = NULL;
	connection->pending_len = connection->pending_start = 0;
	want(connection, EPOLLIN);
	return true;
}

static void connection_close(struct connection *connection)
{
	struct call *call;

	if (connection->is_dirty)
		TAILQ_REMOVE(&run.dirty, connection, dirty);
	if (connection->h2 != NULL)
		h2_close(connection); /* without a word to us of its streams */
	while ((call = LIST_FIRST(&connection->calls)) != NULL)
		if (call->text == NULL)
			call_free(call);
		else
			call_end(call, false);
	if (connection->ssl != NULL)
		SSL_free(connection->ssl);
	close(connection->fd);
	free(connection->pending);
	free(connection);
}

/* ---------------------------------------------------------------- HTTP/1.1 */

/* Whether the request is whole. */
static bool request_whole(const struct call *call)
{
	static const char name[] = "Content-Length:";
	const char *end = memmem(call->request, call->request_len, "\r\n\r\n", 4);

	if (end == NULL)
		return false;
	const char *length = memmem(call->request, (size_t)(end - call->request), name, sizeof(name) - 1);
	return length != NULL &&
	       (size_t)(call->request + call->request_len - end) - 4 >= strtoul(length + sizeof(name) - 1, NULL, 10);
}

static int h1_receive(struct connection *connection, const uint8_t *bytes, size_t len)
{
	struct call *call = LIST_FIRST(&connection->calls);

	if (call == NULL)
		call = call_new(connection);
	if (call->request == NULL || len >= REQUEST_MAX - call->request_len)
		return -1; /* nobody pipelines here */
	memcpy(call->request + call->request_len, bytes, len);
	call->request_len += len;
	call->request[call->request_len] = '\0';
	if (request_whole(call))
		call_begin(call);
	return 0;
}

static int h1_flush(struct connection *connection)
{
	struct call *call = LIST_FIRST(&connection->calls);
	char bytes[16384];
	size_t len;

	if (call == NULL || call->request != NULL)
		return 0;
	while (connection->pending == NULL && (len = call_read(call, bytes, sizeof(bytes))) > 0)
		if (!connection_write(connection, bytes, len))
			return -1;
	if (connection->pending == NULL && call->position == call->text->len)
		call_end(call, true);
	return 0;
}

/* ---------------------------------------------------------------- the loop */

static void accept_all(void)
{
	int fd, one = 1;

	while ((fd = accept4(run.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		struct connection *connection = calloc(1, sizeof(*connection));
		struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};

		if (connection == NULL)
			fail("memory");
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		connection->fd = fd;
		connection->established = run.tls == NULL;
		LIST_INIT(&connection->calls);
		run.connections++;
		if (run.tls != NULL) {
			connection->ssl = SSL_new(run.tls);
			SSL_set_fd(connection->ssl, fd);
			SSL_set_accept_state(connection->ssl);
		}
		epoll_ctl(run.epoll, EPOLL_CTL_ADD, fd, &event);
	}
}

static ssize_t read_some(struct connection *connection, uint8_t *buffer, size_t size)
{
	if (connection->ssl == NULL) {
		ssize_t len = recv(connection->fd, buffer, size, MSG_DONTWAIT);
		return len == 0 ? -1 : len < 0 && errno == EAGAIN ? 0 : len;
	}
	ERR_clear_error();
	int len = SSL_read(connection->ssl, buffer, (int)size);
	if (len > 0)
		return len;
	int error = SSL_get_error(connection->ssl, len);
	return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

/* False: the connection is dead. */
static bool receive(struct connection *connection)
{
	static uint8_t buffer[65536];
	ssize_t len;

	while ((len = read_some(connection, buffer, sizeof(buffer))) > 0) {
		if (!connection->established && run.h2 && h2_open(connection) != 0)
			return false;
		connection->established = true;
		connection_dirty(connection);
		if ((connection->h2 != NULL ? h2_receive : h1_receive)(connection, buffer, (size_t)len) != 0)
			return false;
	}
	return len == 0;
}

static void begin_due(void)
{
	struct call *call;

	while ((call = TAILQ_FIRST(&run.waiting)) != NULL && call->due_ms <= now_ms()) {
		TAILQ_REMOVE(&run.waiting, call, waiting);
		call->messages++;
		call_wait(call);
		if (call->connection->h2 != NULL)
			h2_more(call);
		connection_dirty(call->connection);
	}
}

/* Milliseconds until the next message is due, -1: none is waited for. Begins nothing: what is begun must be written
 * before anybody sleeps. */
static int until_due(void)
{
	struct call *call = TAILQ_FIRST(&run.waiting);
	int64_t wait = call == NULL ? -1 : call->due_ms - now_ms();

	return call == NULL || wait > 0 ? (int)wait : 0;
}

static void flush_dirty(void)
{
	struct connection *connection;

	while ((connection = TAILQ_FIRST(&run.dirty)) != NULL) {
		TAILQ_REMOVE(&run.dirty, connection, dirty);
		connection->is_dirty = false;
		if ((connection->h2 != NULL ? h2_flush : h1_flush)(connection) != 0)
			connection_close(connection);
	}
}

static void answer_question(void)
{
	char line[64];

	if (fgets(line, sizeof(line), stdin) == NULL)
		exit(0);
	printf("{\"begun\": %zu, \"whole\": %zu, \"given_up\": %zu, \"given_up_at\": %.6f, \"connections\": %zu}\n",
	       run.begun, run.whole, run.given_up, run.given_up_at, run.connections);
	fflush(stdout);
}

static void serve(void)
{
	struct epoll_event events[EVENTS_MAX];

	for (;;) {
		int n = epoll_wait(run.epoll, events, EVENTS_MAX, until_due());

		for (int i = 0; i < n; i++) {
			struct connection *connection = events[i].data.ptr;

			if (events[i].data.ptr == &run.listener) {
				accept_all();
			} else if (connection == NULL) {
				answer_question();
			} else if (((events[i].events & EPOLLOUT) && !write_pending(connection)) ||
			           !receive(connection)) {
				connection_close(connection);
			} else if (events[i].events & EPOLLOUT) {
				connection_dirty(connection);
			}
		}
		begin_due();
		flush_dirty();
	}
}

/* ---------------------------------------------------------------- start */

static int choose_h2(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
                     unsigned in_len, void *user)
{
	static const unsigned char protocols[] = "\x02h2";

	(void)ssl;
	(void)user;
	return SSL_select_next_proto((unsigned char **)(uintptr_t)out, out_len, protocols, sizeof(protocols) - 1, in,
	                             in_len) == OPENSSL_NPN_NEGOTIATED
	           ? SSL_TLSEXT_ERR_OK
	           : SSL_TLSEXT_ERR_ALERT_FATAL;
}

static void tls_init(const char *certificate, const char *key)
{
	run.tls = SSL_CTX_new(TLS_server_method());
	if (run.tls == NULL || SSL_CTX_use_certificate_chain_file(run.tls, certificate) != 1 ||
	    SSL_CTX_use_PrivateKey_file(run.tls, key, SSL_FILETYPE_PEM) != 1)
		fail("certificate and key");
	SSL_CTX_set_mode(run.tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
	                              SSL_MODE_RELEASE_BUFFERS);
	if (run.h2)
		SSL_CTX_set_alpn_select_cb(run.tls, choose_h2, NULL);
}

static void listen_somewhere(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = &run.listener};
	struct epoll_event question = {.events = EPOLLIN};
	socklen_t len = sizeof(address);

	run.listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	run.epoll = epoll_create1(EPOLL_CLOEXEC);
	if (bind(run.listener, (struct sockaddr *)&address, sizeof(address)) != 0 ||
	    listen(run.listener, BACKLOG) != 0 || getsockname(run.listener, (struct sockaddr *)&address, &len) != 0 ||
	    epoll_ctl(run.epoll, EPOLL_CTL_ADD, run.listener, &event) != 0 ||
	    epoll_ctl(run.epoll, EPOLL_CTL_ADD, STDIN_FILENO, &question) != 0)
		fail("listen");
	printf("%u\n", ntohs(address.sin_port));
	fflush(stdout);
}

int main(int argc, char **argv)
{
	const char *certificate = NULL, *key = NULL;
	int option;

	while ((option = getopt(argc, argv, "n:d:g:c:k:2")) != -1) {
		if (option == 'n')
			run.messages = (uint32_t)strtoul(optarg, NULL, 10);
		else if (option == 'd')
			run.dense_messages = (uint32_t)strtoul(optarg, NULL, 10);
		else if (option == 'g')
			run.gap_ms = strtol(optarg, NULL, 10);
		else if (option == 'c')
			certificate = optarg;
		else if (option == 'k')
			key = optarg;
		else if (option == '2')
			run.h2 = true;
		else
			return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	if (certificate != NULL)
		tls_init(certificate, key);
	for (int chunked = 0; chunked < 2; chunked++) {
		make_text(&texts[false][chunked], run.messages, chunked);
		make_text(&texts[true][chunked], run.dense_messages, chunked);
	}
	listen_somewhere();
	serve();
}
