# SPDX-License-Identifier: Apache-2.0
"""The module alone: an Apache of the harness with an application that does what the test says, and the daemon's side in
the test itself (handoff1.Listener).

    with Site(env, "event") as site, site.listener() as gate:
        future = site.ask(site.plan('{"a":1}'))       # a client, in a thread of its own
        handoff = gate.receive()
        handoff.accept()
        handoff.answer()
        assert future.result().status == 200

What the application does is told to app.php by the request: a plan (JSON) says which headers it sets, what it signs and
with which mistakes. app.php signs by itself and shares no code with the project's PHP package.
"""
import base64
import concurrent.futures
import contextlib
import http.client
import json
import os
import pathlib
import select
import socket
import time

import application
import handoff1
from backend import Backend
from env import SANITIZE, Apache, Env, KeyRing

ROGUE_UID = 61002  # listens where it must not

APP = r"""<?php
parse_str($_SERVER['REDIRECT_QUERY_STRING'] ?? $_SERVER['QUERY_STRING'] ?? '', $query); // an ErrorDocument has no $_GET
$plan = json_decode(base64_decode(strtr($query['plan'] ?? $_SERVER['HTTP_X_PLAN'] ?? '', '-_', '+/')), true) ?? [];
$binding = $plan['binding'] ?? $_SERVER['HANDOFF_BINDING'] ?? '';
if (!empty($plan['read'])) { file_get_contents('php://input'); }
if (isset($plan['status'])) { http_response_code($plan['status']); }
if (!empty($plan['show'])) {
    header('Content-Type: application/json');
    echo json_encode($_SERVER);
    return;
}
$data = isset($plan['data64']) ? base64_decode($plan['data64']) : $plan['data'] ?? '';
if (isset($plan['repeat'])) { $data = str_repeat($data, $plan['repeat']); }
if (isset($plan['length'])) {
    $data = substr(str_repeat($data, intdiv($plan['length'], strlen($data)) + 1), 0, $plan['length']);
}
function le64(int $n): string { return pack('P', $n); }
if (isset($plan['sign'])) {
    $sign = $plan['sign'];
    $exp = (string) (time() + ($sign['exp'] ?? 30));
    $pieces = ['handoff-token-v1', $sign['kid'], $exp, $binding, $sign['socket'], $sign['subject'] ?? '',
        hash('sha512', $sign['data'] ?? $data, true)];
    $message = le64(count($pieces));
    foreach ($pieces as $piece) { $message .= le64(strlen($piece)) . $piece; }
    $mac = substr(hash_hmac('sha512', $message, base64_decode($sign['key']), true), 0, 32);
    $token = ($sign['version'] ?? 'v1') . ".{$sign['kid']}.$exp." . rtrim(strtr(base64_encode($mac), '+/', '-_'), '=');
    header("X-Handoff-Token: $token" . ($sign['tail'] ?? ''));
}
foreach ($plan['headers'] ?? [] as $line) { header(str_replace('{data}', $data, $line), false); }
if (!empty($plan['late'])) { // an early flush, and only then the request body
    echo str_repeat(' ', 100000);
    flush();
    if ($plan['late'] === 'read') { file_get_contents('php://input'); }
}
if (!empty($plan['merged'])) { file_get_contents('php://input'); echo json_encode(apache_request_headers()); }
if (!empty($plan['echo'])) { echo $data; }
if (!empty($plan['output'])) { echo str_repeat($plan['output'], $plan['pad'] ?? 1); }
"""


class Answer:
    """What a client received: status, headers (a list of pairs, lower-case names) and body."""

    def __init__(self, response: http.client.HTTPResponse):
        self.status = response.status
        self.headers = [(name.lower(), value) for name, value in response.getheaders()]
        self.body = response.read()

    def header(self, name):
        return next((value for key, value in self.headers if key == name.lower()), None)

    def leaks(self):
        """Control headers that reached the client."""
        return [name for name, _ in self.headers if "handoff" in name.replace("_", "-")]


