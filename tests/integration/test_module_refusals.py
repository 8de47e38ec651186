# SPDX-License-Identifier: Apache-2.0
"""Every refusal of docs/protocol.md, sections 1 and 2, through a real Apache: the status, one line with the reason in
the error log, nothing of the application's response at the client, and nothing at all at the daemon."""
import base64
import http.client
import json
import os

import pytest

from env import Apache, KeyRing, wait_for
from receiver import Answer, Site

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="Apache, php-fpm and listeners under several uids need root")

SECRET = "secret-of-the-application"
CONFIG = """
<Location /small>
    SocketHandoffMaxData 1000
</Location>
<Location /off>
    SocketHandoffEnabled Off
</Location>
<Location /listed>
    SocketHandoffSocket @sockets@/other.sock
</Location>
AliasMatch ^/(small|off|listed)/app.php @docroot@/app.php
AddHandler send-as-is asis
"""


@pytest.fixture(scope="module", params=["event", "prefork"])
def site(request, env):
    with Site(env, request.param, CONFIG) as site:
        yield site


@pytest.fixture
def gate(site):
    with site.listener() as gate:
        yield gate


def signing(key):
    return {"kid": key.kid, "key": base64.b64encode(key.secret).decode()}


# name: (what the plan changes, status, reason). A function gets the site.
REFUSALS = {
    "socket twice": (lambda s: {"add": [f"X-Socket-Handoff: {s.path}"]}, 403, "header-duplicate"),
    "token twice": (lambda s: {"add": ["X-Handoff-Token: v1.a.1.b"]}, 403, "header-duplicate"),
    "subject twice": (lambda s: {"subject": "u1", "add": ["X-Handoff-Subject: u2"]}, 403, "header-duplicate"),
    "source twice": (lambda s: {"form": "body", "add": ["X-Handoff-Data-Source: body"]}, 403, "header-duplicate"),
    "data twice": (lambda s: {"add": ["X-Handoff-Data: {}"]}, 403, ("header-duplicate", "token-mac")),
    "underscored twin": (lambda s: {"add": ["X_Socket_Handoff: /run/x"]}, 403, "header-duplicate"),
    "two sources": (lambda s: {"add": ["X-Handoff-Data-Source: body"]}, 403, "data-source"),
    "unknown source": (lambda s: {"form": "file"}, 403, "data-source"),
    "source in capitals": (lambda s: {"form": "Body"}, 403, "data-source"),
    "control byte in the data": (lambda s: {"data": "a\x01b"}, 403, "header-invalid"),
    "tab in the data": (lambda s: {"data": "a\tb"}, 403, "header-invalid"),
    "control byte in the path": (lambda s: {"socket_path": s.path + "\x7f"}, 403, "header-invalid"),
    "relative path": (lambda s: {"socket_path": "sockets/chat.sock"}, 403, "path-forbidden"),
    "empty path": (lambda s: {"headers": ["X-Socket-Handoff:"], "sign": None}, 403, ("path-forbidden", None)),
    "path outside of the prefix": (lambda s: {"socket_path": str(s.outside)}, 403, "path-forbidden"),
    "nothing there, outside of the prefix": (lambda s: {"socket_path": "/nowhere/at/all.sock"}, 403, "path-forbidden"),
    "out of the prefix by dots": (lambda s: {"socket_path": f"{s.socket_folder}/../outside.sock"}, 403,
                                  "path-forbidden"),
    "prefix of a name": (lambda s: {"socket_path": f"{s.socket_folder}-too/chat.sock"}, 403, "path-forbidden"),
    "link to the outside": (lambda s: {"socket_path": f"{s.socket_folder}/link.sock"}, 403, "path-forbidden"),
    "link to the inside": (lambda s: {"socket_path": f"{s.socket_folder}/inner.sock"}, 403, "path-forbidden"),
    "directory link to the outside": (lambda s: {"socket_path": f"{s.socket_folder}/way/outside.sock"}, 403,
                                      "path-forbidden"),
    "a file": (lambda s: {"socket_path": f"{s.socket_folder}/file"}, 403, "path-forbidden"),
    "path too long": (lambda s: {"socket_path": f"{s.socket_folder}/{'x' * 108}"}, 403, "path-forbidden"),
    "no token": (lambda s: {"sign": False}, 403, "token-missing"),
    "token of rubbish": (lambda s: {"sign": False, "add": ["X-Handoff-Token: rubbish"]}, 403, "token-malformed"),
    "token with a tail": (lambda s: {"signing": {"tail": "A"}}, 403, "token-malformed"),
    "token with padding": (lambda s: {"signing": {"tail": "="}}, 403, "token-malformed"),
    "token v2": (lambda s: {"signing": {"version": "v2"}}, 403, "token-version"),
    "unknown key": (lambda s: {"signing": {"kid": "nobody"}}, 403, "token-key-unknown"),
    "revoked key": (lambda s: {"signing": signing(s.revoked)}, 403, "token-key-revoked"),
    "key of another listener": (lambda s: {"signing": signing(s.tenant)}, 403, "token-key-forbidden"),
    "expired": (lambda s: {"signing": {"exp": -30}}, 403, "token-expired"),
    "too far ahead": (lambda s: {"signing": {"exp": 600}}, 403, "token-future"),
    "another secret": (lambda s: {"signing": {"key": signing(s.tenant)["key"]}}, 403, "token-mac"),
    "other data": (lambda s: {"signing": {"data": "{}"}}, 403, "token-mac"),
    "other data in the body": (lambda s: {"form": "body", "signing": {"data": "{}"}}, 403, "token-mac"),
    "another socket": (lambda s: {"signing": {"socket": "/run/other.sock"}}, 403, "token-mac"),
    "another subject": (lambda s: {"subject": "u1", "signing": {"subject": "u2"}}, 403, "token-mac"),
    "subject not signed": (lambda s: {"add": ["X-Handoff-Subject: u1"]}, 403, "token-mac"),
    "binding made up": (lambda s: {"binding": "v1;127.0.0.1;1234;AAAAAAAAAAAAAAAAAAAAAA"}, 403, "token-mac"),
    "no binding": (lambda s: {"binding": ""}, 403, "token-mac"),
    "subject too long": (lambda s: {"subject": "u" * 257}, 403, "header-invalid"),
}


