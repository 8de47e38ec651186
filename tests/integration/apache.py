# SPDX-License-Identifier: Apache-2.0
"""A private Apache and php-fpm; see env.py."""
import base64
import json
import os
import pathlib
import re
import signal
import subprocess

import handoff1
from base import AS_ROOT, SANITIZER_REPORT, UID_APACHE, UID_FPM, UID_GATE, Env, KeyRing, Watched, children, wait_for
from client import request


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

    PATIENCE = 15  # seconds for a start

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
        self.process, self.found = None, []
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
            # Long enough for a busy machine, on which the daemon's side may be a thread of the test. Tests of the time
            # limits set their own.
            lines += ["SocketHandoffConnectTimeoutMs 2000", "SocketHandoffSendTimeoutMs 2000", "SocketHandoffAcceptTimeoutMs 5000"]
            if "SocketHandoffSocket" not in conf.split("<", 1)[0]:  # sections may narrow it
                lines.append("SocketHandoffSocket *")
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
            self.process.wait_port(self.port, self.PATIENCE)
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
        self.error_log.wait("AH00489|resuming normal operations", self.PATIENCE, since)
        self.process.wait_port(self.port)

    def status(self) -> dict:
        """mod_status, as a dictionary: BusyWorkers, IdleWorkers, Scoreboard..."""
        text = request(self.port, "/server-status?auto").body.decode()
        return dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)

    def stop(self) -> None:
        self.found += self.error_log.undeclared()
        if self.process is not None:
            # httpd's children have a race of their own when they are told to end at once, seen without the module too
            # (the threads still run while the pools go). A graceful end has not, but takes a second; restarts use it.
            self.error_log.expect(r"AH00052: child pid \d+ exit signal Segmentation fault")
            self.process.stop()
            self.process = None
        if self.own_fpm is not None:
            self.own_fpm.stop()
        if self in self.env.live:
            self.env.live.remove(self)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.stop()
        assert kind is not None or not (found := self.undeclared()), "undeclared log lines:\n" + "\n".join(found)

    # -- log

    def expect(self, *patterns: str) -> None:
        self.error_log.expect(*patterns)

    def undeclared(self) -> list:
        found, self.found = self.found + self.error_log.undeclared(), []
        return [f"{self.error_log.path}: {line}" for line in found]

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

    def chat_page(self, daemon, name: str = "chat.php", listener: str = "chat") -> str:
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
        encoded = base64.urlsafe_b64encode(json.dumps(plan).encode()).decode()
        return f"{page}?plan={encoded.replace('-', '%2B').replace('_', '/').replace('=', '%3D')}"
