/* SPDX-License-Identifier: Apache-2.0
 *
 * Configuration: /etc/handoffd/handoffd.conf, read whole by every role before it drops its privileges. It holds no
 * secrets, only the names of the files that do. Sections are referred to by number between processes, in file order.
 * handoffd.conf(5) describes each option; config.c's tables are its source.
 */
#ifndef HANDOFFD_CONFIG_H
#define HANDOFFD_CONFIG_H

#include <sys/types.h>

#include "lib/bytes.h"
#include "messages.h"
#include "policy/policy.h"

#define CONFIG_DEFAULT_FILE HANDOFFD_CONFIG
#define CONFIG_SECTIONS_MAX 64
#define CONFIG_TOKENS_MAX   100000000
#define CONFIG_WORKERS_MAX  64

enum backend_type { BACKEND_DEMO, BACKEND_OPENAI, BACKEND_HANDLER };

/* What the client gets of an answer: our own events of content, the upstream's events as they are, or plain text; or,
 * of some handlers and never configured, a response of the program's own. */
enum config_output { OUTPUT_CONTENT, OUTPUT_PASSTHROUGH, OUTPUT_TEXT, OUTPUT_RAW };

/* What becomes of the upstream's answer when the client hangs up. */
enum config_disconnect { DISCONNECT_CANCEL, DISCONNECT_DRAIN };

enum config_http { HTTP_1_1, HTTP_2 };

/* What a handler's program writes: a whole response, a response as CGI programs do, plain text for a plain answer, or
 * plain text of which events are made. */
enum config_mode { MODE_HTTP, MODE_CGI, MODE_TEXT, MODE_SSE };

/* What becomes of a layer of a handler's cage where it cannot be had: no start, a line in the log; or it is not wanted.
 */
enum config_layer { LAYER_REQUIRED, LAYER_WHERE_AVAILABLE, LAYER_OFF };

/* /proc of a handler: its own processes, or nothing. */
enum config_proc { PROC_PRIVATE, PROC_NONE };

enum config_log_format { LOG_FORMAT_COMBINED, LOG_FORMAT_JSON };

/* Who a role runs as. name is what the configuration says, "" when nothing (then the uid it is started with). */
struct config_user {
	const char *name;
	uid_t uid;
	gid_t gid;
};

struct config_listen {
	const char *path;  /* section title: the socket's path, as signed in tokens */
	size_t backend;    /* number of the backend section */
	uid_t *allow_peer; /* uids that may connect (Apache's); at least one */
	size_t n_allow_peer;
	mode_t mode;            /* of the socket file, when the supervisor makes it; default 0660 */
	gid_t group;            /* of the socket file */
	size_t max_connections; /* default 4096 */
	bool relay;             /* takes relayed clients; default no */
	bool legacy;            /* for senders without tokens, protocol.md section 4; default no */
	bool legacy_unsafe;     /* the latter even in front of a credential; default no */
	bool legacy_stream;     /* SOCK_STREAM, as early senders want it, instead of SOCK_SEQPACKET; default no */
	/* Limits, 0 for none, which is the default; what is above them is refused with 429. */
	size_t max_streams;             /* at once, of all its streamers together */
	size_t max_streams_per_subject; /* at once */
	unsigned rate;                  /* handoffs a minute; as many may come at once */
	unsigned rate_per_subject;      /* the same for one subject */
};

/* Values that a request gets when its data names the profile and says nothing else. */
struct config_profile {
	const char *name;    /* section title */
	const char *model;   /* "": the backend's */
	const char *system;  /* UTF-8, "" for none */
	unsigned max_tokens; /* 0: the backend's */
	double temperature;  /* below 0: the backend's */
};

/* What becomes of a request's data. */
struct config_request {
	size_t max_data;          /* bytes, default 33554432 */
	size_t max_prompt;        /* bytes of the data without its attachments, default 8388608 */
	unsigned max_messages;    /* default 1024 */
	unsigned max_attachments; /* images included, default 16 */
	size_t memory; /* bytes of the requests that the upstream has not got yet, of a process; default 268435456 */
	const char **models; /* that data may name, besides model; none: any */
	size_t n_models;
	const struct config_profile **profiles; /* that data may name */
	size_t n_profiles;
	unsigned max_tokens;        /* when the data names none, default 0: leaves it to the upstream */
	unsigned max_tokens_limit;  /* default 0: none */
	bool max_completion_tokens; /* it is sent under this name, which newer models want; default no */
	double temperature;         /* when the data names none; below 0, the default: leaves it to the upstream */
	bool include_usage;         /* ask the upstream for the usage of tokens, default yes */
};

struct config_backend {
	const char *name; /* section title */
	enum backend_type type;
	struct config_user user; /* of the pool's processes; default: the streamer role's */
	size_t workers;          /* processes of the pool, default 1 */
	size_t max_streams;      /* a process, default 10000 */
	unsigned delay_ms;       /* demo: between two words, default 50 */
	size_t upstream;         /* openai: number of the upstream section */
	size_t handler;          /* handler: number of the handler section, which no other backend has */
	const char *model;       /* openai: when the data names none; "" leaves it out */
	struct config_request request;
	const char
	    *credential_file; /* openai: holds the API key; "" for none. Under systemd: credential NAME of the unit */
	unsigned first_byte_timeout_s;  /* until the upstream's status is known, default 60 */
	unsigned first_token_timeout_s; /* until the first piece of the answer, default 0: no limit of its own */
	unsigned idle_timeout_s;        /* between two pieces of the upstream's answer, default 120 */
	unsigned write_timeout_s;       /* a client that takes nothing for so long is dropped, default 60 */
	unsigned max_duration_s;        /* of a stream, default 3600 */
	unsigned keepalive_s;           /* SSE comment when nothing else was sent for so long, default 15, 0 never */
	unsigned head_after_s;     /* the head goes out although the upstream's status is unknown, default 0: never */
	enum config_output output; /* default content */
	enum config_disconnect on_disconnect; /* default cancel */
	size_t drain_bytes;                   /* of an answer that nobody gets, default 1048576 */
	unsigned stop_grace_s;                /* for running streams once the process is told to stop, default 10 */
};

