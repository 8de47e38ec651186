# SPDX-License-Identifier: Apache-2.0
"""The harness: a private Apache, php-fpm and handoffd for the tests, nothing of the system touched or left behind.

    def test_it(env, apache_factory, handoffd_factory):
        daemon = handoffd_factory()                          # a demo backend behind listener "chat"
        apache = apache_factory(php="fpm", keys=daemon.keys, sockets=[daemon.path()])
        apache.chat_page(daemon)                             # chat.php signs with the php/ package
        response = request(apache.port, "/chat.php", body=b"hello")
        apache.expect("reason=token-mac")                    # log lines of level warn and above must be declared

Every object is a context manager, owns only its own processes and folders, and ends them by pid. BUILD names the build
directory; HANDOFF_SANITIZE=1 says that it is a sanitizer build (no seccomp filter in it).
Users when root: Apache www-data (33), php-fpm 64203, gate 64200, dialer 64201, streamers 64210 and up; else all ours.
"""
import atexit
import base64
import os
import pathlib
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import handoff1
from client import Client, HttpError, Response, curl, get, parse_response, parse_sse, request, sse_text  # noqa: F401
from upstream import Authority, MockLLM, ScriptedUpstream, TlsFront  # noqa: F401

ROOT = pathlib.Path(__file__).resolve().parents[2]
AS_ROOT = os.geteuid() == 0
SANITIZE = os.environ.get("HANDOFF_SANITIZE") == "1"

UID_APACHE = 33 if AS_ROOT else os.geteuid()
UID_GATE = 64200 if AS_ROOT else os.geteuid()
UID_DIALER = 64201 if AS_ROOT else os.geteuid()
UID_FPM = 64203 if AS_ROOT else os.geteuid()
UID_STREAMER = 64210 if AS_ROOT else os.geteuid()

SANITIZER_REPORT = re.compile(r"(Address|Leak|UndefinedBehavior)Sanitizer|runtime error:")


def wait_for(condition, timeout: float = 10, what: str = "condition", interval: float = 0.01):
    """The first true value of condition(); AssertionError after timeout seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what}")
        time.sleep(interval)


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children(pid: int) -> list:
    """Direct children of a process, all its threads' together."""
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, task.read_text().split())
        except OSError:
            pass
    return found


def descendants(pid: int) -> list:
    found = []
    for child in children(pid):
        found += [child, *descendants(child)]
    return found


