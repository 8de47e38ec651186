/* SPDX-License-Identifier: Apache-2.0
 *
 * check: the SELinux module, in CIL as its compiler writes it, against the policy and walls.c, in both directions:
 * capabilities, sockets that a domain makes, types of files. What Debian's policy gives to every domain is not in it.
 */
#include <stdio.h>
#include <string.h>

#include "walls.h"

#define TYPES_MAX      64
#define ATTRIBUTES_MAX 32
#define WORD_MAX       64

struct domain {
	struct wall_file wall;
	char name[WORD_MAX];
	char attributes[ATTRIBUTES_MAX][WORD_MAX]; /* that it has */
	size_t n_attributes;
	struct {
		char name[WORD_MAX];
		unsigned access;
	} types[TYPES_MAX];
	size_t n_types;
	unsigned sockets; /* which of socket_kinds it can make, a bit each */
};

/* `(allow SOURCE TARGET (CLASS (PERMISSION...)))` */
struct allow {
	char source[WORD_MAX], target[WORD_MAX], class[WORD_MAX];
	char permissions[512];
};

/* ---------------------------------------------------------------- reading */

static bool has_word(const char *list, const char *word)
{
	char padded[WORD_MAX + 2];

	snprintf(padded, sizeof(padded), " %s ", word);
	return strstr(list, padded) != NULL;
}

/* The attributes of the domain. An expression with `not` counts all that it names: rather too much than too little. */
static void attributes_read(struct domain *domain, const char *text)
{
	static const char statement[] = "(typeattributeset ";

	for (const char *at = text; (at = strstr(at, statement)) != NULL;) {
		char list[4096];
		size_t len, name_len;

		at += sizeof(statement) - 1;
		len = strcspn(at, "\n");
		name_len = strcspn(at, " ");
		snprintf(list, sizeof(list), "%.*s", (int)len, at);
		for (char *c = list; *c != '\0'; c++)
			if (*c == '(' || *c == ')')
				*c = ' ';
		if (has_word(list + (name_len < strlen(list) ? name_len : 0), domain->name) && name_len < WORD_MAX &&
		    domain->n_attributes < ATTRIBUTES_MAX)
			snprintf(domain->attributes[domain->n_attributes++], WORD_MAX, "%.*s", (int)name_len, at);
	}
}

static bool is_of(const struct domain *domain, const char *source)
{
	if (strcmp(source, domain->name) == 0)
		return true;
	for (size_t i = 0; i < domain->n_attributes; i++)
		if (strcmp(source, domain->attributes[i]) == 0)
			return true;
	return false;
}

static void type_add(struct domain *domain, const char *name, unsigned access)
{
	size_t i = 0;

	while (i < domain->n_types && strcmp(domain->types[i].name, name) != 0)
		i++;
	if (i == TYPES_MAX) {
		wall_find(&domain->wall, "too many types for this check: ", name);
		return;
	}
	if (i == domain->n_types)
		snprintf(domain->types[domain->n_types++].name, WORD_MAX, "%s", name);
	domain->types[i].access |= access;
}

/* Of a directory, its list and its entries count; to pass through it is nothing. A link is followed, not read. */
static unsigned file_access(const struct allow *allow)
{
	static const char *const writes[] = {"write",  "append", "create",   "setattr",     "link",      "unlink",
	                                     "rename", "rmdir",  "reparent", "relabelfrom", "relabelto", "add_name"};
	unsigned access = 0;

	if (has_word(allow->permissions, "read") && strcmp(allow->class, "lnk_file") != 0)
		access |= ACCESS_READ;
	if (has_word(allow->permissions, "execute"))
		access |= ACCESS_MAP;
	if (has_word(allow->permissions, "execute_no_trans"))
		access |= ACCESS_RUN;
	for (size_t i = 0; i < sizeof(writes) / sizeof(writes[0]); i++)
		if (has_word(allow->permissions, writes[i]))
			access |= ACCESS_WRITE;
	return access;
}

static bool is_socket_granted(const struct wall_file *wall, const struct socket_kind *kind)
{
	if (policy_has_socket(wall->policy, kind))
		return true;
	for (size_t i = 0; i < wall_n_grants; i++)
		if ((wall_grants[i].roles & wall->role) != 0 && wall_grants[i].selinux != NULL &&
		    strcmp(wall_grants[i].selinux, kind->class) == 0)
			return true;
	return false;
}

