/* SPDX-License-Identifier: Apache-2.0
 *
 * Names: see names.h. There are as many as the configuration has hosts, so none is ever forgotten.
 */
#include "names.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "daemon/common/log.h"
#include "resolver.h"

/* Seconds that an answer is kept: what DNS says, within these bounds. /etc/hosts says 0. */
#define KEPT_MIN     5
#define KEPT_MAX     300
/* Seconds that a lookup without a result is not repeated. */
#define FAILURE_KEPT 1
/* Seconds that an address stands behind the others after a failure. */
#define PENALTY      30

struct name {
	struct name *next;
	const char *host;
	struct list waits;
	bool asking;
	ev_tstamp until;   /* what is known holds until then */
	const char *error; /* instead of addresses */
	struct addresses addresses;
	ev_tstamp failed_until[ADDRESSES_MAX];
};

static struct ev_loop *loop;
static struct name *names;

void names_init(struct ev_loop *event_loop)
{
	loop = event_loop;
}

/* ---------------------------------------------------------------- what needs no name server */

static bool is_localhost(const char *host)
{
	static const char localhost[] = "localhost";
	size_t len = strlen(host), tail = sizeof(localhost) - 1;

	if (len > 0 && host[len - 1] == '.')
		len--;
	if (len < tail || strncasecmp(host + len - tail, localhost, tail) != 0)
		return false;
	return len == tail || host[len - tail - 1] == '.';
}

static bool known(const char *host, struct addresses *addresses)
{
	*addresses = (struct addresses){.configured = true};
	if (address_parse(host, &addresses->address[0])) {
		addresses->n = 1;
	} else if (is_localhost(host)) {
		address_parse("127.0.0.1", &addresses->address[0]);
		address_parse("::1", &addresses->address[1]);
		addresses->n = 2;
	}
	return addresses->n > 0;
}

/* ---------------------------------------------------------------- one name */

static struct name *name_find(const char *host)
{
	struct name *name = names;

	while (name != NULL && strcasecmp(name->host, host) != 0)
		name = name->next;
	return name;
}

static struct name *name_of(const char *host)
{
	struct name *name = name_find(host);

	if (name != NULL)
		return name;
	name = calloc(1, sizeof(*name));
	if (name == NULL)
		return NULL;
	name->host = host;
	name->next = names;
	list_init(&name->waits);
	names = name;
	return name;
}

/* What is known, those addresses last that failed a short while ago. */
static void name_tell(const struct name *name, struct name_wait *wait)
{
	struct addresses ordered = {0};

	if (name->error != NULL) {
		wait->done(wait, NULL, name->error);
		return;
	}
	for (int failed = 0; failed <= 1; failed++)
		for (size_t i = 0; i < name->addresses.n; i++)
			if ((name->failed_until[i] > ev_now(loop)) == failed)
				ordered.address[ordered.n++] = name->addresses.address[i];
	wait->done(wait, &ordered, NULL);
}

static void name_keep(struct name *name, const struct ares_addrinfo *info)
{
	int seconds = KEPT_MAX;

	name->addresses.n = 0;
	memset(name->failed_until, 0, sizeof(name->failed_until));
	for (const struct ares_addrinfo_node *node = info->nodes; node != NULL; node = node->ai_next) {
		if (name->addresses.n == ADDRESSES_MAX || node->ai_addrlen > sizeof(union address))
			continue;
		memcpy(&name->addresses.address[name->addresses.n++], node->ai_addr, node->ai_addrlen);
		if (node->ai_ttl < seconds)
			seconds = node->ai_ttl;
	}
	name->until = ev_now(loop) + (seconds > KEPT_MIN ? seconds : KEPT_MIN);
}

static void on_resolved(void *data, int status, int timeouts, struct ares_addrinfo *info)
{
	struct name *name = data;
	struct list waits;

	(void)timeouts;
	ev_now_update(loop);
	name->asking = false;
	name->error = status != ARES_SUCCESS ? ares_strerror(status) : NULL;
	name->until = ev_now(loop) + FAILURE_KEPT;
	if (info != NULL && status == ARES_SUCCESS)
		name_keep(name, info);
	if (name->error == NULL && name->addresses.n == 0)
		name->error = "the name has no address";
	if (info != NULL)
		ares_freeaddrinfo(info);
	/* Who asks again meanwhile joins another list. */
	list_take(&waits, &name->waits);
	while (!list_empty(&waits)) {
		struct name_wait *wait = LIST_ENTRY(waits.next, struct name_wait, node);

		list_remove(&wait->node);
		name_tell(name, wait);
	}
}

/* ---------------------------------------------------------------- for the connector */

void names_lookup(const char *host, struct name_wait *wait)
{
	struct addresses addresses;
	struct name *name;

	list_init(&wait->node);
	if (known(host, &addresses)) {
		wait->done(wait, &addresses, NULL);
		return;
	}
	name = name_of(host);
	if (name == NULL) {
		wait->done(wait, NULL, "out of memory");
		return;
	}
	if (!name->asking && name->until > ev_now(loop)) {
		name_tell(name, wait);
		return;
	}
	list_append(&name->waits, &wait->node);
	if (name->asking)
		return;
	name->asking = true;
	resolver_lookup(host, on_resolved, name);
}

void names_cancel(struct name_wait *wait)
{
	list_remove(&wait->node);
}

void names_failed(const char *host, const union address *address)
{
	struct name *name = name_find(host);

	for (size_t i = 0; name != NULL && i < name->addresses.n; i++)
		if (address_equal(&name->addresses.address[i], address))
			name->failed_until[i] = ev_now(loop) + PENALTY;
}
