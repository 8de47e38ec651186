/* SPDX-License-Identifier: Apache-2.0
 *
 * Privileges: becoming a user that can do nothing more than its uid and gid allow, and proving it.
 */
#ifndef HANDOFFD_PRIVILEGES_H
#define HANDOFFD_PRIVILEGES_H

#include <stddef.h>
#include <sys/types.h>

struct privileges_report {
	/* Comma-separated: what an unprivileged start could not drop ("bounding-set", "supplementary-groups"); "" when
	 * nothing is left. Harmless without capabilities and with no_new_privs, but said. */
	char off[64];
};

/* Set no_new_privs. Started as root: give up supplementary groups and every capability in every set and become uid and
 * gid (neither may be 0). Started as another user: that must be uid already. Then check, by asking the kernel, that
 * nothing is left and that there is no way back. Returns 0, or -errno with what failed in error: the caller must exit.
 */
int privileges_drop(uid_t uid, gid_t gid, struct privileges_report *report, char *error, size_t error_size);

#endif
