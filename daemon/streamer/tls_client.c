/* SPDX-License-Identifier: Apache-2.0
 *
 * TLS client: see tls_client.h.
 */
#include "tls_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/common/metrics.h"
#include "tls_limit.h"

#define ALPN_MAX 16

struct tls_client {
	SSL_CTX *context;
	SSL_SESSION *session; /* of the last connection, NULL before the first */
	const char *host;
	bool is_address;
	struct span alpn;
};

static bool is_address(const char *host)
{
	unsigned char address[sizeof(struct in6_addr)];

	return inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
}

static void forget_session(struct tls_client *client)
{
	SSL_SESSION_free(client->session);
	client->session = NULL;
}

/* OpenSSL gives us the reference when 1 is returned. */
static int keep_session(SSL *ssl, SSL_SESSION *session)
{
	struct tls_client *client = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));

	forget_session(client);
	client->session = session;
	return 1;
}

/* Its wire form: a length, then the name. */
static int set_alpn(SSL_CTX *context, struct span alpn)
{
	unsigned char list[1 + ALPN_MAX];

	if (alpn.len > ALPN_MAX)
		return -EINVAL;
	list[0] = (unsigned char)alpn.len;
	memcpy(list + 1, alpn.data, alpn.len);
	return SSL_CTX_set_alpn_protos(context, list, (unsigned)(1 + alpn.len)) == 0 ? 0 : -ENOMEM;
}

static SSL_CTX *context_make(struct tls_client *client, X509_STORE *store)
{
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());

	if (context == NULL)
		return NULL;
	SSL_CTX_set1_cert_store(context, store);
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_IGNORE_UNEXPECTED_EOF);
	/* Buffers exist only while there is something in them; a record is read with one system call. */
	SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
	                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_read_ahead(context, 1);
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(context, keep_session);
	SSL_CTX_set_app_data(context, client);
	tls_limit(context);
	if (SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) == 1 && set_alpn(context, client->alpn) == 0)
		return context;
	SSL_CTX_free(context);
	return NULL;
}

struct tls_client *tls_client_new(X509_STORE *store, const char *host, struct span alpn)
{
	struct tls_client *client = calloc(1, sizeof(*client));

	if (client == NULL)
		return NULL;
	client->host = host;
	client->is_address = is_address(host);
	client->alpn = alpn;
	client->context = context_make(client, store);
	if (client->context == NULL) {
		free(client);
		return NULL;
	}
	return client;
}

/* Whom the certificate must name. */
static bool expect_host(const struct tls_client *client, SSL *ssl)
{
	if (client->is_address)
		return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), client->host) == 1;
	SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	return SSL_set_tlsext_host_name(ssl, client->host) == 1 && SSL_set1_host(ssl, client->host) == 1;
}

SSL *tls_client_connect(struct tls_client *client, int fd)
{
	SSL *ssl = SSL_new(client->context);

	if (ssl == NULL || SSL_set_fd(ssl, fd) != 1 || !expect_host(client, ssl)) {
		SSL_free(ssl);
		return NULL;
	}
	if (client->session != NULL && SSL_SESSION_is_resumable(client->session))
		SSL_set_session(ssl, client->session);
	SSL_set_connect_state(ssl);
	return ssl;
}

static int error_of(const SSL *ssl, int rc)
{
	switch (SSL_get_error(ssl, rc)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return -EAGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	case SSL_ERROR_SSL:
		return -EPROTO;
	default:
		return -ECONNRESET;
	}
}

static bool agreed(const struct tls_client *client, const SSL *ssl)
{
	const unsigned char *name;
	unsigned len;

	SSL_get0_alpn_selected(ssl, &name, &len);
	return span_equal(span_of(name, len), client->alpn);
}

int tls_client_handshake(struct tls_client *client, SSL *ssl)
{
	int rc, error;

	ERR_clear_error();
	rc = SSL_do_handshake(ssl);
	if (rc != 1) {
		error = error_of(ssl, rc);
		if (error != -EAGAIN)
			forget_session(client); /* in case that it was the reason */
		return error == 0 ? -ECONNRESET : error;
	}
	metrics_add(METRIC_TLS_HANDSHAKES, 1);
	metrics_add(METRIC_TLS_RESUMED, SSL_session_reused(ssl) ? 1 : 0);
	return agreed(client, ssl) ? 0 : -EPROTO;
}

ssize_t tls_read(SSL *ssl, void *out, size_t size)
{
	size_t n = 0;
	int rc;

	ERR_clear_error();
	rc = SSL_read_ex(ssl, out, size, &n);
	return rc == 1 ? (ssize_t)n : error_of(ssl, rc);
}

ssize_t tls_write(SSL *ssl, const void *data, size_t len)
{
	size_t n = 0;
	int rc;

	ERR_clear_error();
	rc = SSL_write_ex(ssl, data, len, &n);
	return rc == 1 ? (ssize_t)n : error_of(ssl, rc);
}

void tls_end(SSL *ssl, bool peer_ended)
{
	/* A connection that was not shut down takes its session with it, which is good for others still. */
	if (SSL_is_init_finished(ssl) && !peer_ended)
		SSL_shutdown(ssl);
	else
		SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN);
	SSL_free(ssl);
}

const char *tls_fault(const SSL *ssl)
{
	long verified = SSL_get_verify_result(ssl);
	const char *reason = ERR_reason_error_string(ERR_peek_last_error());

	if (verified != X509_V_OK)
		return X509_verify_cert_error_string(verified);
	if (reason != NULL)
		return reason;
	return SSL_is_init_finished(ssl) ? "protocol not agreed" : "closed during the handshake";
}
