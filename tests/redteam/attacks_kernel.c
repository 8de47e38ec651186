/* SPDX-License-Identifier: Apache-2.0
 *
 * Attacks on the kernel and on the whole machine. Each does as little as still shows that it worked: the clock is set
 * to the time it has, a page of swap is the runner's, a module is none.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <linux/perf_event.h>
#include <linux/reboot.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/fsuid.h>
#include <sys/io.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/quota.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

#include "attack.h"

/* ---------------------------------------------------------------- namespaces */

#define UNSHARE(flag)                                                                                                  \
	static void unshare_##flag(void)                                                                               \
	{                                                                                                              \
		TRY(unshare, unshare(flag));                                                                           \
	}
UNSHARE(CLONE_NEWUSER)
UNSHARE(CLONE_NEWNS)
UNSHARE(CLONE_NEWNET)
UNSHARE(CLONE_NEWPID)
UNSHARE(CLONE_NEWUTS)
UNSHARE(CLONE_NEWIPC)
UNSHARE(CLONE_NEWCGROUP)
UNSHARE(CLONE_NEWTIME)

/* The child waits to be looked at and ends with its parent. */
static void child_waits(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;)
		pause();
}

static void clone_user_namespace(void)
{
	long pid = TRY(clone, syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0));

	if (pid == 0)
		child_waits();
}

static void clone3_user_namespace(void)
{
	struct {
		uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
	} how = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
	long pid = TRY(clone3, syscall(SYS_clone3, &how, sizeof(how)));

	if (pid == 0)
		child_waits();
}

/* ---------------------------------------------------------------- file systems */

static void mount_memory(void)
{
	TRY(mount, mount("rogue", attack_text("directory"), "tmpfs", 0, "size=4k"));
}

static void mount_bind(void)
{
	TRY(mount, mount("/etc", attack_text("directory"), NULL, MS_BIND, NULL));
}

static void mount_by_descriptor(void)
{
	int context = (int)TRY(fsopen, syscall(SYS_fsopen, "tmpfs", 0));
	int fd;

	if (context < 0 || TRY(fsconfig, syscall(SYS_fsconfig, context, 6 /* create */, NULL, NULL, 0)) < 0)
		return;
	fd = (int)TRY(fsmount, syscall(SYS_fsmount, context, 0, 0));
	if (fd >= 0)
		TRY(move_mount, syscall(SYS_move_mount, fd, "", AT_FDCWD, attack_text("directory"), 4));
}

static void mount_by_tree(void)
{
	int fd = (int)TRY(open_tree, syscall(SYS_open_tree, AT_FDCWD, "/etc", 1 /* clone */));

	if (fd >= 0)
		TRY(move_mount, syscall(SYS_move_mount, fd, "", AT_FDCWD, attack_text("directory"), 4));
}

static void unmount(void)
{
	TRY(umount2, umount2(attack_text("mounted"), MNT_DETACH));
}

static void change_root(void)
{
	TRY(chroot, chroot(attack_text("directory")));
}

static void watch_all(void)
{
	TRY(fanotify_init, fanotify_init(FAN_CLASS_NOTIF, O_RDONLY));
}

static void quota(void)
{
	TRY(quotactl, quotactl(QCMD(Q_SYNC, USRQUOTA), NULL, 0, NULL));
}

/* ---------------------------------------------------------------- the machine's state */

static void set_host_name(void)
{
	TRY(sethostname, sethostname("rogue", 5));
}

static void set_domain_name(void)
{
	TRY(setdomainname, setdomainname("rogue", 5));
}

static void swap_on(void)
{
	TRY(swapon, swapon(attack_text("swap"), 0));
}

static void account(void)
{
	TRY(acct, acct(attack_text("account")));
}

static void read_kernel_log(void)
{
	static char buffer[1 << 18];
	long n = TRY(syslog, klogctl(3 /* read all */, buffer, sizeof(buffer)));
	size_t tail = n > 4096 ? 4096 : (size_t)(n > 0 ? n : 0);

	if (n > 0)
		attack_give(buffer + (size_t)n - tail, tail);
}

