/* SPDX-License-Identifier: Apache-2.0
 *
 * Request: the gate's checks on real sockets: each reason, what is left of the message for a streamer, and that no
 * descriptor stays open.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/gate/request.h"
#include "lib/binding.h"
#include "lib/fdpass.h"
#include "lib/token.h"

#define PATH "/run/handoffd/test.sock"

static struct keyring *keys;
static int sockets[2]; /* module and gate */
static int tcp[2];     /* client's and server's end */
static int reply[2];   /* module's and gate's end */
static uint8_t sent[WIRE_REQUEST_MAX];
static uint8_t received[WIRE_REQUEST_MAX];

static size_t count_fds(void)
{
	DIR *directory = opendir("/proc/self/fd");
	size_t n = 0;

	assert_non_null(directory);
	while (readdir(directory) != NULL)
		n++;
	closedir(directory);
	return n;
}

static void make_tcp(int pair[2])
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(listener, (struct sockaddr *)&address, len), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &len), 0);
	pair[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(pair[0], (struct sockaddr *)&address, len), 0);
	pair[1] = accept(listener, NULL, NULL);
	assert_true(pair[1] >= 0);
	close(listener);
}

static int set_up(void **state)
{
	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, reply), 0);
	make_tcp(tcp);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	fd_close_all(sockets, 2);
	fd_close_all(reply, 2);
	fd_close_all(tcp, 2);
	return 0;
}

static uint64_t cookie_of(int fd)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);

	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len), 0);
	return cookie;
}

static struct request_rules rules_now(void)
{
	return (struct request_rules){
	    .keys = keys, .path = PATH, .netns_cookie = cookie_of(sockets[1]), .now = time(NULL)};
}

/* A request that is right for the client socket, signed; the caller may change it before it is sent. */
static void fill(struct wire_request *wire, char binding[BINDING_MAX], char token[TOKEN_MAX],
                 uint8_t digest[TOKEN_DIGEST_LEN], const char *path)
{
	static const uint8_t status[2] = {200, 0}, challenge[BINDING_CHALLENGE_LEN] = {1, 2, 3};
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);
	struct token_claims claims;

	assert_int_equal(getpeername(tcp[1], (struct sockaddr *)&peer, &len), 0);
	assert_true(binding_format(binding, (struct sockaddr *)&peer, challenge) > 0);
	token_digest(digest, span_of_string("{}"));
	claims = (struct token_claims){.binding = span_of_string(binding), .socket_path = span_of_string(path)};
	memcpy(claims.data_digest, digest, TOKEN_DIGEST_LEN);
	assert_true(token_sign(token, keyring_at(keys, 0), &claims, (uint64_t)time(NULL) + 30) > 0);

	*wire = (struct wire_request){0};
	wire->field[WIRE_TOKEN] = span_of_string(token);
	wire->field[WIRE_BINDING] = span_of_string(binding);
	wire->field[WIRE_SOCKET_PATH] = span_of_string(path);
	wire->field[WIRE_DATA_DIGEST] = span_of(digest, TOKEN_DIGEST_LEN);
	wire->field[WIRE_METHOD] = SPAN_LITERAL("GET");
	wire->field[WIRE_TARGET] = SPAN_LITERAL("/chat");
	wire->field[WIRE_PROTOCOL] = SPAN_LITERAL("HTTP/1.1");
	wire->field[WIRE_REQUEST_ID] = SPAN_LITERAL("r-1");
	wire->field[WIRE_STATUS] = span_of(status, sizeof(status));
	wire->field[WIRE_DATA] = SPAN_LITERAL("{}");
}

static char binding[BINDING_MAX];
static char token[TOKEN_MAX];
static uint8_t digest[TOKEN_DIGEST_LEN];

/* Send the request with these descriptors and receive it as the gate does. */
static void pass(const struct wire_request *wire, const int *fds, size_t n_fds, struct request *request)
{
	size_t size = wire_request_size(wire);
	struct iovec iov = {.iov_base = sent, .iov_len = size};

	assert_true(size > 0);
	wire_request_write(wire, sent, size);
	assert_int_equal(fdpass_send(sockets[0], &iov, 1, fds, n_fds, 0), 0);
	assert_int_equal(request_receive(sockets[1], received, request), 1);
	assert_int_equal(request->message.len, size);
}

