/* SPDX-License-Identifier: Apache-2.0
 *
 * Reasons: every way a handoff can be refused, once, with its stable name
 * (log lines, counters, metrics) and the HTTP status the client gets. The client
 * never sees the name: all refusals of one status look alike.
 */
#ifndef HANDOFF_REASON_H
#define HANDOFF_REASON_H

/*      symbol                       name in logs              status  meaning */
#define REASONS(X)                                                                                                     \
	X(REASON_OK, "ok", 200, "not refused")                                                                         \
	/* headers of the application */                                                                               \
	X(REASON_HEADER_DUPLICATE, "header-duplicate", 403, "a control header occurs twice")                           \
	X(REASON_HEADER_INVALID, "header-invalid", 403, "a control header has blanks at an end or control bytes")      \
	X(REASON_DATA_SOURCE, "data-source", 403, "two data sources, or one that is not known")                        \
	X(REASON_DATA_TOO_LARGE, "data-too-large", 413, "the data is larger than allowed")                             \
	X(REASON_PATH_FORBIDDEN, "path-forbidden", 403, "the socket path is not one of those configured")              \
	/* token */                                                                                                    \
	X(REASON_TOKEN_MISSING, "token-missing", 403, "no token, and one is required")                                 \
	X(REASON_TOKEN_MALFORMED, "token-malformed", 403, "the token is not in canonical form")                        \
	X(REASON_TOKEN_VERSION, "token-version", 403, "the token's version is not v1")                                 \
	X(REASON_TOKEN_KEY_UNKNOWN, "token-key-unknown", 403, "no such key in the key ring")                           \
	X(REASON_TOKEN_KEY_REVOKED, "token-key-revoked", 403, "the key is revoked")                                    \
	X(REASON_TOKEN_KEY_FORBIDDEN, "token-key-forbidden", 403, "the key does not sign for this socket path")        \
	X(REASON_TOKEN_EXPIRED, "token-expired", 403, "the token's time has passed")                                   \
	X(REASON_TOKEN_FUTURE, "token-future", 403, "the token expires too far ahead")                                 \
	X(REASON_TOKEN_MAC, "token-mac", 403, "the MAC differs")                                                       \
	X(REASON_BINDING_MALFORMED, "binding-malformed", 403, "the binding is not in canonical form")                  \
	X(REASON_BINDING_PEER, "binding-peer", 403, "the binding names another peer than the client socket has")       \
	X(REASON_DATA_DIGEST, "data-digest", 403, "the data is not what was signed")                                   \
	/* the message and the descriptors */                                                                          \
	X(REASON_MESSAGE_MALFORMED, "message-malformed", 403, "the message breaks the handoff/1 format")               \
	X(REASON_DESCRIPTORS, "descriptors", 403, "wrong number or kind of descriptors")                               \
	X(REASON_CLIENT_SOCKET, "client-socket", 403, "the client's descriptor is not a connected socket of its kind") \
	X(REASON_CLIENT_NETNS, "client-netns", 403, "the client socket belongs to another network namespace")          \
	X(REASON_CLIENT_GONE, "client-gone", 403, "the client has disconnected before the handoff")                    \
	X(REASON_MEMFD, "memfd", 403, "the data descriptor is not a sealed memfd of the right size")                   \
	X(REASON_RELAY_FORBIDDEN, "relay-forbidden", 403, "relayed clients are not allowed on this listener")          \
	X(REASON_LISTENER_MISMATCH, "listener-mismatch", 403, "the signed socket path is not the listener's")          \
	X(REASON_PEER_FORBIDDEN, "peer-forbidden", 403, "the peer's uid is not allowed")                               \
	/* the request to the backend */                                                                               \
	X(REASON_REQUEST_INVALID, "request-invalid", 400, "the data is not a request this backend understands")        \
	/* load and life */                                                                                            \
	X(REASON_RATE_LIMITED, "rate-limited", 429, "more handoffs a minute than allowed")                             \
	X(REASON_STREAMS_LIMITED, "streams-limited", 429, "as many streams at once as allowed")                        \
	X(REASON_NO_STREAMER, "no-streamer", 503, "no streamer can take the client now")                               \
	X(REASON_STREAMER_FULL, "streamer-full", 503, "the streamer has as many streams as it may")                    \
	X(REASON_STOPPING, "stopping", 503, "the daemon is stopping")                                                  \
	X(REASON_NO_MEMORY, "no-memory", 503, "out of memory")                                                         \
	X(REASON_DAEMON_UNREACHABLE, "daemon-unreachable", 503, "no connection to the daemon within the deadline")     \
	X(REASON_DAEMON_TIMEOUT, "daemon-timeout", 503, "the daemon did not answer within the deadline")               \
	X(REASON_DAEMON_PEER, "daemon-peer", 503, "another user than the configured one listens on the socket path")   \
	X(REASON_NOT_TRANSFERABLE, "not-transferable", 500,                                                            \
	  "the client's connection is TLS or HTTP/2, or not a socket")                                                 \
	X(REASON_INTERNAL, "internal", 500, "an unexpected system error")                                              \
	/* relayed clients */                                                                                          \
	X(REASON_RELAY_LIMIT, "relay-limit", 503, "as many clients are relayed as SocketHandoffRelayMax allows")       \
	X(REASON_RELAY_BROKEN, "relay-broken", 502, "the daemon let go of a relayed client before its answer began")   \
	/* handlers */                                                                                                 \
	X(REASON_HANDLER_BUSY, "handler-busy", 503,                                                                    \
	  "the handler's program runs as often as it may, and no place came free")                                     \
	X(REASON_HANDLER_UNAVAILABLE, "handler-unavailable", 503,                                                      \
	  "the process that starts the handler's program is not there")

enum reason {
#define REASON_ENUM(symbol, name, status, meaning) symbol,
	REASONS(REASON_ENUM)
#undef REASON_ENUM
	    REASON_COUNT
};

/* Stable name of a reason, "unknown" when out of range. Static storage. */
const char *reason_name(enum reason reason);
/* One sentence for people. Static storage. */
const char *reason_meaning(enum reason reason);
/* HTTP status for the client, 500 when out of range. */
int reason_status(enum reason reason);

#endif
