/* SPDX-License-Identifier: Apache-2.0
 *
 * handoffctl sign: a token for data on standard input, for signers written in shell or any other language.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ctl.h"
#include "lib/token.h"

#define LIFETIME_DEFAULT 30
#define DATA_MAX         ((size_t)64 << 20)

struct request {
	const char *keys;
	const char *socket;
	const char *binding;
	const char *subject;
	const char *kid;
	unsigned long lifetime; /* seconds */
	bool headers;
};

static int request_add(struct request *request, int option)
{
	char *end;

	switch (option) {
	case 'f':
		request->keys = optarg;
		return CTL_OK;
	case 's':
		request->socket = optarg;
		return CTL_OK;
	case 'b':
		request->binding = optarg;
		return CTL_OK;
	case 'u':
		request->subject = optarg;
		return CTL_OK;
	case 'k':
		request->kid = optarg;
		return CTL_OK;
	case 'H':
		request->headers = true;
		return CTL_OK;
	case 'l':
		request->lifetime = strtoul(optarg, &end, 10);
		if (optarg[0] < '0' || optarg[0] > '9' || *end || request->lifetime < 1 ||
		    request->lifetime > TOKEN_LIFETIME_MAX)
			return ctl_usage("--lifetime takes 1 to %d seconds", TOKEN_LIFETIME_MAX);
		return CTL_OK;
	default:
		return ctl_usage("sign does not take this");
	}
}

static int request_read(struct request *request, int argc, char **argv)
{
	static const struct option options[] = {
	    {"keys", required_argument, NULL, 'f'},    {"socket", required_argument, NULL, 's'},
	    {"binding", required_argument, NULL, 'b'}, {"subject", required_argument, NULL, 'u'},
	    {"kid", required_argument, NULL, 'k'},     {"lifetime", required_argument, NULL, 'l'},
	    {"headers", no_argument, NULL, 'H'},       {NULL, 0, NULL, 0},
	};
	int option, result = CTL_OK;

	*request = (struct request){.subject = "", .lifetime = LIFETIME_DEFAULT};
	opterr = 0;
	while (result == CTL_OK && (option = getopt_long(argc, argv, "", options, NULL)) != -1)
		result = request_add(request, option);
	if (result != CTL_OK)
		return result;
	if (optind != argc)
		return ctl_usage("sign reads the data from standard input");
	if (!request->keys || !request->socket || !request->binding)
		return ctl_usage("sign needs --keys, --socket and --binding");
	return CTL_OK;
}

/* All of standard input, malloc()ed; NULL when it cannot be read. */
static uint8_t *data_read(size_t *len)
{
	size_t size = 65536;
	uint8_t *data = malloc(size);

	*len = 0;
	while (data) {
		ssize_t n = read(STDIN_FILENO, data + *len, size - *len);
		if (n == 0)
			return data;
		if (n < 0 && errno == EINTR)
			continue;
		if (n > 0)
			*len += (size_t)n;
		if (n < 0 || *len > DATA_MAX)
			break;
		if (*len == size) {
			uint8_t *more = realloc(data, size *= 2);
			if (!more)
				break;
			data = more;
		}
	}
	free(data);
	return NULL;
}

static const struct keyring_key *key_choose(const struct keyring *ring, const struct request *request)
{
	if (!request->kid)
		return keyring_signing_key(ring, span_of_string(request->socket));
	const struct keyring_key *key = keyring_find(ring, span_of_string(request->kid));
	return key && key->state != KEY_REVOKED && keyring_key_allows(key, span_of_string(request->socket)) ? key
	                                                                                                    : NULL;
}

/* Data that is one header line's value as it stands. */
static bool fits_header(struct span data)
{
	if (data.len == 0 || data.data[0] == ' ' || data.data[data.len - 1] == ' ')
		return false;
	for (size_t i = 0; i < data.len; i++)
		if (data.data[i] < 0x20 || data.data[i] == 0x7f)
			return false;
	return true;
}

static int print_headers(const struct request *request, const char *token, struct span data)
{
	if (!fits_header(data))
		return ctl_error(
		    "this data cannot be a header: answer with it as the body, X-Handoff-Data-Source: body");
	printf("X-Socket-Handoff: %s\n", request->socket);
	if (request->subject[0])
		printf("X-Handoff-Subject: %s\n", request->subject);
	printf("X-Handoff-Token: %s\nX-Handoff-Data: ", token);
	fwrite(data.data, 1, data.len, stdout);
	putchar('\n');
	return CTL_OK;
}

static int sign(const struct request *request, const struct keyring *ring, struct span data)
{
	const struct keyring_key *key = key_choose(ring, request);
	struct token_claims claims = {
	    .binding = span_of_string(request->binding),
	    .socket_path = span_of_string(request->socket),
	    .subject = span_of_string(request->subject),
	};
	char token[TOKEN_MAX];

	if (!key)
		return ctl_error("%s: no key signs for %s", request->keys, request->socket);
	token_digest(claims.data_digest, data);
	if (token_sign(token, key, &claims, (uint64_t)time(NULL) + request->lifetime) < 0)
		return ctl_error("the clock is wrong");
	if (request->headers) {
		int result = print_headers(request, token, data);
		if (result != CTL_OK)
			return result;
	} else {
		puts(token);
	}
	return fflush(stdout) == 0 ? CTL_OK : ctl_error("standard output: %s", strerror(errno));
}

int ctl_sign(int argc, char **argv)
{
	struct request request;
	struct keyring *ring;
	char error[512];
	size_t len;

	int result = request_read(&request, argc, argv);
	if (result != CTL_OK)
		return result;
	if (keyring_load(&ring, request.keys, geteuid(), error, sizeof(error)) != 0)
		return ctl_error("%s", error);
	uint8_t *data = data_read(&len);
	result = data ? sign(&request, ring, span_of(data, len)) : ctl_error("standard input cannot be read");
	free(data);
	keyring_free(ring);
	return result;
}
