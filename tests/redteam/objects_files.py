# SPDX-License-Identifier: Apache-2.0
"""Objects that are files, and programs. Each is planted afresh for each trial."""
import ctypes
import fcntl
import os
import secrets
import shutil
import socket
import stat
import struct

from world import LIBC, UID_APACHE, UID_OTHER, UIDS, check, descriptors

PAGE = 4096


class Object:
    """What an attack is aimed at. parameters and fds are for the target; harm() says what was done, or None."""

    def __init__(self, world, target, alone, rest):
        """alone: the layers that are on; rest: what the registry says besides."""
        self.world, self.target, self.layers = world, target, alone
        self.parameters, self.fds, self.secret, self.closing = {}, {}, secrets.token_hex(16), []
        self.folder = world.folder()
        self.scratch = self.folder / "scratch"
        self.scratch.mkdir()
        os.chown(self.scratch, target.uid, target.uid)
        own = self.scratch / "own"
        own.write_text("own\n")
        os.chown(own, target.uid, target.uid)
        self.victim = self.folder / "victim"
        self.victim.mkdir(mode=0o755)
        self.parameters.update({"scratch": self.scratch, "directory": self.victim, "new": self.victim / "new",
                                "path": self.victim / "object", "token": self.secret})
        self.plant(**rest)

    def plant(self):
        pass

    def harm(self, trial):
        raise NotImplementedError

    def was_read(self, trial):
        return "the secret was read" if self.secret.encode() in trial.got else None

    def clean(self):
        """What was planted outside of the world's folder, which goes at the end as a whole."""
        for thing in self.closing:
            thing.close()


def snapshot(top):
    """Everything below a directory, as lstat() and the content say it."""
    found = {}
    for path in [top, *sorted(top.rglob("*"))]:
        try:
            state = path.lstat()
        except OSError:
            continue
        what = [state.st_ino, oct(state.st_mode), state.st_uid, state.st_gid]
        if stat.S_ISREG(state.st_mode):
            what += [state.st_nlink, state.st_size, state.st_mtime_ns, tuple(os.listxattr(path))]
            what.append(path.read_bytes() if state.st_size < 65536 else None)
        found[str(path.relative_to(top))] = tuple(what)
    return found


OWNERS = {"root": 0, "gate": UIDS["gate"], "other": UID_OTHER, "apache": UID_APACHE}


class File(Object):
    """A file that somebody else has: read is harm where it is secret, any change always."""

    def plant(self, owner="root", mode=0o600, directory_mode=0o755, secret=True, kind="file"):
        uid, path = OWNERS[owner], self.victim / "object"
        self.secret_counts = secret
        if kind == "socket":
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            listener.bind(str(path))
            listener.listen(1)
            self.closing.append(listener)
        elif kind == "link":
            path.symlink_to(self.secret)
        elif kind == "sized":
            size = secrets.randbelow(10 ** 12) + 10 ** 12
            with open(path, "wb") as stream:
                stream.truncate(size)
            self.secret = str(size)
        elif kind == "marked":
            path.write_text("object\n")
            os.setxattr(path, "user.secret", self.secret.encode())
        elif kind == "named":
            path = self.victim / self.secret
            path.write_text("object\n")
        elif kind == "file":
            path.write_text(f"{self.secret}\n")
        if kind != "none":
            os.chown(path, uid, uid, follow_symlinks=False)
        if kind not in ("none", "link"):
            os.chmod(path, mode)
        os.chown(self.victim, uid, uid)
        self.victim.chmod(directory_mode)
        if kind == "file":
            self._handle(path)
        self.before = snapshot(self.victim)

    def _handle(self, path):
        buffer = ctypes.create_string_buffer(struct.pack("Ii", 128, 0) + bytes(128))
        mount = ctypes.c_int()
        check(LIBC.name_to_handle_at(-100, bytes(path), buffer, ctypes.byref(mount), 0), "name_to_handle_at")
        size, kind = struct.unpack("Ii", buffer.raw[:8])
        self.parameters.update({"handle": buffer.raw[8:8 + size].hex(), "handle-type": kind})

    def harm(self, trial):
        if self.secret_counts and self.was_read(trial):
            return self.was_read(trial)
        after = snapshot(self.victim)
        for name in sorted({*self.before, *after}):
            if self.before.get(name) != after.get(name):
                what = "is gone" if name not in after else "is new" if name not in self.before else "was changed"
                return f"{'the directory' if name == '.' else name} {what}"
        path = self.victim / "object"
        if path.is_file() and self.before.get("object"):
            with open(path, "r+b") as stream:
                try:
                    fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    return "object is locked"
        for number, link in descriptors(trial.pid).items():
            if link == "anon_inode:inotify" and self._watches(trial.pid, number):
                return "the directory is watched"
        return None

    @staticmethod
    def _watches(pid, number):
        with open(f"/proc/{pid}/fdinfo/{number}", encoding="ascii") as stream:
            return "inotify wd" in stream.read()


