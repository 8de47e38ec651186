# SPDX-License-Identifier: Apache-2.0
"""The PHP package: tokens with and without ext-sodium, the headers of a handoff, and every refusal."""

import base64
import hashlib
import hmac
import http.client
import json
import os
import re
import shutil
import struct
import subprocess
import time
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
AUTOLOAD = TOP / "php/src/autoload.php"
VECTORS = TOP / "tests/vectors/token-v1.json"
BINDING = "v1;127.0.0.1;4242;AAECAwQFBgcICQoLDA0ODw"
SOCKET = "/run/handoffd/chat.sock"
SECRET = bytes(range(32))
KEY = base64.b64encode(SECRET).decode()

pytestmark = pytest.mark.skipif(shutil.which("php") is None, reason="php is not installed")


def php(code, *arguments, extensions=True, env=None, stdin=b""):
    """Run code with the package loaded; without extensions there is no ext-posix and no libsodium.

    Debian's PHP has ext-sodium built in, so -n alone leaves it there; a disabled function does not exist for PHP 8.
    """
    command = ["php"] + ([] if extensions else ["-n", "-d", "disable_functions=sodium_crypto_auth"])
    command += ["-d", "zend.assertions=1", "-d", "display_errors=stderr", "-d", "error_reporting=-1"]
    script = f"declare(strict_types=1); require {json.dumps(str(AUTOLOAD))}; {code}"
    environment = {"PATH": os.environ["PATH"], "HANDOFF_BINDING": BINDING, **(env or {})}
    environment = {name: value for name, value in environment.items() if value is not None}
    return subprocess.run(
        command + ["-r", script, "--", *arguments], input=stdin, env=environment, capture_output=True, timeout=30, check=False
    )


def output(*arguments, **options):
    result = php(*arguments, **options)
    assert result.returncode == 0, result.stderr.decode()
    assert result.stderr == b""
    return result.stdout


@pytest.fixture(name="ring")
def make_ring(tmp_path):
    def write(text=f"k1 sign {KEY} {SOCKET}\n", mode=0o640):
        file = tmp_path / "keys"
        file.write_text(text)
        file.chmod(mode)
        return str(file)

    return write


def reference_token(kid, secret, exp, binding, path, subject, data):
    pieces = [b"handoff-token-v1", kid, str(exp).encode(), binding, path, subject, hashlib.sha512(data).digest()]
    message = struct.pack("<Q", len(pieces)) + b"".join(struct.pack("<Q", len(piece)) + piece for piece in pieces)
    mac = hmac.new(secret, message, "sha512").digest()[:32]
    return f"v1.{kid.decode()}.{exp}." + base64.urlsafe_b64encode(mac).decode().rstrip("=")


TOKEN = (
    "$s = new Handoffd\\Signer($argv[1], useSodium: $argv[4] === 'sodium');"
    "echo $s->token(" + json.dumps(SOCKET) + ", stream_get_contents(STDIN), $argv[2]), ' ', $argv[3];"
)


@pytest.mark.parametrize("way", ["sodium", "hash_hmac", "hash_hmac-without-sodium"])
@pytest.mark.parametrize("data,subject", [(b"", ""), (b'{"prompt":"hi"}', "user-42"), (bytes(range(256)) * 300, "x")], ids=["none", "json", "long"])
def test_token_is_the_one_of_the_protocol(ring, way, data, subject):
    extensions = way != "hash_hmac-without-sodium"
    if way == "sodium" and output("echo extension_loaded('sodium') ? 1 : 0;") != b"1":
        pytest.skip("PHP has no ext-sodium")
    now = int(time.time())
    token, _ = output(TOKEN, ring(), subject, "end", way, extensions=extensions, stdin=data).decode().split(" ")
    exp = int(token.split(".")[2])
    assert now + 29 <= exp <= time.time() + 30
    assert token == reference_token(b"k1", SECRET, exp, BINDING.encode(), SOCKET.encode(), subject.encode(), data)


def test_without_extensions_there_is_no_sodium():
    code = "echo (int) function_exists('sodium_crypto_auth'), (int) function_exists('posix_geteuid');"
    assert output(code, extensions=False) == b"00"


def test_first_signing_key_for_the_path(ring):
    other = base64.b64encode(bytes(32)).decode()
    lines = [
        "# comment",
        "",
        f"old verify {other} *",
        f"gone revoked {other} *",
        f"foreign sign {other} /run/handoffd/other.sock {SOCKET}x",
        f"k1\tsign  {KEY}\t/run/x.sock {SOCKET}",
        f"later sign {other} *",
    ]
    token = output(TOKEN, ring("\n".join(lines)), "", "", "sodium").decode()
    assert token.startswith("v1.k1.")


