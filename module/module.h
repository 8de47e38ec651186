/* SPDX-License-Identifier: Apache-2.0
 *
 * mod_socket_handoff: what its files share. A request takes the files in this order:
 *
 *     inbound.c     control headers that the client sent are removed
 *     outbound.c    those in interim responses and trailers of a proxied backend, too
 *     binding.c     HANDOFF_BINDING is made for the handler (challenge.c: its random part)
 *     capture.c     first output filter: takes the control headers and the data out of the handler's response
 *     handoff.c     last content filter: the steps below, and the refusal when one of them says no
 *     verify.c      headers, data and token
 *     connection.c  a connection to the daemon, cached or new, with its peer checked (label.c: its security label)
 *     transfer.c    one message with the client's socket, and the wait for the answer
 *     client.c      the client's socket: whether it can travel, and taking it away from httpd
 *     relay.c       for a client whose socket cannot: its answer comes back and passes through httpd
 *
 * What became of it is counted in counters.c, and shown by status.c (status.h).
 *
 * control.c knows the names of the control headers; config.c the directives.
 */
#ifndef MOD_SOCKET_HANDOFF_MODULE_H
#define MOD_SOCKET_HANDOFF_MODULE_H

#include <limits.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "httpd.h"

#include "ap_mpm.h"
#include "apr_strings.h"
#include "apr_tables.h"
#include "http_config.h"
#include "http_connection.h"
#include "http_core.h"
#include "http_log.h"
#include "http_protocol.h"
#include "http_request.h"
#include "http_ssl.h"
#include "util_filter.h"

#include "lib/binding.h"
#include "lib/bytes.h"
#include "lib/keyring.h"
#include "lib/reason.h"
#include "lib/wire.h"

extern module AP_MODULE_DECLARE_DATA socket_handoff_module;
#ifndef MODULE_RECORD /* the file of the record declares it itself */
APLOG_USE_MODULE(socket_handoff);
#endif

/* ---------------------------------------------------------------- config.c */

/* Settings that are a number; unset in a section, they come from the section around it. */
enum setting {
	SETTING_ENABLED,
	SETTING_REQUIRE_TOKEN,
	SETTING_PROTOCOL, /* enum protocol */
	SETTING_CONNECT_MS,
	SETTING_SEND_MS,
	SETTING_ACCEPT_MS,
	SETTING_RETRIES,
	SETTING_MAX_DATA, /* bytes */
	SETTING_RELAY,
	SETTING_RELAY_MAX,
	SETTING_COUNT
};

enum protocol { PROTOCOL_HANDOFF, PROTOCOL_RAW };

#define SETTING_UNSET (-1)

/* Who may listen on a socket path. */
struct peer_rule {
	bool is_group;
	id_t id;
};

/* In SocketHandoffSocket: every socket under the prefix. */
#define SOCKETS_ALL "*"

/* Longest socket path: sun_path with its NUL. */
#define SOCKET_PATH_MAX 107

struct directory_config {
	int setting[SETTING_COUNT];         /* SETTING_UNSET or the value; read with setting() */
	const char *prefix;                 /* resolved, without a slash at its end; NULL: unset */
	apr_array_header_t *peers;          /* of struct peer_rule; NULL: unset */
	apr_array_header_t *labels;         /* of const char *, security labels of the peer; NULL: unset */
	apr_array_header_t *sockets;        /* of const char *; NULL: unset */
	const char *binding_header;         /* "": none; NULL: unset */
	apr_array_header_t *status_sockets; /* of const char *, listeners to ask for the status; NULL: unset */
};

struct server_config {
	const char *key_file; /* NULL: unset */
	struct keyring *ring; /* owned by the configuration pool */
};

extern const command_rec config_directives[];

void *config_create_directory(apr_pool_t *pool, char *path);
void *config_merge_directory(apr_pool_t *pool, void *base, void *more);
void *config_create_server(apr_pool_t *pool, server_rec *s);
void *config_merge_server(apr_pool_t *pool, void *base, void *more);

/* Forget what an earlier reading of the configuration left. */
int config_pre(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp);
/* Whether every place where the handoff is on has what it needs; loads the key rings. OK or HTTP_INTERNAL_SERVER_ERROR,
 * which stops the start. */
int config_check(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s);

/* Value of a setting, its default when it is nowhere set. */
int setting(const struct directory_config *config, enum setting which);
/* Names of the headers that carry a binding to some backend, of const char *. */
const apr_array_header_t *config_binding_headers(void);
/* Resolved prefix without a slash at its end. */
const char *config_prefix(const struct directory_config *config);

