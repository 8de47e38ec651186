/* SPDX-License-Identifier: Apache-2.0
 *
 * Binding: made afresh for every main request, so a token cannot serve another request or another client, or twice.
 */
#include "module.h"

void binding_withhold(request_rec *r)
{
	apr_table_unset(r->subprocess_env, BINDING_VARIABLE);
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
}
