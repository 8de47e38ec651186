# SPDX-License-Identifier: Apache-2.0
"""The signers of examples/signers: token vectors, key rings, and both applications behind a real Apache."""
import base64
import hashlib
import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import time

import pytest

import receiver
from env import ROOT, UID_APACHE, Apache, request

EXAMPLES = ROOT / "examples/signers"
sys.path.insert(0, str(EXAMPLES))
import handoff_signer  # noqa: E402  (it stands in examples/)

VECTORS = json.loads((ROOT / "tests/vectors/token-v1.json").read_text())["sign"]
TOOL = ROOT / (os.environ.get("BUILD") or "build") / "bin/handoffctl"
BINDING = "v1;192.0.2.7;40112;AAECAwQFBgcICQoLDA0ODw"
SOCKET = "/run/handoffd/chat.sock"
SECRET = bytes(range(32))
KEY = base64.b64encode(SECRET).decode()


@pytest.fixture(name="ring")
def make_ring(tmp_path):
    def write(text=f"k1 sign {KEY} *\n", mode=0o600):
        file = tmp_path / "keys"
        file.write_text(text)
        file.chmod(mode)
        return file

    return write


# ---------------------------------------------------------------- the Python signer


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_python_makes_the_token_of_the_vector(vector):
    key, data = bytes.fromhex(vector["key"]), bytes.fromhex(vector["data"])
    claims = vector["binding"], vector["socket_path"], vector["subject"]
    assert handoff_signer.token(key, vector["kid"], vector["exp"], *claims, data) == vector["token"]


def signed(headers, data, subject="", key=SECRET, kid="k1"):
    """Check the token of a list of header pairs; the other headers as a dictionary."""
    fields = dict(headers)
    assert len(fields) == len(headers), "a header occurs twice"
    exp = fields["X-Handoff-Token"].split(".")[2]
    assert time.time() < int(exp) <= time.time() + 30
    expected = handoff_signer.token(key, kid, exp, BINDING, fields["X-Socket-Handoff"], subject, data)
    assert fields.pop("X-Handoff-Token") == expected
    return fields


def test_python_chooses_the_form(ring):
    signer = handoff_signer.Signer(ring())
    headers, body = signer.sign(BINDING, SOCKET, b'{"a": 1}', "user-42")
    assert signed(headers, b'{"a": 1}', "user-42") == {
        "X-Socket-Handoff": SOCKET, "X-Handoff-Subject": "user-42", "X-Handoff-Data": '{"a": 1}'}
    assert body == b""
    for data in (b" a", b"a ", b"a\nb", "ü".encode(), b"a" * 4097):
        headers, body = signer.sign(BINDING, SOCKET, data)
        assert signed(headers, data) == {"X-Socket-Handoff": SOCKET, "X-Handoff-Data-Source": "body"}
        assert body == data
    headers, body = signer.sign(BINDING, SOCKET)
    assert signed(headers, b"") == {"X-Socket-Handoff": SOCKET} and body == b""


def test_python_parts(ring):
    data = handoff_signer.parts({"prompt": "x"}, [("a.bin", "application/octet-stream", b"\0\1"), ("b", "text/plain", b"2")])
    headers, body = handoff_signer.Signer(ring()).sign(BINDING, SOCKET, data, source="parts")
    assert signed(headers, data) == {"X-Socket-Handoff": SOCKET, "X-Handoff-Data-Source": "parts"} and body == data
    (length,) = struct.unpack_from("<Q", body)
    assert json.loads(body[8:8 + length])["attachments"] == [
        {"name": "a.bin", "type": "application/octet-stream", "offset": 0, "length": 2},
        {"name": "b", "type": "text/plain", "offset": 2, "length": 1}]
    assert body[8 + length:] == b"\0\0012"


@pytest.mark.parametrize("binding,path,subject", [
    (None, SOCKET, ""), ("", SOCKET, ""), ("v2;x", SOCKET, ""), ("v1;a b", SOCKET, ""), ("v1;a\n", SOCKET, ""),
    ("v1;" + "a" * 93, SOCKET, ""), (BINDING, "run/x", ""), (BINDING, "/a b", ""), (BINDING, "/" + "a" * 107, ""),
    (BINDING, SOCKET + "\n", ""), (BINDING, SOCKET, " a"), (BINDING, SOCKET, "a\nb"), (BINDING, SOCKET, "ü"),
    (BINDING, SOCKET, "a" * 257)], ids=repr)