class Site(Apache):
    """Apache with app.php: php-fpm under its own uid on event and worker, mod_php on prefork (php-fpm there too in a
    sanitizer build, which cannot load mod_php's opcache). In conf, @sockets@ is the
    folder of the sockets (the allowed prefix) and @docroot@ that of the pages."""

    MODULES = ["include", "asis", "filter", "deflate", "request", "ssl", "socache_shmcb", "proxy", "proxy_http",
               "cache", "cache_socache"]

    def __init__(self, env: Env, mpm: str = "event", conf: str = "", **how):
        self.folder = env.folder("sockets-of-all", 0o777)
        self.outside = self.folder / "outside.sock"
        self.socket_folder = self.folder / "sockets"
        self.socket_folder.mkdir()
        self.socket_folder.chmod(0o777)
        self.path = str(self.socket_folder / "chat.sock")
        self.pool = concurrent.futures.ThreadPoolExecutor(32)
        self.key = handoff1.Key("test1")
        self.revoked = handoff1.Key("old", state="revoked")
        self.tenant = handoff1.Key("tenant", paths=(f"{self.socket_folder}/tenant.sock",))
        modules = [*self.MODULES, *how.pop("more_modules", ())]
        how = {"keys": KeyRing(env, self.key, self.revoked, self.tenant), "peer": 0, "prefix": f"{self.socket_folder}/",
               "php": "mod" if mpm == "prefork" and not SANITIZE else "fpm", "modules": modules, **how}
        super().__init__(env, mpm, conf=conf, **how)

    def _config(self, mpm, conf, *rest) -> str:
        (self.docroot / "app.php").write_text(APP)
        (self.docroot / "plain.txt").write_text("plain\n")
        conf = conf.replace("@sockets@", str(self.socket_folder)).replace("@docroot@", str(self.docroot))
        return super()._config(mpm, 'CustomLog notes.log "%>s %B %{handoff-result}n %{handoff-id}n"\n' + conf, *rest)

    def stop(self):
        super().stop()
        self.pool.shutdown(wait=False)

    # ------------------------------------------------------------ the application's plans

    def plan(self, data="{}", *, form="header", sign=True, socket_path=None, **more) -> dict:
        """A handoff as it should be; more replaces parts of it, `signing` parts of what is signed."""
        path = socket_path or self.path
        plan = {"data": data, "headers": [f"X-Socket-Handoff: {path}"]}
        if form == "header":
            plan["headers"].append("X-Handoff-Data: {data}")
        else:
            plan["headers"].append(f"X-Handoff-Data-Source: {form}")
            plan["echo"] = 1
        if sign:
            plan["sign"] = {"kid": self.key.kid, "key": base64.b64encode(self.key.secret).decode(), "socket": path,
                            **more.pop("signing", {})}
        if "subject" in more:
            subject = more.pop("subject")
            plan["headers"].append(f"X-Handoff-Subject: {subject}")
            plan["sign"] = {"subject": subject, **plan["sign"]}
        plan["headers"] += more.pop("add", [])
        return {**plan, **more}

    @staticmethod
    def query(plan: dict) -> str:
        return base64.urlsafe_b64encode(json.dumps(plan).encode()).decode()

    def target(self, plan: dict, path="/app.php") -> str:
        return f"{path}?plan={self.query(plan)}"

    # ------------------------------------------------------------ clients

    def fetch(self, target, method="GET", body=None, headers=None, port=None) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=15)
        try:
            connection.request(method, target, body, headers or {})
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def ask(self, plan, method="GET", path="/app.php", **how):
        """fetch() of a plan in a thread: a future."""
        return self.pool.submit(self.fetch, self.target(plan, path), method, **how)

    def raw(self, request: bytes, port=None) -> socket.socket:
        """A connection on which these bytes were sent."""
        sock = socket.create_connection(("127.0.0.1", port or self.port), 10)
        sock.settimeout(10)
        sock.sendall(request)
        return sock

    # ------------------------------------------------------------ the daemon's side

    def listener(self, path=None, **how) -> handoff1.Listener:
        return handoff1.Listener(path or self.path, **how)

    def quiet(self, gate, seconds=0.02) -> bool:
        """Whether no handoff arrives; after an answer of Apache's it would be there already."""
        try:
            handoff = gate.receive(seconds)
        except TimeoutError:
            return True
        handoff.close()
        return False

    def handoff_or_answer(self, gate, sock, timeout=15):
        """The handoff that comes, None when Apache answers the client itself."""
        deadline = time.monotonic() + timeout
        while not ready(sock):
            with contextlib.suppress(TimeoutError):
                return gate.receive(0.01)
            assert time.monotonic() < deadline, "neither a handoff nor an answer"
        return None

    def serve(self, gate, count=1, timeout=15) -> list:
        """Accept and answer so many handoffs; what came."""
        served = []
        for number in range(count):
            handoff = gate.receive(timeout)
            assert not ready(handoff.client), "bytes of the request were left in the socket"
            handoff.accept(number + 1)
            handoff.answer()
            served.append(handoff)
        return served

    # ------------------------------------------------------------ what it leaves behind

    def reasons(self, since: int) -> list:
        """Reasons of the refusals logged since."""
        return [word.split("=", 1)[1] for line in self.error_log.find("handoff refused", since)
                for word in line.split() if word.startswith("reason=")]

    def notes(self) -> list:
        return (self.root / "notes.log").read_text().splitlines()

    def descriptors(self) -> int:
        """Open descriptors of all worker processes together."""
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in self.workers())


