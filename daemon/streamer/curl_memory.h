/* SPDX-License-Identifier: Apache-2.0
 *
 * Curl memory: libcurl copies each request's head, with the credential in it, into ordinary memory and frees that as it
 * is. Here whatever libcurl frees is wiped first.
 */
#ifndef HANDOFFD_STREAMER_CURL_MEMORY_H
#define HANDOFFD_STREAMER_CURL_MEMORY_H

/* In place of curl_global_init(), once. 0 or -ENOMEM. */
int curl_memory_init(void);

#endif
