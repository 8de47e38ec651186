/* SPDX-License-Identifier: Apache-2.0
 *
 * Address: see address.h.
 */
#include "address.h"

#include <arpa/inet.h>
#include <string.h>

#define N(array) (sizeof(array) / sizeof((array)[0]))

struct prefix4 {
	uint8_t bytes[4];
	unsigned bits;
};

struct prefix6 {
	uint8_t bytes[16];
	unsigned bits;
};

/* IANA's special-purpose addresses (RFC 6890), and multicast. */
static const struct prefix4 special4[] = {
    {{0}, 8},             /* this network; the kernel takes it for loopback */
    {{10}, 8},            /* private */
    {{100, 64}, 10},      /* carrier-grade NAT */
    {{127}, 8},           /* loopback */
    {{169, 254}, 16},     /* link-local: the metadata services of clouds */
    {{172, 16}, 12},      /* private */
    {{192, 0, 0}, 24},    /* protocols */
    {{192, 0, 2}, 24},    /* documentation */
    {{192, 88, 99}, 24},  /* 6to4 relays */
    {{192, 168}, 16},     /* private */
    {{198, 18}, 15},      /* benchmarks */
    {{198, 51, 100}, 24}, /* documentation */
    {{203, 0, 113}, 24},  /* documentation */
    {{224}, 4},           /* multicast */
    {{240}, 4},           /* reserved, broadcast */
};

/* IPv6 is public where it was given out for that... */
static const struct prefix6 global6 = {{0x20}, 3};
/* ...but for these parts of it. */
static const struct prefix6 special6[] = {
    {{0x20, 0x01}, 23},             /* protocols: Teredo and others */
    {{0x20, 0x01, 0x0d, 0xb8}, 32}, /* documentation */
    {{0x20, 0x02}, 16},             /* 6to4: any IPv4 address */
    {{0x3f, 0xff}, 20},             /* documentation */
};
/* The well-known prefix of NAT64; an IPv4 address follows. */
static const struct prefix6 nat64 = {{0x00, 0x64, 0xff, 0x9b}, 96};

static bool begins_with(const uint8_t *address, const uint8_t *prefix, unsigned bits)
{
	unsigned rest = bits % 8;

	if (memcmp(address, prefix, bits / 8) != 0)
		return false;
	return rest == 0 || (address[bits / 8] ^ prefix[bits / 8]) >> (8 - rest) == 0;
}

static bool is_public4(const uint8_t address[4])
{
	for (size_t i = 0; i < N(special4); i++)
		if (begins_with(address, special4[i].bytes, special4[i].bits))
			return false;
	return true;
}

static bool is_public6(const uint8_t address[16])
{
	if (begins_with(address, nat64.bytes, nat64.bits))
		return is_public4(address + 12);
	for (size_t i = 0; i < N(special6); i++)
		if (begins_with(address, special6[i].bytes, special6[i].bits))
			return false;
	return begins_with(address, global6.bytes, global6.bits);
}

bool address_is_public(const union address *address)
{
	if (address->any.sa_family == AF_INET)
		return is_public4((const uint8_t *)&address->v4.sin_addr);
	return address->any.sa_family == AF_INET6 && is_public6(address->v6.sin6_addr.s6_addr);
}

bool address_parse(const char *text, union address *address)
{
	memset(address, 0, sizeof(*address));
	address->any.sa_family = AF_INET;
	if (inet_pton(AF_INET, text, &address->v4.sin_addr) == 1)
		return true;
	address->any.sa_family = AF_INET6;
	return inet_pton(AF_INET6, text, &address->v6.sin6_addr) == 1;
}

socklen_t address_len(const union address *address)
{
	return address->any.sa_family == AF_INET ? sizeof(address->v4) : sizeof(address->v6);
}

void address_set_port(union address *address, uint16_t port)
{
	if (address->any.sa_family == AF_INET)
		address->v4.sin_port = htons(port);
	else
		address->v6.sin6_port = htons(port);
}

bool address_equal(const union address *a, const union address *b)
{
	if (a->any.sa_family != b->any.sa_family)
		return false;
	if (a->any.sa_family == AF_INET)
		return a->v4.sin_addr.s_addr == b->v4.sin_addr.s_addr;
	return memcmp(&a->v6.sin6_addr, &b->v6.sin6_addr, sizeof(a->v6.sin6_addr)) == 0;
}
