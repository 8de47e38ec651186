/* SPDX-License-Identifier: Apache-2.0
 *
 * TLS limit: an upstream may send only so many messages of TLS's own on a connection (keys that change, tickets).
 * OpenSSL goes on reading while such messages come, and each costs more to take than to have been made beforehand: a
 * flood of them would hold up the whole process inside one read.
 */
#ifndef HANDOFFD_STREAMER_TLS_LIMIT_H
#define HANDOFFD_STREAMER_TLS_LIMIT_H

#include <openssl/ssl.h>

/* Before the process is caged, once or more. 0 or -ENOMEM. */
int tls_limit_init(void);

/* For all connections of the context: one that brings more reads as if the peer had left. */
void tls_limit(SSL_CTX *context);

#endif
