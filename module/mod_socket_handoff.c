/* SPDX-License-Identifier: Apache-2.0
 *
 * mod_socket_handoff: the module record and its hooks. module.h says which file does what.
 */
#define MODULE_RECORD
#include "module.h"

static ap_filter_rec_t *capture_filter_handle, *handoff_filter_handle;

/* After fixups, DirectoryIndex, FallbackResource and rewrites: this is the request that will be answered. */
static void insert_filters(request_rec *r)
{
	struct handoff *handoff = NULL;

	if (r->main) { /* what a subrequest answers is part of a page */
		binding_withhold(r);
		return;
	}
	inbound_strip_trailers(r);
	outbound_insert(r);
	if (r->prev) /* a redirected request does not inherit what its predecessor's handler said */
		control_strip(r->err_headers_out);

	const struct directory_config *config = ap_get_module_config(r->per_dir_config, &socket_handoff_module);
	if (setting(config, SETTING_ENABLED)) {
		handoff = apr_pcalloc(r->pool, sizeof(*handoff));
		handoff->config = config;
		binding_export(r, handoff);
		ap_add_output_filter_handle(capture_filter_handle, handoff, r, r->connection);
	} else {
		binding_withhold(r);
	}
	ap_add_output_filter_handle(handoff_filter_handle, handoff, r, r->connection);
}

/* An error response of httpd keeps err_headers_out, where script handlers leave their headers. */
static void insert_error_filters(request_rec *r)
{
	ap_add_output_filter_handle(handoff_filter_handle, NULL, r, r->connection);
	outbound_insert_error(r);
}

static void register_hooks(apr_pool_t *pool)
{
	(void)pool;
	ap_hook_pre_config(config_pre, NULL, NULL, APR_HOOK_MIDDLE);
	ap_hook_check_config(config_check, NULL, NULL, APR_HOOK_MIDDLE);
	ap_hook_post_config(relay_init, NULL, NULL, APR_HOOK_MIDDLE);
	ap_hook_post_config(counters_init, NULL, NULL, APR_HOOK_MIDDLE);
	ap_hook_child_init(connection_init, NULL, NULL, APR_HOOK_MIDDLE);
	ap_hook_child_init(relay_init_child, NULL, NULL, APR_HOOK_MIDDLE);
	ap_hook_child_init(binding_init_child, NULL, NULL, APR_HOOK_MIDDLE);
	ap_hook_child_status(relay_child_status, NULL, NULL, APR_HOOK_MIDDLE);
	ap_hook_pre_connection(binding_note_peer, NULL, NULL, APR_HOOK_REALLY_FIRST);
	ap_hook_post_read_request(inbound_strip, NULL, NULL, APR_HOOK_REALLY_FIRST);
	ap_hook_handler(status_handler, NULL, NULL, APR_HOOK_MIDDLE);
	ap_hook_insert_filter(insert_filters, NULL, NULL, APR_HOOK_REALLY_LAST);
	ap_hook_insert_error_filter(insert_error_filters, NULL, NULL, APR_HOOK_REALLY_LAST);

	/* Before every other content filter, so that the body is what the handler signed. */
	capture_filter_handle =
	    ap_register_output_filter("SOCKET_HANDOFF_CAPTURE", capture_filter, NULL, AP_FTYPE_RESOURCE - 1);
	/* After every other content filter, mod_headers among them, and before httpd writes a header. */
	handoff_filter_handle =
	    ap_register_output_filter("SOCKET_HANDOFF", handoff_filter, NULL, AP_FTYPE_PROTOCOL - 1);
	outbound_register();
	/* Above the filter that reads the body and its trailers. */
	inbound_filter_handle =
	    ap_register_input_filter("SOCKET_HANDOFF_TRAILERS", inbound_filter, NULL, AP_FTYPE_PROTOCOL - 1);
	/* Next to the socket. */
	client_output_filter_handle =
	    ap_register_output_filter("SOCKET_HANDOFF_GONE_OUT", client_output_filter, NULL, AP_FTYPE_NETWORK - 1);
	client_input_filter_handle =
	    ap_register_input_filter("SOCKET_HANDOFF_GONE_IN", client_input_filter, NULL, AP_FTYPE_NETWORK - 1);
}

AP_DECLARE_MODULE(socket_handoff) = {
    STANDARD20_MODULE_STUFF, config_create_directory, config_merge_directory, config_create_server,
    config_merge_server,     config_directives,       register_hooks,
#if defined(AP_MODULE_FLAG_NONE)
    AP_MODULE_FLAG_NONE,
#endif
};
