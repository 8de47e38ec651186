/* SPDX-License-Identifier: Apache-2.0
 *
 * Directives: reading, merging, and the checks before httpd starts. Everything but the key file can differ from one
 * section to the next; what a section leaves unset comes from the one around it.
 */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <sodium.h>
#include <stdlib.h>

#include "apr_lib.h"

#include "module.h"

#define PREFIX_DEFAULT "/run/"
#define OVERFLOW_UID   65534 /* stands for "not mapped here" and decides nothing */

static const struct {
	int value, lowest, highest;
} settings[SETTING_COUNT] = {
    [SETTING_ENABLED] = {1, 0, 1},
    [SETTING_REQUIRE_TOKEN] = {1, 0, 1},
    [SETTING_PROTOCOL] = {PROTOCOL_HANDOFF, PROTOCOL_HANDOFF, PROTOCOL_RAW},
    [SETTING_CONNECT_MS] = {100, 1, 60000}, /* a listener on this machine answers at once or is overloaded */
    [SETTING_SEND_MS] = {200, 1, 60000},
    [SETTING_ACCEPT_MS] = {1000, 1, 60000}, /* the daemon accepts after its local checks, within milliseconds */
    [SETTING_RETRIES] = {2, 0, 10},         /* after 10, 20, 40... ms: a daemon that is just restarting */
    [SETTING_MAX_DATA] = {32 << 20, 1, 1 << 30},
    [SETTING_RELAY] = {0, 0, 1},
    [SETTING_RELAY_MAX] = {64, 1, 100000}, /* each holds a worker */
};

/* Where the module's directives stand, so that each place can be checked when all is read. */
struct place {
	server_rec *server;
	struct directory_config *config;
	const char *file;
	int line;
};

static apr_array_header_t *places;
static const char *prefix_default;
static apr_array_header_t *binding_headers; /* every name that SocketHandoffBindingHeader gives anywhere */

/* ---------------------------------------------------------------- paths */

char *path_resolve(apr_pool_t *pool, const char *path)
{
	char *real = realpath(path, NULL);
	char *slash, *parent, *resolved;

	if (real) {
		resolved = strcmp(real, "/") == 0 ? apr_pstrdup(pool, "") : apr_pstrdup(pool, real);
		free(real);
		return resolved;
	}
	if (errno != ENOENT)
		return NULL;
	/* Not there yet: resolve what is, keep the rest as it is written. */
	parent = apr_pstrdup(pool, path);
	while (parent[0] && parent[strlen(parent) - 1] == '/')
		parent[strlen(parent) - 1] = '\0';
	slash = strrchr(parent, '/');
	if (!slash || strcmp(slash, "/..") == 0 || strcmp(slash, "/.") == 0)
		return NULL;
	char *last = apr_pstrdup(pool, slash);
	slash[slash == parent ? 1 : 0] = '\0';
	resolved = path_resolve(pool, parent);
	return resolved ? apr_pstrcat(pool, resolved, last, NULL) : NULL;
}

bool path_below(const char *path, const char *prefix)
{
	size_t len = strlen(prefix);

	return strncmp(path, prefix, len) == 0 && path[len] == '/';
}

/* ---------------------------------------------------------------- records and merging */

int setting(const struct directory_config *config, enum setting which)
{
	return config->setting[which] == SETTING_UNSET ? settings[which].value : config->setting[which];
}

const apr_array_header_t *config_binding_headers(void)
{
	return binding_headers;
}

const char *config_prefix(const struct directory_config *config)
{
	return config->prefix ? config->prefix : prefix_default;
}

void *config_create_directory(apr_pool_t *pool, char *path)
{
	struct directory_config *config = apr_pcalloc(pool, sizeof(*config));

	(void)path;
	for (size_t i = 0; i < SETTING_COUNT; i++)
		config->setting[i] = SETTING_UNSET;
	return config;
}

