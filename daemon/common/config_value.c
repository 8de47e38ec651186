/* SPDX-License-Identifier: Apache-2.0
 *
 * Configuration values: names, paths, users, modes and URLs.
 */
#include "config_value.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>

#include "lib/utf8.h"

/* Stands for every uid that is not mapped in a user namespace, so it names nobody. */
#define OVERFLOW_ID 65534

static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
static const char digits[] = "0123456789";

/* How many bytes from the start of text are letters, digits or one of others. */
static size_t run_of(const char *text, const char *others)
{
	size_t n = 0;

	while (text[n] != '\0' &&
	       (strchr(letters, text[n]) != NULL || strchr(digits, text[n]) != NULL || strchr(others, text[n]) != NULL))
		n++;
	return n;
}

const char *value_name(const char *text)
{
	size_t len = strlen(text);

	if (len == 0 || len > CONFIG_NAME_MAX || run_of(text, "_-") != len)
		return "a name is 1 to 32 of A-Z a-z 0-9 _ -";
	return NULL;
}

const char *value_text(const char *text)
{
	for (const char *c = text; *c != '\0'; c++)
		if (*c < ' ' || *c > '~')
			return "only printable ASCII is allowed here";
	return NULL;
}

const char *value_utf8(const char *text)
{
	for (const char *c = text; *c != '\0'; c++)
		if ((*c > 0 && *c < ' ' && strchr("\t\r\n", *c) == NULL) || *c == 0x7f)
			return "control bytes other than line ends and tabs are not allowed here";
	return utf8_valid(span_of_string(text)) ? NULL : "the text is not UTF-8";
}

const char *value_path(const char *text, size_t size)
{
	size_t len = strlen(text);

	if (text[0] != '/')
		return "the path must be absolute";
	if (len >= size)
		return "the path is too long";
	for (const char *c = text; *c != '\0'; c++)
		if (iscntrl((unsigned char)*c))
			return "the path holds control bytes";
	/* One file has one name here: paths are compared byte for byte, in tokens too. */
	if (text[len - 1] == '/')
		return "the path ends with /";
	for (const char *part = text; part != NULL; part = strchr(part + 1, '/')) {
		size_t part_len = strcspn(part + 1, "/");

		if (part_len == 0 || (part_len == 1 && part[1] == '.') ||
		    (part_len == 2 && part[1] == '.' && part[2] == '.'))
			return "the path holds //, /./ or /../";
	}
	return NULL;
}

/* Decimal digits only, at most max. */
static bool parse_decimal(const char *text, unsigned long max, unsigned long *out)
{
	size_t len = strlen(text);

	if (len == 0 || len > 10 || strspn(text, digits) != len)
		return false;
	*out = strtoul(text, NULL, 10);
	return *out <= max;
}

static bool all_digits(const char *text)
{
	return text[0] != '\0' && text[strspn(text, digits)] == '\0';
}

const char *value_user(const char *text, struct config_user *user)
{
	unsigned long number;
	const struct passwd *entry;

	user->name = text;
	if (all_digits(text)) {
		/* The largest is -1, which stands for "leave it" in system calls. */
		if (!parse_decimal(text, (uid_t)-2, &number))
			return "no such user number";
		user->uid = (uid_t)number;
		user->gid = (gid_t)number;
		entry = getpwuid(user->uid);
	} else {
		entry = getpwnam(text);
		if (entry == NULL)
			return "no such user";
	}
	if (entry != NULL) {
		user->uid = entry->pw_uid;
		user->gid = entry->pw_gid;
	}
	if (user->uid == OVERFLOW_ID)
		return "uid 65534 stands for users that are not mapped and cannot be told apart";
	return NULL;
}

const char *value_group(const char *text, gid_t *gid)
{
	unsigned long number;

	if (all_digits(text)) {
		if (!parse_decimal(text, (gid_t)-2, &number))
			return "no such group number";
		*gid = (gid_t)number;
		return NULL;
	}

	const struct group *entry = getgrnam(text);
	if (entry == NULL)
		return "no such group";
	*gid = entry->gr_gid;
	return NULL;
}

const char *value_mode(const char *text, mode_t *mode)
{
	size_t len = strlen(text);

	if (len < 3 || len > 4 || strspn(text, "01234567") != len)
		return "a mode is three or four octal digits";
	*mode = (mode_t)strtoul(text, NULL, 8);
	if ((*mode & ~(mode_t)0666) != 0)
		return "a socket has read and write permissions only";
	return NULL;
}

static const char *url_port(const char *text, size_t len, uint16_t *port)
{
	char copy[6];
	unsigned long number;

	if (len == 0 || len >= sizeof(copy))
		return "the URL's port is not a number from 1 to 65535";
	memcpy(copy, text, len);
	copy[len] = '\0';
	if (!parse_decimal(copy, 65535, &number) || number == 0)
		return "the URL's port is not a number from 1 to 65535";
	*port = (uint16_t)number;
	return NULL;
}

/* The authority's host, from text up to what *rest then points to. */
static const char *url_host(const char *text, const char **rest, char **host)
{
	struct in6_addr address;
	size_t len;

	if (text[0] == '[') {
		len = strcspn(++text, "]");
		*rest = text[len] == ']' ? text + len + 1 : text + len;
		*host = strndup(text, len);
		if (*host == NULL)
			return "out of memory";
		if (text[len] != ']' || inet_pton(AF_INET6, *host, &address) != 1)
			return "the URL's host is not an IPv6 address in brackets";
		return NULL;
	}
	len = run_of(text, ".-_");
	*rest = text + len;
	if (len == 0 || len > 253 || text[0] == '-' || text[0] == '.')
		return "the URL has no proper host";
	*host = strndup(text, len);
	return *host == NULL ? "out of memory" : NULL;
}

const char *value_pattern(const char *text)
{
	for (const char *percent = strchr(text, '%'); percent != NULL; percent = strchr(percent + 2, '%'))
		if (percent[1] != 'b' && percent[1] != 'w')
			return "after % comes b, the backend's name, or w, the worker's number";
	return NULL;
}

const char *value_url(const char *text, struct config_upstream *upstream)
{
	char *host = NULL;
	const char *rest;
	const char *wrong = value_text(text);

	if (wrong != NULL)
		return wrong;
	if (strncmp(text, "https://", 8) == 0)
		upstream->tls = true;
	else if (strncmp(text, "http://", 7) != 0)
		return "the URL must begin with http:// or https:// (and stand in quotes)";
	text += upstream->tls ? 8 : 7;
	upstream->port = upstream->tls ? 443 : 80;

	if (text[strcspn(text, "?#")] != '\0')
		return "the URL must not have a query or fragment";
	size_t authority = strcspn(text, "/");
	if (memchr(text, '@', authority) != NULL)
		return "the URL must not hold a user or password";
	if (text[strcspn(text, " \"\\<>^`{|}")] != '\0')
		return "the URL holds characters that a URL has not";

	wrong = url_host(text, &rest, &host);
	upstream->host = host;
	if (wrong != NULL)
		return wrong;
	if (*rest == ':') {
		size_t len = strcspn(rest + 1, "/");

		wrong = url_port(rest + 1, len, &upstream->port);
		rest += 1 + len;
	} else if (*rest != '/' && *rest != '\0') {
		wrong = "the URL has no proper host";
	}
	return wrong;
}