HANDLERS = ("php", "cgi", "back")


class Everywhere(Site):
    """The same application three times: app.php (mod_php on prefork, else php-fpm), app.cgi (mod_cgi on prefork, else
    mod_cgid) and app.back (mod_proxy_http), each reached by every route:

        /app.H                direct                      /H/errors/x      ErrorDocument
        /H/index/             DirectoryIndex              /H/redirect      internal redirect of a CGI program
        /H/fallback/x         FallbackResource            /H/page.shtml    part of a page (SSI)
        /H/folder/x           rewrite in a <Directory>
        /H/server/x           rewrite of the server
    """

    ROUTES = {"direct": "/app.{}", "index": "/{}/index/", "fallback": "/{}/fallback/x", "folder": "/{}/folder/x",
              "server": "/{}/server/x", "errors": "/{}/errors/x", "redirect": "/{}/redirect"}
    SERVER = """ScriptSock @docroot@/../cgid.sock
AddHandler cgi-script .cgi
AddOutputFilter INCLUDES .shtml
<FilesMatch "[.]back$">
    SetHandler "proxy:http://127.0.0.1:@backend@"
</FilesMatch>
SocketHandoffBindingHeader X-Edge-Binding
LimitRequestFieldSize 65536
RewriteEngine On
"""
    HANDLER = """<Directory @docroot@/@h@/index>
    DirectoryIndex app.@h@
</Directory>
<Directory @docroot@/@h@/fallback>
    DirectoryIndex disabled
    FallbackResource /app.@h@
</Directory>
<Directory @docroot@/@h@/folder>
    RewriteEngine On
    RewriteRule ^ /app.@h@ [L]
</Directory>
RewriteRule ^/@h@/server/ /app.@h@ [PT]
<Location /@h@/errors>
    ErrorDocument 404 /app.@h@
</Location>
AliasMatch ^/@h@/redirect$ @docroot@/to-@h@.cgi
<Directory @docroot@/@h@>
    Options +Includes
</Directory>
"""

    def __init__(self, env: Env, mpm: str = "event", conf: str = "", **how):
        self.mpm, self.backend = mpm, Backend()
        script = "cgi" if mpm == "prefork" else "cgid"
        server = self.SERVER if script == "cgid" else self.SERVER.partition("\n")[2]
        server = server.replace("@backend@", str(self.backend.port))
        conf = server + "".join(self.HANDLER.replace("@h@", handler) for handler in HANDLERS) + conf
        super().__init__(env, mpm, conf, more_modules=[script, "remoteip", *how.pop("more_modules", ())], **how)

    def start(self) -> None:
        source = pathlib.Path(application.__file__).read_text()
        self.page("app.cgi", source)
        self.page("app.back", "not read")
        for handler in HANDLERS:
            self.page(f"to-{handler}.cgi", "#!/bin/sh\n"
                      f"printf 'Location: /app.{handler}\\nX-Socket-Handoff: /of/the/redirect\\n\\n'\n")
            self.page(f"{handler}/page.shtml", f'before<!--#include virtual="/app.{handler}" -->after\n')
            for folder in ("fallback", "folder"):
                (self.docroot / handler / folder).mkdir()
        self.page("php/index/app.php", APP)
        self.page("cgi/index/app.cgi", source)
        self.page("back/index/app.back", "not read")
        super().start()

    def stop(self) -> None:
        super().stop()
        self.backend.close()

    def route(self, name: str, handler: str) -> str:
        return self.ROUTES[name].format(handler)

    def request(self, plan: dict, target: str, method="GET", version="1.1", headers=(), body=b"") -> bytes:
        """The bytes of a request; the plan travels in a header, which every route leaves alone."""
        lines = [f"{method} {target} HTTP/{version}", "Host: localhost", f"X-Plan: {self.query(plan)}", *headers]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@contextlib.contextmanager
def as_uid(uid: int, gid: int = None):
    """Act as another user: SO_PEERCRED keeps who called listen()."""
    os.setegid(uid if gid is None else gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def ready(sock: socket.socket) -> bool:
    """Whether there is something to read."""
    return bool(select.select([sock], [], [], 0)[0])


def read_all(sock: socket.socket) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := sock.recv(65536):
            received += piece
    sock.close()
    return received
