/* SPDX-License-Identifier: Apache-2.0
 *
 * Upstream head: see upstream_head.h.
 */
#include "upstream_head.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define RETRY_AFTER_MAX 86400

/* Seconds or a date. */
static uint32_t retry_after_of(const char *value)
{
	char *end;
	long long seconds = strtoll(value, &end, 10);

	if (end == value) {
		time_t date = curl_getdate(value, NULL);

		seconds = date < 0 ? 0 : (long long)(date - time(NULL));
	}
	if (seconds <= 0)
		return 0;
	return seconds > RETRY_AFTER_MAX ? RETRY_AFTER_MAX : (uint32_t)seconds;
}

/* Whether this is the value, parameters aside. */
static bool value_is(const char *value, const char *expected)
{
	size_t len = strlen(expected);

	return strncasecmp(value, expected, len) == 0 && strchr(" \t;", value[len]) != NULL;
}

bool upstream_head_take(struct transfer_head *head, const char *name, const char *value)
{
	if (strcasecmp(name, "Retry-After") == 0)
		head->retry_after = retry_after_of(value);
	else if (strcasecmp(name, "Content-Type") == 0)
		head->is_json = value_is(value, "application/json");
	else if (strcasecmp(name, "Content-Encoding") == 0)
		return value_is(value, "identity");
	else if (strcasecmp(name, "Transfer-Encoding") == 0)
		return value_is(value, "chunked"); /* libcurl would also unpack gzip */
	return true;
}