struct config_upstream {
	const char *name;              /* section title */
	const char *url;               /* base URL as configured, without a trailing slash: https://api.openai.com/v1 */
	bool tls;                      /* scheme is https */
	const char *host;              /* from url */
	uint16_t port;                 /* from url or the scheme's default */
	const char *ca_file;           /* "" for the system's */
	unsigned connect_timeout_ms;   /* default 5000, resolving included */
	const char *unix_socket;       /* connect to this path instead of the host; "" for none */
	bool allow_private;            /* the host's name may lead to loopback, private and link-local addresses */
	enum config_http http;         /* default HTTP/1.1; HTTP/2 needs https */
	size_t max_connections;        /* of one process, default 1024 */
	size_t streams_per_connection; /* HTTP/2, default 25 */
	size_t spare_connections;      /* HTTP/2: kept ready for a burst, default 1 */
	unsigned retries;              /* of a request that the upstream has not begun to answer, default 1 */
	unsigned breaker_failures;     /* in a row, after which requests are refused at once, default 10, 0 never */
	unsigned breaker_time_s;       /* until the next one is tried, default 10 */
};

struct config_list {
	const char **item; /* NULL ends it */
	size_t n;
};

/* A program that answers clients, and its cage. Numbers are limits of one run. */
struct config_handler {
	const char *name;               /* section title */
	struct config_user user;        /* of its launcher, and so of its runs; default: the launcher role's */
	struct config_list command;     /* at least one, the first an absolute path */
	const char *directory;          /* default / */
	struct config_list environment; /* NAME=VALUE, none of them HANDOFF_ */
	const char *policy;             /* file; "": handler.policy of policy-dir, else the built-in one */
	enum config_mode mode;          /* default http */
	struct config_list read_paths, write_paths, execute_paths; /* besides those that every program has */
	size_t memory;          /* bytes of a process, and of all together where there is a cgroup; default 268435456 */
	unsigned cpu_time_s;    /* of a process, default 30 */
	unsigned processes;     /* threads included, default 32 */
	unsigned files;         /* open descriptors of a process, default 64 */
	size_t file_size;       /* bytes of a file that it writes, default 67108864 */
	size_t temporary;       /* bytes of its /tmp, default 16777216 */
	size_t output_bytes;    /* default 67108864 */
	unsigned wall_time_s;   /* default 300 */
	unsigned kill_grace_s;  /* between asking it to end and killing it, default 2 */
	size_t concurrency;     /* runs at once, of all workers of the backend; default 64 */
	size_t queue;           /* that wait for one of these, default 64 */
	unsigned queue_time_ms; /* that one waits, default 500 */
	enum config_layer namespaces; /* default where-available */
	enum config_layer cgroup;     /* default where-available */
	enum config_proc proc;        /* default private */
};

struct config {
	const char *file;
	unsigned generation; /* of the processes, when the supervisor replaced them all: tells their sockets apart */
	const char *runtime_dir; /* internal sockets, default /run/handoffd */
	const char *key_file;    /* the gate's key ring, default /etc/handoffd/keys */
	bool log_debug;
	unsigned watchdog_s;      /* after which the supervisor replaces a role that gives no sign of life; 0: never */
	const char *policy_dir;   /* ROLE.policy in it replaces the built-in policy; default /etc/handoffd/policy.d */
	enum policy_mode seccomp; /* default enforce */
	const char *access_log;   /* of streamers, see config_access_log(); "" for none */
	enum config_log_format access_log_format; /* default combined */
	struct config_user
	    user[ROLE_COUNT]; /* gate-user, streamer-user, dialer-user, launcher-user; unset ones have name "" */
	struct config_listen *listens;
	size_t n_listens;
	struct config_backend *backends;
	size_t n_backends;
	struct config_upstream *upstreams;
	size_t n_upstreams;
	struct config_handler *handlers;
	size_t n_handlers;
	struct config_profile *profiles;
	size_t n_profiles;
};

/* Read and check the file. Returns NULL and writes "FILE:LINE: what is wrong" lines (each ended by a newline) to
 * errors, a malloc'ed string that the caller frees, when it is faulty. The result is never freed: it lives as long as
 * the process. */
struct config *config_load(const char *file, char **errors);

/* Different when the sections are, their kinds, names or order: the processes speak of them by number. */
uint64_t config_sections_id(const struct config *config);

/* Paths of the internal sockets, into out: RUNTIME/dialer.sock... Returns 0, or -ENAMETOOLONG when it does not fit a
 * sockaddr_un. */
#define CONFIG_PATH_MAX 108
int config_streamer_socket(const struct config *config, size_t backend, size_t worker, char out[CONFIG_PATH_MAX]);
int config_dialer_socket(const struct config *config, char out[CONFIG_PATH_MAX]);
int config_launcher_socket(const struct config *config, size_t handler, char out[CONFIG_PATH_MAX]);

/* A worker's access log: %b in its name stands for the backend, %w for the worker's number. "" when there is none.
 * Returns 0 or -ENAMETOOLONG. */
int config_access_log(const struct config *config, size_t backend, size_t worker, char *out, size_t size);

/* Path of a secret: CREDENTIALS_DIRECTORY/name when systemd gives one, else the configured file. Returns 0 or
 * -ENAMETOOLONG. */
int config_secret_path(const char *name, const char *configured, char *out, size_t size);

#endif