def assert_refused(site, gate, mark, answer, status, reason, secret=SECRET):
    reasons = reason if isinstance(reason, tuple) else (reason,)
    assert answer.status == status
    assert answer.leaks() == []
    assert secret.encode() not in answer.body
    assert answer.header("x-application") is None and answer.header("set-cookie") is None
    assert site.quiet(gate)
    logged = site.reasons(mark)
    assert len(logged) == 1 and logged[0] in reasons
    text = "\n".join(site.error_log.lines(mark))
    assert secret not in text and "v1.test1" not in text
    site.expect(f"reason={logged[0]} ")
    assert len([line for line in text.splitlines() if "AHSH" in line]) == 1
    note = f"{status} {len(answer.body)} {logged[0]} -"
    wait_for(lambda: site.notes()[-1:] == [note], 5, f"{note!r} at the end of the access log")


@pytest.mark.parametrize("name", REFUSALS)
def test_refused(site, gate, name):
    change, status, reason = REFUSALS[name]
    (site.socket_folder / "file").write_text("")
    for link, target in (("link.sock", site.outside), ("inner.sock", site.path),
                         ("way", site.folder)):
        if not (site.socket_folder / link).is_symlink():
            (site.socket_folder / link).symlink_to(target)
    plan = site.plan(**{"data": SECRET, **change(site)})
    plan["headers"] += ["X-Application: a", "Set-Cookie: a=b"]
    mark = site.error_log.position()
    with site.listener(site.outside) as outside:
        answer = site.fetch(site.target(plan))
        if name == "empty path" and answer.status == 200:
            pytest.skip("PHP drops an empty header")
        assert_refused(site, gate, mark, answer, status, reason)
        assert site.quiet(outside, 0)


@pytest.mark.parametrize("line", [" {path}", "{path} ", "{path}\t", "\t {path}\t"])
def test_padded(site, gate, line):
    """PHP and proxies trim; an as-is file does not, at the end."""
    (site.docroot / "padded.asis").write_text(
        f"X-Socket-Handoff: {line.format(path=site.path)}\nX-Handoff-Data: {SECRET}\nContent-Type: text/plain\n\n"
        f"{SECRET}")
    mark = site.error_log.position()
    answer = site.fetch("/padded.asis")
    trimmed = line[-1] == "}"
    assert_refused(site, gate, mark, answer, 403, "token-missing" if trimmed else "header-invalid")