void *config_merge_directory(apr_pool_t *pool, void *base_config, void *more_config)
{
	const struct directory_config *base = base_config, *more = more_config;
	struct directory_config *merged = apr_pcalloc(pool, sizeof(*merged));

	for (size_t i = 0; i < SETTING_COUNT; i++)
		merged->setting[i] = more->setting[i] == SETTING_UNSET ? base->setting[i] : more->setting[i];
	merged->prefix = more->prefix ? more->prefix : base->prefix;
	/* A list replaces the list around it: a section must be able to allow less. */
	merged->peers = more->peers ? more->peers : base->peers;
	merged->labels = more->labels ? more->labels : base->labels;
	merged->sockets = more->sockets ? more->sockets : base->sockets;
	merged->status_sockets = more->status_sockets ? more->status_sockets : base->status_sockets;
	merged->binding_header = more->binding_header ? more->binding_header : base->binding_header;
	return merged;
}

void *config_create_server(apr_pool_t *pool, server_rec *s)
{
	(void)s;
	return apr_pcalloc(pool, sizeof(struct server_config));
}

void *config_merge_server(apr_pool_t *pool, void *base_config, void *more_config)
{
	const struct server_config *base = base_config, *more = more_config;
	struct server_config *merged = apr_pcalloc(pool, sizeof(*merged));

	merged->key_file = more->key_file ? more->key_file : base->key_file;
	return merged;
}

/* ---------------------------------------------------------------- directives */

static const char *wrong(cmd_parms *cmd, const char *value, const char *what)
{
	return apr_psprintf(cmd->pool, "%s: \"%s\" %s", cmd->cmd->name, value, what);
}

/* Remember that a place has directives of ours. */
static struct directory_config *place_note(cmd_parms *cmd, void *config)
{
	for (int i = 0; i < places->nelts; i++)
		if (APR_ARRAY_IDX(places, i, struct place).config == config)
			return config;
	APR_ARRAY_PUSH(places, struct place) = (struct place){
	    .server = cmd->server,
	    .config = config,
	    .file = cmd->directive ? cmd->directive->filename : "?",
	    .line = cmd->directive ? cmd->directive->line_num : 0,
	};
	return config;
}

static enum setting setting_of(cmd_parms *cmd)
{
	return (enum setting)(uintptr_t)cmd->info;
}

static const char *set_flag(cmd_parms *cmd, void *config, const char *value)
{
	bool on = apr_strnatcasecmp(value, "On") == 0;

	if (!on && apr_strnatcasecmp(value, "Off") != 0)
		return wrong(cmd, value, "is neither On nor Off");
	place_note(cmd, config)->setting[setting_of(cmd)] = on;
	return NULL;
}

static const char *set_number(cmd_parms *cmd, void *config, const char *value)
{
	enum setting which = setting_of(cmd);
	char *end;

	errno = 0;
	long number = strtol(value, &end, 10);
	if (errno || end == value || *end || !apr_isdigit(*value) || number < settings[which].lowest ||
	    number > settings[which].highest)
		return wrong(cmd, value,
		             apr_psprintf(cmd->pool, "is not a whole number from %d to %d", settings[which].lowest,
		                          settings[which].highest));
	place_note(cmd, config)->setting[which] = (int)number;
	return NULL;
}

static const char *set_protocol(cmd_parms *cmd, void *config, const char *value)
{
	bool raw = strcmp(value, "raw") == 0;

	if (!raw && strcmp(value, "handoff") != 0)
		return wrong(cmd, value, "is neither handoff nor raw");
	place_note(cmd, config)->setting[SETTING_PROTOCOL] = raw ? PROTOCOL_RAW : PROTOCOL_HANDOFF;
	return NULL;
}

static const char *set_prefix(cmd_parms *cmd, void *config, const char *value)
{
	if (value[0] != '/')
		return wrong(cmd, value, "is not an absolute path");
	const char *resolved = path_resolve(cmd->pool, value);
	if (!resolved)
		return wrong(cmd, value, apr_psprintf(cmd->pool, "cannot be resolved: %s", strerror(errno)));
	place_note(cmd, config)->prefix = resolved;
	return NULL;
}

