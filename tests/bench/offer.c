/* SPDX-License-Identifier: Apache-2.0
 *
 * Offer: see offer.h.
 */
#include "offer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>

#include "lib/binding.h"
#include "lib/fdpass.h"
#include "lib/token.h"

#define TOKEN_SECONDS    50
#define DESCRIPTORS_LEFT 8

int offerer_init(struct offerer *offerer)
{
	socklen_t len = sizeof(offerer->address);

	offerer->address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	offerer->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (offerer->listener < 0 ||
	    bind(offerer->listener, (struct sockaddr *)&offerer->address, sizeof(offerer->address)) != 0 ||
	    listen(offerer->listener, 16) != 0)
		return -1;
	return getsockname(offerer->listener, (struct sockaddr *)&offerer->address, &len);
}

int offer_connect(const struct offerer *offerer, int *client, int *server)
{
	int pair[2];

	if (offerer->relayed) {
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0)
			return -1;
		*client = pair[0];
		*server = pair[1];
		return 0;
	}
	*client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (*client < 0)
		return -1;
	/* The lowest free number is given. An accept() that failed would leave this connection to the next caller. */
	if (*client > sysconf(_SC_OPEN_MAX) - DESCRIPTORS_LEFT) {
		fd_close(client);
		errno = EMFILE;
		return -1;
	}
	if (offerer->room > 0)
		setsockopt(*client, SOL_SOCKET, SO_RCVBUF, &offerer->room, sizeof(offerer->room));
	if (connect(*client, (const struct sockaddr *)&offerer->address, sizeof(offerer->address)) == 0)
		*server = accept4(offerer->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (*server < 0) {
		fd_close(client);
		return -1;
	}
	if (offerer->room > 0)
		setsockopt(*server, SOL_SOCKET, SO_SNDBUF, &offerer->room, sizeof(offerer->room));
	return 0;
}

int offer_gate(const struct offerer *offerer)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (strlen(offerer->path) >= sizeof(name.sun_path))
		return -1;
	memcpy(name.sun_path, offerer->path, strlen(offerer->path));
	if (fd >= 0 && connect(fd, (struct sockaddr *)&name, sizeof(name)) != 0)
		fd_close(&fd);
	return fd;
}

/* The message, in out, which has room for WIRE_REQUEST_MAX bytes. Its length, or 0. */
static size_t make_message(const struct offerer *offerer, int server, const char *prompt, size_t number, uint8_t *out)
{
	char binding[BINDING_MAX], token[TOKEN_MAX], data[4096], subject[32], request_id[32];
	uint8_t status[2], challenge[BINDING_CHALLENGE_LEN];
	struct sockaddr_in peer = offerer->address;
	socklen_t len = sizeof(peer);
	struct token_claims claims = {.socket_path = span_of_string(offerer->path)};

	if (!offerer->relayed && getpeername(server, (struct sockaddr *)&peer, &len) != 0)
		return 0;
	randombytes_buf(challenge, sizeof(challenge));
	int binding_len = binding_format(binding, (struct sockaddr *)&peer, challenge);
	int data_len = snprintf(data, sizeof(data), "{\"prompt\":\"%.*s%s\"}", PROMPT_LEN, prompt, offerer->more);
	int subject_len = snprintf(subject, sizeof(subject), "user-%zu", number % 1000);
	int request_id_len = snprintf(request_id, sizeof(request_id), "%024zu", number);

	claims.binding = span_of(binding, (size_t)binding_len);
	claims.subject = span_of(subject, (size_t)subject_len);
	token_digest(claims.data_digest, span_of(data, (size_t)data_len));
	int token_len = token_sign(token, offerer->key, &claims, (uint64_t)time(NULL) + TOKEN_SECONDS);

	put_le16(status, 200);
	struct wire_request request = {
	    .flags = offerer->relayed ? WIRE_FLAG_RELAY : 0,
	    .field =
	        {
	            [WIRE_TOKEN] = span_of(token, (size_t)token_len),
	            [WIRE_BINDING] = claims.binding,
	            [WIRE_SOCKET_PATH] = claims.socket_path,
	            [WIRE_SUBJECT] = claims.subject,
	            [WIRE_DATA_DIGEST] = span_of(claims.data_digest, sizeof(claims.data_digest)),
	            [WIRE_METHOD] = SPAN_LITERAL("POST"),
	            [WIRE_TARGET] = SPAN_LITERAL("/chat/stream.php"),
	            [WIRE_PROTOCOL] = SPAN_LITERAL("HTTP/1.1"),
	            [WIRE_CLIENT_ADDRESS] = SPAN_LITERAL("127.0.0.1"),
	            [WIRE_SERVER_NAME] = SPAN_LITERAL("localhost"),
	            [WIRE_REQUEST_ID] = span_of(request_id, (size_t)request_id_len),
	            [WIRE_STATUS] = span_of(status, sizeof(status)),
	            [WIRE_DATA] = span_of(data, (size_t)data_len),
	        },
	};
	return wire_request_write(&request, out, wire_request_size(&request));
}

int offer_make(const struct offerer *offerer, int server, const char prompt[PROMPT_LEN], size_t number,
               struct offer *offer)
{
	static uint8_t message[WIRE_REQUEST_MAX];
	int pair[2];

	*offer = (struct offer){.server = server, .len = make_message(offerer, server, prompt, number, message)};
	if (offer->len == 0)
		return -EINVAL;
	offer->message = malloc(offer->len);
	if (offer->message == NULL)
		return -ENOMEM;
	memcpy(offer->message, message, offer->len);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) {
		free(offer->message);
		return -errno;
	}
	offer->reply = pair[0];
	offer->passed_reply = pair[1];
	return 0;
}

int offer_send(struct offer *offer, int gate)
{
	struct iovec iov = {.iov_base = offer->message, .iov_len = offer->len};
	int rc = fdpass_send(gate, &iov, 1, (int[]){offer->server, offer->passed_reply}, 2, MSG_DONTWAIT);

	if (rc != 0)
		return rc;
	fd_close(&offer->passed_reply);
	fd_close(&offer->server);
	free(offer->message);
	return 0;
}