/* The other value of what Ctrl-Alt-Del does; the runner puts it back. */
static void change_ctrl_alt_del(void)
{
	TRY(reboot, reboot((int)(attack_number("now") != 0 ? RB_DISABLE_CAD : RB_ENABLE_CAD)));
}

static void set_time_of_day(void)
{
	struct timeval now;

	gettimeofday(&now, NULL);
	TRY(settimeofday, settimeofday(&now, NULL));
}

static void set_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	TRY(clock_settime, clock_settime(CLOCK_REALTIME, &now));
}

/* What the kernel tells of the clock's error, which nothing here uses. */
static void adjust(void)
{
	struct timex change = {.modes = ADJ_ESTERROR, .esterror = (long)attack_number("error")};

	TRY(adjtimex, syscall(SYS_adjtimex, &change));
}

static void adjust_clock(void)
{
	struct timex change = {.modes = ADJ_ESTERROR, .esterror = (long)attack_number("error")};

	TRY(clock_adjtime, clock_adjtime(CLOCK_REALTIME, &change));
}

static void open_setting(void)
{
	TRY(openat, open(attack_text("setting"), O_WRONLY));
}

static void write_setting(void)
{
	int fd = (int)TRY(openat, open("/proc/sys/kernel/hostname", O_WRONLY));

	if (fd >= 0)
		TRY(write, write(fd, "rogue", 5));
}

/* ---------------------------------------------------------------- code in the kernel */

static void load_map(void)
{
	union bpf_attr map = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};

	TRY(bpf, syscall(SYS_bpf, BPF_MAP_CREATE, &map, sizeof(map)));
}

static void load_program(void)
{
	struct bpf_insn code[] = {{.code = BPF_ALU64 | BPF_MOV | BPF_K}, {.code = BPF_JMP | BPF_EXIT}};
	union bpf_attr program = {.prog_type = BPF_PROG_TYPE_KPROBE, .insn_cnt = 2};

	program.insns = (uint64_t)(uintptr_t)code;
	program.license = (uint64_t)(uintptr_t) "GPL";
	TRY(bpf, syscall(SYS_bpf, BPF_PROG_LOAD, &program, sizeof(program)));
}

static void measure(void)
{
	struct perf_event_attr event = {.type = PERF_TYPE_SOFTWARE, .size = sizeof(event)};

	/* Of all processes on one processor. */
	TRY(perf_event_open, syscall(SYS_perf_event_open, &event, -1, 0, -1, 0));
}

static void insert_module(void)
{
	static char image[64] = "no module";

	TRY(init_module, syscall(SYS_init_module, image, sizeof(image), ""));
}

static void insert_module_file(void)
{
	TRY(finit_module, syscall(SYS_finit_module, ATTACK_FD_RESULT, "", 0));
}

static void remove_module(void)
{
	TRY(delete_module, syscall(SYS_delete_module, "no_such_module", O_NONBLOCK));
}

static void load_kernel(void)
{
	TRY(kexec_load, syscall(SYS_kexec_load, 0, 0, NULL, 0));
}

static void raise_io_privilege(void)
{
#ifdef __x86_64__
	TRY(iopl, iopl(3));
#endif
}

static void take_ports(void)
{
#ifdef __x86_64__
	TRY(ioperm, ioperm(0x80, 1, 1));
#endif
}

static void change_descriptor_table(void)
{
#ifdef __x86_64__
	struct {
		unsigned entry, base, limit, flags;
	} segment = {.entry = 0, .limit = 0xfffff, .flags = 0x51};
	char table[64];
	long n;

	if (TRY(modify_ldt, syscall(SYS_modify_ldt, 1, &segment, sizeof(segment))) != 0)
		return;
	n = TRY(modify_ldt, syscall(SYS_modify_ldt, 0, table, sizeof(table)));
	if (n > 0)
		attack_give("ldt-entry", 9);
#endif
}

/* ---------------------------------------------------------------- keys of the kernel */

static void plant_key(void)
{
	TRY(add_key, syscall(SYS_add_key, "user", attack_text("description"), "rogue", 5, KEY_SPEC_SESSION_KEYRING));
}

static void give_key(long key)
{
	char buffer[256];
	long n = TRY(keyctl, syscall(SYS_keyctl, KEYCTL_READ, key, buffer, sizeof(buffer)));

	if (n > 0)
		attack_give(buffer, (size_t)n);
}