static const char *add_path(cmd_parms *cmd, apr_array_header_t **paths, const char *value)
{
	if (value[0] != '/')
		return wrong(cmd, value, "is not an absolute path");
	if (strlen(value) > SOCKET_PATH_MAX)
		return wrong(cmd, value, apr_psprintf(cmd->pool, "is longer than %d bytes", SOCKET_PATH_MAX));
	if (!*paths)
		*paths = apr_array_make(cmd->pool, 4, sizeof(const char *));
	APR_ARRAY_PUSH(*paths, const char *) = value;
	return NULL;
}

static const char *add_socket(cmd_parms *cmd, void *config, const char *value)
{
	struct directory_config *directory = place_note(cmd, config);

	if (strcmp(value, SOCKETS_ALL) != 0)
		return add_path(cmd, &directory->sockets, value);
	if (!directory->sockets)
		directory->sockets = apr_array_make(cmd->pool, 1, sizeof(const char *));
	APR_ARRAY_PUSH(directory->sockets, const char *) = SOCKETS_ALL;
	return NULL;
}

static const char *add_status_socket(cmd_parms *cmd, void *config, const char *value)
{
	return add_path(cmd, &place_note(cmd, config)->status_sockets, value);
}

static bool all_digits(const char *text)
{
	return *text && text[strspn(text, "0123456789")] == '\0';
}

/* The id that a name or a number stands for, -1 when there is none. */
static int64_t peer_id(const char *name, bool is_group)
{
	if (all_digits(name))
		return strlen(name) <= 10 ? strtoll(name, NULL, 10) : -1;
	if (is_group) {
		const struct group *group = getgrnam(name);
		return group ? (int64_t)group->gr_gid : -1;
	}
	const struct passwd *user = getpwnam(name);
	return user ? (int64_t)user->pw_uid : -1;
}

static const char *add_peer(cmd_parms *cmd, void *config, const char *value)
{
	struct directory_config *directory = place_note(cmd, config);
	bool is_group = value[0] == '@';
	int64_t id = peer_id(value + is_group, is_group);

	if (id < 0 || id >= UINT32_MAX)
		return wrong(cmd, value, is_group ? "is not a group" : "is not a user");
	if (id == OVERFLOW_UID)
		return wrong(cmd, value, "is the id of everybody who is not known here; name another one");
	if (!directory->peers)
		directory->peers = apr_array_make(cmd->pool, 2, sizeof(struct peer_rule));
	APR_ARRAY_PUSH(directory->peers, struct peer_rule) = (struct peer_rule){.is_group = is_group, .id = (id_t)id};
	return NULL;
}

static const char *add_label(cmd_parms *cmd, void *config, const char *value)
{
	struct directory_config *directory = place_note(cmd, config);

	if (value[0] == '\0')
		return wrong(cmd, value, "is not a label");
	if (!directory->labels)
		directory->labels = apr_array_make(cmd->pool, 2, sizeof(const char *));
	APR_ARRAY_PUSH(directory->labels, const char *) = value;
	return NULL;
}

/* Letters, digits and dashes: what every gateway passes on as it is. */
static bool header_name_plain(const char *name)
{
	const char *p = name;

	while (apr_isalnum(*p) || *p == '-')
		p++;
	return p > name && !*p && apr_isalpha(*name);
}

static const char *set_binding_header(cmd_parms *cmd, void *config, const char *value)
{
	static const char *const needed[] = {"Host", "Content-Type", "Cookie", "Authorization", "Expect"};
	struct directory_config *directory = place_note(cmd, config);

	if (apr_strnatcasecmp(value, "Off") == 0) {
		directory->binding_header = "";
		return NULL;
	}
	if (!header_name_plain(value))
		return wrong(cmd, value, "is not a name of letters, digits and dashes");
	bool taken = wire_header_forbidden(span_of_string(value)) && ap_cstr_casecmp(value, "X-Handoff-Binding") != 0;
	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
		taken = taken || ap_cstr_casecmp(value, needed[i]) == 0;
	if (taken)
		return wrong(cmd, value, "has a meaning of its own");
	directory->binding_header = value;
	APR_ARRAY_PUSH(binding_headers, const char *) = value;
	return NULL;
}

