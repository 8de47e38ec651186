/* SPDX-License-Identifier: Apache-2.0
 *
 * Label: the security label (SELinux context, AppArmor profile) of the process on the other side of a unix socket.
 * Nothing of httpd in here.
 */
#ifndef MOD_SOCKET_HANDOFF_LABEL_H
#define MOD_SOCKET_HANDOFF_LABEL_H

#include <stdbool.h>

/* Whether a label that the kernel reported is the one that the configuration names: byte for byte, or, since AppArmor
 * reports a profile together with its mode, followed by " (enforce)". A profile in another mode confines nobody. */
bool label_matches(const char *configured, const char *actual);

/* Label of the peer of a connected unix socket, malloc()ed. 0 or -errno, -ENOPROTOOPT where the kernel has none. */
int label_read(int sock, char **label);

#endif
