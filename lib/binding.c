/* SPDX-License-Identifier: Apache-2.0
 *
 * Binding: made by the module, checked by module and gate.
 *
 * There is one text for each peer and challenge: a check takes the text apart, puts it together again from
 * its parts and wants the same bytes.
 */
#include "binding.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <sodium.h>
#include <stdio.h>

#include "base64.h"

#define CHALLENGE_TEXT_LEN 22

static_assert(sizeof("v1;") - 1 + INET6_ADDRSTRLEN - 1 + sizeof(";65535;") - 1 + CHALLENGE_TEXT_LEN < BINDING_MAX,
              "the longest binding fits");

/* Address as text and port of a peer. Returns 0 or -EAFNOSUPPORT. */
static int peer_parts(const struct sockaddr *peer, char address[INET6_ADDRSTRLEN], unsigned *port)
{
	const void *raw;

	/* Callers hold a sockaddr_storage; copying keeps alignment and aliasing out of the question. */
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	switch (peer->sa_family) {
	case AF_INET:
		memcpy(&in, peer, sizeof(in));
		raw = &in.sin_addr;
		*port = ntohs(in.sin_port);
		break;
	case AF_INET6:
		memcpy(&in6, peer, sizeof(in6));
		raw = &in6.sin6_addr;
		*port = ntohs(in6.sin6_port);
		break;
	default:
		return -EAFNOSUPPORT;
	}
	return inet_ntop(peer->sa_family, raw, address, INET6_ADDRSTRLEN) ? 0 : -EAFNOSUPPORT;
}

static int binding_write(char out[BINDING_MAX], const char *address, unsigned port,
                         const uint8_t challenge[BINDING_CHALLENGE_LEN])
{
	char text[CHALLENGE_TEXT_LEN + 1];

	sodium_bin2base64(text, sizeof(text), challenge, BINDING_CHALLENGE_LEN,
	                  sodium_base64_VARIANT_URLSAFE_NO_PADDING);
	return snprintf(out, BINDING_MAX, "v1;%s;%u;%s", address, port, text);
}

int binding_format(char out[BINDING_MAX], const struct sockaddr *peer, const uint8_t challenge[BINDING_CHALLENGE_LEN])
{
	char address[INET6_ADDRSTRLEN];
	unsigned port;

	int error = peer_parts(peer, address, &port);
	return error ? error : binding_write(out, address, port, challenge);
}

int binding_make(char out[BINDING_MAX], const struct sockaddr *peer)
{
	uint8_t challenge[BINDING_CHALLENGE_LEN];

	randombytes_buf(challenge, sizeof(challenge));
	return binding_format(out, peer, challenge);
}

/* Cut text at its next semicolon; the piece before it is returned NUL-terminated, *rest moves behind it. */
static char *next_piece(char **rest)
{
	return strsep(rest, ";");
}

/* Whether text is the canonical form of an IPv4 or IPv6 address. */
static bool address_canonical(const char *text)
{
	uint8_t raw[sizeof(struct in6_addr)];
	char again[INET6_ADDRSTRLEN];
	int family = strchr(text, ':') ? AF_INET6 : AF_INET;

	return inet_pton(family, text, raw) == 1 && inet_ntop(family, raw, again, sizeof(again)) &&
	       strcmp(text, again) == 0;
}

/* Decimal without a sign, at most 65535; -1 else. */
static int port_parse(const char *text)
{
	size_t len = strlen(text);
	int port = 0;

	if (len == 0 || len > 5 || strspn(text, "0123456789") != len)
		return -1;
	for (; *text; text++)
		port = port * 10 + (*text - '0');
	return port <= 65535 ? port : -1;
}

/* Take a binding apart. Returns 0 or -EINVAL when it is not canonical. address points into text, which is changed. */
static int binding_parse(char *text, const char **address, unsigned *port, uint8_t challenge[BINDING_CHALLENGE_LEN])
{
	char *rest = text;
	const char *version = next_piece(&rest);
	*address = next_piece(&rest);
	const char *port_text = next_piece(&rest);

	if (!rest || strcmp(version, "v1") != 0 || !address_canonical(*address))
		return -EINVAL;
	int value = port_parse(port_text);
	if (value < 0)
		return -EINVAL;
	*port = (unsigned)value;
	return base64_decode(challenge, BINDING_CHALLENGE_LEN, span_of_string(rest), BASE64_URL) ? 0 : -EINVAL;
}

int binding_check_peer(struct span binding, const struct sockaddr *peer)
{
	char text[BINDING_MAX], again[BINDING_MAX], peer_address[INET6_ADDRSTRLEN];
	uint8_t challenge[BINDING_CHALLENGE_LEN];
	const char *address;
	unsigned port, peer_port;

	if (binding.len == 0 || binding.len >= sizeof(text))
		return -EINVAL;
	memcpy(text, binding.data, binding.len);
	text[binding.len] = '\0';
	if (binding_parse(text, &address, &port, challenge) != 0)
		return -EINVAL;
	/* Refuses what parsing let through: leading zeros, and all behind a NUL. */
	int len = binding_write(again, address, port, challenge);
	if (!span_equal(binding, span_of(again, (size_t)len)))
		return -EINVAL;
	if (peer_parts(peer, peer_address, &peer_port) != 0)
		return -EACCES;
	return port == peer_port && strcmp(address, peer_address) == 0 ? 0 : -EACCES;
}
