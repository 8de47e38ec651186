/* SPDX-License-Identifier: Apache-2.0
 *
 * A policy in memory: what the parser makes of the text, the lint judges and the compiler turns into a seccomp program.
 * Private to policy/, its tools and its tests; roles use policy.h.
 */
#ifndef HANDOFFD_POLICY_LANGUAGE_H
#define HANDOFFD_POLICY_LANGUAGE_H

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "lib/bytes.h"
#include "policy.h"

/* Linux 6.3, newer than Debian 12's headers. */
#ifndef PR_SET_MDWE
#define PR_SET_MDWE              65
#define PR_GET_MDWE              66
#define PR_MDWE_REFUSE_EXEC_GAIN 1
#endif

#define POLICY_ARGS 6

/* One condition on an argument: (argument & mask) == value. Every operator of the language is brought to this form, for
 * the bits of the argument that the kernel looks at (32 of an int). */
struct policy_condition {
	uint64_t mask; /* 0: no condition */
	uint64_t value;
};

#define POLICY_KILL (-1)

/* `allow` (error 0), `errno` or `kill` (POLICY_KILL) of one system call under the conditions on its arguments, which
 * hold together. A line with `in` makes one rule for each of its values. */
struct policy_rule {
	char *call;
	int error;
	struct policy_condition conditions[POLICY_ARGS];
	const char *file; /* static storage or the caller's, as given to policy_parse() */
	unsigned line;
	char *reason; /* trailing comment, NULL when there is none */
};

enum policy_need { NEED_UNSTATED, NEED_REQUIRED, NEED_WHERE_AVAILABLE, NEED_OPEN };

/*      symbol                 name                   first ABI  ruleset_attr member, bits handled */
#define LANDLOCK_RIGHTS(X)                                                                                             \
	X(RIGHT_FS, "fs", 1, FS, 0x1fff)                                                                               \
	X(RIGHT_FS_REFER, "fs-refer", 2, FS, 1 << 13)                                                                  \
	X(RIGHT_FS_TRUNCATE, "fs-truncate", 3, FS, 1 << 14)                                                            \
	X(RIGHT_NET_BIND, "net-bind", 4, NET, 1 << 0)                                                                  \
	X(RIGHT_NET_CONNECT, "net-connect", 4, NET, 1 << 1)                                                            \
	X(RIGHT_FS_IOCTL_DEV, "fs-ioctl-dev", 5, FS, 1 << 15)                                                          \
	X(RIGHT_SCOPE_ABSTRACT_UNIX, "scope-abstract-unix", 6, SCOPE, 1 << 0)                                          \
	X(RIGHT_SCOPE_SIGNAL, "scope-signal", 6, SCOPE, 1 << 1)

enum landlock_right {
#define RIGHT_ENUM(symbol, name, abi, member, bits) symbol,
	LANDLOCK_RIGHTS(RIGHT_ENUM)
#undef RIGHT_ENUM
	    RIGHT_COUNT
};

enum landlock_member { MEMBER_FS, MEMBER_NET, MEMBER_SCOPE, MEMBER_COUNT };

struct landlock_right_info {
	const char *name;
	int abi;
	enum landlock_member member;
	uint64_t bits;
};
extern const struct landlock_right_info landlock_rights[RIGHT_COUNT];

/* `landlock path ACCESS PATH`: a file or the tree below a directory that stays reachable. */
struct policy_path {
	uint64_t access; /* PATH_* */
	char *path;
	unsigned line;
	char *reason;
};

struct policy_rlimit {
	bool stated;
	bool hard; /* as much as the hard limit gives */
	rlim_t value;
};

/* Statements with one or two permitted values: a policy says them so that its reader need not know them by heart. */
enum policy_fact { FACT_DEFAULT, FACT_UNKNOWN, FACT_CAPABILITIES, FACT_DUMPABLE, FACT_EXEC, FACT_FORK, FACT_COUNT };
enum policy_fact_value { FACT_UNSTATED, FACT_STRICT, FACT_WIDE };