def proc_status(pid: int) -> dict:
    """/proc/PID/status as a dictionary of strings."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def open_fds(pid: int) -> dict:
    """Descriptor number -> what it leads to. Needs root for processes that are not dumpable."""
    result = {}
    for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            result[int(entry.name)] = os.readlink(entry)
        except OSError:
            pass
    return result


class Process:
    """A started program: its own process group, its output in a log file, gone with everything below it on stop()."""

    def __init__(self, arguments, log: pathlib.Path, environment=None, cwd="/", stop_signal=signal.SIGTERM):
        self.arguments, self.log_file, self.stop_signal = [str(argument) for argument in arguments], log, stop_signal
        # The program ends when the test run is killed.
        guard = ["setpriv", "--pdeathsig", "TERM", "--"] if shutil.which("setpriv") else []
        with open(log, "ab") as out:
            self.popen = subprocess.Popen(guard + self.arguments, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                          env=environment, cwd=cwd, process_group=0)
        self.pid = self.popen.pid

    def running(self) -> bool:
        return self.popen.poll() is None

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def wait_port(self, port: int, timeout: float = 10) -> None:
        def connected():
            if not self.running():
                raise AssertionError(f"{self.arguments[0]} ended with {self.popen.returncode}:\n{self.log()[-3000:]}")
            with socket.socket() as sock:
                return sock.connect_ex(("127.0.0.1", port)) == 0
        wait_for(connected, timeout, f"{self.arguments[0]} on port {port}\n{self.log()[-2000:]}")

    def stop(self, timeout: float = 10) -> int:
        """Ask, wait, kill; returns the exit status."""
        below = descendants(self.pid) if self.running() else []
        if self.running():
            self.popen.send_signal(self.stop_signal)
            try:
                self.popen.wait(timeout)
            except subprocess.TimeoutExpired:
                below += descendants(self.pid)
        self.kill(below)
        return self.popen.returncode

    def kill(self, below=()) -> None:
        """End it and all below it at once."""
        for pid in [*below, *(descendants(self.pid) if self.running() else [])]:
            try:
                if alive(pid):
                    os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if self.running():
            self.popen.kill()
        self.popen.wait()


class Env:
    """State of one test session: a fresh folder that all users involved can reach, the programs, free ports."""

    def __init__(self):
        self.build = pathlib.Path(os.environ.get("BUILD") or "build")
        if not self.build.is_absolute():
            self.build = ROOT / self.build
        self.state = pathlib.Path(tempfile.mkdtemp(prefix="handoff-", dir="/tmp"))
        self.state.chmod(0o711)
        self._cleanups = [lambda: shutil.rmtree(self.state, ignore_errors=True)]
        self._ports = set()
        self._count = 0
        self.live = []  # Apache and Handoffd objects whose logs are watched
        atexit.register(self.close)
        self.bin = self._reachable(self.build / "bin", "bin")
        self.module = self._reachable(self.build / "mod_socket_handoff.so", "mod_socket_handoff.so")
        self.php_src = self.state / "php-src"
        if (ROOT / "php" / "src").is_dir():
            shutil.copytree(ROOT / "php" / "src", self.php_src)

    def _reachable(self, path: pathlib.Path, name: str) -> pathlib.Path:
        """path, or a copy in the state folder when a folder above it is closed to others."""
        if not path.exists() or all(parent.stat().st_mode & 0o001 for parent in path.parents):
            return path
        copy = self.state / name
        (shutil.copytree if path.is_dir() else shutil.copy)(path, copy)
        return copy

    def folder(self, name: str, mode: int = 0o755, owner: int = None) -> pathlib.Path:
        """A new folder; a number is added to its name."""
        self._count += 1
        path = self.state / f"{name}{self._count}"
        path.mkdir()
        path.chmod(mode)
        if owner is not None and AS_ROOT:
            os.chown(path, owner, owner)
        return path

    def port(self) -> int:
        """A free port on loopback, each given once."""
        while True:
            with socket.socket() as sock:
                sock.bind(("127.0.0.1", 0))
                port = sock.getsockname()[1]
            if port not in self._ports:
                self._ports.add(port)
                return port

    def start(self, arguments, log: pathlib.Path, **how) -> Process:
        process = Process(arguments, log, **how)
        self._cleanups.append(process.kill)
        return process

    def sanitizer_environment(self, for_module: bool = False) -> dict:
        """What a sanitizer build needs in its environment; for_module: the program itself was built without."""
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
        if SANITIZE:
            # The leak checker needs ptrace, which the cages forbid.
            environment["ASAN_OPTIONS"] = "detect_leaks=0:abort_on_error=0"
            environment["UBSAN_OPTIONS"] = "print_stacktrace=1"
            if for_module:
                library = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True)
                environment["LD_PRELOAD"] = library.stdout.strip()
        return environment

    def close(self) -> None:
        while self._cleanups:
            self._cleanups.pop()()


class Watched:
    """A log that tests look into. Lines that `suspicious` matches must be declared with expect() by the test."""

    suspicious = SANITIZER_REPORT

    def __init__(self, path: pathlib.Path):
        self.path, self.checked, self.expected = path, 0, []

    def lines(self, since: int = 0) -> list:
        try:
            return self.path.read_bytes()[since:].decode(errors="replace").splitlines()
        except FileNotFoundError:
            return []

    def position(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def expect(self, *patterns: str) -> None:
        """Declare lines that this test causes (regular expressions, searched)."""
        self.expected += [re.compile(pattern) for pattern in patterns]

    def find(self, pattern: str, since: int = 0) -> list:
        return [line for line in self.lines(since) if re.search(pattern, line)]

    def wait(self, pattern: str, timeout: float = 10, since: int = 0, count: int = 1) -> list:
        """The lines that match, once there are count of them after position since."""
        try:
            return wait_for(lambda: (found := self.find(pattern, since)) and len(found) >= count and found, timeout)
        except AssertionError:
            raise AssertionError(f"not {count} log lines like {pattern!r} within {timeout} s:\n" +
                                 "\n".join(self.lines(since)[-40:])) from None

    def undeclared(self) -> list:
        """Suspicious lines since the last call that were not declared; forgets the declarations."""
        lines, self.checked = self.lines(self.checked), self.position()
        expected, self.expected = self.expected, []
        return [line for line in lines
                if self.suspicious.search(line) and not any(pattern.search(line) for pattern in expected)]


class KeyRing:
    """Keys, and files of them for each reader: file(uid) is owned by that uid with mode 0600."""

    def __init__(self, env: Env, *keys: handoff1.Key):
        self.env, self.keys, self.files = env, list(keys) or [handoff1.Key()], {}
        self.folder = env.folder("keys")

    @property
    def key(self) -> handoff1.Key:
        return self.keys[0]

    def file(self, uid: int = None) -> pathlib.Path:
        uid = (0 if AS_ROOT else os.geteuid()) if uid is None else uid
        path = self.folder / f"keys-{uid}"
        if uid not in self.files:
            self.files[uid] = path
            self.write(path, uid)
        return path

    def write(self, path: pathlib.Path, uid: int) -> None:
        fresh = path.with_suffix(".new")
        fresh.touch(0o600)
        fresh.write_text("".join(key.line() + "\n" for key in self.keys))
        if AS_ROOT:
            os.chown(fresh, uid, uid)
        fresh.rename(path)

    def set(self, *keys: handoff1.Key) -> None:
        """Other keys, in all files given out so far."""
        self.keys = list(keys)
        for uid, path in self.files.items():
            self.write(path, uid)


class PhpFpm:
    """php-fpm with one pool under its own uid, listening on a unix socket that Apache may connect to."""

    def __init__(self, env: Env, children_max: int = 8):
        self.program = next(iter(sorted(pathlib.Path("/usr/sbin").glob("php-fpm*"))), None)
        if self.program is None:
            import pytest
            pytest.skip("php-fpm is not installed")
        root = env.folder("fpm")
        self.socket = root / "fpm.sock"
        users = f"user = {UID_FPM}\ngroup = {UID_FPM}\nlisten.owner = {UID_APACHE}\nlisten.group = {UID_APACHE}\n" \
            if AS_ROOT else ""
        (root / "fpm.conf").write_text(
            f"[global]\nerror_log = {root}/fpm.log\ndaemonize = no\n[tests]\n{users}listen = {self.socket}\n"
            f"listen.mode = 0660\npm = static\npm.max_children = {children_max}\nsecurity.limit_extensions = .php\n"
            "php_admin_value[memory_limit] = 256M\nphp_admin_flag[log_errors] = on\nphp_flag[display_errors] = on\n"
            "php_admin_value[post_max_size] = 32M\nclear_env = yes\ncatch_workers_output = yes\n")
        self.process = env.start([self.program, "-F", "-y", root / "fpm.conf"], root / "fpm.out",
                                 environment={"PATH": "/usr/bin:/bin"})
        self.log_file = root / "fpm.log"
        wait_for(self.socket.exists, 10, "php-fpm's socket")

    def stop(self) -> None:
        self.process.stop()


class Apache:
    """A private Apache with the module.

    mpm         "event", "worker", "prefork"
    php         "fpm", "mod" (prefork only), or None
    keys        KeyRing for SocketHandoffKeyFile; None leaves the directive out
    sockets     nothing is configured from it by default but the prefix; kept in .sockets for the pages
    prefix      SocketHandoffAllowedPrefix (default: the state folder)
    peer        SocketHandoffPeer, default the gate's uid; None leaves it out
    handoff     False: the module is not even loaded
    conf        further lines at server level; vhost lines can be put there as <VirtualHost>/<Location> sections
    modules     further modules by name ("ssl", "http2", "proxy_http", "cgid", "remoteip"...)
    workers     MaxRequestWorkers
    """

    LEVELS = re.compile(r"\[(?:[a-z0-9_]+:)?(?:error|crit|alert|emerg)\]|\[socket_handoff:warn\]|AH0005[0-2]:|"
                        r"exit signal|" + SANITIZER_REPORT.pattern)

    def __init__(self, env: Env, mpm: str = "event", php: str = None, conf: str = "", keys: KeyRing = None, sockets=(),
                 prefix=None, peer=UID_GATE, handoff: bool = True, modules=(), workers: int = 50, fpm: PhpFpm = None,
                 log_level: str = "info", listen=()):
        self.env, self.keys, self.sockets = env, keys, [str(path) for path in sockets]
        self.root = env.folder("apache")
        self.docroot = self.root / "htdocs"
        self.docroot.mkdir(mode=0o755)
        self.port = env.port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.error_log = Watched(self.root / "error.log")
        self.error_log.suspicious = self.LEVELS
        self.access_log = Watched(self.root / "access.log")
        self.php = php
        self.own_fpm = PhpFpm(env) if php == "fpm" and fpm is None else None
        self.fpm = fpm or self.own_fpm
        self.conf_file = self.root / "httpd.conf"
        self.conf_file.write_text(self._config(mpm, conf, prefix, peer, handoff, modules, workers, log_level, listen))
        self.process = None
        env.live.append(self)
        self.start()

    # -- configuration

    @staticmethod
    def _mpm(mpm: str, workers: int) -> str:
        if mpm == "prefork":
            return f"StartServers {min(workers, 4)}\nMinSpareServers 1\nMaxSpareServers {workers}\nMaxRequestWorkers {workers}\n"
        threads = min(workers, 25)
        return (f"ThreadsPerChild {threads}\nServerLimit {max(workers // threads, 1)}\nStartServers 1\n"
                f"MinSpareThreads 1\nMaxSpareThreads {workers}\nMaxRequestWorkers {workers // threads * threads}\n")

    def _php(self) -> str:
        if self.php == "mod":
            return '<FilesMatch "\\.php$">\nSetHandler application/x-httpd-php\n</FilesMatch>\n' \
                "php_flag display_errors on\nphp_admin_value post_max_size 32M\nphp_admin_value memory_limit 256M\n"
        if self.php == "fpm":
            # No output buffering beyond the module's own: what PHP flushes arrives.
            return f'<FilesMatch "\\.php$">\nSetHandler "proxy:unix:{self.fpm.socket}|fcgi://localhost/"\n</FilesMatch>\n'
        return ""

    def _config(self, mpm, conf, prefix, peer, handoff, modules, workers, log_level, listen) -> str:
        names = [f"mpm_{mpm}", "authz_core", "dir", "mime", "headers", "setenvif", "env", "alias", "rewrite", "status",
                 "reqtimeout"]
        if self.php == "fpm":
            names += ["proxy", "proxy_fcgi"]
        names += [name for name in modules if name not in names]
        modules_dir = "/usr/lib/apache2/modules"
        lines = [f'ServerRoot "{self.root}"', f'PidFile "{self.root}/httpd.pid"', f'DefaultRuntimeDir "{self.root}"',
                 f'Mutex "file:{self.root}"', "ServerName localhost", f"Listen 127.0.0.1:{self.port}",
                 *(f"Listen {address}" for address in listen)]
        lines += [f"LoadModule {name}_module {modules_dir}/mod_{name}.so" for name in names]
        if self.php == "mod":
            library = next(iter(sorted(pathlib.Path(modules_dir).glob("libphp*.so"))), None)
            if library is None:
                import pytest
                pytest.skip("libapache2-mod-php is not installed")
            lines.append(f"LoadModule php_module {library}")
        if handoff:
            lines.append(f"LoadModule socket_handoff_module {self.env.module}")
        if AS_ROOT:
            lines += [f"User #{UID_APACHE}", f"Group #{UID_APACHE}"]
        lines += [self._mpm(mpm, workers), "KeepAliveTimeout 5", "Timeout 20", "GracefulShutdownTimeout 2",
                  f'ErrorLog "{self.error_log.path}"', f"LogLevel warn{f' socket_handoff:{log_level}' if handoff else ''}",
                  'LogFormat "%h:%{remote}p \\"%r\\" %>s %X %D" tests', f'CustomLog "{self.access_log.path}" tests',
                  "TypesConfig /dev/null" if not pathlib.Path("/etc/mime.types").exists() else "TypesConfig /etc/mime.types",
                  f'DocumentRoot "{self.docroot}"', "ExtendedStatus On", "DirectoryIndex index.php index.html",
                  f'<Directory "{self.docroot}">\nRequire all granted\nAllowOverride All\nOptions FollowSymLinks ExecCGI\n</Directory>',
                  "<Location /server-status>\nSetHandler server-status\n</Location>", self._php()]
        if handoff:
            lines.append(f"SocketHandoffAllowedPrefix {prefix or str(self.env.state) + '/'}")
            if self.keys is not None:
                lines.append(f"SocketHandoffKeyFile {self.keys.file()}")
            if peer is not None:
                lines.append(f"SocketHandoffPeer {peer}")
        return "\n".join([*lines, conf, ""])

    # -- life

    def _command(self, *arguments) -> list:
        return ["/usr/sbin/apache2", "-d", str(self.root), "-f", str(self.conf_file), *arguments]

    def start(self) -> None:
        if not pathlib.Path("/usr/sbin/apache2").exists():
            import pytest
            pytest.skip("apache2 is not installed")
        self.process = self.env.start(self._command("-DFOREGROUND"), self.root / "httpd.out",
                                      environment=self.env.sanitizer_environment(for_module=True), cwd=self.root)
        try:
            self.process.wait_port(self.port, 15)
        except AssertionError as error:
            raise AssertionError(f"{error}\n" + "\n".join(self.error_log.lines())) from None

    @classmethod
    def configtest(cls, env: Env, conf: str) -> subprocess.CompletedProcess:
        """apache2 -t with the module and these lines: for directives that must be refused."""
        root = env.folder("configtest")
        (root / "httpd.conf").write_text(
            "LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so\n"
            "LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so\n"
            f"LoadModule socket_handoff_module {env.module}\nServerName localhost\nListen 127.0.0.1:1\n"
            f'DefaultRuntimeDir "{root}"\nPidFile "{root}/pid"\nErrorLog "{root}/log"\n{conf}\n')
        return subprocess.run(["/usr/sbin/apache2", "-t", "-d", root, "-f", root / "httpd.conf"], text=True,
                              capture_output=True, env=env.sanitizer_environment(for_module=True))

    def workers(self) -> list:
        """Pids of the children."""
        return children(self.process.pid)

    def graceful(self) -> None:
        """A graceful restart, done when all children are new."""
        since = self.error_log.position()
        os.kill(self.process.pid, signal.SIGUSR1)
        self.error_log.wait("AH00489|resuming normal operations", 10, since)
        self.process.wait_port(self.port)

    def status(self) -> dict:
        """mod_status, as a dictionary: BusyWorkers, IdleWorkers, Scoreboard..."""
        text = request(self.port, "/server-status?auto").body.decode()
        return dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)

    def stop(self) -> None:
        if self.process is not None:
            self.process.stop()
            self.process = None
        if self.own_fpm is not None:
            self.own_fpm.stop()
        if self in self.env.live:
            self.env.live.remove(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    # -- log

    def expect(self, *patterns: str) -> None:
        self.error_log.expect(*patterns)

    def undeclared(self) -> list:
        return [f"{self.error_log.path}: {line}" for line in self.error_log.undeclared()]

    # -- pages

    def page(self, name: str, text: str) -> str:
        """Write a file under the document root (with folders); its URL path."""
        path = self.docroot / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if path.suffix in (".cgi", ".py") else 0o644)
        return "/" + name

    @property
    def php_uid(self) -> int:
        return UID_FPM if self.php == "fpm" else UID_APACHE

    def chat_page(self, daemon: "Handoffd", name: str = "chat.php", listener: str = "chat") -> str:
        """A page that signs with the php/ package: the request body (or ?prompt=) is the prompt; ?subject=, ?big=1
        (data in the response body whatever its size)."""
        keys = daemon.keys.file(self.php_uid)
        return self.page(name, f"""<?php
