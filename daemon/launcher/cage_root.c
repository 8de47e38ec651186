/* SPDX-License-Identifier: Apache-2.0
 *
 * The private root of a run: its own user mapped to itself, the listed paths and nothing else, and then no capability
 * any more. Runs as process 1 of the new namespaces, after clone.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/mount.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cage_internal.h"
#include "lib/fdpass.h"

/* The new root is put together here: there is such a directory everywhere, and no path of a section lies below it. */
#define WORKSHOP "/proc"

#define TRY(expression)                                                                                                \
	do {                                                                                                           \
		if ((expression) < 0)                                                                                  \
			return -errno;                                                                                 \
	} while (0)

static int write_file(const char *path, const char *text)
{
	int fd FD_CLEANUP = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t len = (ssize_t)strlen(text);

	if (fd < 0)
		return -errno;
	return write(fd, text, (size_t)len) == len ? 0 : -errno;
}

/* The user stays who it is, so that files on disk keep their owners. */
static int map_user(const struct cage *cage)
{
	int rc;

	/* The files in /proc belong to root as long as the process is not dumpable. Nobody can make use of this moment:
	 * other runs are in other namespaces, and have no ptrace. */
	TRY(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
	rc = write_file("/proc/self/setgroups", "deny");
	if (rc == 0)
		rc = write_file("/proc/self/uid_map", cage->user_map);
	if (rc == 0)
		rc = write_file("/proc/self/gid_map", cage->group_map);
	TRY(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0));
	return rc;
}

/* Attributes of a mount and of all mounts below it; they are only ever added. */
static int restrict_mount(const char *path, unsigned flags, uint64_t attributes)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | attributes};

	TRY(syscall(SYS_mount_setattr, AT_FDCWD, path, flags, &attr, sizeof(attr)));
	return 0;
}

/* The directories above a path, relative to the new root. What is there already, or on a mount that cannot be written
 * to, is there: else the mount that follows fails. */
static void make_parents(const char *path)
{
	char parent[PATH_MAX];

	for (size_t i = 1; i < sizeof(parent) && path[i] != '\0'; i++) {
		parent[i - 1] = path[i];
		if (path[i] != '/')
			continue;
		parent[i - 1] = '\0';
		mkdir(parent, 0755);
		parent[i - 1] = '/';
	}
}

static void make_file(const char *path)
{
	int fd FD_CLEANUP = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	(void)fd;
}

static int mount_path(const struct cage_path *path)
{
	const char *place = path->real + 1;
	bool written = (path->access & PATH_WRITE) != 0;

	make_parents(path->real);
	if (path->directory)
		mkdir(place, 0755);
	else
		make_file(place);
	TRY(mount(path->real, place, NULL, MS_BIND | MS_REC, NULL));
	return restrict_mount(place, AT_RECURSIVE,
	                      (written ? 0 : MOUNT_ATTR_RDONLY) | (path->executable ? 0 : MOUNT_ATTR_NOEXEC));
}

static int mount_paths(const struct cage *cage)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < cage->n_paths; i++)
		if (cage->paths[i].mounted)
			rc = mount_path(&cage->paths[i]);
	/* Names that lead elsewhere: /bin on most systems, and what a section calls by another name. */
	for (size_t i = 0; rc == 0 && i < cage->n_paths; i++) {
		const struct cage_path *path = &cage->paths[i];

		if (strcmp(path->path, path->real) == 0)
			continue;
		make_parents(path->path);
		if (symlink(path->real, path->path + 1) < 0 && errno != EEXIST && errno != EROFS)
			rc = -errno;
	}
	return rc;
}

static int make_dev(void)
{
	static const char *const devices[] = {"/dev/null", "/dev/zero", "/dev/full", "/dev/urandom"};
	static const struct {
		const char *target, *name;
	} links[] = {{"/proc/self/fd", "dev/fd"},
	             {"/proc/self/fd/0", "dev/stdin"},
	             {"/proc/self/fd/1", "dev/stdout"},
	             {"/proc/self/fd/2", "dev/stderr"},
	             {"/tmp", "dev/shm"}};

	TRY(mkdir("dev", 0755));
	for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++) {
		make_file(devices[i] + 1);
		TRY(mount(devices[i], devices[i] + 1, NULL, MS_BIND, NULL));
	}
	for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++)
		TRY(symlink(links[i].target, links[i].name));
	return 0;
}

/* Only what the run itself is made of: no other processes, and nothing of the kernel's. */
static int make_proc(const struct cage *cage)
{
	TRY(mkdir("proc", 0555));
	if (cage->proc)
		TRY(mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "hidepid=invisible,subset=pid"));
	return 0;
}

static int make_tmp(const struct cage *cage)
{
	TRY(mkdir("tmp", 0700));
	TRY(mount("tmpfs", "tmp", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, cage->tmp_options));
	return 0;
}

static int begin_root(void)
{
	/* What is mounted or unmounted here stays here. */
	TRY(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	TRY(mount("tmpfs", WORKSHOP, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,nr_inodes=1k,mode=0755"));
	TRY(chdir(WORKSHOP));
	return 0;
}

/* The old root lies on top of the new one for a moment, and is then out of reach for good. */
static int enter_root(void)
{
	int rc;

	TRY(syscall(SYS_pivot_root, ".", "."));
	TRY(umount2(".", MNT_DETACH));
	TRY(chdir("/"));
	rc = restrict_mount("/", 0, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOEXEC);
	if (rc != 0)
		return rc;
	/* The system's name is nobody's business; the unit (ProtectHostname=) refuses this to everybody, and the
	 * program sees the name then. */
	if (sethostname("handler", 7) < 0 && errno != ENOSYS && errno != EPERM)
		return -errno;
	return 0;
}

/* Those of the new user namespace: whoever makes one has all of them in it. */
static int drop_capabilities(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};

	/* Until the kernel knows no further one. */
	for (int capability = 0; prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0; capability++)
		;
	if (prctl(PR_CAPBSET_READ, CAP_CHOWN, 0, 0, 0) != 0 ||
	    prctl(PR_CAPBSET_READ, CAP_CHECKPOINT_RESTORE, 0, 0, 0) == 1)
		return -EPERM;
	TRY(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0));
	TRY(syscall(SYS_capset, &header, none));
	return 0;
}

int cage_root_enter(const struct cage *cage, enum cage_step *step)
{
	int rc;

	*step = STEP_USER;
	rc = map_user(cage);
	if (rc == 0) {
		*step = STEP_ROOT;
		rc = begin_root();
	}
	if (rc == 0) {
		*step = STEP_MOUNT;
		rc = mount_paths(cage);
	}
	if (rc == 0) {
		*step = STEP_DEV;
		rc = make_dev();
	}
	if (rc == 0) {
		*step = STEP_PROC;
		rc = make_proc(cage);
	}
	if (rc == 0) {
		*step = STEP_TMP;
		rc = make_tmp(cage);
	}
	if (rc == 0) {
		*step = STEP_PIVOT;
		rc = enter_root();
	}
	if (rc == 0) {
		*step = STEP_CAPABILITIES;
		rc = drop_capabilities();
	}
	return rc;
}
