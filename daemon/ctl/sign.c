/* SPDX-License-Identifier: Apache-2.0
 *
 * handoffctl sign: a token for the data on standard input, for scripts and for trying things out.
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "ctl.h"
#include "lib/binding.h"
#include "lib/token.h"
#include "lib/wire.h"

#define DATA_MAX         (64UL << 20)
#define SUBJECT_MAX      256
#define LIFETIME_DEFAULT 30
/* Longer data goes into the body: servers limit a header line, php-fpm to 8 KiB. */
#define HEADER_DATA_MAX  4096

struct options {
	const char *keys;
	const char *socket_path;
	const char *binding;
	const char *subject;
	const char *kid;
	unsigned lifetime;
	bool headers;
};

static const char help[] =
    "Usage: handoffctl sign --keys FILE --socket PATH --binding BINDING [--subject SUBJECT]\n"
    "                       [--lifetime SECONDS] [--kid KID] [--headers] < DATA\n"
    "\n"
    "Sign the data on standard input and print the token.\n"
    "\n"
    "  --keys FILE         key ring\n"
    "  --socket PATH       the daemon's socket, as in X-Socket-Handoff\n"
    "  --binding BINDING   what the variable HANDOFF_BINDING holds for this request\n"
    "  --subject SUBJECT   as in X-Handoff-Subject (default: none)\n"
    "  --lifetime SECONDS  1 to 60 (default: 30)\n"
    "  --kid KID           sign with this key (default: the first that signs for PATH)\n"
    "  --headers           print the header lines instead, X-Handoff-Data-Source: body when the\n"
    "                      data does not fit a header\n"
    "  --help              this text\n";

/* Printable ASCII without a blank at either end: what arrives unchanged as a header's value. */
static bool fits_header(struct span bytes)
{
	if (bytes.len == 0 || bytes.data[0] == ' ' || bytes.data[bytes.len - 1] == ' ')
		return false;
	for (size_t i = 0; i < bytes.len; i++)
		if (bytes.data[i] < 0x20 || bytes.data[i] > 0x7e)
			return false;
	return true;
}

static bool parse_lifetime(const char *text, unsigned *lifetime)
{
	size_t len = strlen(text);

	if (len == 0 || len > 2 || strspn(text, "0123456789") != len)
		return false;
	*lifetime = (unsigned)strtoul(text, NULL, 10);
	return *lifetime >= 1 && *lifetime <= TOKEN_LIFETIME_MAX;
}

/* What no verifier would accept is not signed: what is wrong with the options, or NULL. */
static const char *options_fault(const struct options *options)
{
	if (!options->keys[0] || !options->socket_path[0] || !options->binding[0])
		return "--keys, --socket and --binding are needed";
	if (!ctl_path_valid(options->socket_path) || strcmp(options->socket_path, "*") == 0)
		return "--socket is not a socket path";
	if (strncmp(options->binding, "v1;", 3) != 0 || strlen(options->binding) >= BINDING_MAX ||
	    strchr(options->binding, ' ') || !fits_header(span_of_string(options->binding)))
		return "--binding is not a binding of version 1";
	if (options->subject[0] &&
	    (strlen(options->subject) > SUBJECT_MAX || !fits_header(span_of_string(options->subject))))
		return "a subject is at most 256 printable ASCII characters without a blank at either end";
	if (options->kid && !ctl_kid_valid(options->kid))
		return "a kid is 1 to 16 of a-z, 0-9, _ and -";
	return NULL;
}

