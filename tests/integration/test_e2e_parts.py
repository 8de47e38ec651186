# SPDX-License-Identifier: Apache-2.0
"""Attachments from end to end: PHP with the php/ package attaches, Apache hands off, the streamer asks, and an upstream
gets every byte. The Python signer's form of the same data is the same to it."""
import base64
import hashlib
import json
import os
import pathlib
import sys
from urllib.parse import urlencode

import pytest

from env import Apache, Handoffd, KeyRing, ScriptedUpstream, request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "examples/signers"))
import handoff_signer  # noqa: E402

PNG = b"\x89PNG\r\n\x1a\n"

# The request body is the attachment's bytes; the rest of the request is in the query string.
PAGE = """<?php
declare(strict_types=1);
require '%(src)s/autoload.php';
$bytes = file_get_contents('php://input');
$handoff = (new Handoffd\\Handoff(new Handoffd\\Signer('%(keys)s')))->to('%(path)s')->subject('user-42')
    ->data(['prompt' => $_GET['prompt'], 'response_headers' => ['X-Length' => (string) strlen($bytes)]]);
if ($_GET['type'] !== '') {
    $handoff = $handoff->attach($_GET['name'], $_GET['type'], $bytes);
}
$handoff->attach("not\\u{e9}s.txt", 'text/plain; charset=utf-8', "gr\\u{fc}\\u{df} \\"\\\\\\n")->send();
"""
# The request body is the data as it is.
RAW = """<?php
declare(strict_types=1);
require '%(src)s/autoload.php';
(new Handoffd\\Handoff(new Handoffd\\Signer('%(keys)s')))->to('%(path)s')->data(file_get_contents('php://input'))->send();
"""
NOTES = 'gr\u00fc\u00df "\\\n'


@pytest.fixture(scope="module")
def site(env, fpm):
    def answer(connection):
        connection.read_request()
        connection.head()
        connection.event("ok")
        connection.done()
    keys = KeyRing(env)
    with ScriptedUpstream(answer) as upstream, \
            Handoffd(env, {"llm": {"type": "openai", "upstream": "up", "model": "m"}}, {"chat": {"backend": "llm"}},
                     {"up": {"url": upstream.url}}, keys) as daemon, \
            Apache(env, php="fpm", fpm=fpm, keys=keys) as apache:
        names = {"src": env.php_src, "keys": keys.file(apache.php_uid), "path": daemon.path()}
        apache.page("parts.php", PAGE % names)
        apache.page("raw.php", RAW % names)
        apache.upstream, apache.daemon = upstream, daemon
        yield apache


def ask(site, blob: bytes, **query):
    target = "/parts.php?" + urlencode({"name": "x", "type": "", "prompt": "p", **query})
    return request(site.port, target, body=blob, timeout=60)


def content(site):
    return site.upstream.connections[-1].json["messages"][0]["content"]


def data_url(kind: str, blob: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(blob).decode()}"


@pytest.mark.parametrize("length", [3, 100_000, 5 << 20], ids=["message", "memfd", "5-MiB"])
def test_image(site, length):
    blob = PNG + os.urandom(length)
    response = ask(site, blob, name="foto {1}.png", type="image/png", prompt="see {not\u00e9s.txt} and {foto {1}.png}!")
    assert response.status == 200 and response.text() == "ok" and response.header("X-Length") == str(len(blob))
    # A name with braces cannot be named: its image comes first.
    first, second = content(site)
    assert hashlib.sha512(first.pop("image_url")["url"].encode()).digest() == \
        hashlib.sha512(data_url("image/png", blob).encode()).digest()
    assert first == {"type": "image_url"}
    assert second == {"type": "text", "text": f"see {NOTES} and {{foto {{1}}.png}}!"}


def test_pdf(site):
    blob = b"%PDF-1.7" + os.urandom(70_000)
    assert ask(site, blob, name="b.pdf", type="application/pdf", prompt="sum up {b.pdf}").text() == "ok"
    assert content(site) == [
        {"type": "text", "text": NOTES + "\n\nsum up "},
        {"type": "file", "file": {"filename": "b.pdf", "file_data": data_url("application/pdf", blob)}}]


def test_text(site):
    assert ask(site, b"", prompt="{not\u00e9s.txt}?").text() == "ok"
    assert content(site) == NOTES + "?"


@pytest.mark.parametrize("kind, why", [("image/png", "an attachment's bytes are not of its type"),
                                       ("text/plain", "an attachment of text is not UTF-8"),
                                       ("application/zip", "an attachment's type is not one that is taken")])
def test_refused(site, kind, why):
    """Apache answers 400, the log has the reason, and the upstream hears nothing."""
    site.error_log.expect("AHSH0102.*reason=request-invalid")
    since, before = site.daemon.log.position(), len(site.upstream.connections)
    assert ask(site, b"\xff\xd8no", type=kind).status == 400
    assert f'error="{why}"' in site.daemon.log.wait("event=request-invalid", 3, since)[0]
    assert len(site.upstream.connections) == before


def test_signers_agree(site):
    """What PHP and Python write differs in nothing that the upstream gets."""
    blob = PNG + bytes(range(256))
    assert ask(site, blob, name="a", type="image/png", prompt="{a}?").text() == "ok"
    from_php = site.upstream.connections[-1].request.partition(b"\r\n\r\n")[2]
    data = handoff_signer.parts({"prompt": "{a}?"}, [("a", "image/png", blob), ("not\u00e9s.txt", "text/plain", NOTES.encode())])
    assert request(site.port, "/raw.php", body=data, timeout=20).text() == "ok"
    assert site.upstream.connections[-1].request.partition(b"\r\n\r\n")[2] == from_php
    assert json.loads(from_php)["messages"][0]["role"] == "user"
