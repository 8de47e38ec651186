/* SPDX-License-Identifier: Apache-2.0
 *
 * mod_bench: the cheapest application that can answer or hand off, so that the application is not what is measured.
 *
 *     SetHandler bench-plain       three bytes of text
 *     SetHandler bench-raw         X-Socket-Handoff and X-Handoff-Data, without a token
 *     SetHandler bench-signed      the same with a token
 *     BenchSocket path             where to (per directory)
 *     BenchKeyFile file            key ring to sign with (whole server)
 */
#include <sodium.h>
#include <time.h>
#include <unistd.h>

#include "httpd.h"

#include "apr_strings.h"
#include "http_config.h"
#include "http_log.h"
#include "http_protocol.h"

#include "lib/keyring.h"
#include "lib/token.h"

#define DATA "{\"prompt\":\"x\"}"

module AP_MODULE_DECLARE_DATA bench_module;

static const char *key_file;
static struct keyring *ring;

static void *create_directory(apr_pool_t *pool, char *path)
{
	(void)path;
	return apr_pcalloc(pool, sizeof(const char *));
}

static void *merge_directory(apr_pool_t *pool, void *base, void *more)
{
	(void)pool;
	return *(const char **)more ? more : base;
}

static const char *set_socket(cmd_parms *cmd, void *config, const char *value)
{
	(void)cmd;
	*(const char **)config = value;
	return NULL;
}

static const char *set_key_file(cmd_parms *cmd, void *config, const char *value)
{
	(void)cmd;
	(void)config;
	key_file = value;
	return NULL;
}

static int load_keys(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s)
{
	char error[256];

	(void)pconf;
	(void)plog;
	(void)ptemp;
	if (!key_file || ring)
		return OK;
	if (sodium_init() < 0 || keyring_load(&ring, key_file, geteuid(), error, sizeof(error)) != 0) {
		ap_log_error(APLOG_MARK, APLOG_EMERG, 0, s, "BenchKeyFile: %s", error);
		return HTTP_INTERNAL_SERVER_ERROR;
	}
	return OK;
}

static int sign(request_rec *r, const char *path)
{
	const char *binding = apr_table_get(r->subprocess_env, "HANDOFF_BINDING");
	const struct keyring_key *key = keyring_signing_key(ring, span_of_string(path));
	struct token_claims claims = {.socket_path = span_of_string(path)};
	char *token = apr_palloc(r->pool, TOKEN_MAX);

	if (!binding || !key)
		return HTTP_INTERNAL_SERVER_ERROR;
	claims.binding = span_of_string(binding);
	token_digest(claims.data_digest, SPAN_LITERAL(DATA));
	if (token_sign(token, key, &claims, (uint64_t)time(NULL) + 30) < 0)
		return HTTP_INTERNAL_SERVER_ERROR;
	apr_table_setn(r->headers_out, "X-Handoff-Token", token);
	return OK;
}

static int handler(request_rec *r)
{
	const char *path = *(const char **)ap_get_module_config(r->per_dir_config, &bench_module);

	if (!r->handler || strncmp(r->handler, "bench-", 6) != 0)
		return DECLINED;
	ap_set_content_type(r, "text/plain");
	if (strcmp(r->handler, "bench-plain") == 0) {
		ap_set_content_length(r, 3);
		ap_rputs("ok\n", r);
		return OK;
	}
	apr_table_setn(r->headers_out, "X-Socket-Handoff", path);
	apr_table_setn(r->headers_out, "X-Handoff-Data", DATA);
	return strcmp(r->handler, "bench-signed") == 0 ? sign(r, path) : OK;
}

static const command_rec directives[] = {
    AP_INIT_TAKE1("BenchSocket", set_socket, NULL, RSRC_CONF | ACCESS_CONF, "path"),
    AP_INIT_TAKE1("BenchKeyFile", set_key_file, NULL, RSRC_CONF, "key ring"),
    {.name = NULL}};

static void register_hooks(apr_pool_t *pool)
{
	(void)pool;
	ap_hook_check_config(load_keys, NULL, NULL, APR_HOOK_MIDDLE);
	ap_hook_handler(handler, NULL, NULL, APR_HOOK_MIDDLE);
}

AP_DECLARE_MODULE(bench) = {
    STANDARD20_MODULE_STUFF, create_directory, merge_directory, NULL, NULL, directives, register_hooks,
#if defined(AP_MODULE_FLAG_NONE)
    AP_MODULE_FLAG_NONE,
#endif
};
