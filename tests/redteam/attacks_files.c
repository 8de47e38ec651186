/* SPDX-License-Identifier: Apache-2.0
 *
 * Attacks on files. `path` is the object, `directory` where it lies, `scratch` a directory of the attacker's own user,
 * `new` a name below `directory` that nobody has.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "attack.h"

static const char rogue[] = "rogue\n";

static void read_it(void)
{
	int fd = (int)TRY(openat, open(attack_text("path"), O_RDONLY));

	if (fd >= 0)
		attack_give_file(fd);
}

static void read_by_openat2(void)
{
	struct open_how how = {.flags = O_RDONLY};
	int fd = (int)TRY(openat2, syscall(SYS_openat2, AT_FDCWD, attack_text("path"), &how, sizeof(how)));

	if (fd >= 0)
		attack_give_file(fd);
}

static void read_by_map(void)
{
	int fd = (int)TRY(openat, open(attack_text("path"), O_RDONLY));
	void *map;

	if (fd < 0)
		return;
	if (TRY(mmap, (map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0)) == MAP_FAILED ? -1 : 0) == 0)
		attack_give(map, 64);
}

/* The handle was made by the runner, so that no directory need be opened: the working directory names the mount. */
static void read_by_handle(void)
{
	static _Alignas(struct file_handle) unsigned char storage[sizeof(struct file_handle) + 128];
	struct file_handle *handle = (struct file_handle *)(void *)storage;
	const char *hex = attack_text("handle");
	unsigned byte;
	int fd;

	handle->handle_bytes = (unsigned)strlen(hex) / 2;
	handle->handle_type = (int)attack_number("handle-type");
	for (size_t i = 0; i < handle->handle_bytes && sscanf(hex + 2 * i, "%2x", &byte) == 1; i++)
		storage[sizeof(*handle) + i] = (unsigned char)byte;
	fd = (int)TRY(open_by_handle_at, open_by_handle_at(AT_FDCWD, handle, O_RDONLY));
	if (fd >= 0)
		attack_give_file(fd);
}

static void write_with(int flags)
{
	int fd = (int)TRY(openat, open(attack_text("path"), flags));

	if (fd >= 0)
		TRY(write, write(fd, rogue, sizeof(rogue) - 1));
}

static void overwrite(void)
{
	write_with(O_WRONLY);
}

static void append(void)
{
	write_with(O_WRONLY | O_APPEND);
}

static void open_to_truncate(void)
{
	TRY(openat, open(attack_text("path"), O_WRONLY | O_TRUNC));
}

static void cut(void)
{
	TRY(truncate, truncate(attack_text("path"), 0));
}

static void create(void)
{
	int fd = (int)TRY(openat, open(attack_text("new"), O_WRONLY | O_CREAT, 0644));

	if (fd >= 0)
		TRY(write, write(fd, rogue, sizeof(rogue) - 1));
}

static void create_by_creat(void)
{
	TRY(creat, syscall(SYS_creat, attack_text("new"), 0644));
}

static void unlink_it(void)
{
	TRY(unlink, unlink(attack_text("path")));
}

static void scratch_name(char *out, size_t size)
{
	snprintf(out, size, "%s/taken", attack_text("scratch"));
}

static void rename_out(void)
{
	char taken[512];

	scratch_name(taken, sizeof(taken));
	TRY(rename, rename(attack_text("path"), taken));
}

static void rename_over(void)
{
	char own[512];

	snprintf(own, sizeof(own), "%s/own", attack_text("scratch"));
	TRY(rename, rename(own, attack_text("path")));
}

static void exchange(void)
{
	char own[512];

	snprintf(own, sizeof(own), "%s/own", attack_text("scratch"));
	TRY(renameat2, renameat2(AT_FDCWD, own, AT_FDCWD, attack_text("path"), RENAME_EXCHANGE));
}

static void link_out(void)
{
	char taken[512];

	scratch_name(taken, sizeof(taken));
	TRY(link, link(attack_text("path"), taken));
}

static void plant_symlink(void)
{
	TRY(symlink, symlink("/etc/passwd", attack_text("new")));
}

static void plant_directory(void)
{
	TRY(mkdir, mkdir(attack_text("new"), 0755));
}

static void plant_fifo(void)
{
	TRY(mknod, mknod(attack_text("new"), S_IFIFO | 0666, 0));
}

/* The null device: what counts is that a device could be made. */
static void plant_device(void)
{
	TRY(mknod, mknod(attack_text("new"), S_IFCHR | 0666, makedev(1, 3)));
}

static void plant_socket(void)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	int fd = (int)TRY(socket, socket(AF_UNIX, SOCK_SEQPACKET, 0));

	snprintf(name.sun_path, sizeof(name.sun_path), "%s", attack_text("new"));
	if (fd >= 0)
		TRY(bind, bind(fd, (struct sockaddr *)&name, sizeof(name)));
}