/* The real path of a path whose last components need not exist yet, without a slash at its end ("" for the root), or
 * NULL with errno. */
char *path_resolve(apr_pool_t *pool, const char *path);
/* Whether path lies in the directory prefix, component-wise. */
bool path_below(const char *path, const char *prefix);

/* ---------------------------------------------------------------- control.c */

/*      symbol              name, lower case */
#define CONTROLS(X)                                                                                                    \
	X(CONTROL_SOCKET, "x-socket-handoff")                                                                          \
	X(CONTROL_DATA, "x-handoff-data")                                                                              \
	X(CONTROL_DATA_SOURCE, "x-handoff-data-source")                                                                \
	X(CONTROL_SUBJECT, "x-handoff-subject")                                                                        \
	X(CONTROL_TOKEN, "x-handoff-token")                                                                            \
	X(CONTROL_BINDING, "handoff-binding")                                                                          \
	X(CONTROL_X_BINDING, "x-handoff-binding")

enum control {
#define CONTROL_ENUM(symbol, name) symbol,
	CONTROLS(CONTROL_ENUM)
#undef CONTROL_ENUM
	    CONTROL_COUNT
};

/* The control headers of one response. */
struct controls {
	const char *value[CONTROL_COUNT]; /* NULL when absent; lives as long as the request */
	bool duplicate;                   /* one of them occurred twice */
};

/* Whether this is the name of a control header, however it is written. */
bool control_is(struct span key);
/* Remove every header of this name, however it is written, from a table. */
void control_strip_name(apr_table_t *table, const char *name);
/* Remove every control header, however it is written, from a table. */
void control_strip(apr_table_t *table);
/* The same, after noting their values. */
void control_take(apr_table_t *table, struct controls *controls);

/* ---------------------------------------------------------------- the handoff of one request */

enum handoff_state {
	HANDOFF_UNSEEN,  /* the handler has not answered yet */
	HANDOFF_WANTED,  /* its response asks for a handoff; the body is being hidden */
	HANDOFF_FAILED,  /* the handler gave up in the middle: an ordinary error response */
	HANDOFF_DECIDED, /* handed off or refused; nothing more of the response goes anywhere */
};

struct relay;

struct handoff {
	const struct directory_config *config;
	enum handoff_state state;
	char binding[BINDING_MAX]; /* "" when there is none */
	struct controls controls;
	bool body_is_data;
	enum reason refusal; /* found while capturing; REASON_OK when none */
	uint8_t *body;       /* malloc()ed, freed with the request */
	size_t body_len, body_size;

	struct span data; /* header or body, from verify on */
	uint8_t data_digest[64];
	char kid[KEYRING_KID_MAX + 1];
	struct relay *relay; /* NULL: the client's own socket travels */
};

/* How a handoff ended. */
struct outcome {
	enum reason reason;   /* REASON_OK: the daemon owns the client */
	bool lost;            /* it is not known who owns the client: nobody here may write to it */
	bool by_daemon;       /* the daemon refused */
	int status;           /* for the client, when refused */
	uint32_t retry_after; /* seconds; 0: none */
	uint64_t stream_id;
	int error; /* errno that explains it, or 0 */
};

/* ---------------------------------------------------------------- inbound.c */

extern ap_filter_rec_t *inbound_filter_handle;

/* post_read_request. */
int inbound_strip(request_rec *r);
/* Trailers are read with the body, perhaps before the handler runs. */
void inbound_strip_trailers(request_rec *r);
apr_status_t inbound_filter(ap_filter_t *f, apr_bucket_brigade *bb, ap_input_mode_t mode, apr_read_type_e block,
                            apr_off_t readbytes);

/* ---------------------------------------------------------------- outbound.c */

void outbound_register(void);
/* Watch what the handler of this request sends past the response's header filters, when it is a proxy. */
void outbound_insert(request_rec *r);
/* The same for an error response in its place. */
void outbound_insert_error(request_rec *r);

/* ---------------------------------------------------------------- binding.c */

#define BINDING_VARIABLE "HANDOFF_BINDING"

/* child_init, pre_connection. */
void binding_init_child(apr_pool_t *pchild, server_rec *s);
int binding_note_peer(conn_rec *c, void *socket);
/* Make the binding of this request and export it. */
void binding_export(request_rec *r, struct handoff *handoff);
/* The request header that a proxied backend gets the binding in, NULL when there is none here. */
const char *binding_header(const request_rec *r);
/* No binding for this request, also none from SetEnv or from the request around it. */
void binding_withhold(request_rec *r);

/* ---------------------------------------------------------------- capture.c, handoff.c */

