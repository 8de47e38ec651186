/* SPDX-License-Identifier: Apache-2.0
 *
 * What the outer walls grant a role beyond its policy, and why: one row a grant, as each wall writes it. A wall that
 * grants what neither the policy nor a row says, or that lacks what one of them says, is a finding.
 */
#ifndef HANDOFFD_POLICY_WALLS_H
#define HANDOFFD_POLICY_WALLS_H

#include "tool.h"

enum wall_role { WALL_GATE = 1, WALL_STREAMER = 2, WALL_DIALER = 4, WALL_ALL = 7 };

/* Letters, as AppArmor has them: r read, w write or append, m map executable, x run. */
enum wall_access { ACCESS_READ = 1, ACCESS_WRITE = 2, ACCESS_MAP = 4, ACCESS_RUN = 8 };

/* A path in an AppArmor profile and its type in SELinux; NULL in the wall that does not grant it. */
struct wall_path {
	unsigned roles;
	const char *access;
	const char *path;
	const char *type;
	const char *reason;
};
extern const struct wall_path wall_paths[];
extern const size_t wall_n_paths;

/* A kind of socket ("unix dgram") or a capability ("setuid") that one wall grants beyond the policy. */
struct wall_grant {
	unsigned roles;
	const char *apparmor; /* NULL: not granted there */
	const char *selinux;  /* the class, of a socket */
	const char *reason;
};
extern const struct wall_grant wall_grants[];
extern const size_t wall_n_grants;

/* A kind of socket as each wall calls it; SELinux has one class for several. */
struct socket_kind {
	const char *words;
	uint64_t family;
	uint64_t type;
	const char *class;
};
extern const struct socket_kind socket_kinds[];
extern const size_t n_socket_kinds;

/* Whether the policy allows to make such a socket. */
bool policy_has_socket(const struct policy *policy, const struct socket_kind *kind);

unsigned wall_role(const char *name);
unsigned wall_access(const char *letters);

/* What one file of a wall says of one role, and how many findings it had. */
struct wall_file {
	const char *file;
	const struct policy *policy;
	unsigned role;
	size_t findings;
};
/* "FILE: what detail", and one finding more. */
void wall_find(struct wall_file *wall, const char *what, const char *detail);

/* Each compares one wall with the policy and adds to the findings. Returns an enum tool_exit, TOOL_OK whatever was
 * found. */
int check_unit(const char *directory, const struct policy *policy, size_t *findings);
int check_profile(const char *directory, const struct policy *policy, size_t *findings);
/* text: the module in CIL. */
int check_module(const char *file, const char *text, const struct policy *policy, size_t *findings);

#endif
