/* SPDX-License-Identifier: Apache-2.0
 *
 * Request: receipt and the checks, in the order in which they can be trusted: the
 * form of the message, what the descriptors are, the MAC, and only then what the signed fields say.
 */
#include "request.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/un.h>

#include "lib/binding.h"
#include "lib/fdpass.h"
#include "lib/token.h"

int request_receive(int sock, uint8_t *buffer, struct request *request)
{
	*request = (struct request){.fds = {-1, -1, -1}};

	ssize_t len =
	    fdpass_receive(sock, buffer, WIRE_REQUEST_MAX, request->fds, WIRE_FDS_MAX, &request->n_fds, MSG_DONTWAIT);
	if (len <= 0)
		return (int)len;
	request->message = span_of(buffer, (size_t)len);
	return 1;
}

/* A socket option that is an int, or -1. */
static int socket_option(int fd, int option)
{
	int value = -1;
	socklen_t len = sizeof(value);

	if (getsockopt(fd, SOL_SOCKET, option, &value, &len) < 0)
		return -1;
	return value;
}

bool request_is_reply_socket(int fd)
{
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);

	return socket_option(fd, SO_DOMAIN) == AF_UNIX && socket_option(fd, SO_TYPE) == SOCK_SEQPACKET &&
	       socket_option(fd, SO_ACCEPTCONN) == 0 && getpeername(fd, (struct sockaddr *)&peer, &len) == 0;
}

enum reason request_check_client(int fd, uint64_t netns_cookie, struct sockaddr_storage *peer)
{
	int domain = socket_option(fd, SO_DOMAIN);
	socklen_t len = sizeof(*peer);
	uint64_t cookie = 0;
	socklen_t cookie_len = sizeof(cookie);

	if ((domain != AF_INET && domain != AF_INET6) || socket_option(fd, SO_TYPE) != SOCK_STREAM ||
	    socket_option(fd, SO_PROTOCOL) != IPPROTO_TCP || socket_option(fd, SO_ACCEPTCONN) != 0)
		return REASON_CLIENT_SOCKET;
	if (getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &cookie_len) < 0 || cookie != netns_cookie)
		return REASON_CLIENT_NETNS;
	if (getpeername(fd, (struct sockaddr *)peer, &len) < 0) {
		peer->ss_family = AF_UNSPEC;
		return errno == ENOTCONN ? REASON_CLIENT_GONE : REASON_CLIENT_SOCKET;
	}
	return REASON_OK;
}

/* A relayed client is one end of a socketpair that the sender itself made. */
static enum reason check_relay(int fd, int connection)
{
	struct sockaddr_un peer;
	socklen_t len = sizeof(peer);
	struct ucred maker, sender;

	if (socket_option(fd, SO_DOMAIN) != AF_UNIX || socket_option(fd, SO_TYPE) != SOCK_STREAM ||
	    socket_option(fd, SO_ACCEPTCONN) != 0)
		return REASON_CLIENT_SOCKET;
	/* Longer with a name: the socket of some listener. */
	if (getpeername(fd, (struct sockaddr *)&peer, &len) < 0 || len != sizeof(peer.sun_family))
		return REASON_CLIENT_SOCKET;
	if (peer_credentials(fd, &maker) < 0 || peer_credentials(connection, &sender) < 0 || maker.uid != sender.uid)
		return REASON_PEER_FORBIDDEN;
	return REASON_OK;
}

enum reason request_check_form(struct request *request, const struct request_rules *rules)
{
	size_t size;

	if (wire_request_parse(request->message, &request->wire) < 0 || request->wire.field[WIRE_BINDING].len == 0)
		return REASON_MESSAGE_MALFORMED;

	/* What only the gate may say: without a reply, the module would not know whose the client is. */
	if ((request->wire.flags & WIRE_FLAG_LEGACY) != 0)
		return REASON_MESSAGE_MALFORMED;