/* In the place of a socket that clients know. */
static void replace_socket(void)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	int fd;

	TRY(unlink, unlink(attack_text("path")));
	fd = (int)TRY(socket, socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
	snprintf(name.sun_path, sizeof(name.sun_path), "%s", attack_text("path"));
	if (fd >= 0)
		TRY(bind, bind(fd, (struct sockaddr *)&name, sizeof(name)));
}

static void make_setuid(void)
{
	TRY(chmod, chmod(attack_text("path"), 06755));
}

static void open_to_all(void)
{
	TRY(fchmodat, fchmodat(AT_FDCWD, attack_text("path"), 0666, 0));
}

static void give_away(void)
{
	TRY(chown, chown(attack_text("path"), 12345, 12345));
}

static void mark(void)
{
	TRY(setxattr, setxattr(attack_text("path"), "user.rogue", "1", 1, 0));
}

static void redate(void)
{
	struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 1}};

	TRY(utimensat, utimensat(AT_FDCWD, attack_text("path"), times, 0));
}

static void list(void)
{
	char buffer[4096];
	int fd = (int)TRY(openat, open(attack_text("directory"), O_RDONLY | O_DIRECTORY));
	long n = fd < 0 ? -1 : TRY(getdents64, syscall(SYS_getdents64, fd, buffer, sizeof(buffer)));

	if (n > 0)
		attack_give(buffer, (size_t)n);
}

/* The size is the secret. */
static void ask_size_by(bool by_statx)
{
	struct stat status;
	struct statx extended;
	char text[32];
	long long size = -1;

	if (by_statx && TRY(statx, statx(AT_FDCWD, attack_text("path"), 0, STATX_SIZE, &extended)) == 0)
		size = (long long)extended.stx_size;
	if (!by_statx && TRY(newfstatat, fstatat(AT_FDCWD, attack_text("path"), &status, 0)) == 0)
		size = status.st_size;
	snprintf(text, sizeof(text), "%lld", size);
	attack_give(text, strlen(text));
}

static void ask_size(void)
{
	ask_size_by(false);
}

static void ask_size_by_statx(void)
{
	ask_size_by(true);
}

static void read_attribute(void)
{
	char value[128];
	ssize_t n = TRY(getxattr, getxattr(attack_text("path"), "user.secret", value, sizeof(value)));

	if (n > 0)
		attack_give(value, (size_t)n);
}

static void read_link(void)
{
	char value[256];
	ssize_t n = TRY(readlink, readlink(attack_text("path"), value, sizeof(value)));

	if (n > 0)
		attack_give(value, (size_t)n);
}

static void follow_up(void)
{
	char climbing[1024];
	int fd;

	snprintf(climbing, sizeof(climbing), "%s/../victim/object", attack_text("scratch"));
	fd = (int)TRY(openat, open(climbing, O_RDONLY));
	if (fd >= 0)
		attack_give_file(fd);
}

static void follow_symlink(void)
{
	char way[1024];
	int fd;

	snprintf(way, sizeof(way), "%s/way", attack_text("scratch"));
	if (TRY(symlink, symlink(attack_text("path"), way)) < 0)
		return;
	fd = (int)TRY(openat, open(way, O_RDONLY));
	if (fd >= 0)
		attack_give_file(fd);
}

static void watch(void)
{
	int fd = (int)TRY(inotify_init1, inotify_init());

	if (fd >= 0)
		TRY(inotify_add_watch, inotify_add_watch(fd, attack_text("directory"), IN_ALL_EVENTS));
}

static void lock(void)
{
	struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	int fd = (int)TRY(openat, open(attack_text("path"), O_RDWR));

	if (fd >= 0)
		TRY(fcntl, fcntl(fd, F_SETLK, &whole));
}

static void fill(void)
{
	static char block[1 << 20];
	int fd = (int)TRY(openat, open(attack_text("new"), O_WRONLY | O_CREAT, 0600));

	for (int i = 0; fd >= 0 && i < 4; i++)
		TRY(write, write(fd, block, sizeof(block)));
}

static void fill_inodes(void)
{
	char name[512];

	for (int i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "%s.%d", attack_text("new"), i);
		if (TRY(openat, open(name, O_WRONLY | O_CREAT, 0600)) < 0)
			return;
	}
}

#define READS(object, number)                                                                                          \
	{"read-" object, number, object, "open and read", BASE_ROOT, NULL, read_it},                                   \
	    {"openat2-" object, number, object, "openat2 and read", BASE_ROOT, NULL, read_by_openat2},                 \
	    {"map-" object, number, object, "map into memory", BASE_ROOT, NULL, read_by_map},                          \
	{                                                                                                              \
		"handle-" object, 17, object, "open_by_handle_at", BASE_ROOT, NULL, read_by_handle                     \
	}
