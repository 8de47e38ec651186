/* SPDX-License-Identifier: Apache-2.0
 *
 * Inbound: a client must not be able to speak in the application's name, nor in the module's to a backend, so control
 * headers and bindings in requests are removed, in trailers too.
 */
#include "module.h"

ap_filter_rec_t *inbound_filter_handle;

static void inbound_clean(apr_table_t *table)
{
	const apr_array_header_t *names = config_binding_headers();

	control_strip(table);
	for (int i = 0; i < names->nelts; i++)
		control_strip_name(table, APR_ARRAY_IDX(names, i, const char *));
}

int inbound_strip(request_rec *r)
{
	inbound_clean(r->headers_in);
	/* Only a chunked body has trailers. */
	if (apr_table_get(r->headers_in, "Transfer-Encoding"))
		ap_add_input_filter_handle(inbound_filter_handle, NULL, r, r->connection);
	return DECLINED;
}

void inbound_strip_trailers(request_rec *r)
{
	if (apr_is_empty_table(r->trailers_in))
		return;
	inbound_clean(r->trailers_in);
	/* MergeTrailers On has put them here as well, perhaps behind the binding's header, which is in it by now. */
	const char *name = binding_header(r);
	const char *binding = name ? apr_table_get(r->subprocess_env, BINDING_VARIABLE) : NULL;
	inbound_clean(r->headers_in);
	if (binding)
		apr_table_setn(r->headers_in, name, binding);
}

apr_status_t inbound_filter(ap_filter_t *f, apr_bucket_brigade *bb, ap_input_mode_t mode, apr_read_type_e block,
                            apr_off_t readbytes)
{
	apr_status_t status = ap_get_brigade(f->next, bb, mode, block, readbytes);

	inbound_strip_trailers(f->r);
	return status;
}