static void read_key(void)
{
	give_key((long)attack_number("key"));
}

static void find_key(void)
{
	long key = TRY(request_key, syscall(SYS_request_key, "user", attack_text("known"), NULL, 0));

	if (key > 0)
		give_key(key);
}

/* ---------------------------------------------------------------- other users */

static void set_user(void)
{
	TRY(setuid, setuid((uid_t)attack_number("uid")));
}

static void set_all_users(void)
{
	uid_t uid = (uid_t)attack_number("uid");

	TRY(setresuid, setresuid(uid, uid, uid));
}

static void set_file_user(void)
{
	attack_step("setfsuid");
	setfsuid((uid_t)attack_number("uid"));
	attack_step("setfsuid");
	TRY(setfsuid, setfsuid((uid_t)-1) == (int)attack_number("uid") ? 0 : -1);
}

static void set_group(void)
{
	TRY(setgid, setgid((gid_t)attack_number("uid")));
}

static void set_groups(void)
{
	gid_t group = (gid_t)attack_number("uid");

	TRY(setgroups, setgroups(1, &group));
}

/* From nothing, or from all: inheritable, so that a program started next would have it. */
static void set_capabilities(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {{0}};

	TRY(capget, syscall(SYS_capget, &header, data));
	data[0].permitted |= 1U << CAP_NET_RAW;
	data[0].effective |= 1U << CAP_NET_RAW;
	data[0].inheritable |= 1U << CAP_NET_RAW;
	TRY(capset, syscall(SYS_capset, &header, data));
}

static void set_secure_bits(void)
{
	TRY(prctl, prctl(PR_SET_SECUREBITS, 1, 0, 0, 0));
}

static void run_before_others(void)
{
	struct sched_param param = {.sched_priority = 1};

	TRY(sched_setscheduler, sched_setscheduler(0, SCHED_RR, &param));
}

static void raise_priority(void)
{
	TRY(setpriority, setpriority(PRIO_PROCESS, 0, -20));
}

#define NAMESPACE(kind, flag)                                                                                          \
	{                                                                                                              \
		"unshare-" kind, 12, "namespace-" kind, "unshare " #flag, BASE_ROOT, NULL, unshare_##flag              \
	}