static void check_form(const struct wire_request *wire, const int *fds, size_t n_fds, enum reason expected)
{
	struct request_rules rules = rules_now();
	struct request request;
	size_t before = count_fds();

	pass(wire, fds, n_fds, &request);
	assert_string_equal(reason_name(request_check_form(&request, &rules)), reason_name(expected));
	request_close(&request);
	assert_int_equal(count_fds(), before);
}

static void test_right_one(void **state)
{
	struct request_rules rules = rules_now();
	struct wire_request wire, stripped;
	struct request request;
	uint8_t header[WIRE_HEADER_LEN];
	uint8_t whole[WIRE_REQUEST_MAX];
	struct span pieces[2];
	char peer[REQUEST_PEER_MAX];

	(void)state;
	fill(&wire, binding, token, digest, PATH);
	pass(&wire, (int[]){tcp[1], reply[1]}, 2, &request);
	request_peer(&request, peer);
	assert_string_equal(peer, "");
	assert_int_equal(request_check_form(&request, &rules), REASON_OK);
	assert_int_equal(request_check_token(&request, &rules), REASON_OK);
	assert_string_equal(request.kid, "test");
	request_peer(&request, peer);
	assert_memory_equal(peer, "127.0.0.1:", 10);

	/* What goes on is the same without token and binding. */
	request_strip(&request, header, pieces);
	memcpy(whole, pieces[0].data, pieces[0].len);
	memcpy(whole + pieces[0].len, pieces[1].data, pieces[1].len);
	assert_int_equal(wire_request_parse(span_of(whole, pieces[0].len + pieces[1].len), &stripped), 0);
	assert_null(stripped.field[WIRE_TOKEN].data);
	assert_null(stripped.field[WIRE_BINDING].data);
	for (size_t i = WIRE_SOCKET_PATH; i < WIRE_FIELD_END; i++)
		assert_true(span_equal(stripped.field[i], wire.field[i]));
	request_close(&request);
}

static void test_strip_without_token(void **state)
{
	struct wire_request wire, stripped;
	struct request request;
	uint8_t header[WIRE_HEADER_LEN];
	uint8_t whole[WIRE_REQUEST_MAX];
	struct span pieces[2];
	struct request_rules rules = rules_now();

	(void)state;
	fill(&wire, binding, token, digest, PATH);
	wire.field[WIRE_TOKEN] = SPAN_EMPTY;
	pass(&wire, (int[]){tcp[1], reply[1]}, 2, &request);
	assert_int_equal(request_check_form(&request, &rules), REASON_OK);
	assert_int_equal(request_check_token(&request, &rules), REASON_TOKEN_MISSING);
	request_strip(&request, header, pieces);
	memcpy(whole, pieces[0].data, pieces[0].len);
	memcpy(whole + pieces[0].len, pieces[1].data, pieces[1].len);
	assert_int_equal(wire_request_parse(span_of(whole, pieces[0].len + pieces[1].len), &stripped), 0);
	assert_null(stripped.field[WIRE_BINDING].data);
	request_close(&request);
}

static void test_descriptors(void **state)
{
	struct wire_request wire;
	int unconnected FD_CLEANUP = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	int stream[2];

	(void)state;
	fill(&wire, binding, token, digest, PATH);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, stream), 0);
	check_form(&wire, NULL, 0, REASON_DESCRIPTORS);
	check_form(&wire, (int[]){tcp[1]}, 1, REASON_DESCRIPTORS);
	check_form(&wire, (int[]){tcp[1], reply[1], tcp[0]}, 3, REASON_DESCRIPTORS);
	check_form(&wire, (int[]){tcp[1], tcp[0]}, 2, REASON_DESCRIPTORS);
	check_form(&wire, (int[]){tcp[1], stream[0]}, 2, REASON_DESCRIPTORS);
	check_form(&wire, (int[]){tcp[1], unconnected}, 2, REASON_DESCRIPTORS);
	check_form(&wire, (int[]){stream[0], reply[1]}, 2, REASON_CLIENT_SOCKET);
	check_form(&wire, (int[]){STDIN_FILENO, reply[1]}, 2, REASON_CLIENT_SOCKET);
	fd_close_all(stream, 2);
}

