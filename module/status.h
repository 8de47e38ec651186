/* SPDX-License-Identifier: Apache-2.0
 *
 * Status page: what is collected for it, and the files it takes.
 *
 *     status.c        the handler: collects, then writes in the format that was asked for
 *     status_fetch.c  asking the daemon behind one listener
 *     status_merge.c  the numbers of several daemons and of the module, by name
 *     status_php.c    whether PHP runs with Apache's rights
 *     status_text.c   Prometheus text and JSON
 *     status_html.c   the page for people
 */
#ifndef MOD_SOCKET_HANDOFF_STATUS_H
#define MOD_SOCKET_HANDOFF_STATUS_H

#include "apr_hash.h"

#include "module.h"

/* One listener that was to be asked. */
struct status_listener {
	const char *path;
	bool up;
	const char *daemon;  /* when up: the first listener of the same gate, which names it */
	const char *problem; /* when not: a reason's name, or what else is wrong */
	const char *detail;  /* one sentence, or "" */
	uint64_t instance;
};

/* One number. Spans are valid as long as the request; labels and value are in the form of lib/exposition.h. */
struct status_sample {
	struct span name;   /* the family's, perhaps with _bucket, _sum or _count */
	const char *daemon; /* which daemon's, as a label's value; NULL: the module's */
	struct span labels;
	struct span value;
};

/* A metric with all its numbers. */
struct status_family {
	struct span name, type, help;
	apr_array_header_t *samples; /* of struct status_sample */
};

/* Something about the arrangement that an administrator should know. */
struct status_check {
	const char *name;
	const char *state; /* "warning", "good" or "unknown" */
	const char *text;
};

struct status {
	request_rec *r;
	apr_array_header_t *listeners; /* of struct status_listener */
	apr_array_header_t *checks;    /* of struct status_check */
	apr_array_header_t *families;  /* of struct status_family * */
	apr_hash_t *by_name;           /* the same */
};

/* Ask the daemon at listener->path. Fills in the listener and, when it is up, the text. */
void status_fetch(request_rec *r, const struct directory_config *config, struct status_listener *listener,
                  struct span *text);

/* Add what a daemon said. Returns 0, or -EBADMSG when it is not what a daemon of ours says: nothing was added. */
int status_merge(struct status *status, struct span text, const char *daemon);
/* Add numbers of our own: a metric, and then its samples. labels: "" or name="value",... */
struct status_family *status_family(struct status *status, const char *name, const char *type, const char *help);
void status_add(struct status *status, struct status_family *family, const char *labels, uint64_t value);
/* Any text as the value of a label: escaped, and without bytes that have no place there. */
const char *status_escape(apr_pool_t *pool, const char *text);
/* A label's value as it was before. */
const char *status_unescape(apr_pool_t *pool, struct span value);

void status_check_php(struct status *status);

void status_write_prometheus(const struct status *status);
void status_write_json(const struct status *status);
void status_write_html(const struct status *status);

#define STATUS_LISTENER(status, i) APR_ARRAY_IDX((status)->listeners, (i), struct status_listener)
#define STATUS_CHECK(status, i)    APR_ARRAY_IDX((status)->checks, (i), struct status_check)
#define STATUS_FAMILY(status, i)   APR_ARRAY_IDX((status)->families, (i), struct status_family *)
#define STATUS_SAMPLE(family, i)   APR_ARRAY_IDX((family)->samples, (i), struct status_sample)

#endif