const struct attack attacks_kernel[] = {
    NAMESPACE("user", CLONE_NEWUSER),
    NAMESPACE("mnt", CLONE_NEWNS),
    NAMESPACE("net", CLONE_NEWNET),
    NAMESPACE("pid", CLONE_NEWPID),
    NAMESPACE("uts", CLONE_NEWUTS),
    NAMESPACE("ipc", CLONE_NEWIPC),
    NAMESPACE("cgroup", CLONE_NEWCGROUP),
    NAMESPACE("time", CLONE_NEWTIME),
    {"clone-user-namespace", 12, "child-namespace", "clone CLONE_NEWUSER", BASE_ROOT, NULL, clone_user_namespace},
    {"clone3-user-namespace", 12, "child-namespace", "clone3 CLONE_NEWUSER", BASE_ROOT, NULL, clone3_user_namespace},
    {"mount-tmpfs", 17, "mounts", "mount", BASE_ROOT, NULL, mount_memory},
    {"mount-bind", 17, "mounts", "mount MS_BIND", BASE_ROOT, NULL, mount_bind},
    {"mount-fsopen", 17, "mounts", "fsopen, fsmount, move_mount", BASE_ROOT, NULL, mount_by_descriptor},
    {"mount-open-tree", 17, "mounts", "open_tree, move_mount", BASE_ROOT, NULL, mount_by_tree},
    {"umount", 17, "mounts", "umount2", BASE_ROOT, NULL, unmount},
    {"chroot", 16, "root-directory", "chroot", BASE_ROOT, NULL, change_root},
    {"fanotify", 43, "fanotify", "fanotify_init", BASE_ROOT, NULL, watch_all},
    {"quotactl", 23, "reached", "quotactl", BASE_ROOT, NULL, quota},
    {"sethostname", 23, "host-name", "sethostname", BASE_ROOT, NULL, set_host_name},
    {"setdomainname", 23, "host-name", "setdomainname", BASE_ROOT, NULL, set_domain_name},
    {"swapon", 23, "swap", "swapon", BASE_ROOT, NULL, swap_on},
    {"acct", 23, "accounting", "acct", BASE_ROOT, NULL, account},
    {"syslog", 23, "kernel-log", "syslog: read all", BASE_ROOT, NULL, read_kernel_log},
    {"reboot-ctrl-alt-del", 23, "ctrl-alt-del", "reboot CAD_ON, CAD_OFF", BASE_ROOT, NULL, change_ctrl_alt_del},
    {"settimeofday", 22, "clock", "settimeofday", BASE_ROOT, NULL, set_time_of_day},
    {"clock-settime", 22, "clock", "clock_settime", BASE_ROOT, NULL, set_clock},
    {"adjtimex", 22, "clock-error", "adjtimex", BASE_ROOT, NULL, adjust},
    {"clock-adjtime", 22, "clock-error", "clock_adjtime", BASE_ROOT, NULL, adjust_clock},
    {"open-core-pattern", 21, "core-pattern", "open to write", BASE_ROOT, NULL, open_setting},
    {"open-release-agent", 21, "release-agent", "open to write", BASE_ROOT, NULL, open_setting},
    {"open-sysrq", 21, "sysrq", "open to write", BASE_ROOT, NULL, open_setting},
    {"open-kmem", 21, "memory-device", "open to write", BASE_ROOT, NULL, open_setting},
    {"open-disk", 21, "disk-device", "open to write", BASE_ROOT, NULL, open_setting},
    {"write-sysctl-hostname", 21, "host-name", "write to /proc/sys", BASE_ROOT, NULL, write_setting},
    {"bpf-map", 18, "bpf-map", "bpf BPF_MAP_CREATE", BASE_ROOT, NULL, load_map},
    {"bpf-program", 18, "bpf-program", "bpf BPF_PROG_LOAD", BASE_ROOT, NULL, load_program},
    {"perf-event", 18, "perf-event", "perf_event_open of all processes", BASE_ROOT, NULL, measure},
    {"init-module", 19, "reached", "init_module of an invalid image", BASE_ROOT, NULL, insert_module},
    {"finit-module", 19, "reached", "finit_module of an invalid image", BASE_ROOT, NULL, insert_module_file},
    {"delete-module", 19, "reached", "delete_module of no module", BASE_ROOT, NULL, remove_module},
    {"kexec-load", 19, "reached", "kexec_load of nothing", BASE_ROOT, NULL, load_kernel},
    {"iopl", 8, "reached", "iopl", BASE_ROOT, NULL, raise_io_privilege},
    {"ioperm", 8, "reached", "ioperm", BASE_ROOT, NULL, take_ports},
    {"modify-ldt", 8, "descriptor-table", "modify_ldt", BASE_ROOT, NULL, change_descriptor_table},
    {"add-key", 20, "keys", "add_key", BASE_ROOT, NULL, plant_key},
    {"keyctl-read", 20, "keys", "keyctl KEYCTL_READ", BASE_ROOT, NULL, read_key},
    {"request-key", 20, "keys", "request_key", BASE_ROOT, NULL, find_key},
    {"setuid", 14, "identity", "setuid to another user", BASE_ROOT, NULL, set_user},
    {"setresuid", 14, "identity", "setresuid to another user", BASE_ROOT, NULL, set_all_users},
    {"setfsuid", 14, "identity", "setfsuid", BASE_ROOT, NULL, set_file_user},
    {"setgid", 14, "identity", "setgid", BASE_ROOT, NULL, set_group},
    {"setgroups", 14, "identity", "setgroups", BASE_ROOT, NULL, set_groups},
    {"capset", 14, "capabilities", "capset", BASE_ROOT, NULL, set_capabilities},
    {"securebits", 14, "reached", "prctl PR_SET_SECUREBITS", BASE_ROOT, NULL, set_secure_bits},
    {"realtime", 41, "scheduling", "sched_setscheduler SCHED_RR", BASE_ROOT, NULL, run_before_others},
    {"nice", 41, "scheduling", "setpriority -20", BASE_ROOT, NULL, raise_priority},
    {0},
};