def test_python_refuses(ring, binding, path, subject):
    with pytest.raises(handoff_signer.HandoffError):
        handoff_signer.Signer(ring()).sign(binding, path, b"", subject)


LINES = [f"k1 sign {KEY}", f"K1 sign {KEY} *", f"{'k' * 17} sign {KEY} *", f"k1 signs {KEY} *", "k1", "k1 sign",
         f"k1 sign {KEY[:-1]} *", f"k1 sign {KEY[:-2]}9= *", f"k1 sign {base64.b64encode(SECRET[:31]).decode()} *",
         f"k1 sign {KEY} run/x", f"k1 sign {KEY} /{'x' * 107}", f"k1 sign {KEY} *\r", f"k0 verify {KEY} *", "k1 sign ü *"]


@pytest.mark.parametrize("line", LINES)
def test_python_names_the_faulty_line(ring, line):
    file = ring(f"# keys\nk0 sign {KEY} *\n{line}\n")
    with pytest.raises(handoff_signer.HandoffError) as caught:
        handoff_signer.signing_key(file, SOCKET)
    assert str(caught.value).startswith(f"{file}:3: ") and KEY[:8] not in str(caught.value)
    tool = subprocess.run([TOOL, "sign", "--keys", file, "--socket", SOCKET, "--binding", BINDING], input=b"",
                          capture_output=True, check=False)
    assert f"{file}:3: ".encode() in tool.stderr, "handoffctl sees it otherwise"


def test_python_key_ring(ring, tmp_path):
    other = base64.b64encode(bytes(32)).decode()
    file = ring(f"# x\n\nold verify {other} *\nfar sign {other} {SOCKET}x\nk1\tsign  {KEY}  /x {SOCKET}\nlate sign {other} *")
    assert handoff_signer.signing_key(file, SOCKET) == ("k1", SECRET)
    with pytest.raises(handoff_signer.HandoffError, match="no key signs"):
        handoff_signer.signing_key(ring(f"k1 sign {KEY} /x\n"), SOCKET)
    for mode in (0o644, 0o660, 0o641, 0o4640):
        with pytest.raises(handoff_signer.HandoffError, match="must be 0640"):
            handoff_signer.signing_key(ring(mode=mode), SOCKET)
    link = tmp_path / "link"
    link.symlink_to(ring())
    for bad in (link, tmp_path, tmp_path / "none"):
        with pytest.raises(handoff_signer.HandoffError, match=str(bad)):
            handoff_signer.signing_key(bad, SOCKET)


# ---------------------------------------------------------------- the shell signer


SENDABLE = [vector for vector in VECTORS if vector["subject"].isascii()]


@pytest.mark.parametrize("vector", SENDABLE, ids=lambda vector: vector["name"])
def test_handoffctl_makes_the_token_of_the_vector(ring, vector):
    """handoffctl chooses the expiry; but for that its token is the vector's (see the test of the Python signer)."""
    key, data = bytes.fromhex(vector["key"]), bytes.fromhex(vector["data"])
    file = ring(f"{vector['kid']} sign {base64.b64encode(key).decode()} *\n")
    result = subprocess.run([TOOL, "sign", "--keys", file, "--socket", vector["socket_path"], "--binding", vector["binding"],
                             "--subject", vector["subject"]], input=data, capture_output=True, check=True)
    made = result.stdout.decode().strip()
    claims = vector["binding"], vector["socket_path"], vector["subject"]
    assert made == handoff_signer.token(key, vector["kid"], made.split(".")[2], *claims, data)


def cgi(script, data=b"", cwd=None, **variables):
    """Run a CGI program: its headers, a list of pairs, its body, and what it said on standard error."""
    environment = {"PATH": os.environ["PATH"], "REQUEST_METHOD": "POST", "CONTENT_LENGTH": str(len(data)),
                   "REMOTE_USER": "anna", "HANDOFF_BINDING": BINDING, "HANDOFF_SOCKET": SOCKET, "HANDOFFCTL": str(TOOL),
                   "SERVER_NAME": "localhost", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1",
                   "PYTHONDONTWRITEBYTECODE": "1", **variables}
    environment = {name: value for name, value in environment.items() if value is not None}
    result = subprocess.run([EXAMPLES / script], input=data, capture_output=True, env=environment, check=True, cwd=cwd)
    head, body = re.split(rb"\r?\n\r?\n", result.stdout, maxsplit=1)
    return [tuple(line.split(": ", 1)) for line in head.decode().splitlines()], body, result.stderr.decode()


