/* SPDX-License-Identifier: Apache-2.0
 *
 * Trust: the certificates that may vouch for an upstream, loaded once before the process is caged and shared by all
 * its TLS connections.
 */
#ifndef HANDOFFD_STREAMER_TRUST_H
#define HANDOFFD_STREAMER_TRUST_H

#include <openssl/ssl.h>

/* The certificates of a PEM file, or the system's when ca_file is "". NULL when there are none. */
X509_STORE *trust_load(const char *ca_file);

/* Make OpenSSL load whatever it loads on first use. 0 or -ENOMEM. */
int trust_warm_up(void);

#endif