declare(strict_types=1);
require '{self.env.php_src}/autoload.php';
$prompt = $_GET['prompt'] ?? file_get_contents('php://input');
setcookie('seen', 'yes');
header('X-Request-Tag: ' . ($_GET['tag'] ?? 'none'));
$data = json_encode(['prompt' => $prompt], JSON_THROW_ON_ERROR);
$handoff = new Handoffd\\Handoff(new Handoffd\\Signer('{keys}'));
$handoff->send('{daemon.path(listener)}', $data, subject: $_GET['subject'] ?? '');
""")

    def emit_page(self, key: handoff1.Key, name: str = "emit.php") -> str:
        """A page that sends exactly the headers it is told, signed by itself (no php/ package): see emit()."""
        secret = base64.b64encode(key.secret).decode()
        return self.page(name, r"""<?php
function le64(int $n): string { return pack('P', $n); }
$plan = json_decode(base64_decode($_GET['plan']), true);
$binding = $plan['binding'] ?? $_SERVER['HANDOFF_BINDING'] ?? 'none';
$data = $plan['data'] ?? '';
$exp = (string)(time() + ($plan['exp'] ?? 30));
$pieces = ['handoff-token-v1', $plan['kid'] ?? '%KID%', $exp, $binding, $plan['signed_path'] ?? $plan['path'] ?? '',
    $plan['subject'] ?? '', hash('sha512', $plan['signed_data'] ?? $data, true)];
