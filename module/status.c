/* SPDX-License-Identifier: Apache-2.0
 *
 * Status: SetHandler socket-handoff-status. Who may see it is the administrator's to say, with Require.
 */
#include "status.h"

enum format { FORMAT_HTML, FORMAT_JSON, FORMAT_PROMETHEUS, FORMAT_COUNT };

static const struct {
	const char *query; /* NULL: none */
	const char *content_type;
	void (*write)(const struct status *status);
} formats[FORMAT_COUNT] = {
    [FORMAT_HTML] = {"format=html", "text/html; charset=utf-8", status_write_html},
    [FORMAT_JSON] = {"format=json", "application/json", status_write_json},
    [FORMAT_PROMETHEUS] = {"format=prometheus", "text/plain; version=0.0.4; charset=utf-8", status_write_prometheus},
};

/* FORMAT_COUNT when the query asks for something else. */
static enum format format_of(const char *query)
{
	enum format format = FORMAT_HTML;

	if (!query || !*query)
		return FORMAT_HTML;
	while (format < FORMAT_COUNT && strcmp(query, formats[format].query) != 0)
		format++;
	return format;
}

/* The listener that was asked before and belongs to the same daemon; NULL when there is none. */
static const struct status_listener *same_daemon(const struct status *status, const struct status_listener *listener)
{
	for (int i = 0; i < status->listeners->nelts; i++) {
		const struct status_listener *other = &STATUS_LISTENER(status, i);
		if (other->up && other->instance == listener->instance)
			return other;
	}
	return NULL;
}

static void ask_listener(struct status *status, const struct directory_config *config, const char *path)
{
	struct status_listener listener = {.path = path};
	struct span text;

	status_fetch(status->r, config, &listener, &text);
	if (listener.up) {
		const struct status_listener *same = same_daemon(status, &listener);
		listener.daemon = same ? same->daemon : path;
		if (!same && status_merge(status, text, status_escape(status->r->pool, path)) != 0) {
			listener.up = false;
			listener.problem = "not-understood";
			listener.detail = "the daemon's answer is not in the form that this module knows";
		}
	}
	APR_ARRAY_PUSH(status->listeners, struct status_listener) = listener;
}

static void ask_listeners(struct status *status, const struct directory_config *config)
{
	const apr_array_header_t *paths = config->status_sockets ? config->status_sockets : config->sockets;

	for (int i = 0; paths && i < paths->nelts; i++) {
		const char *path = APR_ARRAY_IDX(paths, i, const char *);
		if (strcmp(path, SOCKETS_ALL) != 0)
			ask_listener(status, config, path);
	}
}

/* ---------------------------------------------------------------- numbers of the module */

static void add_results(struct status *status)
{
	static const char *const names[RESULT_COUNT] = {
	    [RESULT_ACCEPTED] = "accepted",
	    [RESULT_RELAYED] = "relayed",
	    [RESULT_SENT] = "sent",
	    [RESULT_LOST] = "lost",
	};
	struct status_family *family =
	    status_family(status, "socket_handoff_handoffs_total", "counter",
	                  "Clients that left Apache, by result: accepted or relayed, sent to "
	                  "a receiver that does not answer, lost");

	for (enum result i = 0; i < RESULT_COUNT; i++)
		status_add(status, family, apr_psprintf(status->r->pool, "result=\"%s\"", names[i]),
		           counters_result(i));
	family = status_family(status, "socket_handoff_relays", "gauge", "Clients that are relayed now");
	status_add(status, family, "", relay_count());
}

static void add_refusals(struct status *status)
{
	struct status_family *family = status_family(status, "socket_handoff_refused_total", "counter",
	                                             "Handoffs that the module or the daemon refused, by reason");

	for (int by_daemon = 0; by_daemon < 2; by_daemon++)
		for (enum reason i = REASON_OK + 1; i < REASON_COUNT; i++)
			status_add(status, family,
			           apr_psprintf(status->r->pool, "by=\"%s\",reason=\"%s\"",
			                        by_daemon ? "daemon" : "module", reason_name(i)),
			           counters_refused(by_daemon, i));
}

static void add_states(struct status *status)
{
	apr_pool_t *pool = status->r->pool;
	struct status_family *family =
	    status_family(status, "socket_handoff_up", "gauge", "Whether the daemon behind this listener answers");

	for (int i = 0; i < status->listeners->nelts; i++) {
		const struct status_listener *listener = &STATUS_LISTENER(status, i);
		status_add(status, family, apr_psprintf(pool, "listener=\"%s\"", status_escape(pool, listener->path)),
		           listener->up);
	}
	family = status_family(status, "socket_handoff_warning", "gauge",
	                       "Whether the status page warns of this, see SocketHandoffStatusSocket");
	for (int i = 0; i < status->checks->nelts; i++) {
		const struct status_check *check = &STATUS_CHECK(status, i);
		if (strcmp(check->name, "not-checked") != 0)
			status_add(status, family, apr_psprintf(pool, "check=\"%s\"", check->name),
			           strcmp(check->state, "warning") == 0);
	}
}

/* ---------------------------------------------------------------- the handler */

static void status_init(struct status *status, request_rec *r)
{
	*status = (struct status){
	    .r = r,
	    .listeners = apr_array_make(r->pool, 2, sizeof(struct status_listener)),
	    .checks = apr_array_make(r->pool, 4, sizeof(struct status_check)),
	    .families = apr_array_make(r->pool, 64, sizeof(struct status_family *)),
	    .by_name = apr_hash_make(r->pool),
	};
}

int status_handler(request_rec *r)
{
	const struct directory_config *config;
	struct status status;
	enum format format;

	if (!r->handler || strcmp(r->handler, "socket-handoff-status") != 0)
		return DECLINED;
	ap_allow_methods(r, REPLACE_ALLOW, "GET", NULL);
	if (r->method_number != M_GET)
		return HTTP_METHOD_NOT_ALLOWED;
	format = format_of(r->args);
	if (format == FORMAT_COUNT)
		return HTTP_BAD_REQUEST;
	ap_set_content_type(r, formats[format].content_type);
	apr_table_setn(r->headers_out, "Cache-Control", "no-store");
	apr_table_setn(r->headers_out, "X-Content-Type-Options", "nosniff");
	apr_table_setn(r->headers_out, "Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'");
	if (r->header_only)
		return OK;

	config = ap_get_module_config(r->per_dir_config, &socket_handoff_module);
	status_init(&status, r);
	status_check_php(&status);
	/* The module's own numbers go first. */
	add_results(&status);
	add_refusals(&status);
	ask_listeners(&status, config);
	add_states(&status);
	formats[format].write(&status);
	return OK;
}
