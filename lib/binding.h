/* SPDX-License-Identifier: Apache-2.0
 *
 * Binding: ties a token to one request of one client connection.
 *
 *     v1;<peer address>;<peer port>;<challenge>
 *
 * Address and port are getpeername()'s of the client socket as inet_ntop() and
 * decimal write them; the challenge is base64url (no padding) of 16 random bytes.
 * docs/protocol.md, section 2.
 */
#ifndef HANDOFF_BINDING_H
#define HANDOFF_BINDING_H

#include <sys/socket.h>

#include "bytes.h"

#define BINDING_CHALLENGE_LEN 16
/* "v1;" + longest IPv6 text + ";65535;" + 22 characters + NUL, rounded up. */
#define BINDING_MAX           96

/* Write the NUL-terminated binding of a peer and a challenge.
 * Returns its length without the NUL, or -EAFNOSUPPORT when peer is neither AF_INET nor AF_INET6. */
int binding_format(char out[BINDING_MAX], const struct sockaddr *peer, const uint8_t challenge[BINDING_CHALLENGE_LEN]);

/* 0 when the binding is in canonical form and names this very peer,
 * -EINVAL when the form is wrong, -EACCES when it is another peer's. */
int binding_check_peer(struct span binding, const struct sockaddr *peer);

#endif