def test_all_look_alike(site, gate):
    """One status, one page: the client does not learn why."""
    pages = set()
    for name in ("no token", "expired", "another secret", "path outside of the prefix", "two sources"):
        answer = site.fetch(site.target(site.plan(**{"data": SECRET, **REFUSALS[name][0](site)})))
        assert answer.status == 403
        site.expect("AHSH0101")
        pages.add((answer.body, tuple(sorted(h for h in answer.headers if h[0] not in ("date", "connection")))))
    assert len(pages) == 1


@pytest.mark.parametrize("status", [201, 302, 404, 500])
def test_status_of_the_application_is_forgotten(site, gate, status):
    mark = site.error_log.position()
    answer = site.fetch(site.target(site.plan(SECRET, sign=False, status=status)))
    assert_refused(site, gate, mark, answer, 403, "token-missing")


@pytest.mark.parametrize("form", ["header", "body", "parts"])
def test_data_too_large(site, gate, form):
    mark = site.error_log.position()
    answer = site.fetch(site.target(site.plan(SECRET + "x" * 1000, form=form), "/small/app.php"))
    assert_refused(site, gate, mark, answer, 413, "data-too-large")


def test_token_of_an_earlier_request(site, gate):
    """A binding serves one request only, also on one connection."""
    mark = site.error_log.position()
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=10)
    connection.request("GET", site.target({"show": 1}))
    binding = json.loads(connection.getresponse().read())["HANDOFF_BINDING"]
    connection.request("GET", site.target(site.plan(SECRET, binding=binding)))
    answer = Answer(connection.getresponse())
    connection.close()
    assert_refused(site, gate, mark, answer, 403, "token-mac")


def test_not_one_of_the_listed_sockets(site, gate):
    mark = site.error_log.position()
    answer = site.fetch(site.target(site.plan(SECRET), "/listed/app.php"))
    assert_refused(site, gate, mark, answer, 403, "path-forbidden")
    other = str(site.socket_folder / "other.sock")
    with site.listener(other) as listed:
        future = site.ask(site.plan(SECRET, socket_path=other), path="/listed/app.php")
        handoff = listed.receive()
        handoff.accept()
        handoff.answer()
        assert future.result().status == 200


@pytest.mark.parametrize("path", ["/off/app.php", "/app.php"])
def test_headers_never_leave(site, gate, path):
    """Neither where the handoff is off, nor without X-Socket-Handoff; the rest of the response does."""
    plan = site.plan("{}", output="the page", add=["X-Application: a", "Handoff-Binding: b", "X_Handoff_Data: d"])
    if path == "/app.php":
        plan["headers"] = plan["headers"][1:]
    answer = site.fetch(site.target(plan, path))
    assert answer.status == 200 and answer.body == b"the page"
    assert answer.leaks() == [] and answer.header("x-application") == "a"
    assert site.quiet(gate)


def test_off_makes_no_binding(site):
    shown = json.loads(site.fetch(site.target({"show": 1}, "/off/app.php")).body)
    assert "HANDOFF_BINDING" not in shown
    shown = json.loads(site.fetch(site.target({"show": 1})).body)
    assert shown["HANDOFF_BINDING"].startswith("v1;127.0.0.1;")


INBOUND = ["X-Socket-Handoff", "x-handoff-data", "X-HANDOFF-DATA-SOURCE", "X-Handoff-Subject", "X-Handoff-Token",
           "Handoff-Binding", "X-Handoff-Binding", "X_Socket_Handoff", "X_Handoff-Token", "HANDOFF_BINDING",
           "x.handoff.token"]


@pytest.mark.parametrize("path", ["/app.php", "/off/app.php"])
def test_inbound_headers_are_removed(site, path):
    headers = {name: "forged" for name in INBOUND} | {"X-Other": "kept"}
    shown = json.loads(site.fetch(site.target({"show": 1}, path), headers=headers).body)
    assert shown["HTTP_X_OTHER"] == "kept"
    assert [name for name, value in shown.items() if value == "forged"] == []


# ---------------------------------------------------------------- configuration

