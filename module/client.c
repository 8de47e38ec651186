/* SPDX-License-Identifier: Apache-2.0
 *
 * Client: the socket of the connection, whether it can travel, and what must happen so that httpd lets go of it.
 */

#include "module.h"

ap_filter_rec_t *client_output_filter_handle, *client_input_filter_handle;

int client_descriptor(conn_rec *c)
{
	apr_socket_t *socket = ap_get_conn_socket(c);
	apr_os_sock_t fd;

	return socket && apr_os_sock_get(&fd, socket) == APR_SUCCESS ? fd : -1;
}

int client_transferable(const request_rec *r)
{
	conn_rec *c = r->connection;

	/* HTTP/0.9 has no headers that a daemon could answer with. */
	if (c->master || r->main || r->assbackwards || ap_ssl_conn_is_ssl(c))
		return -1;
	return client_descriptor(c);
}

bool client_relayable(const request_rec *r)
{
	const conn_rec *c = r->connection;

	return (c->master || ap_ssl_conn_is_ssl(r->connection)) && !r->main && !r->assbackwards;
}

apr_status_t client_flush(request_rec *r)
{
	conn_rec *c = r->connection;
	apr_bucket_brigade *bb = apr_brigade_create(r->pool, c->bucket_alloc);

	/* The answer to an earlier pipelined request, or 100 Continue. */
	APR_BRIGADE_INSERT_TAIL(bb, apr_bucket_flush_create(c->bucket_alloc));
	apr_status_t status = ap_pass_brigade(c->output_filters, bb);
	apr_brigade_destroy(bb);
	return c->aborted ? APR_ECONNABORTED : status;
}

void client_release(request_rec *r)
{
	conn_rec *c = r->connection;
	apr_socket_t *dummy = NULL;
	apr_os_sock_t none = -1;

	/* Lingering close shuts down what it finds here. It must find a socket, but not the client's; one without a
	 * descriptor serves as well as an unconnected one and costs no system call. */
	apr_os_sock_put(&dummy, &none, c->pool);
	ap_set_core_module_config(c->conn_config, dummy);

	/* The core's filters know the real socket: nothing may come through to them. */
	ap_add_output_filter_handle(client_output_filter_handle, NULL, r, c);
	ap_add_input_filter_handle(client_input_filter_handle, NULL, r, c);
	c->keepalive = AP_CONN_CLOSE;
}

apr_status_t client_output_filter(ap_filter_t *f, apr_bucket_brigade *bb)
{
	apr_bucket *next;

	/* Metadata passes: the end of the request is a bucket, too. */
	for (apr_bucket *b = APR_BRIGADE_FIRST(bb); b != APR_BRIGADE_SENTINEL(bb); b = next) {
		next = APR_BUCKET_NEXT(b);
		if (!APR_BUCKET_IS_METADATA(b))
			apr_bucket_delete(b);
	}
	return ap_pass_brigade(f->next, bb);
}

apr_status_t client_input_filter(ap_filter_t *f, apr_bucket_brigade *bb, ap_input_mode_t mode, apr_read_type_e block,
                                 apr_off_t readbytes)
{
	(void)f;
	(void)bb;
	(void)mode;
	(void)block;
	(void)readbytes;
	return APR_EOF;
}