@pytest.mark.parametrize("data", [b'{"prompt":"hi"}', b'{"prompt":\n"X-Handoff-Data-Source: body\n"}', b"a" * 5000],
                         ids=["header", "lines", "long"])
def test_shell_application(ring, data):
    headers, body, _ = cgi("chat.sh", data, HANDOFF_KEYS=str(ring()))
    fields = signed(headers, data, "user-anna")
    short = data.isascii() and len(data) <= 4096 and b"\n" not in data
    assert fields.get("X-Handoff-Data") == (data.decode() if short else None)
    assert fields.get("X-Handoff-Data-Source") == (None if short else "body")
    assert body == (b"" if short else data)


@pytest.mark.parametrize("prompt", ["hi", "Grüße\n" * 2000], ids=["header", "body"])
def test_python_application(ring, prompt):
    headers, body, _ = cgi("chat.py", prompt.encode(), HANDOFF_KEYS=str(ring()))
    assert headers.pop(0) == ("Status", "200 OK")
    fields = dict(headers)
    data = body or fields["X-Handoff-Data"].encode()
    fields = signed([pair for pair in headers if pair[0] != "Content-Length"], data, "user-anna")
    assert json.loads(data) == {"prompt": prompt}
    assert (fields.get("X-Handoff-Data-Source") == "body") == bool(body) == (len(prompt) > 10)


@pytest.mark.parametrize("script", ["chat.sh", "chat.py"])
@pytest.mark.parametrize("variables,status,said", [
    ({"REQUEST_METHOD": "GET"}, 405, ""),
    ({"REMOTE_USER": None}, 403, ""),
    ({"CONTENT_LENGTH": "1000000"}, 413, ""),
    ({"HANDOFF_BINDING": None, "HTTP_HANDOFF_BINDING": BINDING, "REDIRECT_HANDOFF_BINDING": BINDING}, 503, "not enabled"),
    ({"HANDOFF_BINDING": "v2;x"}, 503, "binding"),
    ({"HANDOFF_KEYS": "/nonexistent"}, 503, "/nonexistent"),
    ({"REMOTE_USER": "a\nX-Foo: bar"}, 503, "subject"),
], ids=lambda value: str(value) if isinstance(value, int) else None)
def test_applications_refuse(ring, script, variables, status, said):
    headers, body, errors = cgi(script, b"{}", **{"HANDOFF_KEYS": str(ring()), **variables})
    assert headers[0][0] == "Status" and headers[0][1].startswith(f"{status} ")
    assert not [name for name, _ in headers if "handoff" in name.lower()]
    assert said in errors and KEY[:8].encode() not in body and "Traceback" not in errors


# ---------------------------------------------------------------- behind Apache


@pytest.fixture(scope="module", name="site")
def start_site(env, handoffd):
    """Both applications under cgid, with basic authentication (anna, secret)."""
    folder = env.folder("signers")
    for name in ("chat.sh", "chat.py", "handoff_signer.py"):
        shutil.copy(EXAMPLES / name, folder / name)
    password = base64.b64encode(hashlib.sha1(b"secret").digest()).decode()
    (folder / "users").write_text(f"anna:{{SHA}}{password}\n")
    conf = f"""
        ScriptSock {folder}/cgid.sock
        ScriptAlias /shell {folder}/chat.sh
        ScriptAlias /python {folder}/chat.py
        <LocationMatch "^/(shell|python)$">
            SetEnv HANDOFF_KEYS {handoffd.keys.file(UID_APACHE)}
            SetEnv HANDOFF_SOCKET {handoffd.path()}
            SetEnv HANDOFFCTL {env.bin}/handoffctl
            AuthType Basic
            AuthName chat
            AuthBasicProvider file
            AuthUserFile {folder}/users
            Require valid-user
        </LocationMatch>
        <Directory "{folder}">
            Options ExecCGI
        </Directory>
    """
    modules = ["cgid", "auth_basic", "authn_core", "authn_file", "authz_user"]
    with Apache(env, keys=handoffd.keys, sockets=[handoffd.path()], modules=modules, conf=conf) as apache:
        yield apache


AUTHORIZATION = [("Authorization", "Basic " + base64.b64encode(b"anna:secret").decode())]


