/* SPDX-License-Identifier: Apache-2.0
 *
 * handoff/1: the one request message from module to gate, the one reply, and what a relayed client's answer looks like
 * on its way from streamer to module.
 *
 * Request, little endian, one SOCK_SEQPACKET message:
 *
 *     0  8   magic "HANDOFF1"
 *     8  4   total length of the message
 *    12  2   number of fields
 *    14  2   flags (WIRE_FLAG_*)
 *    16      fields: 2 bytes type, 2 bytes zero, 4 bytes length, then that many bytes
 *
 * Fields come in ascending order of their type, each at most once. Ancillary data: SCM_RIGHTS with the client socket,
 * the reply socket and, with WIRE_FLAG_MEMFD, a sealed memfd holding the data. docs/protocol.md, section 3.
 *
 * Reply, one message of WIRE_REPLY_LEN bytes on the reply socket, from whoever accepts or refuses.
 */
#ifndef HANDOFF_WIRE_H
#define HANDOFF_WIRE_H

#include "bytes.h"
#include "reason.h"

#define WIRE_HEADER_LEN      16
#define WIRE_FIELD_LEN       8
#define WIRE_INLINE_DATA_MAX 65536  /* data up to this size travels in the message, larger data in a memfd */
#define WIRE_REQUEST_MAX     196608 /* the whole message; a SOCK_SEQPACKET message holds 212,960 bytes by default */

#define WIRE_FLAG_RELAY  0x0001 /* the client descriptor is one end of a unix socketpair */
#define WIRE_FLAG_MEMFD  0x0002 /* the data is in the third descriptor */
#define WIRE_FLAG_LEGACY 0x0004 /* from gate to streamer only, without the others: nobody waits for a reply */
#define WIRE_FLAGS_KNOWN (WIRE_FLAG_RELAY | WIRE_FLAG_MEMFD | WIRE_FLAG_LEGACY)

/* Positions in the SCM_RIGHTS array. */
enum wire_fd { WIRE_FD_CLIENT, WIRE_FD_REPLY, WIRE_FD_DATA, WIRE_FDS_MAX };

/*      symbol                 type  longest        what it holds */
#define WIRE_FIELDS(X)                                                                                                 \
	X(WIRE_TOKEN, 1, 128, "token as received")                                                                     \
	X(WIRE_BINDING, 2, 128, "binding of the request")                                                              \
	X(WIRE_SOCKET_PATH, 3, 108, "X-Socket-Handoff as received")                                                    \
	X(WIRE_SUBJECT, 4, 256, "X-Handoff-Subject")                                                                   \
	X(WIRE_DATA_DIGEST, 5, 64, "SHA-512 of the data")                                                              \
	X(WIRE_METHOD, 6, 32, "request method")                                                                        \
	X(WIRE_TARGET, 7, 8192, "request target as received")                                                          \
	X(WIRE_PROTOCOL, 8, 16, "HTTP/1.0 or HTTP/1.1")                                                                \
	X(WIRE_CLIENT_ADDRESS, 9, 64, "the client's address for logs (mod_remoteip's, when used)")                     \
	X(WIRE_SERVER_NAME, 10, 256, "host name of the virtual host")                                                  \
	X(WIRE_REQUEST_ID, 11, 64, "id of the request for logs")                                                       \
	X(WIRE_STATUS, 12, 2, "HTTP status the application set, LE16")                                                 \
	X(WIRE_RESPONSE_HEADERS, 13, 65536, "header lines for the client, each Name: value CR LF")                     \
	X(WIRE_DATA, 14, WIRE_INLINE_DATA_MAX, "the data, when it is not in the memfd")

enum wire_field_type {
#define WIRE_ENUM(symbol, type, longest, meaning) symbol = (type),
	WIRE_FIELDS(WIRE_ENUM)
#undef WIRE_ENUM
	    WIRE_FIELD_END
};

/* A request taken apart (spans borrow from the message) or to be put together. A field that is absent has data == NULL;
 * a present, empty one has len == 0 and data != NULL. field[0] is unused. */
struct wire_request {
	uint16_t flags;
	struct span field[WIRE_FIELD_END];
};

/* Take a message apart. Refuses anything that is not exactly the format: lengths, order, unknown or duplicate fields,
 * unknown flags, missing or empty required fields (socket path, data digest, method, target, protocol, status), data
 * both inline and in a memfd, or in neither; a digest that is not 64 bytes; a status outside 100-599; response headers
 * that wire_headers_valid() refuses. Token and binding may be absent: the gate demands them (an empty span fails
 * token_verify() and binding_check_peer()) and takes them out of what it forwards. Returns 0 or -EBADMSG. */