class Program(Object):
    """A program, and a file that shows with whose rights it runs."""

    def plant(self, setuid=False, setgid=False, capable=False):
        proof, program = self.victim / "proof", self.victim / "program"
        proof.write_text(self.secret)
        proof.chmod(0o644 if not (setuid or setgid or capable) else 0o640 if setgid else 0o600)
        shutil.copy(self.world.alone, program)
        program.chmod(0o755 | (stat.S_ISUID if setuid else 0) | (stat.S_ISGID if setgid else 0))
        if capable:
            # VFS_CAP_REVISION_2, effective; CAP_DAC_OVERRIDE
            os.setxattr(program, "security.capability", struct.pack("<5I", 0x02000001, 1 << 1, 0, 0, 0))
        self.parameters.update({"program": program, "path": proof})

    def harm(self, trial):
        return "it ran: " + self.was_read(trial) if self.was_read(trial) else None


class Code(Object):
    """Code of the attacker's: it gives a number that the runner chose."""

    def plant(self):
        number = secrets.randbelow(10 ** 9) + 10 ** 9
        code = self.victim / "code"
        code.write_bytes((b"\xb8" + struct.pack("<I", number) + b"\xc3").ljust(PAGE, b"\x90"))
        code.chmod(0o755)
        self.secret = str(number)
        self.parameters.update({"number": number, "code": code})

    def harm(self, trial):
        return "its code ran" if self.secret.encode() in trial.got else None


class Core(Object):
    """The working directory of the target, where a core would be."""

    def harm(self, trial):
        found = [path.name for path in self.scratch.iterdir() if path.name.startswith("core")]
        return f"a core was written: {found[0]}" if found else None


FILES = {
    "key-ring": (File, {"owner": "gate", "mode": 0o400}, "the HMAC key ring, of the gate's user"),
    "credential": (File, {"owner": "other", "mode": 0o400}, "the API key of another backend"),
    "shadow": (File, {"mode": 0o640}, "a file like /etc/shadow"),
    "attachment": (File, {"owner": "apache"}, "an attachment that another user staged"),
    "spool": (File, {"owner": "apache", "directory_mode": 0o700, "kind": "named"}, "a directory of staged attachments"),
    "sized": (File, {"owner": "apache", "directory_mode": 0o700, "kind": "sized"}, "the size of another user's file"),
    "marked": (File, {"owner": "apache", "kind": "marked"}, "an extended attribute of another user's file"),
    "pointer": (File, {"owner": "apache", "directory_mode": 0o700, "kind": "link"}, "a symbolic link of another user"),
    "configuration": (File, {"mode": 0o644, "secret": False}, "the configuration, of root"),
    "web-page": (File, {"mode": 0o644, "secret": False}, "a PHP file under the web root"),
    "cron-directory": (File, {"kind": "none"}, "a directory like /etc/cron.d"),
    "web-directory": (File, {"kind": "none"}, "the web root"),
    "daemon-socket": (File, {"mode": 0o666, "kind": "socket", "secret": False}, "the daemon's socket in its place"),
    "open-file": (File, {"mode": 0o666, "directory_mode": 0o777}, "a file that anybody may read and write"),
    "open-directory": (File, {"kind": "none", "directory_mode": 0o777}, "a directory that anybody may write to"),
    "program": (Program, {}, "a program that anybody may run"),
    "setuid-program": (Program, {"setuid": True}, "a setuid program of root"),
    "setgid-program": (Program, {"setgid": True}, "a setgid program of root"),
    "capable-program": (Program, {"capable": True}, "a program with file capabilities"),
    "own-code": (Code, {}, "code of the attacker's own"),
    "core": (Core, {}, "a core file, with the keys in it"),
}