static void test_client_sockets(void **state)
{
	struct wire_request wire;
	int listener FD_CLEANUP = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int fresh FD_CLEANUP = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int udp FD_CLEANUP = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct request_rules rules = rules_now();
	struct request request;

	(void)state;
	assert_int_equal(listen(listener, 1), 0);
	fill(&wire, binding, token, digest, PATH);
	check_form(&wire, (int[]){listener, reply[1]}, 2, REASON_CLIENT_SOCKET);
	check_form(&wire, (int[]){udp, reply[1]}, 2, REASON_CLIENT_SOCKET);
	check_form(&wire, (int[]){fresh, reply[1]}, 2, REASON_CLIENT_GONE);

	rules.netns_cookie++;
	pass(&wire, (int[]){tcp[1], reply[1]}, 2, &request);
	assert_int_equal(request_check_form(&request, &rules), REASON_CLIENT_NETNS);
	request_close(&request);
	wire.flags = WIRE_FLAG_RELAY;
	check_form(&wire, (int[]){tcp[1], reply[1]}, 2, REASON_RELAY_FORBIDDEN);
}

static void check_relay(const struct wire_request *wire, int client, bool allowed, enum reason expected)
{
	struct request_rules rules = rules_now();
	struct request request;

	rules.relay = allowed;
	rules.connection = sockets[1];
	pass(wire, (int[]){client, reply[1]}, 2, &request);
	assert_string_equal(reason_name(request_check_form(&request, &rules)), reason_name(expected));
	/* The binding's peer is not to be seen here, its form is. */
	if (expected == REASON_OK)
		assert_int_equal(request_check_token(&request, &rules), REASON_OK);
	request_close(&request);
}

static void test_relay(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = ""};
	struct wire_request wire;
	int listener FD_CLEANUP = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int connected FD_CLEANUP = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(address);
	int stream[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, stream), 0);
	fill(&wire, binding, token, digest, PATH);
	wire.flags = WIRE_FLAG_RELAY;
	check_relay(&wire, stream[1], true, REASON_OK);
	check_relay(&wire, stream[1], false, REASON_RELAY_FORBIDDEN);
	check_relay(&wire, tcp[1], true, REASON_CLIENT_SOCKET);
	check_relay(&wire, reply[0], true, REASON_CLIENT_SOCKET);
	check_relay(&wire, connected, true, REASON_CLIENT_SOCKET);
	/* An abstract name of the kernel's choice. */
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(sa_family_t)), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &len), 0);
	assert_int_equal(connect(connected, (struct sockaddr *)&address, len), 0);
	check_relay(&wire, listener, true, REASON_CLIENT_SOCKET);
	check_relay(&wire, connected, true, REASON_CLIENT_SOCKET);
	/* Made by another user than the sender. */
	fd_close_all(stream, 2);
	if (geteuid() == 0) {
		assert_int_equal(seteuid(1), 0);
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, stream), 0);
		assert_int_equal(seteuid(0), 0);
		check_relay(&wire, stream[1], true, REASON_PEER_FORBIDDEN);
		fd_close_all(stream, 2);
	}
}

static void test_memfd(void **state)
{
	struct wire_request wire;
	int sealed FD_CLEANUP = memfd_make_sealed(span_of_string("data"));
	int empty FD_CLEANUP = memfd_make_sealed(SPAN_EMPTY);

	(void)state;
	fill(&wire, binding, token, digest, PATH);
	wire.field[WIRE_DATA] = SPAN_EMPTY;
	wire.flags = WIRE_FLAG_MEMFD;
	check_form(&wire, (int[]){tcp[1], reply[1], sealed}, 3, REASON_OK);
	check_form(&wire, (int[]){tcp[1], reply[1], empty}, 3, REASON_MEMFD);
	check_form(&wire, (int[]){tcp[1], reply[1], STDIN_FILENO}, 3, REASON_MEMFD);
	check_form(&wire, (int[]){tcp[1], reply[1]}, 2, REASON_DESCRIPTORS);
}

