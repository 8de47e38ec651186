# SPDX-License-Identifier: Apache-2.0
"""What is known not to be stopped, and what one layer alone stops, with the reasons."""

DIALER = ("The dialer is the role that connects: to which addresses lies behind a pointer, which no filter sees, and the ports stand in the "
          "configuration. IPAddressAllow= of its unit is what limits it. It has no client's socket, no data and no key to send.")

LAUNCHER_STARTS = ("The launcher starts programs and makes their cages: it must fork, execute, and make namespaces. What it starts has its user, who owns "
                   "nothing, and inherits its filter.")
LAUNCHER_FILES = ("The launcher is not under Landlock, since a process in a domain cannot mount. What keeps it from files is its user, who owns none; "
                  "what anybody may read or write, it may. Its unit shows it a read-only system.")
LAUNCHER_USER = ("The launcher ends and limits its own runs, which have its user. Processes of other users are out of its reach; each handler section "
                 "is to have a user of its own.")
LAUNCHER_SHARE = "Only the launcher's unit limits what it takes of these: its filter is what its programs' calls need, and they are ordinary programs."
HANDLER = ("An ordinary program may have children, threads and timers. There are at most as many processes as its section says, and "
           "everything of a run ends with it.")
HANDLER_DUMPABLE = "Any program is dumpable once it was executed: only its own run is where it could be looked into, and root."
LAUNCHER_SOCKETS = "The launcher never has a client's socket: it has no socket but its channels."

# (target, attack): reason: not stopped. What is listed here and does not happen is a fault as well.
EXCEPTIONS = {
    ("gate", "unix-packets"):
        "The gate connects to the other roles' sockets whenever one of them starts, and Landlock does not know sockets by their "
        "paths. File modes and SELinux, where the gate's domain connects to the other roles only, keep it from others.",
    ("gate", "pass-client-packets"):
        "As unix-packets: whom the gate can reach it can pass a client's socket to, which is what it is for.",
    **{("dialer", attack): DIALER for attack in (
        "tcp-connect", "tcp-connect-as-role", "tcp6-connect", "udp-connect", "re-aim-client", "re-aim-refused-connect",
        "re-aim-refused-option")},
    **{("launcher", attack): LAUNCHER_STARTS for attack in (
        "unshare-user", "clone-user-namespace", "clone3-user-namespace", "execve-program", "execveat-memfd", "code-in-two-views",
        "code-from-file", "fork-bomb", "fork-call", "vfork", "thread-bomb", "outlive", "setsid", "dumpable", "ptracer")},
    **{("launcher", attack): LAUNCHER_FILES for attack in (
        "read-open-file", "overwrite-open-file", "fill-open-directory", "inodes-open-directory", "proc-cmdline-sibling",
        "proc-cmdline-worker", "proc-cmdline-apache")},
    **{("launcher", attack + "-worker"): LAUNCHER_USER for attack in (
        "kill-term", "kill-kill", "kill-stop", "kill-group", "tgkill", "tkill", "sigqueue", "tgsigqueue", "pidfd-signal", "fcntl-setown",
        "setpriority", "affinity", "scheduler", "prlimit")},
    **{("launcher", attack): LAUNCHER_SHARE for attack in (
        "shm-create", "msg-create", "sem-create", "timers", "inotify", "memfd-bomb", "pipe-size", "mlockall", "modify-ldt")},
    **{("launcher", attack + "-client"): LAUNCHER_SOCKETS for attack in ("device", "congestion", "linger", "type-of-service")},
    **{(handler, attack): HANDLER for handler in ("handler", "handler-bare") for attack in (
        "fork-bomb", "fork-call", "vfork", "thread-bomb", "outlive", "timers")},
    **{(handler, "dumpable"): HANDLER_DUMPABLE for handler in ("handler", "handler-bare")},
}

ANYBODY = ("The kernel lets any user do this, and Landlock does not speak of it, so the filter is the role's one layer. Outside of it the role's "
           "unit refuses it too (SystemCallFilter=, RestrictNamespaces=, PrivateIPC=).")
SOCKETS = ("Landlock knows TCP by bind and connect, and abstract unix sockets, and no other way to reach somebody; any user may make sockets. Outside of "
           "the filter stand the unit's empty network and its address families, and SELinux.")
SAME_USER = ("Processes of one user may do this to each other, and Landlock does not speak of it. A backend's workers have the same rights anyway; other "
             "backends are to have other users.")

# {attack: reason}, or {(target, attack): reason}: stopped by one layer alone.
ONE_LAYER = {
    **{attack: ANYBODY for attack in (
        "unshare-user", "clone-user-namespace", "clone3-user-namespace", "modify-ldt", "code-in-two-views", "dumpable", "ptracer", "quotactl",
        "add-key", "keyctl-read", "request-key", "int80-getpid", "setsid", "shm-create", "msg-create", "sem-create", "timers", "inotify",
        "memfd-bomb", "pipe-size", "mlockall", "device-client", "congestion-client", "linger-client", "type-of-service-client")},
    **{attack: SOCKETS for attack in (
        "mptcp-connect", "fast-open", "udp-connect", "udp-sendto", "udp-sendmmsg", "udplite-connect", "unix-connect", "unix-datagram",
        "unix-packets", "pass-client-stream", "pass-client-packets", "tcp-listen-unbound", "udp-bind", "abstract-listen",
        "re-aim-refused-sendto", "re-aim-refused-sendmsg", "re-aim-refused-sendmmsg")},
    **{attack + "-worker": SAME_USER for attack in ("setpriority", "affinity", "scheduler", "prlimit")},
    **{("dialer", attack): "The dialer reads /etc/hosts when it resolves, so its filter grants reading and Landlock says what."
       for attack in ("read-open-file", "proc-cmdline-sibling", "proc-cmdline-worker", "proc-cmdline-apache", "proc-environ-worker",
                      "proc-maps-worker")},
    **{("gate", attack): "The gate connects to the other roles, so its filter grants connect() and Landlock keeps it to unix sockets with a path."
       for attack in ("abstract-packets", "re-aim-client", "re-aim-refused-connect")},
    ("gate", "private-unix-packets"): "As unix-packets: what keeps the gate from it are the socket's file modes.",
}
LAUNCHER_ONE = ("The launcher cannot be under Landlock, and its filter is a list of denials, since programs inherit it: what an ordinary program may call, its user "
                "and missing capabilities decide. Each program that it starts is in a cage of its own.")


def one_layer(target, attack):
    return ONE_LAYER.get((target, attack)) or ONE_LAYER.get(attack) or (LAUNCHER_ONE if target == "launcher" else None)