int wire_request_parse(struct span message, struct wire_request *request);

/* Size of the message for this request, or 0 when a field is longer than allowed or the whole too long. */
size_t wire_request_size(const struct wire_request *request);

/* Put the message into out, which has room for size == wire_request_size() bytes. Returns size. */
size_t wire_request_write(const struct wire_request *request, uint8_t *out, size_t size);

/* Whether these bytes are header lines that may be sent to a client as they are: each "Name: value CR LF", name a
 * token (RFC 9110 5.6.2), value without CR, LF, NUL and other control bytes but TAB; none of the names that the
 * sender of the answer decides (framing, hop-by-hop, Content-Length, Content-Encoding, ETag: wire_header_forbidden). */
bool wire_headers_valid(struct span lines);

/* Whether a header of this name must not travel with a handoff: those above and the control headers. Compares without
 * case, and with _ equal to -. */
bool wire_header_forbidden(struct span name);

/* The same for the head of an answer, whose body is the sender's: what describes that body (Content-Encoding,
 * Content-Range, ETag) may be there. */
bool wire_answer_header_forbidden(struct span name);

/* Whether a name is a token, and a value without CR, LF, NUL and other control bytes but TAB. */
bool wire_header_name_valid(struct span name);
bool wire_header_value_valid(struct span value);

#define WIRE_REPLY_LEN 24

enum wire_reply_kind { WIRE_ACCEPTED = 1, WIRE_REFUSED = 2 };

/* 0 1 version (1); 1 1 kind; 2 2 status; 4 2 reason; 6 2 zero; 8 4 retry-after seconds (0: none); 12 4 zero; 16 8
 * stream id */
struct wire_reply {
	enum wire_reply_kind kind;
	enum reason reason;
	uint16_t status;
	uint32_t retry_after;
	uint64_t stream_id;
};

void wire_reply_write(const struct wire_reply *reply, uint8_t out[WIRE_REPLY_LEN]);
/* 0 or -EBADMSG. */
int wire_reply_parse(struct span message, struct wire_reply *reply);

/* What the streamer writes into its end of a relay (WIRE_FLAG_RELAY): a head, then the body in pieces of 4 bytes length
 * and that many bytes. A piece of length 0 is the end, and nothing comes after it: an end of file without it is a cut
 * answer. docs/protocol.md, section 7.
 *
 * Head, with the header and the fields of a request under another magic, "HANDREL1", and no flags. */

/*      symbol                  type  longest       what it holds */
#define WIRE_RELAY_FIELDS(X)                                                                                           \
	X(WIRE_RELAY_STATUS, 1, 2, "HTTP status, LE16")                                                                \
	X(WIRE_RELAY_HEADERS, 2, 66560, "header lines, the application's and the streamer's")

enum wire_relay_field_type {
#define WIRE_RELAY_ENUM(symbol, type, longest, meaning) symbol = (type),
	WIRE_RELAY_FIELDS(WIRE_RELAY_ENUM)
#undef WIRE_RELAY_ENUM
	    WIRE_RELAY_FIELD_END
};

#define WIRE_RELAY_HEAD_MAX (WIRE_HEADER_LEN + 2 * WIRE_FIELD_LEN + 2 + 66560)

/* Both fields are there, be the headers empty. */
struct wire_relay_head {
	uint16_t status;     /* 200-599 */
	struct span headers; /* as wire_headers_valid() has them, but for wire_answer_header_forbidden() */
};

/* Everything in front of the header lines, which the writer sends behind it: they stand at the end of a head. */
#define WIRE_RELAY_START_LEN (WIRE_HEADER_LEN + 2 * WIRE_FIELD_LEN + 2)
void wire_relay_head_write(const struct wire_relay_head *head, uint8_t out[WIRE_RELAY_START_LEN]);

/* How long the head is that begins with these bytes, 0 when none does. */
size_t wire_relay_head_length(const uint8_t start[WIRE_HEADER_LEN]);
/* 0 or -EBADMSG. The headers borrow from the message. */
int wire_relay_head_parse(struct span message, struct wire_relay_head *head);

#define WIRE_PIECE_LEN 4

/* How far a body has been read; all zero before its first byte. */
struct wire_pieces {
	uint32_t left; /* of the piece */
	uint8_t start[WIRE_PIECE_LEN];
	uint8_t start_len;
	bool ended; /* the last piece was there */
};

/* Take the next body bytes out of input, which moves past them. 1 with a span that borrows from input; 0 when input is
 * used up; -EBADMSG when there is something behind the end. */
int wire_pieces_next(struct wire_pieces *pieces, struct span *input, struct span *body);

#endif
