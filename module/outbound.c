/* SPDX-License-Identifier: Apache-2.0
 *
 * Outbound: what a proxied backend sends past the header filters of its response. mod_proxy writes interim responses
 * (103 Early Hints) with the backend's headers straight to the connection, and HTTP/2 sends trailers. Control headers
 * are removed from both; in neither place do they ask for a handoff.
 */
#include "module.h"

static ap_filter_rec_t *interim_filter_handle, *response_filter_handle;

/* One a connection, made with its first proxied request. */
struct interim {
	bool awaited;             /* the final response has not begun: what is written now is an interim one */
	apr_bucket_brigade *held; /* a head whose end has not come yet */
};

static struct interim *interim_of(conn_rec *c)
{
	for (ap_filter_t *f = c->output_filters; f; f = f->next)
		if (f->frec == interim_filter_handle)
			return f->ctx;
	return NULL;
}

/* ---------------------------------------------------------------- interim responses */

/* Length of the head that text begins with, its empty line included; 0 while there is no end to it. */
static size_t head_length(struct span text)
{
	const uint8_t *end = memmem(text.data, text.len, "\r\n\r\n", 4);

	return end ? (size_t)(end - text.data) + 4 : 0;
}

/* Copy a head line by line, without the control headers. */
static void head_write(apr_bucket_brigade *out, struct span head)
{
	while (head.len > 0) {
		const uint8_t *end = memchr(head.data, '\n', head.len);
		size_t len = end ? (size_t)(end - head.data) + 1 : head.len;
		const uint8_t *colon = memchr(head.data, ':', len);
		if (!colon || !control_is(span_of(head.data, (size_t)(colon - head.data))))
			apr_brigade_write(out, NULL, NULL, (const char *)head.data, len);
		head = span_of(head.data + len, head.len - len);
	}
}

/* Take whole heads out of text into out; what remains belongs to one that is not complete, or is no head at all. */
static struct span heads_write(struct interim *interim, apr_bucket_brigade *out, struct span text)
{
	size_t len;

	while (interim->awaited && (len = head_length(text)) > 0) {
		/* Behind 101 comes another protocol. */
		if (text.len < 13 || memcmp(text.data, "HTTP/1.", 7) != 0 || memcmp(text.data + 9, "101", 3) == 0)
			interim->awaited = false;
		head_write(out, span_of(text.data, len));
		text = span_of(text.data + len, text.len - len);
	}
	if (text.len >= 5 && memcmp(text.data, "HTTP/", 5) != 0)
		interim->awaited = false;
	return text;
}

/* Move the data of bb behind what is held, metadata to out: flushes mostly, which keep their place behind a head. */
static apr_status_t interim_collect(struct interim *interim, apr_bucket_brigade *bb, apr_bucket_brigade *metadata)
{
	const char *bytes;
	apr_size_t len;

	while (!APR_BRIGADE_EMPTY(bb)) {
		apr_bucket *b = APR_BRIGADE_FIRST(bb);
		if (APR_BUCKET_IS_METADATA(b)) {
			APR_BUCKET_REMOVE(b);
			APR_BRIGADE_INSERT_TAIL(metadata, b);
			continue;
		}
		apr_status_t status = apr_bucket_read(b, &bytes, &len, APR_BLOCK_READ);
		if (status != APR_SUCCESS)
			return status;
		apr_brigade_write(interim->held, NULL, NULL, bytes, len);
		apr_bucket_delete(b);
	}
	return APR_SUCCESS;
}

static apr_status_t interim_filter(ap_filter_t *f, apr_bucket_brigade *bb)
{
	struct interim *interim = f->ctx;
	apr_pool_t *pool;
	char *text;
	apr_size_t len;

	if (!interim->awaited)
		return ap_pass_brigade(f->next, bb);
	apr_pool_create(&pool, f->c->pool);
	apr_bucket_brigade *metadata = apr_brigade_create(pool, f->c->bucket_alloc);
	apr_status_t status = interim_collect(interim, bb, metadata);
	if (status == APR_SUCCESS)
		status = apr_brigade_pflatten(interim->held, &text, &len, pool);
	if (status == APR_SUCCESS) {
		apr_brigade_cleanup(interim->held);
		struct span rest = heads_write(interim, bb, span_of((const uint8_t *)text, len));
		apr_brigade_write(interim->awaited ? interim->held : bb, NULL, NULL, (const char *)rest.data, rest.len);
		APR_BRIGADE_CONCAT(bb, metadata);
		status = APR_BRIGADE_EMPTY(bb) ? APR_SUCCESS : ap_pass_brigade(f->next, bb);
	}
	apr_brigade_destroy(metadata);
	apr_pool_destroy(pool);
	return status;
}

/* ---------------------------------------------------------------- the response itself */

static bool is_last(apr_bucket_brigade *bb)
{
	return !APR_BRIGADE_EMPTY(bb) && APR_BUCKET_IS_EOS(APR_BRIGADE_LAST(bb));
}

/* From the beginning of the response to its end, which is when its trailers are there. */
static apr_status_t response_filter(ap_filter_t *f, apr_bucket_brigade *bb)
{
	struct interim *interim = f->ctx;
	ap_filter_t *next = f->next;

	interim->awaited = false;
	if (is_last(bb)) {
		control_strip(f->r->trailers_out);
		ap_remove_output_filter(f);
	}
	return ap_pass_brigade(next, bb);
}

static bool is_proxied(const request_rec *r)
{
	return r->proxyreq != PROXYREQ_NONE || (r->handler && strncmp(r->handler, "proxy", 5) == 0);
}

void outbound_insert(request_rec *r)
{
	conn_rec *c = r->connection;

	if (!is_proxied(r))
		return;
	struct interim *interim = interim_of(c);
	if (!interim) {
		interim = apr_pcalloc(c->pool, sizeof(*interim));
		interim->held = apr_brigade_create(c->pool, c->bucket_alloc);
		ap_add_output_filter_handle(interim_filter_handle, interim, r, c);
	}
	interim->awaited = true;
	ap_add_output_filter_handle(response_filter_handle, interim, r, c);
}

void outbound_insert_error(request_rec *r)
{
	struct interim *interim = interim_of(r->connection);

	if (interim)
		ap_add_output_filter_handle(response_filter_handle, interim, r, r->connection);
}

void outbound_register(void)
{
	/* First on the connection: bytes as they were written, not yet encrypted. */
	interim_filter_handle =
	    ap_register_output_filter("SOCKET_HANDOFF_INTERIM", interim_filter, NULL, AP_FTYPE_CONNECTION);
	response_filter_handle =
	    ap_register_output_filter("SOCKET_HANDOFF_RESPONSE", response_filter, NULL, AP_FTYPE_PROTOCOL - 1);
}