KEYS = "SocketHandoffKeyFile @keys@\n"
PEER = "SocketHandoffPeer 0\nSocketHandoffSocket *\n"
FAULTS = {
    "SocketHandoffEnabled maybe": 'SocketHandoffEnabled: "maybe" is neither On nor Off',
    "SocketHandoffRequireToken 1": 'SocketHandoffRequireToken: "1" is neither On nor Off',
    "SocketHandoffConnectTimeoutMs 0": 'SocketHandoffConnectTimeoutMs: "0" is not a whole number from 1 to 60000',
    "SocketHandoffConnectTimeoutMs 60001": '"60001" is not a whole number from 1 to 60000',
    "SocketHandoffSendTimeoutMs 10ms": 'SocketHandoffSendTimeoutMs: "10ms" is not a whole number',
    "SocketHandoffAcceptTimeoutMs -1": 'SocketHandoffAcceptTimeoutMs: "-1" is not a whole number',
    "SocketHandoffMaxRetries 11": 'SocketHandoffMaxRetries: "11" is not a whole number from 0 to 10',
    "SocketHandoffMaxData 0": 'SocketHandoffMaxData: "0" is not a whole number from 1 to 1073741824',
    "SocketHandoffProtocol http": 'SocketHandoffProtocol: "http" is neither handoff nor raw',
    "SocketHandoffAllowedPrefix run": 'SocketHandoffAllowedPrefix: "run" is not an absolute path',
    "SocketHandoffSocket chat.sock": 'SocketHandoffSocket: "chat.sock" is not an absolute path',
    "SocketHandoffPeer no-such-user": 'SocketHandoffPeer: "no-such-user" is not a user',
    "SocketHandoffPeer @no-such-group": 'SocketHandoffPeer: "@no-such-group" is not a group',
    "SocketHandoffPeer 65534": 'SocketHandoffPeer: "65534" is the id of everybody who is not known here',
    "<Location /x>\nSocketHandoffKeyFile /keys\n</Location>": "SocketHandoffKeyFile not allowed",
    "SocketHandoffConnectTimeoutMs 99999999999999999999": '"99999999999999999999" is not a whole number',
    "SocketHandoffConnectTimeoutMs +5": 'SocketHandoffConnectTimeoutMs: "+5" is not a whole number',
    "SocketHandoffMaxData 1073741825": 'SocketHandoffMaxData: "1073741825" is not a whole number',
    "SocketHandoffMaxData 32M": 'SocketHandoffMaxData: "32M" is not a whole number',
    "SocketHandoffProtocol RAW": 'SocketHandoffProtocol: "RAW" is neither handoff nor raw',
    "SocketHandoffSocket /run/" + "x" * 104: "is longer than 107 bytes",
    "SocketHandoffAllowedPrefix /run/../nowhere/..": 'SocketHandoffAllowedPrefix: "/run/../nowhere/.." cannot be',
    'SocketHandoffPeer ""': "SocketHandoffPeer requires at least one argument",
    "SocketHandoffPeer 4294967295": 'SocketHandoffPeer: "4294967295" is not a user',
    "SocketHandoffPeer -1": 'SocketHandoffPeer: "-1" is not a user',
    "SocketHandoffPeer @": 'SocketHandoffPeer: "@" is not a group',
    "SocketHandoffPeer root nobody-here": 'SocketHandoffPeer: "nobody-here" is not a user',
    "SocketHandoffPeerLabel": "SocketHandoffPeerLabel requires at least one argument",
    "SocketHandoffBindingHeader X_Binding": 'SocketHandoffBindingHeader: "X_Binding" is not a name of letters',
    "SocketHandoffBindingHeader 1": 'SocketHandoffBindingHeader: "1" is not a name of letters',
    "SocketHandoffBindingHeader Connection": 'SocketHandoffBindingHeader: "Connection" has a meaning of its own',
    "SocketHandoffBindingHeader x-handoff-token": 'SocketHandoffBindingHeader: "x-handoff-token" has a meaning',
    "SocketHandoffBindingHeader host": 'SocketHandoffBindingHeader: "host" has a meaning of its own',
    "SocketHandoffKeyFile": "SocketHandoffKeyFile takes one argument",
}


@pytest.mark.parametrize("line", FAULTS)
def test_faulty_directive(env, line):
    result = Apache.configtest(env, f"SocketHandoffEnabled Off\n{line}")
    assert result.returncode != 0 and FAULTS[line] in result.stderr


INCOMPLETE = {
    "nothing": ("", "SocketHandoffKeyFile is missing"),
    "no key file": (PEER, "SocketHandoffKeyFile is missing"),
    "no peer": (KEYS, "SocketHandoffPeer is missing"),
    "no peer, no token": ("SocketHandoffRequireToken Off\n", "SocketHandoffPeer is missing"),
    "no such key file": ("SocketHandoffKeyFile /nowhere\n" + PEER, "AHSH0002: SocketHandoffKeyFile: /nowhere"),
    "on in one place": ("SocketHandoffEnabled Off\n<Location /x>\nSocketHandoffEnabled On\n</Location>\n",
                        "SocketHandoffKeyFile is missing"),
    "on in one host": ("SocketHandoffEnabled Off\n<VirtualHost *:1>\nSocketHandoffEnabled On\n" + PEER +
                       "</VirtualHost>\n", "SocketHandoffKeyFile is missing"),
    "no socket list": (KEYS + "SocketHandoffPeer 0\n", "SocketHandoffSocket is missing"),
    "raw with token, no peer": (KEYS + "SocketHandoffProtocol raw\n", "SocketHandoffPeer is missing"),
}