$message = le64(count($pieces)) . implode('', array_map(fn($p) => le64(strlen($p)) . $p, $pieces));
$mac = substr(hash_hmac('sha512', $message, base64_decode('%SECRET%'), true), 0, 32);
$token = 'v1.' . ($plan['kid'] ?? '%KID%') . ".$exp." . rtrim(strtr(base64_encode($mac), '+/', '-_'), '=');
if (isset($plan['status'])) http_response_code($plan['status']);
if (isset($plan['path'])) header('X-Socket-Handoff: ' . $plan['path']);
if (isset($plan['data']) && !($plan['body'] ?? false)) header('X-Handoff-Data: ' . $data);
if ($plan['body'] ?? false) header('X-Handoff-Data-Source: body');
if (isset($plan['subject'])) header('X-Handoff-Subject: ' . $plan['subject']);
if ($plan['token'] ?? true) header('X-Handoff-Token: ' . (is_string($plan['token'] ?? null) ? $plan['token'] : $token));
foreach ($plan['headers'] ?? [] as $line) header($line, false);
if ($plan['flush'] ?? false) { echo ' '; flush(); }
if ($plan['body'] ?? false) echo $data;
""".replace("%KID%", key.kid).replace("%SECRET%", secret))

    def emit(self, page: str = "/emit.php", **plan) -> str:
        """The target that makes emit_page() send: path, data, subject, body (True: data in the response body), kid, exp
        (seconds from now), status, headers (further lines), token (False: none; a string: this one), binding,
        signed_path and signed_data (what is signed instead of what is sent), flush."""
        import json
        encoded = base64.urlsafe_b64encode(json.dumps(plan).encode()).decode()
        return f"{page}?plan={encoded.replace('-', '%2B').replace('_', '/').replace('=', '%3D')}"


class Handoffd:
    """handoffd under its supervisor.

    backends    {"demo": {"type": "demo", "delay": 1}}; options as in handoffd.conf, lists allowed; in each the name of
                the section and its options. A user is added when we are root.
    listens     {"chat": {"backend": "demo"}}; the socket is <state>/run/NAME.sock; allow-peer and group are added
    upstreams   {"mock": {"url": ..., "ca-file": ...}}
    options     at top level, e.g. {"log-debug": "true"}
    """

    suspicious = re.compile(r"event=(fatal|killed|crashed|exited|died|role-died)\b|" + SANITIZER_REPORT.pattern)
    ready = re.compile(r"handoffd\[\d+\]: event=ready")

    def __init__(self, env: Env, backends=None, listens=None, upstreams=None, keys: KeyRing = None, options=None,
                 allow_peer=(UID_APACHE,), wait: bool = True):
        self.env = env
        self.root = env.folder("handoffd", 0o711)
        self.run = self.root / "run"
        self.run.mkdir(mode=0o755)
        self.keys = keys or KeyRing(env)
        self.backends = backends or {"demo": {"type": "demo", "delay": 1}}
        self.listens = listens or {"chat": {"backend": next(iter(self.backends))}}
        self.conf_file = self.root / "handoffd.conf"
        self.conf_file.write_text(self._config(upstreams or {}, options or {}, allow_peer))
        self.conf_file.chmod(0o644)
        self.log = Watched(self.root / "handoffd.log")
        self.log.suspicious = self.suspicious
        self.process = None
        env.live.append(self)
        self.start(wait)

    @staticmethod
    def _value(value) -> str:
        if isinstance(value, (list, tuple)):
            return "{" + ", ".join(f'"{item}"' for item in value) + "}"
        return str(value).lower() if isinstance(value, bool) else str(value) if isinstance(value, int) else f'"{value}"'

    def _section(self, kind: str, title: str, options: dict) -> str:
        return f'{kind} "{title}" {{\n' + "".join(f"    {name} = {self._value(value)}\n"
                                                   for name, value in options.items()) + "}\n"

    def _config(self, upstreams, options, allow_peer) -> str:
        top = {"runtime-dir": self.run / "roles", "key-file": self.keys.file(UID_GATE), **options}
        if AS_ROOT:
            top = {"gate-user": UID_GATE, "dialer-user": UID_DIALER, "streamer-user": UID_STREAMER, **top}
        text = "".join(f"{name} = {self._value(value) if isinstance(value, (list, bool)) else f'{chr(34)}{value}{chr(34)}'}\n"
                       for name, value in top.items())
        for name, values in upstreams.items():
            text += self._section("upstream", name, values)
        for number, (name, values) in enumerate(self.backends.items()):
            users = {"user": str(UID_STREAMER + number)} if AS_ROOT else {}
            text += self._section("backend", name, {**users, **values})
        for name, values in self.listens.items():
            group = {"group": str(UID_APACHE)} if AS_ROOT else {}
            peers = {"allow-peer": [str(uid) for uid in allow_peer]}
            text += self._section("listen", self.path(name), {**peers, **group, **values})
        return text

    def path(self, listener: str = None) -> str:
        """The socket of a listener, as tokens name it."""
        return str(self.run / f"{listener or next(iter(self.listens))}.sock")

    # -- life

    def start(self, wait: bool = True) -> None:
        program = self.env.bin / "handoffd"
        assert program.exists(), f"{program} is not built"
        since = self.log.position()
        self.process = self.env.start([program, "-c", self.conf_file, "-x", self.env.bin], self.log.path,
                                      environment=self.env.sanitizer_environment())
        if wait:
            self.wait_ready(since)

    def wait_ready(self, since: int = 0, timeout: float = 15) -> None:
        def is_ready():
            if not self.process.running():
                raise AssertionError(f"handoffd ended with {self.process.popen.returncode}:\n" +
                                     "\n".join(self.log.lines(since)[-30:]))
            return self.log.find(self.ready.pattern, since)
        try:
            wait_for(is_ready, timeout)
        except AssertionError as error:
            raise AssertionError(f"handoffd is not ready: {error}\n" + "\n".join(self.log.lines(since)[-30:])) from None

    def stop(self, timeout: float = 10) -> int:
        status = None
        if self.process is not None:
            status = self.process.stop(timeout)
            self.process = None
        if self in self.env.live:
            self.env.live.remove(self)
        return status

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    # -- roles

    def roles(self) -> dict:
        """{"gate": [pid], "dialer": [pid], "streamer": [pid, ...]}; streamers in the order of the backends."""
        found = {}
        for pid in descendants(self.process.pid):
            try:
                arguments = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            name = pathlib.Path(os.fsdecode(arguments[0])).name
            if name.startswith("handoffd-"):
                found.setdefault(name.removeprefix("handoffd-"), []).append(pid)
        return found

    def pid(self, role: str, backend: str = None) -> int:
        """The pid of a role; of the first streamer of a backend when given."""
        for pid in self.roles().get(role, []):
            arguments = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if backend is None or backend.encode() in arguments:
                return pid
        raise AssertionError(f"no {role} {backend or ''} runs")

    def kill(self, role: str, backend: str = None, number=signal.SIGKILL) -> int:
        """Kill a role; waits until the supervisor has started it again and it is ready. Returns the new pid."""
        old = self.pid(role, backend)
        os.kill(old, number)
        wait_for(lambda: not alive(old), 5, f"end of {role}")

        def again():
            try:
                new = self.pid(role, backend)
            except (AssertionError, OSError):
                return None
            return new if self.log.find(rf"handoffd-{role}\[{new}\]: .*event=ready") else None
        return wait_for(again, 10, f"a new {role}")

    def counters(self, role: str, backend: str = None) -> dict:
        """Counters of a role by name: it logs them on SIGUSR1."""
        pid, since = self.pid(role, backend), self.log.position()
        os.kill(pid, signal.SIGUSR1)
        pattern = rf"handoffd-{role}\[{pid}\]: .*event=counter\b"
        self.log.wait(pattern, 5, since)
        time.sleep(0.05)
        result = {}
        for line in self.log.find(pattern, since):
            fields = dict(re.findall(r"(\w+)=(\S+)", line))
            name = f"{fields['group']}/{fields['name']}" if "group" in fields else fields["name"]
            result[name] = int(fields.get("count") or fields.get("value"))
        return result

    # -- log

    def expect(self, *patterns: str) -> None:
        self.log.expect(*patterns)

    def undeclared(self) -> list:
        return [f"{self.log.path}: {line}" for line in self.log.undeclared()]


def uid_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