static void check_token(const struct wire_request *wire, enum reason expected)
{
	struct request_rules rules = rules_now();
	struct request request;

	pass(wire, (int[]){tcp[1], reply[1]}, 2, &request);
	assert_int_equal(request_check_form(&request, &rules), REASON_OK);
	assert_string_equal(reason_name(request_check_token(&request, &rules)), reason_name(expected));
	request_close(&request);
}

static void test_token(void **state)
{
	struct wire_request wire;
	int other[2], kept;

	(void)state;
	fill(&wire, binding, token, digest, PATH);
	wire.field[WIRE_SUBJECT] = SPAN_LITERAL("somebody");
	check_token(&wire, REASON_TOKEN_MAC);
	wire.field[WIRE_TOKEN] = SPAN_LITERAL("v1");
	check_token(&wire, REASON_TOKEN_MALFORMED);

	fill(&wire, binding, token, digest, "/run/other.sock");
	check_token(&wire, REASON_LISTENER_MISMATCH);

	/* Signed for one client, sent with another. */
	fill(&wire, binding, token, digest, PATH);
	make_tcp(other);
	kept = tcp[1];
	tcp[1] = other[1];
	check_token(&wire, REASON_BINDING_PEER);
	tcp[1] = kept;
	fd_close_all(other, 2);
}

static void test_refusal_arrives(void **state)
{
	struct wire_request wire;
	struct wire_reply answer;
	struct request request;
	uint8_t bytes[64];

	(void)state;
	fill(&wire, binding, token, digest, PATH);
	pass(&wire, (int[]){tcp[1], reply[1]}, 2, &request);
	request_refuse(&request, REASON_NO_STREAMER, 7);
	ssize_t len = recv(reply[0], bytes, sizeof(bytes), MSG_DONTWAIT);
	assert_int_equal(len, WIRE_REPLY_LEN);
	assert_int_equal(wire_reply_parse(span_of(bytes, (size_t)len), &answer), 0);
	assert_int_equal(answer.kind, WIRE_REFUSED);
	assert_int_equal(answer.reason, REASON_NO_STREAMER);
	assert_int_equal(answer.status, 503);
	assert_int_equal(answer.retry_after, 7);
	/* Nobody waits any more: no signal, no error. */
	fd_close(&reply[0]);
	request_refuse(&request, REASON_NO_STREAMER, 7);
	request_close(&request);
	assert_int_equal(request.fds[WIRE_FD_CLIENT], -1);
}

static void test_ends(void **state)
{
	struct request request;
	static uint8_t large[WIRE_REQUEST_MAX + 1];
	struct iovec iov = {.iov_base = large, .iov_len = sizeof(large)};

	(void)state;
	assert_int_equal(request_receive(sockets[1], received, &request), -EAGAIN);
	assert_int_equal(fdpass_send(sockets[0], &iov, 1, tcp, 2, 0), 0);
	assert_int_equal(request_receive(sockets[1], received, &request), -EMSGSIZE);
	iov.iov_len = 10;
	assert_int_equal(fdpass_send(sockets[0], &iov, 1, (int[]){0, 0, 0, 0}, 4, 0), 0);
	assert_int_equal(request_receive(sockets[1], received, &request), -EBADMSG);
	fd_close(&sockets[0]);
	assert_int_equal(request_receive(sockets[1], received, &request), 0);
}

static int load_keys(void **state)
{
	char file[] = "/tmp/test-gate-XXXXXX";
	char error[256];
	char line[128];
	char encoded[64];
	uint8_t secret[KEYRING_KEY_LEN];
	int fd = mkstemp(file);

	(void)state;
	if (fd < 0 || sodium_init() < 0)
		return -1;
	randombytes_buf(secret, sizeof(secret));
	sodium_bin2base64(encoded, sizeof(encoded), secret, sizeof(secret), sodium_base64_VARIANT_ORIGINAL);
	int len = snprintf(line, sizeof(line), "test sign %s *\n", encoded);
	bool written = write(fd, line, (size_t)len) == len;
	close(fd);
	int result = keyring_load(&keys, file, geteuid(), error, sizeof(error));
	unlink(file);
	return written ? result : -1;
}

static int free_keys(void **state)
{
	(void)state;
	keyring_free(keys);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_right_one, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_strip_without_token, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_descriptors, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_client_sockets, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_relay, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_memfd, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_token, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_refusal_arrives, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_ends, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, load_keys, free_keys);
}
