/* SPDX-License-Identifier: Apache-2.0
 *
 * PHP with Apache's rights: under mod_php, or as Apache's user, every script can do what Apache can, and tokens do not
 * protect one script from another. What can be seen from here is checked; what cannot is said.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "apr_lib.h"

#include "status.h"

static void add_check(struct status *status, const char *name, const char *state, const char *text)
{
	APR_ARRAY_PUSH(status->checks, struct status_check) =
	    (struct status_check){.name = name, .state = state, .text = text};
}

/* The module's record is called after its source file, with the major version in it up to PHP 7. */
static void check_module(struct status *status)
{
	bool loaded = ap_find_linked_module("mod_php.c") || ap_find_linked_module("mod_php7.c") ||
	              ap_find_linked_module("mod_php5.c");

	if (loaded)
		add_check(status, "php-module", "warning",
		          "mod_php is loaded: scripts run inside of Apache, with its memory and rights. Tokens do not "
		          "protect against another script there; php-fpm under a user of its own does better.");
	else
		add_check(status, "php-module", "good", "mod_php is not loaded.");
}

/* Name and effective uid of a process; false when it is gone or hidden. */
static bool read_process(const char *pid, char name[16], unsigned long *uid)
{
	char path[64], line[256];

	snprintf(path, sizeof(path), "/proc/%.20s/status", pid);
	FILE *file = fopen(path, "re");
	if (!file)
		return false;
	bool named = false, owned = false;
	while (!owned && fgets(line, sizeof(line), file)) {
		named = named || sscanf(line, "Name: %15s", name) == 1;
		if (strncmp(line, "Uid:", 4) != 0)
			continue;
		/* Real, effective... */
		char *end;
		strtoul(line + 4, &end, 10);
		*uid = strtoul(end, NULL, 10);
		owned = true;
	}
	fclose(file);
	return named && owned;
}

/* Processes of our user whose program is called php something; -1 when they cannot be seen. */
static int count_php(char name[16])
{
	unsigned long uid;
	int n = 0;
	DIR *proc = opendir("/proc");

	/* Where processes of others are hidden, so are those of our user that have changed to it. */
	if (!proc || !read_process("1", name, &uid)) {
		if (proc)
			closedir(proc);
		return -1;
	}
	/* The directory is this thread's own. NOLINTNEXTLINE(concurrency-mt-unsafe) */
	for (const struct dirent *entry; (entry = readdir(proc)) != NULL;) {
		char found[16];
		if (!apr_isdigit(entry->d_name[0]) || !read_process(entry->d_name, found, &uid))
			continue;
		if (uid != geteuid() || strncmp(found, "php", 3) != 0)
			continue;
		apr_cpystrn(name, found, 16);
		n++;
	}
	closedir(proc);
	return n;
}

static void check_processes(struct status *status)
{
	apr_pool_t *pool = status->r->pool;
	char name[16] = "";
	int n = count_php(name);

	if (n > 0)
		add_check(status, "php-user", "warning",
		          apr_psprintf(pool,
		                       "PHP runs as Apache's user, uid %lu (%d processes, %s): its scripts may hand "
		                       "off as Apache does. Give the php-fpm pool a user of its own.",
		                       (unsigned long)geteuid(), n, status_escape(pool, name)));
	else if (n == 0)
		add_check(status, "php-user", "good",
		          apr_psprintf(pool, "No PHP process of Apache's user, uid %lu, is to be seen now.",
		                       (unsigned long)geteuid()));
	else
		add_check(status, "php-user", "unknown",
		          "Whether PHP runs as Apache's user is not known: processes of others are hidden in /proc.");
}

void status_check_php(struct status *status)
{
	check_module(status);
	check_processes(status);
	add_check(status, "not-checked", "unknown",
	          "Not checked: PHP that is started on demand, in other containers or on other machines, and CGI "
	          "programs, which run as Apache's user unless suexec gives them another.");
}
