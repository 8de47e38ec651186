#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the seed corpora of the fuzzers: make_seeds.py DIRECTORY makes DIRECTORY/wire, DIRECTORY/token, DIRECTORY/status,
DIRECTORY/request, DIRECTORY/handler_head and DIRECTORY/h2."""
import json
import pathlib
import struct
import sys

VECTORS = pathlib.Path(__file__).resolve().parents[1] / "vectors/token-v1.json"

FIELDS = {
    1: b"v1.k1.1800000030." + b"A" * 43,
    2: b"v1;192.0.2.7;40112;AAECAwQFBgcICQoLDA0ODw",
    3: b"/run/a.sock",
    4: b"user-42",
    5: bytes(64),
    6: b"GET",
    7: b"/chat",
    8: b"HTTP/1.1",
    9: b"192.0.2.7",
    10: b"example.com",
    11: b"id",
    12: struct.pack("<H", 200),
    13: b"Set-Cookie: a=b\r\nX-A: b\r\n",
    14: b"{}",
}
REQUIRED = (3, 5, 6, 7, 8, 12)


def message(types, flags=0):
    body = b"".join(struct.pack("<HHI", kind, 0, len(FIELDS[kind])) + FIELDS[kind] for kind in types)
    return b"HANDOFF1" + struct.pack("<IHH", 16 + len(body), len(types), flags) + body


def wire_seeds():
    yield message(sorted(FIELDS))
    yield message([*REQUIRED, 14])
    yield message(REQUIRED, flags=2)
    yield message(REQUIRED, flags=3)
    yield FIELDS[13]
    yield struct.pack("<BBHHHIIQ", 1, 1, 200, 0, 0, 0, 0, 7)
    yield struct.pack("<BBHHHIIQ", 1, 2, 429, 28, 0, 5, 0, 0)
    fields = struct.pack("<HHIHHHI", 1, 0, 2, 200, 2, 0, len(FIELDS[13])) + FIELDS[13]
    yield b"HANDREL1" + struct.pack("<IHH", 16 + len(fields), 2, 0) + fields
    yield struct.pack("<I5sI1sI", 5, b"hello", 1, b"!", 0)


def token_seeds():
    vectors = json.loads(VECTORS.read_text(encoding="ascii"))
    for case in vectors["verify"][::4]:
        yield b"t" + case["token"].encode()
    yield b"b" + FIELDS[2]
    yield b"bv1;2001:db8::1;443;AAECAwQFBgcICQoLDA0ODw"
    yield b"k" + vectors["keyring"].encode()


def status_seeds():
    text = b"# HELP a b\n# TYPE a histogram\na_bucket{b=\"c\\\\\\\"\",le=\"0.1\"} 1\na_sum 0.5\na_count 1\n"
    yield text
    yield b"HANDSTAT" + struct.pack("<IIQHHI", 32 + len(text), 0, 7, 1, 0, 0) + text


def parts(value, *attachments):
    listed, blobs = [], b""
    for name, kind, blob in attachments:
        listed.append({"name": name, "type": kind, "offset": len(blobs), "length": len(blob)})
        blobs += blob
    text = json.dumps({**value, "attachments": listed}).encode()
    return struct.pack("<Q", len(text)) + text + blobs


def request_seeds():
    yield json.dumps({
        "prompt": "a {b} \u00fc\ud83d\ude00", "system": "s", "model": "m", "max_tokens": 3, "temperature": 0.5, "top_p": 1,
        "stop": ["a", "b"], "seed": 1, "n": 1, "logit_bias": {"1": -1}, "tools": [{"type": "function"}],
        "tool_choice": "auto", "response_format": {"type": "json_object"}, "user": "u", "test_pattern": "t",
        "response_headers": {"X-B": "2", "set-cookie": "c=d", "x-a": "3"}}).encode()
    yield json.dumps({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": None},
                                   {"role": "user", "content": [{"type": "text", "text": "y"}]}],
                      "profile": "short", "max_completion_tokens": 3, "unknown": [{}]}).encode()
    yield json.dumps({"prompt": "p", "images": [{"base64": "iVBORw0KGgoAAAAA", "mime_type": "image/png"}],
                      "image_base64": "/9j/4AAQSkZJRgAB"}).encode()
    yield parts({"prompt": "a {t} {p}{i} {t}"}, ("t", "text/plain", b"t\xc3\xbc\n"), ("p", "application/pdf", b"%PDF-1.4"),
                ("i", "image/png", b"\x89PNG\r\n\x1a\n1"), ("g", "image/gif", b"GIF89a"))
    yield parts({"messages": [{"role": "user", "name": "n", "content": "{w}"}]},
                ("w", "image/webp", b"RIFF1234WEBP"), ("j", "application/ld+json", b"{}"))


def handler_head_seeds():
    """The first byte: the form, and where the rest is cut."""
    body = b"4;x=y\r\nbody\r\n0\r\nX: y\r\n\r\n"
    for number, output in enumerate((
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nSet-Cookie: a=b\r\n\r\n" + body + b"HTTP/1.1 200 OK",
            b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody and more",
            b"HTTP/1.0 404 No\nDate: x\nX-Handoff-A: b\n\nbody", b"HTTP/1.1 304 Same\nETag: a\n\n",
            b"HTTP/1.1 101 Switch\nUpgrade: x\n\n", b"HTTP/1.1 200 OK\nX: a\n b\n\n")):
        yield bytes([number * 12]) + output
    yield b"\x01Status: 201 Made\nLocation: /a\nContent-Type: a/b\nContent-Length: 4\n\nbody!"
    yield b"\x05Content-Type: text/plain\r\n\r\nbody"
    yield b"\x0aa gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80 \xff\xed\xa0\x80 \xf0\x9f"


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def h2_seeds():
    """What fuzz_h2.c wants to know, then frames of HTTP/2."""
    settings = frame(4, 0, 0, struct.pack(">HI", 3, 100)) + frame(4, 1)
    head = b"\x20\x88\x0f\x10\x10text/event-stream"  # no table, 200, content-type
    answers = b"".join(frame(1, 4, stream, head) + frame(0, 0, stream, b"data: x\n\n") + frame(0, 1, stream, b"data: [DONE]\n\n")
                       for stream in (1, 3, 5))
    for choices in (b"\x02\x00\x00\x00", b"\x02\x01\x00\x01", b"\x05\x07\x01\x02", b"\x02\x00\x08\x0c", b"\x05\x03\x00\x1f"):
        yield choices + settings + answers
    yield b"\x02\x00\x00\x00" + settings + frame(3, 0, 1, struct.pack(">I", 7)) + frame(7, 0, 0, bytes(8)) + answers
    yield b"\x01\x00\x00\x00" + settings + frame(1, 4, 1, b"\x20\x08\x03103") + frame(1, 0, 1, head[:4]) + \
        frame(9, 4, 1, head[4:]) + frame(8, 0, 0, struct.pack(">I", 9)) + frame(6, 0, 0, bytes(8)) + frame(0, 8, 1, b"\x01x\x00")
    yield b"\x01\x00\x00\x01" + settings + frame(1, 4, 1, head) + frame(0, 0, 1, b"x" * 16000) * 2


def main(directory):
    for name, seeds in (("wire", wire_seeds()), ("token", token_seeds()), ("status", status_seeds()),
                        ("request", request_seeds()), ("handler_head", handler_head_seeds()), ("h2", h2_seeds())):
        folder = pathlib.Path(directory) / name
        folder.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(seeds):
            (folder / f"seed-{number}").write_bytes(seed)


if __name__ == "__main__":
    main(sys.argv[1])