static void socket_add(struct domain *domain, const char *class)
{
	bool granted = false;

	for (size_t i = 0; i < n_socket_kinds; i++)
		if (strcmp(socket_kinds[i].class, class) == 0) {
			domain->sockets |= 1U << i;
			granted = granted || is_socket_granted(&domain->wall, &socket_kinds[i]);
		}
	if (!granted)
		wall_find(&domain->wall, "makes sockets beyond the policy, unexplained: ", class);
}

/* No role has a capability in SELinux: it is entered without, see walls.c. */
static void allow_read(struct domain *domain, const struct allow *allow)
{
	const char *class = allow->class;
	size_t len = strlen(class);

	if (strncmp(class, "cap", 3) == 0)
		wall_find(&domain->wall, "grants capabilities beyond the policy, unexplained:", allow->permissions);
	else if (len > 7 && strcmp(class + len - 7, "_socket") == 0 && has_word(allow->permissions, "create"))
		socket_add(domain, class);
	/* A pipe has no path, and "self" is the domain's own below /proc. */
	else if ((strcmp(class, "dir") == 0 || (len >= 4 && strcmp(class + len - 4, "file") == 0)) &&
	         strcmp(class, "fifo_file") != 0 && strcmp(allow->target, "self") != 0)
		type_add(domain, allow->target, file_access(allow));
}

static void allows_read(struct domain *domain, const char *text)
{
	for (const char *at = text; (at = strstr(at, "(allow ")) != NULL; at++) {
		struct allow allow = {.permissions = " "};
		int end = 0;

		(void)sscanf(at, "(allow %63[^ ()] %63[^ ()] (%63[^ ()] (%500[^()])))%n", allow.source, allow.target,
		             allow.class, allow.permissions + 1, &end);
		if (end == 0)
			wall_find(&domain->wall, "a rule that this check cannot read", "");
		else if (is_of(domain, allow.source)) {
			memcpy(allow.permissions + strlen(allow.permissions), " ", 2);
			allow_read(domain, &allow);
		}
	}
}

/* ---------------------------------------------------------------- comparing */

static unsigned explained(const struct wall_file *wall, const char *type)
{
	unsigned access = 0;

	for (size_t i = 0; i < wall_n_paths; i++)
		if ((wall_paths[i].roles & wall->role) != 0 && wall_paths[i].type != NULL &&
		    strcmp(wall_paths[i].type, type) == 0)
			access |= wall_access(wall_paths[i].access);
	return access;
}

static unsigned granted(const struct domain *domain, const char *type)
{
	for (size_t i = 0; i < domain->n_types; i++)
		if (strcmp(domain->types[i].name, type) == 0)
			return domain->types[i].access;
	return 0;
}

static void compare(struct domain *domain)
{
	for (size_t i = 0; i < domain->n_types; i++)
		if ((domain->types[i].access & ~explained(&domain->wall, domain->types[i].name)) != 0)
			wall_find(&domain->wall,
			          "grants files beyond the policy, unexplained: ", domain->types[i].name);
	for (size_t i = 0; i < n_socket_kinds; i++)
		if (is_socket_granted(&domain->wall, &socket_kinds[i]) && (domain->sockets & 1U << i) == 0)
			wall_find(&domain->wall,
			          "takes away a kind of socket that the policy grants: ", socket_kinds[i].words);
	for (size_t i = 0; i < wall_n_paths; i++) {
		const struct wall_path *path = &wall_paths[i];

		if ((path->roles & domain->wall.role) != 0 && path->type != NULL &&
		    (wall_access(path->access) & ~granted(domain, path->type)) != 0)
			wall_find(&domain->wall, "does not grant files that another wall grants: ", path->type);
	}
}

int check_module(const char *file, const char *text, const struct policy *policy, size_t *findings)
{
	struct domain domain = {.wall = {.file = file, .policy = policy, .role = wall_role(policy->role)}};

	snprintf(domain.name, sizeof(domain.name), "handoffd_%s_t", policy->role);
	domain.wall.file = domain.name;
	attributes_read(&domain, text);
	allows_read(&domain, text);
	if (domain.n_types == 0)
		return tool_error("%s: there is no domain %s", file, domain.name);
	compare(&domain);
	*findings += domain.wall.findings;
	return TOOL_OK;
}