static const char *set_key_file(cmd_parms *cmd, void *config, const char *value)
{
	struct server_config *server = ap_get_module_config(cmd->server->module_config, &socket_handoff_module);
	const char *error = ap_check_cmd_context(cmd, NOT_IN_DIR_LOC_FILE);

	(void)config;
	if (error)
		return error;
	server->key_file = ap_server_root_relative(cmd->pool, value);
	return server->key_file ? NULL : wrong(cmd, value, "is not a path");
}

#define ANYWHERE                  (RSRC_CONF | ACCESS_CONF) /* not in .htaccess: those are the applications' */
#define INFO(which)               ((void *)(uintptr_t)(which))
#define FLAG(name, which, help)   AP_INIT_TAKE1(name, set_flag, INFO(which), ANYWHERE, help)
#define NUMBER(name, which, help) AP_INIT_TAKE1(name, set_number, INFO(which), ANYWHERE, help)

const command_rec config_directives[] = {
    FLAG("SocketHandoffEnabled", SETTING_ENABLED, "On or Off"),
    FLAG("SocketHandoffRequireToken", SETTING_REQUIRE_TOKEN, "On or Off"),
    NUMBER("SocketHandoffConnectTimeoutMs", SETTING_CONNECT_MS, "milliseconds, 1 to 60000"),
    NUMBER("SocketHandoffSendTimeoutMs", SETTING_SEND_MS, "milliseconds, 1 to 60000"),
    NUMBER("SocketHandoffAcceptTimeoutMs", SETTING_ACCEPT_MS, "milliseconds, 1 to 60000"),
    NUMBER("SocketHandoffMaxRetries", SETTING_RETRIES, "0 to 10"),
    NUMBER("SocketHandoffMaxData", SETTING_MAX_DATA, "bytes, 1 to 1073741824"),
    FLAG("SocketHandoffRelay", SETTING_RELAY, "On or Off: whether clients of TLS and HTTP/2 are relayed"),
    NUMBER("SocketHandoffRelayMax", SETTING_RELAY_MAX, "relayed clients in all children together, 1 to 100000"),
    AP_INIT_TAKE1("SocketHandoffProtocol", set_protocol, NULL, ANYWHERE, "handoff or raw"),
    AP_INIT_TAKE1("SocketHandoffAllowedPrefix", set_prefix, NULL, ANYWHERE, "directory that all sockets are in"),
    AP_INIT_ITERATE("SocketHandoffSocket", add_socket, NULL, ANYWHERE, "sockets that may be named, or *"),
    AP_INIT_ITERATE("SocketHandoffStatusSocket", add_status_socket, NULL, ANYWHERE, "sockets asked for the status"),
    AP_INIT_ITERATE("SocketHandoffPeer", add_peer, NULL, ANYWHERE, "who may listen: user, uid, @group or @gid"),
    AP_INIT_ITERATE("SocketHandoffPeerLabel", add_label, NULL, ANYWHERE, "security labels that the listener may have"),
    AP_INIT_TAKE1("SocketHandoffBindingHeader", set_binding_header, NULL, ANYWHERE,
                  "request header that tells a proxied backend the binding, or Off"),
    AP_INIT_TAKE1("SocketHandoffKeyFile", set_key_file, NULL, RSRC_CONF, "key ring file"),
    {.name = NULL}};

/* ---------------------------------------------------------------- before httpd starts */

int config_pre(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp)
{
	(void)plog;
	(void)ptemp;
	if (sodium_init() < 0)
		return HTTP_INTERNAL_SERVER_ERROR;
	places = apr_array_make(pconf, 8, sizeof(struct place));
	binding_headers = apr_array_make(pconf, 1, sizeof(const char *));
	prefix_default = path_resolve(pconf, PREFIX_DEFAULT);
	return prefix_default ? OK : HTTP_INTERNAL_SERVER_ERROR;
}