@pytest.mark.parametrize("name", INCOMPLETE)
def test_incomplete_configuration(env, name):
    directives, message = INCOMPLETE[name]
    result = Apache.configtest(env, directives.replace("@keys@", str(KeyRing(env).file())))
    assert result.returncode != 0 and message in result.stderr


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o604])
def test_key_file_mode(env, mode):
    keys = KeyRing(env).file()
    keys.chmod(mode)
    result = Apache.configtest(env, PEER + f"SocketHandoffKeyFile {keys}")
    assert result.returncode != 0 and f"AHSH0002: SocketHandoffKeyFile: {keys}" in result.stderr


def key_file_fault(keys, fault):
    """Make the key file unusable in some way; what the message must say."""
    text = keys.read_text()
    if fault == "another owner":
        os.chown(keys, 1234, 0)
    elif fault == "a directory":
        keys.unlink()
        keys.mkdir()
    elif fault == "a link":
        keys.rename(keys.with_suffix(".real"))
        keys.symlink_to(keys.with_suffix(".real"))
    elif fault == "a pipe":
        keys.unlink()
        os.mkfifo(keys, 0o600)
    elif fault == "empty":
        keys.write_text("")
    elif fault == "no key in it":
        keys.write_text("# nothing\n\n")
    elif fault == "a short key":
        keys.write_text("main sign AAAA *\n")
        return ":1: "
    elif fault == "a key twice":
        keys.write_text(text + text)
        return ":2: "
    elif fault == "an unknown state":
        keys.write_text(text.replace(" sign ", " maybe "))
        return ":1: "
    elif fault == "no path":
        keys.write_text(text.replace(" *", ""))
        return ":1: "
    return ": "


@pytest.mark.parametrize("fault", ["another owner", "a directory", "a link", "a pipe", "empty", "no key in it",
                                   "a short key", "a key twice", "an unknown state", "no path"])
def test_key_file_fault(env, fault):
    """It says which file, which line, and no key."""
    ring = KeyRing(env)
    keys = ring.file()
    where = key_file_fault(keys, fault)
    result = Apache.configtest(env, PEER + f"SocketHandoffKeyFile {keys}")
    lines = [line for line in result.stderr.splitlines() if "AHSH" in line]
    assert result.returncode != 0 and len(lines) == 1
    assert f"AHSH0002: SocketHandoffKeyFile: {keys}{where}" in lines[0] and len(lines[0]) < 500
    assert base64.b64encode(ring.key.secret).decode() not in result.stderr


COMPLETE = {
    "off": "SocketHandoffEnabled Off\n",
    "off, on where it is complete": "SocketHandoffEnabled Off\n<Location /x>\nSocketHandoffEnabled On\n" + PEER +
                                    "</Location>\n" + KEYS,
    "as the original": "SocketHandoffProtocol raw\nSocketHandoffRequireToken Off\n",
    "several peers": KEYS + "SocketHandoffPeer root 0 @root @0\nSocketHandoffPeer www-data\nSocketHandoffSocket /run/a.sock /run/b.sock\n",
    "old name of the prefix": KEYS + PEER + "SocketHandoffAllowedPrefix /var/run\n",
    "labels": KEYS + PEER + "SocketHandoffPeerLabel one two\n<Location /x>\nSocketHandoffPeerLabel three\n"
              "</Location>\n",
    "binding header": KEYS + PEER + "SocketHandoffBindingHeader X-Handoff-Binding\n<Location /x>\n"
                      "SocketHandoffBindingHeader Off\n</Location>\n",
    "prefix that is not there yet": KEYS + PEER + "SocketHandoffAllowedPrefix /run/not/yet/\n",
}


@pytest.mark.parametrize("name", COMPLETE)
def test_complete_configuration(env, name):
    result = Apache.configtest(env, COMPLETE[name].replace("@keys@", str(KeyRing(env).file())))
    assert result.returncode == 0, result.stderr