/* Returns CTL_CONTINUE or an enum ctl_exit. */
static int parse(const struct command *command, int argc, char **argv, struct options *options)
{
	static const struct option long_options[] = {{"keys", required_argument, NULL, 'k'},
	                                             {"socket", required_argument, NULL, 's'},
	                                             {"binding", required_argument, NULL, 'b'},
	                                             {"subject", required_argument, NULL, 'u'},
	                                             {"lifetime", required_argument, NULL, 'l'},
	                                             {"kid", required_argument, NULL, 'i'},
	                                             {"headers", no_argument, NULL, 'H'},
	                                             {"help", no_argument, NULL, 'h'},
	                                             {0}};
	int c;

	while ((c = getopt_long(argc, argv, "h", long_options, NULL)) != -1) {
		switch (c) {
		case 'k':
			options->keys = optarg;
			break;
		case 's':
			options->socket_path = optarg;
			break;
		case 'b':
			options->binding = optarg;
			break;
		case 'u':
			options->subject = optarg;
			break;
		case 'l':
			if (!parse_lifetime(optarg, &options->lifetime))
				return ctl_usage("a token lives 1 to %d seconds", TOKEN_LIFETIME_MAX);
			break;
		case 'i':
			options->kid = optarg;
			break;
		case 'H':
			options->headers = true;
			break;
		case 'h':
			return ctl_help(command);
		default:
			return ctl_usage("wrong option");
		}
	}
	if (optind != argc)
		return ctl_usage("the data comes on standard input, not as an argument");
	const char *fault = options_fault(options);
	if (fault) {
		ctl_usage("%s", fault);
		return CTL_USAGE;
	}
	return CTL_CONTINUE;
}

/* The key to sign with; NULL after a complaint. */
static const struct keyring_key *choose_key(const struct options *options, const struct keyring *ring)
{
	struct span path = span_of_string(options->socket_path);

	if (!options->kid) {
		const struct keyring_key *first = keyring_signing_key(ring, path);
		if (!first)
			ctl_error("%s: no key signs for %s", options->keys, options->socket_path);
		return first;
	}
	const struct keyring_key *key = keyring_find(ring, span_of_string(options->kid));
	if (!key)
		ctl_error("%s: no key %s", options->keys, options->kid);
	else if (key->state != KEY_SIGN)
		ctl_error("%s: key %s does not have the state sign", options->keys, options->kid);
	else if (!keyring_key_allows(key, path))
		ctl_error("%s: key %s does not sign for %s", options->keys, options->kid, options->socket_path);
	else
		return key;
	return NULL;
}

static int print_headers(const struct options *options, const char *token, struct span data)
{
	printf("X-Socket-Handoff: %s\nX-Handoff-Token: %s\n", options->socket_path, token);
	if (options->subject[0])
		printf("X-Handoff-Subject: %s\n", options->subject);
	if (data.len <= HEADER_DATA_MAX && fits_header(data))
		printf("X-Handoff-Data: %.*s\n", (int)data.len, (const char *)data.data);
	else if (data.len > 0)
		printf("X-Handoff-Data-Source: body\n");
	return fflush(stdout) == 0 ? CTL_OK : ctl_error("standard output: %s", strerror(errno));
}

static int sign(const struct options *options, const struct keyring *ring, struct span data)
{
	struct token_claims claims = {
	    .binding = span_of_string(options->binding),
	    .socket_path = span_of_string(options->socket_path),
	    .subject = span_of_string(options->subject),
	};
	char token[TOKEN_MAX + 1];
	const struct keyring_key *key = choose_key(options, ring);

	if (!key)
		return CTL_FAILED;
	token_digest(claims.data_digest, data);
	int len = token_sign(token, key, &claims, (uint64_t)time(NULL) + options->lifetime);
	if (len < 0)
		return ctl_error("the clock is wrong");
	if (options->headers)
		return print_headers(options, token, data);
	token[len++] = '\n';
	return ctl_print(span_of(token, (size_t)len));
}

static int run(const struct command *command, int argc, char **argv)
{
	struct options options = {
	    .keys = "", .socket_path = "", .binding = "", .subject = "", .lifetime = LIFETIME_DEFAULT};
	struct keyring *ring = NULL;
	uint8_t *data = NULL;
	char error[PATH_MAX + 128];
	size_t len;

	int result = parse(command, argc, argv, &options);
	if (result != CTL_CONTINUE)
		return result;
	if (keyring_load(&ring, options.keys, geteuid(), error, sizeof(error)) != 0)
		return ctl_error("%s", error);
	int code = ctl_read(STDIN_FILENO, DATA_MAX, &data, &len);
	if (code)
		result = ctl_error("standard input: %s", strerror(-code));
	else
		result = sign(&options, ring, span_of(data, len));
	free(data);
	keyring_free(ring);
	return result;
}

const struct command command_sign = {
    .name = "sign",
    .title = "handoffctl sign",
    .summary = "sign data and print the token",
    .help = help,
    .run = run,
};