#define WRITES(object, number)                                                                                         \
	{"overwrite-" object, number, object, "open and write", BASE_ROOT, NULL, overwrite},                           \
	    {"append-" object, number, object, "open and append", BASE_ROOT, NULL, append},                            \
	    {"open-truncate-" object, number, object, "open with O_TRUNC", BASE_ROOT, NULL, open_to_truncate},         \
	    {"truncate-" object, 27, object, "truncate", BASE_ROOT, NULL, cut},                                        \
	    {"unlink-" object, 27, object, "unlink", BASE_ROOT, NULL, unlink_it},                                      \
	    {"rename-out-" object, 27, object, "rename out of its directory", BASE_ROOT, NULL, rename_out},            \
	    {"rename-over-" object, 27, object, "rename an own file over it", BASE_ROOT, NULL, rename_over},           \
	    {"exchange-" object, 27, object, "renameat2 RENAME_EXCHANGE", BASE_ROOT, NULL, exchange},                  \
	    {"link-" object, 27, object, "hard link outside", BASE_ROOT, NULL, link_out},                              \
	    {"setuid-" object, 16, object, "chmod u+s", BASE_ROOT, NULL, make_setuid},                                 \
	    {"chmod-" object, 16, object, "chmod to 0666", BASE_ROOT, NULL, open_to_all},                              \
	    {"chown-" object, 16, object, "chown", BASE_ROOT, NULL, give_away},                                        \
	    {"setxattr-" object, 27, object, "setxattr", BASE_ROOT, NULL, mark},                                       \
	    {"utimes-" object, 27, object, "utimensat", BASE_ROOT, NULL, redate},                                      \
	{                                                                                                              \
		"lock-" object, 27, object, "fcntl F_SETLK", BASE_ROOT, NULL, lock                                     \
	}
#define PLANTS(object, number)                                                                                         \
	{"create-in-" object, number, object, "create a file", BASE_ROOT, NULL, create},                               \
	    {"creat-in-" object, number, object, "creat", BASE_ROOT, NULL, create_by_creat},                           \
	    {"symlink-in-" object, number, object, "create a symbolic link", BASE_ROOT, NULL, plant_symlink},          \
	    {"mkdir-in-" object, number, object, "create a directory", BASE_ROOT, NULL, plant_directory},              \
	    {"mkfifo-in-" object, 16, object, "mknod of a pipe", BASE_ROOT, NULL, plant_fifo},                         \
	    {"mknod-in-" object, 16, object, "mknod of a device", BASE_ROOT, NULL, plant_device},                      \
	{                                                                                                              \
		"bind-in-" object, 28, object, "bind of a unix socket", BASE_ROOT, NULL, plant_socket                  \
	}

const struct attack attacks_files[] = {
    READS("key-ring", 25),
    READS("credential", 25),
    READS("shadow", 25),
    READS("attachment", 26),
    {"climb-attachment", 26, "attachment", "read by ../ in its name", BASE_ROOT, NULL, follow_up},
    {"symlink-attachment", 26, "attachment", "read through an own symbolic link", BASE_ROOT, NULL, follow_symlink},
    {"list-spool", 26, "spool", "getdents", BASE_ROOT, NULL, list},
    {"watch-spool", 43, "spool", "inotify", BASE_ROOT, NULL, watch},
    {"stat-sized", 26, "sized", "stat: learn its size", BASE_ROOT, NULL, ask_size},
    {"statx-sized", 26, "sized", "statx: learn its size", BASE_ROOT, NULL, ask_size_by_statx},
    {"getxattr-marked", 26, "marked", "getxattr", BASE_ROOT, NULL, read_attribute},
    {"readlink-pointer", 26, "pointer", "readlink", BASE_ROOT, NULL, read_link},
    WRITES("configuration", 29),
    WRITES("web-page", 29),
    PLANTS("cron-directory", 29),
    PLANTS("web-directory", 29),
    {"replace-daemon-socket", 28, "daemon-socket", "unlink and bind", BASE_ROOT, NULL, replace_socket},
    {"unlink-daemon-socket", 28, "daemon-socket", "unlink", BASE_ROOT, NULL, unlink_it},
    {"rename-over-daemon-socket", 28, "daemon-socket", "rename an own file over it", BASE_ROOT, NULL, rename_over},
    {"read-open-file", 25, "open-file", "open and read", BASE_ROOT, NULL, read_it},
    {"overwrite-open-file", 29, "open-file", "open and write", BASE_ROOT, NULL, overwrite},
    {"fill-open-directory", 30, "open-directory", "fill the disk", BASE_ROOT, NULL, fill},
    {"inodes-open-directory", 30, "open-directory", "fill the inode table", BASE_ROOT, NULL, fill_inodes},
    {0},
};