@pytest.mark.parametrize("count", [3, 3000], ids=["header", "body"])
@pytest.mark.parametrize("path", ["/python", "/shell"])
def test_answer_through_apache(site, path, count):
    words = "one two three " * (count // 3)
    data = words if path == "/python" else json.dumps({"prompt": words})
    response = request(site.port, path, body=data.encode(), headers=AUTHORIZATION)
    assert response.status == 200
    assert words.strip() in response.text()


def test_authentication_comes_first(site):
    for path in ("/python", "/shell"):
        assert request(site.port, path, body=b"{}").status == 401


# ---------------------------------------------------------------- the PHP package behind Apache

LIBRARIES = pathlib.Path("/usr/share/php")
PHP_START = """<?php
declare(strict_types=1);
require '%(src)s/autoload.php';
setcookie('seen', 'yes');
$handoff = (new Handoffd\\Handoff(new Handoffd\\Signer('%(keys)s')))->to('%(socket)s')->subject('user-42')
    ->data(['prompt' => 'what is this?'])->attach('a.bin', 'image/png', str_repeat("\\x89P\\0\\r\\n", (int) $_GET['count']))
    ->attach('b', 'text/plain', 'b')->header('X-Request-Tag', 'a, b')->header('Set-Cookie', 'more=1');
"""
PHP_ENDS = {
    "plain": "echo 'before'; $handoff->send(); echo 'after';",
    "psr7": """require 'GuzzleHttp/Psr7/autoload.php';
        $response = $handoff->toResponse(new GuzzleHttp\\Psr7\\HttpFactory());
        foreach ($response->getHeaders() as $name => $values) {
            foreach ($values as $value) {
                header("$name: $value", false);
            }
        }
        echo $response->getBody();""",
    "symfony": """require 'Symfony/Component/HttpFoundation/autoload.php';
        $signed = $handoff->sign();
        $response = new Symfony\\Component\\HttpFoundation\\Response($signed->body, 200, $signed->headers);
        $response->prepare(Symfony\\Component\\HttpFoundation\\Request::createFromGlobals())->send();""",
}
LIBRARY = {"psr7": "GuzzleHttp/Psr7", "symfony": "Symfony/Component/HttpFoundation"}


@pytest.fixture(scope="module", name="php_site")
def start_php_site(env):
    if os.geteuid() != 0:
        pytest.skip("Apache and php-fpm under several uids need root")
    off = "Alias /off @docroot@\n<Location /off>\nSocketHandoffEnabled Off\n</Location>"
    with receiver.Site(env, conf=off) as site:
        yield site


@pytest.mark.parametrize("count", [1, 50000], ids=["short", "long"])
@pytest.mark.parametrize("end", PHP_ENDS)
def test_php_hands_off_parts(php_site, end, count):
    if end in LIBRARY and not (LIBRARIES / LIBRARY[end] / "autoload.php").exists():
        pytest.skip(f"{LIBRARY[end]} is not installed")
    names = {"src": php_site.env.php_src, "keys": php_site.keys.file(php_site.php_uid), "socket": php_site.path}
    page = php_site.page(f"{end}.php", PHP_START % names + PHP_ENDS[end])
    with php_site.listener() as gate:
        answer = php_site.pool.submit(php_site.fetch, f"{page}?count={count}")
        (handoff,) = php_site.serve(gate)
    (length,) = struct.unpack_from("<Q", handoff.data)
    assert json.loads(handoff.data[8:8 + length]) == {"prompt": "what is this?", "attachments": [
        {"name": "a.bin", "type": "image/png", "offset": 0, "length": 5 * count},
        {"name": "b", "type": "text/plain", "offset": 5 * count, "length": 1}]}
    assert handoff.data[8 + length:] == b"\x89P\0\r\n" * count + b"b"
    assert handoff.request.subject == b"user-42"
    headers = handoff.request.headers()
    assert ("X-Request-Tag", "a, b") in headers
    cookies = [value.partition(";")[0] for name, value in headers if name.lower() == "set-cookie"]
    assert cookies == ["seen=yes", "more=1"]
    assert answer.result().status == 200


def test_php_says_when_the_module_is_off(php_site):
    names = {"src": php_site.env.php_src, "keys": php_site.keys.file(php_site.php_uid), "socket": php_site.path}
    page = php_site.page("off.php", PHP_START % names +
                         "try { $handoff->send(); } catch (Handoffd\\Exception\\NoBindingException $e) { echo $e->getMessage(); }")
    answer = php_site.fetch(f"/off{page}?count=1")
    assert answer.body.startswith(b"mod_socket_handoff is not enabled for this request: ")
    assert not answer.leaks()
