/* SPDX-License-Identifier: Apache-2.0
 *
 * Capture: the first output filter. A response without X-Socket-Handoff passes, after one look at its headers. Of one
 * that asks for a handoff nothing but the end is passed on, and its body is kept when it is the data.
 */
#include <stdlib.h>

#include "module.h"

static apr_status_t body_free(void *ctx)
{
	struct handoff *handoff = ctx;

	free(handoff->body);
	handoff->body = NULL;
	handoff->body_len = handoff->body_size = 0;
	return APR_SUCCESS;
}

/* Headers that the response's Connection header names are for this hop only. */
static void hops_strip(request_rec *r, const apr_table_t *table)
{
	const char *connection = apr_table_getm(r->pool, table, "Connection");
	const char *name;

	while (connection && (name = ap_get_list_item(r->pool, &connection)) != NULL) {
		apr_table_unset(r->headers_out, name);
		apr_table_unset(r->err_headers_out, name);
	}
}

static void capture_headers(request_rec *r, struct handoff *handoff)
{
	/* Script handlers leave their headers in err_headers_out, others in headers_out. */
	control_take(r->headers_out, &handoff->controls);
	control_take(r->err_headers_out, &handoff->controls);
	if (!handoff->controls.value[CONTROL_SOCKET])
		return;
	handoff->state = HANDOFF_WANTED;
	hops_strip(r, r->headers_out);
	hops_strip(r, r->err_headers_out);
	handoff->refusal = verify_form(handoff);
	handoff->body_is_data = handoff->controls.value[CONTROL_DATA_SOURCE] != NULL;
	if (handoff->body_is_data)
		apr_pool_cleanup_register(r->pool, handoff, body_free, apr_pool_cleanup_null);
	/* mod_cache would keep an empty page. */
	r->no_cache = 1;
	r->no_local_copy = 1;
	apr_table_setn(r->subprocess_env, "no-cache", "1");
}

/* Append to the body, as long as it is not larger than allowed. */
static enum reason body_append(struct handoff *handoff, const char *bytes, size_t len)
{
	size_t limit = (size_t)setting(handoff->config, SETTING_MAX_DATA);

	if (len == 0)
		return REASON_OK;
	if (len > limit - handoff->body_len)
		return REASON_DATA_TOO_LARGE;
	if (len > handoff->body_size - handoff->body_len) {
		size_t size = handoff->body_size ? handoff->body_size : 8192;
		while (size - handoff->body_len < len)
			size *= 2;
		uint8_t *body = realloc(handoff->body, size);
		if (!body)
			return REASON_NO_MEMORY;
		handoff->body = body;
		handoff->body_size = size;
	}
	memcpy(handoff->body + handoff->body_len, bytes, len);
	handoff->body_len += len;
	return REASON_OK;
}

static void capture_bucket(struct handoff *handoff, apr_bucket *b)
{
	const char *bytes;
	apr_size_t len;

	/* Nobody wants the body of a handoff that is refused anyway. What comes through a pipe is read all the same: a
	 * program that cannot write the rest does not end, and mod_cgi waits for its end. */
	bool wanted = handoff->body_is_data && handoff->refusal == REASON_OK;
	if (!wanted && b->length != (apr_size_t)-1)
		return;
	apr_status_t status = apr_bucket_read(b, &bytes, &len, APR_BLOCK_READ);
	if (!wanted)
		return;
	/* Half of the data is no data. */
	handoff->refusal = status == APR_SUCCESS ? body_append(handoff, bytes, len) : REASON_INTERNAL;
	if (handoff->refusal != REASON_OK)
		body_free(handoff);
}

/* The handler could not finish: httpd answers with an error of its own, from these buckets on. */
static apr_status_t capture_failed(ap_filter_t *f, apr_bucket_brigade *bb)
{
	struct handoff *handoff = f->ctx;

	handoff->state = HANDOFF_FAILED;
	ap_remove_output_filter(f);
	return ap_pass_brigade(f->next, bb);
}

/* Let the filters in between, mod_headers above all, see an empty response; the last one hands off. */
static apr_status_t capture_finished(ap_filter_t *f, apr_bucket_brigade *bb)
{
	apr_brigade_cleanup(bb);
	APR_BRIGADE_INSERT_TAIL(bb, apr_bucket_eos_create(f->c->bucket_alloc));
	return ap_pass_brigade(f->next, bb);
}

apr_status_t capture_filter(ap_filter_t *f, apr_bucket_brigade *bb)
{
	struct handoff *handoff = f->ctx;

	if (handoff->state == HANDOFF_UNSEEN) {
		capture_headers(f->r, handoff);
		if (handoff->state == HANDOFF_UNSEEN) {
			ap_remove_output_filter(f);
			return ap_pass_brigade(f->next, bb);
		}
	}
	while (handoff->state == HANDOFF_WANTED && !APR_BRIGADE_EMPTY(bb)) {
		apr_bucket *b = APR_BRIGADE_FIRST(bb);
		if (AP_BUCKET_IS_ERROR(b) || AP_BUCKET_IS_EOC(b))
			return capture_failed(f, bb);
		if (APR_BUCKET_IS_EOS(b))
			return capture_finished(f, bb);
		if (!APR_BUCKET_IS_METADATA(b))
			capture_bucket(handoff, b);
		/* A flush of the handler's is dropped as well: there is nothing to send before the handoff. */
		apr_bucket_delete(b);
	}
	apr_brigade_cleanup(bb);
	return APR_SUCCESS;
}
