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

#include "base64.h"

#define CHALLENGE_TEXT_LEN 22

static_assert(sizeof("v1;") - 1 + INET6_ADDRSTRLEN - 1 + sizeof(";65535;") - 1 + CHALLENGE_TEXT_LEN < BINDING_MAX,
              "the longest binding fits");

/* Write a number in decimal and return where it ends. With snprintf() and inet_ntop() the text would cost a request
 * more than anything else in its binding. */
static char *put_decimal(char *out, unsigned value)
{
	char digits[10];
	size_t n = 0;

	do
		digits[n++] = (char)('0' + value % 10);
	while ((value /= 10) > 0);
	while (n > 0)
		*out++ = digits[--n];
	return out;
}

static void put_ipv4(char *out, struct in_addr address)
{
	uint8_t bytes[sizeof(address)];

	memcpy(bytes, &address, sizeof(bytes));
	for (size_t i = 0; i < sizeof(bytes); i++) {
		if (i > 0)
			*out++ = '.';
		out = put_decimal(out, bytes[i]);
	}
	*out = '\0';
}

/* Address as text and port of a peer. Returns 0 or -EAFNOSUPPORT. */
static int peer_parts(const struct sockaddr *peer, char address[INET6_ADDRSTRLEN], unsigned *port)
{
	struct sockaddr_in in;
	struct sockaddr_in6 in6;

	/* Copying keeps alignment and aliasing out of the question. */
	switch (peer->sa_family) {
	case AF_INET:
		memcpy(&in, peer, sizeof(in));
		put_ipv4(address, in.sin_addr);
		*port = ntohs(in.sin_port);
		return 0;
	case AF_INET6:
		memcpy(&in6, peer, sizeof(in6));
		*port = ntohs(in6.sin6_port);
		return inet_ntop(AF_INET6, &in6.sin6_addr, address, INET6_ADDRSTRLEN) ? 0 : -EAFNOSUPPORT;
	default:
		return -EAFNOSUPPORT;
	}
}

/* The address is canonical, so that all fits. Returns the length. */
static int binding_write(char out[BINDING_MAX], const char *address, unsigned port,
                         const uint8_t challenge[BINDING_CHALLENGE_LEN])
{
	char *end = stpcpy(stpcpy(out, "v1;"), address);

	*end++ = ';';
	end = put_decimal(end, port);
	*end++ = ';';
	sodium_bin2base64(end, CHALLENGE_TEXT_LEN + 1, challenge, BINDING_CHALLENGE_LEN,
	                  sodium_base64_VARIANT_URLSAFE_NO_PADDING);
	return (int)(end - out) + CHALLENGE_TEXT_LEN;
}

int binding_format(char out[BINDING_MAX], const struct sockaddr *peer, const uint8_t challenge[BINDING_CHALLENGE_LEN])
{
	char address[INET6_ADDRSTRLEN];
	unsigned port;

	int error = peer_parts(peer, address, &port);
	return error ? error : binding_write(out, address, port, challenge);
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