# ---------------------------------------------------------------- the vectors


@pytest.mark.parametrize("extensions", [True, False], ids=["sodium", "without-sodium"])
def test_vectors(extensions):
    vectors = json.loads(VECTORS.read_text())
    code = """
        $vectors = json_decode(file_get_contents($argv[1]), true, flags: JSON_THROW_ON_ERROR)['sign'];
        foreach ($vectors as $v) {
            $key = new Handoffd\\Key($v['kid'], Handoffd\\KeyState::Sign, hex2bin($v['key']), ['*']);
            $t = new Handoffd\\TokenV1();
            echo $t->sign($key, $v['exp'], $v['binding'], $v['socket_path'], $v['subject'], hex2bin($v['data'])), "\\n";
        }
    """
    tokens = output(code, str(VECTORS), extensions=extensions).decode().split()
    assert tokens == [vector["token"] for vector in vectors["sign"]]
    assert tokens


# ---------------------------------------------------------------- refusals of signer and key ring

SIGN = (
    "try { $lifetime = (int) ($argv[4] ?? 30);"
    "echo (new Handoffd\\Signer($argv[1], $lifetime))->token($argv[2], 'data', $argv[3]); }"
    "catch (Handoffd\\Exception\\HandoffException $e) { echo get_class($e), ': ', $e->getMessage(); }"
)


def refusal(keys, path=SOCKET, subject="", lifetime="30", **options):
    name, _, message = output(SIGN, keys, path, subject, lifetime, **options).decode().partition(": ")
    assert name.startswith("Handoffd\\Exception\\"), "it was not refused"
    return name.removeprefix("Handoffd\\Exception\\"), message


@pytest.mark.parametrize("binding", [None, "", "v2;127.0.0.1;1;x", "v1;", "v1;a b", "v1;a\nb", "v1;" + "a" * 93], ids=repr)
def test_no_binding(ring, binding):
    assert refusal(ring(), env={"HANDOFF_BINDING": binding})[0] == "NoBindingException"


def test_a_binding_from_the_client_does_not_count(ring):
    env = {"HANDOFF_BINDING": None, "HTTP_HANDOFF_BINDING": BINDING, "REDIRECT_HANDOFF_BINDING": BINDING}
    name, message = refusal(ring(), env=env)
    assert name == "NoBindingException" and "not enabled" in message


@pytest.mark.parametrize("path", ["", "run/x.sock", "/", "/run/a b", "/run/a\n", "/run/\x7f", "/" + "a" * 107], ids=repr)
def test_bad_path(ring, path):
    assert refusal(ring(), path=path)[0] == "InvalidArgumentException"


@pytest.mark.parametrize("subject", [" a", "a ", "a\nb", "a\r\nX: y", "\t", "a\tb", "ü", "a" * 257], ids=repr)
def test_bad_subject(ring, subject):
    assert refusal(ring(), subject=subject)[0] == "InvalidArgumentException"


@pytest.mark.parametrize("lifetime", ["0", "-1", "61"])
def test_bad_lifetime(ring, lifetime):
    assert refusal(ring(), lifetime=lifetime)[0] == "InvalidArgumentException"


SHORT = base64.b64encode(SECRET[:31]).decode()
LONG = base64.b64encode(SECRET + b"x").decode()


@pytest.mark.parametrize(
    "line",
    [
        f"k1 sign {KEY}",
        f"K1 sign {KEY} *",
        f"{'k' * 17} sign {KEY} *",
        f"k1 signs {KEY} *",
        f"k1 Sign {KEY} *",
        f"k1 sign {SHORT} *",
        f"k1 sign {LONG} *",
        f"k1 sign {KEY[:-1]} *",
        f"k1 sign {KEY.replace('A', '-', 1)} *",
        f"k1 sign {KEY[:-2]}9= *",
        f"k1 sign {KEY} run/x.sock",
        f"k1 sign {KEY} /{'x' * 107}",
        f"k1 sign {KEY} *\r",
        f"{KEY} sign k1 *",
        f"k0 verify {KEY} *",
    ],
)
def test_faulty_line(ring, line):
    file = ring(f"# first\nk0 sign {KEY} *\n{line}\n")
    name, message = refusal(file)
    assert name == "KeyRingException"
    assert message.startswith(f"{file}:3: ")
    said = message.removeprefix(file)
    assert not any(piece in said for piece in (KEY[:8], SHORT[:8], LONG[-8:]))


def test_no_key_for_the_path(ring):
    file = ring(f"a verify {KEY} *\nb revoked {KEY} *\nc sign {KEY} /run/x.sock\n")
    name, message = refusal(file)
    assert name == "KeyRingException"
    assert message.startswith(f"{file}: no key signs for {SOCKET} (line 1: a is in state verify; ")


