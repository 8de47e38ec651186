/* SPDX-License-Identifier: Apache-2.0
 *
 * TLS client: TLS 1.2 or later to one upstream, over sockets that come connected. The peer must prove the upstream's
 * name with a certificate that trust.h vouches for, and agree to the application protocol. What was agreed with the
 * upstream last is used for the next connection, which spares both sides a signature.
 */
#ifndef HANDOFFD_STREAMER_TLS_CLIENT_H
#define HANDOFFD_STREAMER_TLS_CLIENT_H

#include <openssl/ssl.h>
#include <sys/types.h>

#include "lib/bytes.h"

struct tls_client;

/* Before the process is caged. host: a name or an address, without brackets; alpn: one protocol's name. All borrowed
 * for good. NULL: no memory. */
struct tls_client *tls_client_new(X509_STORE *store, const char *host, struct span alpn);

/* A connection over this non-blocking socket, which stays the caller's. NULL: no memory. */
SSL *tls_client_connect(struct tls_client *client, int fd);

/* 0; -EAGAIN; -EPROTO: the peer is not who it should be or does not speak TLS as we do; -ECONNRESET: it left. */
int tls_client_handshake(struct tls_client *client, SSL *ssl);

/* Bytes read or written, also less than asked for; 0: the peer has ended its side; -EAGAIN, SSL_want_write() says for
 * what; -ECONNRESET. A write that said -EAGAIN is to be repeated with the same bytes. */
ssize_t tls_read(SSL *ssl, void *out, size_t size);
ssize_t tls_write(SSL *ssl, const void *data, size_t len);

/* Free it; unless the peer has left, it is told that this is the end. */
void tls_end(SSL *ssl, bool peer_ended);

/* Why the last of these functions failed, for the log. Static storage. */
const char *tls_fault(const SSL *ssl);

#endif
