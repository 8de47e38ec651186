/* SPDX-License-Identifier: Apache-2.0
 *
 * Privileges: see privileges.h.
 */
#include "privileges.h"

#include <cap-ng.h>
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

__attribute__((format(printf, 4, 5))) static int fail(int code, char *error, size_t size, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(error, size, format, arguments);
	va_end(arguments);
	return code;
}

static void add_off(struct privileges_report *report, const char *name)
{
	size_t len = strlen(report->off);

	snprintf(report->off + len, sizeof(report->off) - len, "%s%s", len == 0 ? "" : ",", name);
}

static int become(uid_t uid, gid_t gid, char *error, size_t error_size)
{
	int rc;

	if (uid == 0 || gid == 0)
		return fail(-EPERM, error, error_size, "started as root and told to stay uid %u gid %u", (unsigned)uid,
		            (unsigned)gid);
	capng_clear(CAPNG_SELECT_ALL);
	rc = capng_change_id((int)uid, (int)gid,
	                     (capng_flags_t)(CAPNG_DROP_SUPP_GRP | CAPNG_CLEAR_BOUNDING | CAPNG_CLEAR_AMBIENT));
	if (rc != 0)
		return fail(-EPERM, error, error_size, "capng_change_id to uid %u gid %u failed (%d)", (unsigned)uid,
		            (unsigned)gid, rc);
	return 0;
}

/* The bounding and ambient sets are read one capability at a time, until the kernel knows no further one. */
static bool set_is_empty(bool bounding)
{
	for (int capability = 0; capability < 64; capability++) {
		int rc = bounding ? prctl(PR_CAPBSET_READ, capability, 0, 0, 0)
		                  : prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, capability, 0, 0);

		if (rc < 0)
			return capability > CAP_BLOCK_SUSPEND;
		if (rc != 0)
			return false;
	}
	return true;
}

static int check_capabilities(char *error, size_t error_size)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {{0}};

	if (syscall(SYS_capget, &header, data) != 0)
		return fail(-errno, error, error_size, "capget: %m");
	for (size_t i = 0; i < _LINUX_CAPABILITY_U32S_3; i++)
		if ((data[i].effective | data[i].permitted | data[i].inheritable) != 0)
			return fail(-EPERM, error, error_size, "capabilities are left");
	if (!set_is_empty(false))
		return fail(-EPERM, error, error_size, "ambient capabilities are left");
	if (prctl(PR_GET_KEEPCAPS, 0, 0, 0, 0) != 0)
		return fail(-EPERM, error, error_size, "keepcaps is still set");
	return 0;
}

/* A user other than root may still have been started with capabilities. One that was not has nothing to shed, and may
 * be without the system call for it. */
static int shed(uid_t uid, char *error, size_t error_size)
{
	int rc;

	if (geteuid() != uid)
		return fail(-EPERM, error, error_size, "runs as uid %u, the configuration says %u", (unsigned)geteuid(),
		            (unsigned)uid);
	if (check_capabilities(error, error_size) == 0)
		return 0;
	capng_clear(CAPNG_SELECT_ALL);
	rc = capng_apply(CAPNG_SELECT_CAPS);
	if (rc == 0)
		rc = capng_apply(CAPNG_SELECT_AMBIENT);
	if (rc != 0)
		return fail(-EPERM, error, error_size, "capng_apply failed (%d)", rc);
	return 0;
}

static int check_ids(uid_t uid, char *error, size_t error_size)
{
	uid_t real_uid, effective_uid, saved_uid;
	gid_t real_gid, effective_gid, saved_gid;

	if (getresuid(&real_uid, &effective_uid, &saved_uid) != 0 ||
	    getresgid(&real_gid, &effective_gid, &saved_gid) != 0)
		return fail(-errno, error, error_size, "getresuid: %m");
	if (uid == 0 || real_uid != uid || effective_uid != uid || saved_uid != uid)
		return fail(-EPERM, error, error_size, "uids are %u/%u/%u instead of %u", (unsigned)real_uid,
		            (unsigned)effective_uid, (unsigned)saved_uid, (unsigned)uid);
	if (real_gid == 0 || effective_gid != real_gid || saved_gid != real_gid)
		return fail(-EPERM, error, error_size, "gids are %u/%u/%u", (unsigned)real_gid, (unsigned)effective_gid,
		            (unsigned)saved_gid);
	if (setuid(0) == 0 || setresuid((uid_t)-1, 0, (uid_t)-1) == 0 || setgid(0) == 0)
		return fail(-EPERM, error, error_size, "could become root again");
	return 0;
}

/* systemd puts a user's own group among the supplementary ones, where it grants nothing more. */
static bool has_no_other_group(void)
{
	gid_t groups[2];
	int n = getgroups((int)(sizeof(groups) / sizeof(groups[0])), groups);

	return n == 0 || (n == 1 && groups[0] == getegid());
}

int privileges_drop(uid_t uid, gid_t gid, struct privileges_report *report, char *error, size_t error_size)
{
	bool privileged = geteuid() == 0;
	int rc;

	report->off[0] = '\0';
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return fail(-errno, error, error_size, "no_new_privs: %m");
	rc = privileged ? become(uid, gid, error, error_size) : shed(uid, error, error_size);
	if (rc == 0)
		rc = check_ids(uid, error, error_size);
	if (rc == 0)
		rc = check_capabilities(error, error_size);
	if (rc != 0)
		return rc;
	if (!set_is_empty(true)) {
		if (privileged)
			return fail(-EPERM, error, error_size, "the bounding set is not empty");
		add_off(report, "bounding-set");
	}
	if (!has_no_other_group()) {
		if (privileged)
			return fail(-EPERM, error, error_size, "supplementary groups are left");
		add_off(report, "supplementary-groups");
	}
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
		return fail(-EPERM, error, error_size, "no_new_privs is not set");
	return 0;
}