apr_status_t capture_filter(ap_filter_t *f, apr_bucket_brigade *bb);
/* f->ctx: struct handoff, or NULL where the handoff is off and control headers are only removed. */
apr_status_t handoff_filter(ap_filter_t *f, apr_bucket_brigade *bb);

/* ---------------------------------------------------------------- verify.c */

/* Whether the control headers have the required form; called before any body is collected. */
enum reason verify_form(struct handoff *handoff);
/* Data and token. Fills data, data_digest and kid. */
enum reason verify_token(request_rec *r, struct handoff *handoff);

/* ---------------------------------------------------------------- connection.c */

struct connection;

/* child_init. */
void connection_init(apr_pool_t *pchild, server_rec *s);

/* Milliseconds of a clock that never jumps. */
int64_t clock_ms(void);

/* A connection to the listener at path whose real path and peer the configuration allows: a cached one that still
 * stands (*cached) or a new one. Waits for room in the backlog until deadline_ms at the longest. Returns 0 or -errno,
 * with the reason. */
int connection_get(struct connection **out, bool *cached, const struct directory_config *config, const char *path,
                   int64_t deadline_ms, enum reason *reason);
int connection_fd(const struct connection *connection);
/* Put it back for the next handoff of this process. */
void connection_keep(struct connection *connection);
void connection_close(struct connection *connection);

/* ---------------------------------------------------------------- transfer.c */

/* Hand the client over; outcome says whether it was accepted. */
void transfer(request_rec *r, const struct handoff *handoff, int client, struct outcome *outcome);

/* ---------------------------------------------------------------- client.c */

extern ap_filter_rec_t *client_output_filter_handle, *client_input_filter_handle;

/* The descriptor of the connection's own socket, -1 when it has none. */
int client_descriptor(conn_rec *c);
/* The same when this socket is all there is between us and the client: no TLS, not one of many HTTP/2 streams. */
int client_transferable(const request_rec *r);
/* Whether its answer can come through httpd instead. */
bool client_relayable(const request_rec *r);
/* Write out what httpd still holds for this client. 0 or an APR status. */
apr_status_t client_flush(request_rec *r);
/* The client is not ours any more: httpd reads nothing from its socket, writes nothing to it and does not shut it down;
 * it only closes its copy. */
void client_release(request_rec *r);
apr_status_t client_output_filter(ap_filter_t *f, apr_bucket_brigade *bb);
apr_status_t client_input_filter(ap_filter_t *f, apr_bucket_brigade *bb, ap_input_mode_t mode, apr_read_type_e block,
                                 apr_off_t readbytes);

/* ---------------------------------------------------------------- relay.c */

/* post_config, child_init, child_status: the count of relays that all children share. */
int relay_init(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s);
void relay_init_child(apr_pool_t *pchild, server_rec *s);
void relay_child_status(server_rec *s, pid_t pid, ap_generation_t generation, int slot, mpm_child_status status);
/* How many there are now, in this generation of children. */
unsigned relay_count(void);

/* Make the relay of this request; it ends with the request. */
enum reason relay_open(request_rec *r, struct handoff *handoff, struct outcome *outcome);
/* The end that goes to the daemon. */
int relay_descriptor(const struct relay *relay);
/* End it, at whatever point it is. */
void relay_close(struct relay *relay);

/* How a relay went. */
enum relay_end {
	RELAY_DONE,
	RELAY_UNANSWERED,  /* the daemon let go before the head: the client can be told */
	RELAY_CUT,         /* and after it */
	RELAY_CLIENT_GONE, /* in the middle */
};
/* With the daemon's end gone to it: copy the answer to the filters, from next on, until it or the client ends. */
enum relay_end relay_run(request_rec *r, struct relay *relay, ap_filter_t *next);

/* ---------------------------------------------------------------- counters.c */

/* How a client left Apache. */
enum result {
	RESULT_ACCEPTED,
	RESULT_RELAYED, /* accepted, and its answer comes back through Apache */
	RESULT_SENT,    /* raw mode: nobody says whether it arrived */
	RESULT_LOST,
	RESULT_COUNT
};

struct counters {
	_Atomic uint64_t result[RESULT_COUNT];
	_Atomic uint64_t refused[2][REASON_COUNT]; /* by the module, by the daemon */
};

/* post_config. */
int counters_init(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s);
void counters_outcome(const struct handoff *handoff, const struct outcome *outcome);
uint64_t counters_result(enum result result);
uint64_t counters_refused(bool by_daemon, enum reason reason);

/* ---------------------------------------------------------------- status.c */

/* The handler socket-handoff-status. */
int status_handler(request_rec *r);

#endif
