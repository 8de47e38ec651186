/* SPDX-License-Identifier: Apache-2.0
 *
 * Inbound: a client must not be able to speak in the application's name, so control headers and bindings in requests
 * are removed, in trailers too.
 */
#include "module.h"

ap_filter_rec_t *inbound_filter_handle;

int inbound_strip(request_rec *r)
{
	control_strip(r->headers_in);
	/* Only a chunked body has trailers. */
	if (apr_table_get(r->headers_in, "Transfer-Encoding"))
		ap_add_input_filter_handle(inbound_filter_handle, NULL, r, r->connection);
	return DECLINED;
}

void inbound_strip_trailers(request_rec *r)
{
	if (apr_is_empty_table(r->trailers_in))
		return;
	control_strip(r->trailers_in);
	/* MergeTrailers On has put them here as well. */
	control_strip(r->headers_in);
}

apr_status_t inbound_filter(ap_filter_t *f, apr_bucket_brigade *bb, ap_input_mode_t mode, apr_read_type_e block,
                            apr_off_t readbytes)
{
	apr_status_t status = ap_get_brigade(f->next, bb, mode, block, readbytes);

	inbound_strip_trailers(f->r);
	return status;
}
