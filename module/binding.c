/* SPDX-License-Identifier: Apache-2.0
 *
 * Binding: made afresh for every main request, so a token cannot serve another request or another client, or twice.
 */
#include "challenge.h"
#include "module.h"

void binding_init_child(apr_pool_t *pchild, server_rec *s)
{
	(void)pchild;
	(void)s;
	challenge_init();
}

/* What accept() said, kept before any module can put another address into the connection; as good as getpeername(), and
 * no system call for each request. */
int binding_note_peer(conn_rec *c, void *socket)
{
	const apr_sockaddr_t *peer = c->client_addr;

	(void)socket;
	if (!c->outgoing)
		ap_set_module_config(c->conn_config, &socket_handoff_module,
		                     apr_pmemdup(c->pool, &peer->sa, peer->salen));
	return OK;
}

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
	uint8_t challenge[BINDING_CHALLENGE_LEN];
	/* Not useragent_ip, which mod_remoteip takes from a header: the daemon compares with the socket it receives. */
	const struct sockaddr *peer = ap_get_module_config(c->conn_config, &socket_handoff_module);

	challenge_take(challenge);
	if (!peer || binding_format(handoff->binding, peer, challenge) < 0) {
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