/* What one place lacks, or NULL. */
static const char *place_lacks(const struct server_config *server, const struct directory_config *config)
{
	bool token = setting(config, SETTING_REQUIRE_TOKEN);
	bool raw = setting(config, SETTING_PROTOCOL) == PROTOCOL_RAW;

	if (!setting(config, SETTING_ENABLED))
		return NULL;
	if (token && !server->key_file)
		return "SocketHandoffKeyFile is missing (or say SocketHandoffRequireToken Off)";
	/* What the original module did, and only when it is asked for in both directives. */
	if (!config->peers && !(raw && !token))
		return "SocketHandoffPeer is missing: say who may listen on the socket paths";
	if (!config->sockets && !raw)
		return "SocketHandoffSocket is missing: name the daemon's sockets, or * for all under the prefix";
	return NULL;
}

static int place_check(server_rec *s, const struct directory_config *config, const char *file, int line)
{
	const struct server_config *server = ap_get_module_config(s->module_config, &socket_handoff_module);
	const char *lacks = place_lacks(server, config);

	if (!lacks)
		return OK;
	ap_log_error(APLOG_MARK, APLOG_EMERG | APLOG_STARTUP, 0, s,
	             "AHSH0001: %s:%d: SocketHandoffEnabled is On here%s, but %s", file, line,
	             config->setting[SETTING_ENABLED] == SETTING_UNSET ? " (the default)" : "", lacks);
	return HTTP_INTERNAL_SERVER_ERROR;
}

static apr_status_t ring_free(void *ring)
{
	keyring_free(ring);
	return APR_SUCCESS;
}

/* Key rings are read as root, per virtual host; hosts with the same file share one. */
static int ring_load(apr_pool_t *pconf, server_rec *first, server_rec *s)
{
	struct server_config *server = ap_get_module_config(s->module_config, &socket_handoff_module);
	char error[512];

	if (!server->key_file)
		return OK;
	for (; first != s; first = first->next) {
		const struct server_config *other = ap_get_module_config(first->module_config, &socket_handoff_module);
		if (other->ring && strcmp(other->key_file, server->key_file) == 0) {
			server->ring = other->ring;
			return OK;
		}
	}
	if (keyring_load(&server->ring, server->key_file, geteuid(), error, sizeof(error)) != 0) {
		server->ring = NULL;
		ap_log_error(APLOG_MARK, APLOG_EMERG | APLOG_STARTUP, 0, s, "AHSH0002: SocketHandoffKeyFile: %s",
		             error);
		return HTTP_INTERNAL_SERVER_ERROR;
	}
	/* Children inherit it and must not lose it with a pool of theirs. */
	apr_pool_cleanup_register(pconf, server->ring, ring_free, apr_pool_cleanup_null);
	return OK;
}

/* In check_config rather than post_config, so that httpd -t finds what would keep httpd from starting, or kill it at
 * its next graceful restart. */
int config_check(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *main_server)
{
	int result = OK;

	(void)plog;
	for (server_rec *s = main_server; s; s = s->next) {
		const struct directory_config *config =
		    ap_get_module_config(s->lookup_defaults, &socket_handoff_module);
		const char *file = s->defn_name ? s->defn_name : "main server";
		if (place_check(s, config, file, (int)s->defn_line_number) != OK ||
		    ring_load(pconf, main_server, s) != OK)
			result = HTTP_INTERNAL_SERVER_ERROR;
	}
	for (int i = 0; i < places->nelts; i++) {
		const struct place *place = &APR_ARRAY_IDX(places, i, struct place);
		void *around = ap_get_module_config(place->server->lookup_defaults, &socket_handoff_module);
		const struct directory_config *config = config_merge_directory(ptemp, around, place->config);
		if (place_check(place->server, config, place->file, place->line) != OK)
			result = HTTP_INTERNAL_SERVER_ERROR;
	}
	return result;
}