def test_empty_ring(ring):
    assert refusal(ring("# nothing\n\n"))[0] == "KeyRingException"


def test_too_large(ring):
    assert "larger" in refusal(ring("#" * 65536 + "\n"))[1]


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o642, 0o750, 0o604, 0o4640, 0o641])
def test_mode_too_wide(ring, mode):
    assert "wider than 0640" in refusal(ring(mode=mode))[1]


@pytest.mark.parametrize("mode", [0o640, 0o600, 0o440, 0o400])
def test_mode_tight_enough(ring, mode):
    assert output(TOKEN, ring(mode=mode), "", "", "sodium").startswith(b"v1.k1.")


@pytest.mark.parametrize("extensions", [True, False], ids=["posix", "without-posix"])
def test_owner(ring, extensions):
    if os.geteuid() != 0:
        pytest.skip("needs root to give a file away")
    file = ring()
    os.chown(file, 64999, 64999)
    assert "belongs neither" in refusal(file, extensions=extensions)[1]


def test_not_a_regular_file(ring, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(ring())
    assert "not a regular file" in refusal(str(link))[1]
    assert "not a regular file" in refusal(str(tmp_path))[1]
    assert "does not exist" in refusal(str(tmp_path / "none"))[1]


def test_keys_do_not_show_in_dumps(ring):
    code = (
        "$s = new Handoffd\\Signer($argv[1]); $s->token($argv[2], ''); var_dump($s, (array) $s); print_r($s); var_export($s);"
        "try { serialize($s); echo 'serialised'; } catch (LogicException) {}"
    )
    shown = output(code, ring(), SOCKET)
    assert b"k1" in shown
    assert SECRET[:8] not in shown and KEY.encode() not in shown and b"serialised" not in shown


# ---------------------------------------------------------------- the whole handoff, with a web server around it

HANDOFF = """
    ob_start();
    echo 'before';
    setcookie('session', 'kept');
    %s
    try {
        (new Handoffd\\Handoff(new Handoffd\\Signer($in['keys'])))->send($in['path'], base64_decode($in['data']), subject: $in['subject']);
        echo 'after';
    } catch (Handoffd\\Exception\\HandoffException $e) {
        http_response_code(500);
        echo '|', get_class($e);
    }
"""


@pytest.fixture(name="handoff")
def make_handoff(tmp_path):
    """Answer one request with PHP's own web server; returns status, headers and body."""

    def run(keys, data=b"", path=SOCKET, subject="", binding=BINDING, before="", ini=(), page=None, **how):
        given = {"keys": keys, "path": path, "subject": subject, "data": base64.b64encode(data).decode()}
        (tmp_path / "given.json").write_text(json.dumps(given))
        script = tmp_path / "page.php"
        script.write_text(
            f"<?php declare(strict_types=1); require {json.dumps(str(AUTOLOAD))};"
            f"$in = json_decode(file_get_contents(__DIR__ . '/given.json'), true);"
            f"$_SERVER['HANDOFF_BINDING'] = {json.dumps(binding)};" + (page or HANDOFF) % before
        )
        options = [word for setting in ini for word in ("-d", setting)]
        command = ["php", *options, "-d", "output_buffering=0", "-S", "127.0.0.1:0", str(script)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=tmp_path) as server:
            try:
                port = int(re.search(rb"http://127\.0\.0\.1:(\d+)", server.stderr.readline())[1])
                return fetch(port, **how)
            finally:
                server.terminate()

    return run


def fetch(port, method="GET", several=()):
    """Status, headers (a list of values for the names in several) and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, "/", headers={"Accept-Encoding": "gzip"})
    answer = connection.getresponse()
    headers = {}
    for name, value in answer.getheaders():
        if name.lower() in several:
            headers.setdefault(name.lower(), []).append(value)
            continue
        assert name.lower() not in headers, f"{name} occurs twice"
        headers[name.lower()] = value
    body = answer.read()
    connection.close()
    return answer.status, headers, body


CONTROL = {"x-socket-handoff", "x-handoff-token", "x-handoff-subject", "x-handoff-data", "x-handoff-data-source"}


def check_token(headers, data, subject=""):
    exp = int(headers["x-handoff-token"].split(".")[2])
    expected = reference_token(b"k1", SECRET, exp, BINDING.encode(), SOCKET.encode(), subject.encode(), data)
    assert headers["x-handoff-token"] == expected
    assert headers["x-socket-handoff"] == SOCKET
    assert headers["set-cookie"].startswith("session=kept")


@pytest.mark.parametrize("data", [b"x", b'{"prompt":"two words"}', b"a" * 4096], ids=len)
def test_short_data_goes_into_a_header(ring, handoff, data):
    status, headers, body = handoff(ring(), data, subject="user 42")
    assert status == 200
    check_token(headers, data, "user 42")
    assert headers["x-handoff-data"] == data.decode()
    assert headers["x-handoff-subject"] == "user 42"
    assert "x-handoff-data-source" not in headers
    assert body == b""


OTHER_DATA = [b"a" * 4097, b" x", b"x ", b"a\nb", b"a\tb", "ü".encode(), bytes(range(256)), b"a" * 300000]


@pytest.mark.parametrize("data", OTHER_DATA, ids=lambda data: f"{data[:3]!r}-{len(data)}")
def test_other_data_goes_into_the_body(ring, handoff, data):
    status, headers, body = handoff(ring(), data)
    assert status == 200
    check_token(headers, data)
    assert headers["x-handoff-data-source"] == "body"
    assert "x-handoff-data" not in headers and "x-handoff-subject" not in headers
    assert body == data


def test_no_data(ring, handoff):
    _, headers, body = handoff(ring())
    check_token(headers, b"")
    assert CONTROL & set(headers) == {"x-socket-handoff", "x-handoff-token"}
    assert body == b""


def test_compression_by_php_does_not_touch_the_body(ring, handoff):
    data = b"\n" * 5000
    _, headers, body = handoff(ring(), data, ini=["zlib.output_compression=1"])
    check_token(headers, data)
    assert body == data and "content-encoding" not in headers


def test_after_output_it_is_too_late(ring, handoff):
    status, headers, body = handoff(ring(), before="ob_end_flush(); flush();")
    assert (status, body) == (200, b"before|Handoffd\\Exception\\HeadersSentException")
    assert not CONTROL & set(headers)


def test_a_buffer_that_cannot_be_removed(ring, handoff):
    status, headers, body = handoff(ring(), b"\n", before="ob_start(null, 0, 0);")
    assert status == 500 and body.endswith(b"|Handoffd\\Exception\\HeadersSentException")
    assert not CONTROL & set(headers)


def test_a_refusal_sets_no_control_header(ring, handoff):
    status, headers, body = handoff(ring(), b"x", binding="")
    assert (status, body) == (500, b"before|Handoffd\\Exception\\NoBindingException")
    assert not CONTROL & set(headers)


STEPS = """
    ob_start();
    echo 'before';
    setcookie('session', 'kept');
    header('X-Handoff-Data: from somewhere');
    header('X-Foo: replaced');
    (new Handoffd\\Handoff(new Handoffd\\Signer($in['keys'])))->to($in['path'])->data(['prompt' => 'ü'])
        ->attach('one.bin', 'application/octet-stream', "\\0\\r\\n")->attach('two.txt', 'text/plain', 'two')
        ->header('X-Foo', 'bar')->header('X-Other', 'a, b')->send();
    echo 'after';
    %.0s
"""


def test_all_steps(ring, handoff):
    """The form "parts", and headers that travel."""
    status, headers, body = handoff(ring(), page=STEPS)
    assert status == 200
    check_token(headers, body)
    assert CONTROL & set(headers) == {"x-socket-handoff", "x-handoff-token", "x-handoff-data-source"}
    assert headers["x-handoff-data-source"] == "parts"
    assert (headers["x-foo"], headers["x-other"]) == ("bar", "a, b")
    (length,) = struct.unpack_from("<Q", body)
    attachments = [
        {"name": "one.bin", "type": "application/octet-stream", "offset": 0, "length": 3},
        {"name": "two.txt", "type": "text/plain", "offset": 3, "length": 3},
    ]
    assert json.loads(body[8 : 8 + length]) == {"prompt": "ü", "attachments": attachments}
    assert body[8 + length :] == b"\0\r\ntwo"


def test_cookies_are_added(ring, handoff):
    """header() replaces what the script set, but for cookies."""
    page = STEPS.replace("->header('X-Foo', 'bar')", "->header('X-Foo', 'bar')->header('Set-Cookie', 'more=1')")
    _, headers, _ = handoff(ring(), page=page, several={"set-cookie"})
    assert headers["set-cookie"] == ["session=kept", "more=1"]


def test_a_head_request_has_no_body(ring, handoff):
    status, headers, _ = handoff(ring(), b"\n", method="HEAD")
    assert status == 500 and not CONTROL & set(headers)
    status, headers, _ = handoff(ring(), b"fits", method="HEAD")
    assert status == 200
    check_token(headers, b"fits")


# ---------------------------------------------------------------- the demo page's reader


def test_event_parser():
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    result = subprocess.run(
        ["node", "--test", str(TOP / "tests/php/sse.test.mjs")], capture_output=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stdout.decode()