struct policy {
	char role[32];
	char *override;       /* the file it came from, NULL: built in */
	bool is_list;         /* a file that others include, not a role */
	bool allows_the_rest; /* `default allow`: a spawner's list of what it may not do */
	enum policy_fact_value facts[FACT_COUNT];
	struct policy_rule *rules;
	size_t n_rules;
	enum policy_need landlock[RIGHT_COUNT];
	struct policy_path *paths;
	size_t n_paths;
	enum policy_need mdwe;
	struct policy_rlimit rlimits[RLIMIT_NLIMITS];
};

/* The text of a built-in policy file ("gate", "libc"); data is NULL when there is none. Static storage. file gets its
 * name. */
struct span policy_builtin(const char *name, const char **file);

/* Parse a text; file is its name in messages and must live as long as the policy. Includes are built-in lists. NULL and
 * "FILE:LINE: what is wrong" in error when it is faulty. */
struct policy *policy_parse(const char *file, struct span text, char *error, size_t error_size);

/* Whether one call can meet both rules; whether every call that meets inner meets outer. For rules of one call. */
bool policy_rules_overlap(const struct policy_rule *a, const struct policy_rule *b);
bool policy_rule_covers(const struct policy_rule *outer, const struct policy_rule *inner);

/* What the parser accepts but a reviewer must not: dangerous calls without conditions or without a reason. Calls report
 * for each finding and returns their number. */
size_t policy_lint(const struct policy *policy, void (*report)(void *context, const char *finding), void *context);

/* What a spawner (`default allow`) takes from a child that inherits its layers, although the child's policy says
 * otherwise. As policy_lint(). */
size_t policy_lint_spawner(const struct policy *spawner, const struct policy *child,
                           void (*report)(void *context, const char *finding), void *context);

/* Value of a constant ("AF_UNIX"); false when it is unknown. */
bool policy_constant(struct span name, uint64_t *value);

/* Number (0-5) and width of the named argument of a call; -1 when the call has no such argument in the table.
 * width: 32 or 64 bits, 0 for a pointer, which may only be compared with NULL. */
int policy_argument(const char *call, struct span name, unsigned *width);
/* The names that policy_argument() knows for a call, blank-separated, for messages. */
void policy_argument_names(const char *call, char *out, size_t size);

/* The seccomp program for an architecture (SCMP_ARCH_NATIVE...; one for another architecture is for reading only: it
 * lacks the answers to unknown numbers). program->filter is malloc'ed. Returns 0, or -errno with what failed in
 * error. */
int policy_compile(const struct policy *policy, uint32_t arch, enum policy_mode mode, struct sock_fprog *program,
                   char *error, size_t error_size);

/* What a program says to a call, as the kernel would run it: a SECCOMP_RET_* value; UINT32_MAX when the program has an
 * instruction that libseccomp does not use, or no end. */
uint32_t policy_program_run(const struct sock_fprog *program, const struct seccomp_data *data);

/* The kernel's Landlock ABI, 0 when it has none. */
int landlock_abi(void);
/* Restrict this process; layers that abi lacks are added to off. Returns 0, or -errno with what failed in error. */
int landlock_apply(const struct policy *policy, int abi, char *off, size_t off_size, char *error, size_t error_size);

/* What of LANDLOCK_RIGHTS a policy takes away that abi knows, ready for landlock_enter(); the rest is added to off.
 * Returns 0, or -errno with what failed in error. */
struct landlock_handled {
	int abi;
	uint64_t bits[MEMBER_COUNT];
};
int landlock_prepare(const struct policy *policy, int abi, struct landlock_handled *handled, char *off, size_t off_size,
                     char *error, size_t error_size);
/* Restrict this process to these paths, with async-signal-safe calls only. 0 or -errno. */
int landlock_enter(const struct landlock_handled *handled, const struct policy_grant *grants, size_t n);

/* The steps of policy_apply() that a child takes too: 0 or -errno. */
int rlimits_apply(const struct policy_rlimit rlimits[RLIMIT_NLIMITS]);
int mdwe_apply(enum policy_need need, bool *off);
int seccomp_apply(const struct sock_fprog *program);

/* Let SIGSYS write the name of the call to the log and end the process, for POLICY_TRAP. 0 or -errno. */
int policy_trap_prepare(void);

/* Append "name" to a comma-separated list. */
void policy_off_add(char *off, size_t off_size, const char *name);

#endif
