/* SPDX-License-Identifier: Apache-2.0
 *
 * Binding: made afresh for every main request, so a token cannot serve another request or another client, or twice.
 */
#include "module.h"

/* Also from the request before an internal redirect, which had the same table. */
static void header_withhold(request_rec *r)
{
	const apr_array_header_t *names = config_binding_headers();

	for (int i = 0; i < names->nelts; i++)
		apr_table_unset(r->headers_in, APR_ARRAY_IDX(names, i, const char *));
}

const char *binding_header(const request_rec *r)
{
	const struct directory_config *config = ap_get_module_config(r->per_dir_config, &socket_handoff_module);

	return config->binding_header && config->binding_header[0] ? config->binding_header : NULL;
}

void binding_withhold(request_rec *r)
{
	apr_table_unset(r->subprocess_env, BINDING_VARIABLE);
	header_withhold(r);
}

void binding_export(request_rec *r, struct handoff *handoff)
{
	conn_rec *c = r->connection->master ? r->connection->master : r->connection;
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);

	/* Not useragent_ip, which mod_remoteip takes from a header: the daemon compares with the socket it receives. */
	if (getpeername(client_descriptor(c), (struct sockaddr *)&peer, &len) != 0 ||
	    binding_make(handoff->binding, (struct sockaddr *)&peer) < 0) {
		handoff->binding[0] = '\0';
		binding_withhold(r);
		return;
	}
	apr_table_setn(r->subprocess_env, BINDING_VARIABLE, handoff->binding);
	header_withhold(r);
	const char *name = binding_header(r);
	if (name)
		apr_table_setn(r->headers_in, name, handoff->binding);
}
