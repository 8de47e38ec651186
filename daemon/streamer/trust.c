/* SPDX-License-Identifier: Apache-2.0
 *
 * Trust: see trust.h.
 */
#include "trust.h"

#include <errno.h>
#include <unistd.h>

#include "tls_limit.h"

/* Whole bundles only: a directory of hashed names would have to be opened later, in the cage. */
static const char *system_bundle(void)
{
	static const char *const bundles[] = {
	    "/etc/ssl/certs/ca-certificates.crt",
	    "/etc/pki/tls/certs/ca-bundle.crt",
	    "/etc/ssl/cert.pem",
	};

	for (size_t i = 0; i < sizeof(bundles) / sizeof(bundles[0]); i++)
		if (access(bundles[i], R_OK) == 0)
			return bundles[i];
	return X509_get_default_cert_file();
}

X509_STORE *trust_load(const char *ca_file)
{
	X509_STORE *store = X509_STORE_new();
	const char *file = ca_file[0] != '\0' ? ca_file : system_bundle();

	/* An intermediate certificate in the file is trusted as such, as curl does by default. */
	if (store != NULL && X509_STORE_load_file(store, file) == 1 &&
	    X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN) == 1)
		return store;
	X509_STORE_free(store);
	return NULL;
}

int trust_warm_up(void)
{
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());
	SSL *ssl = context != NULL ? SSL_new(context) : NULL;
	int rc = ssl != NULL ? tls_limit_init() : -ENOMEM;

	SSL_free(ssl);
	SSL_CTX_free(context);
	return rc;
}