	bool in_memfd = (request->wire.flags & WIRE_FLAG_MEMFD) != 0;
	if (request->n_fds != (in_memfd ? WIRE_FD_DATA + 1 : WIRE_FD_REPLY + 1) ||
	    !request_is_reply_socket(request->fds[WIRE_FD_REPLY]))
		return REASON_DESCRIPTORS;
	if (in_memfd && (memfd_check_sealed(request->fds[WIRE_FD_DATA], &size) < 0 || size == 0))
		return REASON_MEMFD;
	if ((request->wire.flags & WIRE_FLAG_RELAY) != 0)
		return rules->relay ? check_relay(request->fds[WIRE_FD_CLIENT], rules->connection)
		                    : REASON_RELAY_FORBIDDEN;
	return request_check_client(request->fds[WIRE_FD_CLIENT], rules->netns_cookie, &request->client);
}

enum reason request_check_token(struct request *request, const struct request_rules *rules)
{
	const struct span *field = request->wire.field;
	struct token_claims claims = {
	    .binding = field[WIRE_BINDING],
	    .socket_path = field[WIRE_SOCKET_PATH],
	    .subject = field[WIRE_SUBJECT],
	};
	enum reason reason;

	if (field[WIRE_TOKEN].len == 0)
		return REASON_TOKEN_MISSING;
	/* wire_request_parse() has seen to its length. */
	memcpy(claims.data_digest, field[WIRE_DATA_DIGEST].data, sizeof(claims.data_digest));
	reason = token_verify(rules->keys, field[WIRE_TOKEN], &claims, rules->now, request->kid);
	if (reason != REASON_OK)
		return reason;
	if (!span_equal_string(claims.socket_path, rules->path))
		return REASON_LISTENER_MISMATCH;

	/* Where the peer is not to be seen, the binding is what the module and the signer make of it. */
	bool relayed = (request->wire.flags & WIRE_FLAG_RELAY) != 0;
	switch (binding_check_peer(claims.binding, (const struct sockaddr *)&request->client)) {
	case 0:
		return REASON_OK;
	case -EACCES:
		return relayed ? REASON_OK : REASON_BINDING_PEER;
	default:
		return REASON_BINDING_MALFORMED;
	}
}

void request_refuse(const struct request *request, enum reason reason, unsigned retry_after_s)
{
	struct wire_reply reply = {
	    .kind = WIRE_REFUSED,
	    .reason = reason,
	    .status = (uint16_t)reason_status(reason),
	    .retry_after = retry_after_s,
	};
	uint8_t bytes[WIRE_REPLY_LEN];
	struct iovec iov = {.iov_base = bytes, .iov_len = sizeof(bytes)};

	wire_reply_write(&reply, bytes);
	fdpass_send(request->fds[WIRE_FD_REPLY], &iov, 1, NULL, 0, MSG_DONTWAIT);
}

void request_strip(const struct request *request, uint8_t header[WIRE_HEADER_LEN], struct span pieces[2])
{
	struct span binding = request->wire.field[WIRE_BINDING];
	const uint8_t *message = request->message.data;
	const uint8_t *rest = binding.data + binding.len;
	size_t rest_len = (size_t)(message + request->message.len - rest);
	/* Fields ascend, so token and binding are the first. */
	unsigned removed = request->wire.field[WIRE_TOKEN].data != NULL ? 2 : 1;

	memcpy(header, message, WIRE_HEADER_LEN);
	put_le32(header + 8, (uint32_t)(WIRE_HEADER_LEN + rest_len));
	put_le16(header + 12, (uint16_t)(get_le16(message + 12) - removed));
	pieces[0] = span_of(header, WIRE_HEADER_LEN);
	pieces[1] = span_of(rest, rest_len);
}

void request_peer(const struct request *request, char out[REQUEST_PEER_MAX])
{
	char address[INET6_ADDRSTRLEN];
	const struct sockaddr_in *in = (const struct sockaddr_in *)&request->client;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&request->client;

	out[0] = '\0';
	if (request->client.ss_family == AF_INET && inet_ntop(AF_INET, &in->sin_addr, address, sizeof(address)))
		snprintf(out, REQUEST_PEER_MAX, "%s:%u", address, ntohs(in->sin_port));
	else if (request->client.ss_family == AF_INET6 &&
	         inet_ntop(AF_INET6, &in6->sin6_addr, address, sizeof(address)))
		snprintf(out, REQUEST_PEER_MAX, "[%s]:%u", address, ntohs(in6->sin6_port));
}

void request_close(struct request *request)
{
	fd_close_all(request->fds, WIRE_FDS_MAX);
	request->n_fds = 0;
}
