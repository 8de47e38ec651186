#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Makes token-v1.json: what token v1 must be, for the tests of every implementation.

Written from docs/protocol.md with hashlib and hmac alone, and deterministic, so that the file can always be made again:

    make_vectors.py            write token-v1.json beside this script
    make_vectors.py --check    exit 1 when the file is not what this script makes

"sign" lists tokens with all that leads to them; "verify" lists tokens with the reason (lib/reason.h) a verifier holding
"keyring" gives at the time "now", "ok" among them. Keys, data, digests and PAEs are hexadecimal.
"""
import base64
import hashlib
import hmac
import json
import pathlib
import struct
import sys

FILE = pathlib.Path(__file__).with_name("token-v1.json")
NOW = 1_800_000_000
PATH = "/run/handoffd/chat.sock"
BINDING = "v1;192.0.2.7;40112;AAECAwQFBgcICQoLDA0ODw"
DATA = b'{"prompt":"hello"}'
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def key_bytes(name):
    return hashlib.sha256(b"handoff test key " + name.encode()).digest()


# kid, state, paths
RING = [
    ("k1", "sign", ["*"]),
    ("chat-2026_a", "sign", [PATH, "/run/handoffd/other.sock"]),
    ("old", "verify", ["*"]),
    ("gone", "revoked", ["*"]),
    ("other", "sign", ["/run/handoffd/other.sock"]),
    ("sixteen-long-kid", "sign", ["*"]),
]


def pae(pieces):
    return struct.pack("<Q", len(pieces)) + b"".join(struct.pack("<Q", len(p)) + p for p in pieces)


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Claims:
    """What a token speaks for."""

    def __init__(self, binding=BINDING, socket_path=PATH, subject="", data=DATA):
        self.binding, self.socket_path, self.subject, self.data = binding, socket_path, subject, data

    def fields(self):
        return {"binding": self.binding, "socket_path": self.socket_path, "subject": self.subject, "data": self.data.hex()}


def message(kid, exp, claims):
    digest = hashlib.sha512(claims.data).digest()
    texts = ["handoff-token-v1", kid, str(exp), claims.binding, claims.socket_path, claims.subject]
    return pae([text.encode() for text in texts] + [digest])


def mac(kid, exp, claims, key=None):
    return hmac.new(key or key_bytes(kid), message(kid, exp, claims), hashlib.sha512).digest()[:32]


def token(kid="k1", exp=NOW + 30, claims=Claims(), key=None):
    return f"v1.{kid}.{exp}.{base64url(mac(kid, exp, claims, key))}"


# ---------------------------------------------------------------- tokens that are right

def sign_case(name, kid="k1", exp=NOW + 30, **claims):
    claims = Claims(**claims)
    return {
        "name": name,
        "key": key_bytes(kid).hex(),
        "kid": kid,
        "exp": exp,
        **claims.fields(),
        "digest": hashlib.sha512(claims.data).hexdigest(),
        "pae": message(kid, exp, claims).hex(),
        "mac": mac(kid, exp, claims).hex(),
        "token": token(kid, exp, claims),
    }


def sign_cases():
    return [
        sign_case("plain"),
        sign_case("subject", subject="user-42"),
        sign_case("kid with every kind of character", kid="chat-2026_a"),
        sign_case("kid of one character", kid="k"),
        sign_case("longest kid", kid="sixteen-long-kid"),
        sign_case("smallest expiry", exp=1),
        sign_case("largest expiry", exp=9_999_999_999),
        sign_case("empty data", data=b""),
        sign_case("empty subject, empty data", subject="", data=b""),
        sign_case("binary data", data=bytes(range(256))),
        sign_case("data with CR, LF and NUL", data=b"a\r\nb\0c\n"),
        sign_case("unicode data", data='{"prompt":"Grüße, 世界 👋"}'.encode()),
        sign_case("unicode subject", subject="bénédicte@例え.example"),
        sign_case("long data", data=b"0123456789abcdef" * 300 + b"tail"),
        sign_case("data of one hash block less one", data=b"x" * 111),
        sign_case("data of one hash block", data=b"x" * 128),
        sign_case("IPv6 peer", binding="v1;2001:db8::1;443;_____________________w"),
        sign_case("IPv4-mapped peer", binding="v1;::ffff:192.0.2.7;40112;AAECAwQFBgcICQoLDA0ODw"),
        sign_case("longest subject", subject="s" * 256),
        sign_case("longest socket path", socket_path="/" + "p" * 106),
        sign_case("pieces that run into one another", socket_path=PATH + "user", subject="-42"),
    ]


# ---------------------------------------------------------------- tokens and what a verifier says

def verify_case(name, reason, text, now=NOW, **claims):
    return {"name": name, "reason": reason, "now": now, "token": text, **Claims(**claims).fields()}


def right_cases():
    return [
        verify_case("right", "ok", token()),
        verify_case("right, key in state verify", "ok", token("old")),
        verify_case("right, key names the path", "ok", token("chat-2026_a")),
        verify_case("right, longest kid", "ok", token("sixteen-long-kid")),
        verify_case("right, empty data", "ok", token(claims=Claims(data=b"")), data=b""),
        verify_case("right, subject", "ok", token(claims=Claims(subject="user-42")), subject="user-42"),
        verify_case("expires now", "ok", token(exp=NOW)),
        verify_case("five seconds past", "ok", token(exp=NOW - 5)),
        verify_case("sixty seconds ahead", "ok", token(exp=NOW + 60)),
    ]


def other_claims_cases():
    good = token(claims=Claims(subject="user-42"))
    return [
        verify_case("other data", "token-mac", good, subject="user-42", data=DATA + b" "),
        verify_case("no data", "token-mac", good, subject="user-42", data=b""),
        verify_case("other subject", "token-mac", good, subject="user-43"),
        verify_case("no subject", "token-mac", good),
        verify_case("other client", "token-mac", good, subject="user-42", binding=BINDING.replace("40112", "40113")),
        verify_case("other challenge", "token-mac", good, subject="user-42", binding=BINDING[:-1] + "g"),
        verify_case("no binding", "token-mac", good, subject="user-42", binding=""),
        verify_case("other socket path", "token-mac", good, subject="user-42", socket_path="/run/handoffd/other.sock"),
        verify_case(
            "bytes moved from socket path to subject",
            "token-mac",
            token(claims=Claims(socket_path=PATH + "user", subject="-42")),
            socket_path=PATH,
            subject="user-42",
        ),
    ]


def key_cases():
    return [
        verify_case("unknown key", "token-key-unknown", token("nobody")),
        verify_case("kid is a prefix of a known one", "token-key-unknown", token("sixteen-long-ki")),
        verify_case("revoked key", "token-key-revoked", token("gone")),
        verify_case("key of another path", "token-key-forbidden", token("other")),
        verify_case("key's path with a slash more", "token-key-forbidden", token("other"), socket_path="/run/handoffd//other.sock"),
        verify_case("right kid, other key's MAC", "token-mac", token("k1", key=key_bytes("old"))),
        verify_case("key of zeros", "token-mac", token("k1", key=bytes(32))),
        verify_case("revoked key, forged", "token-key-revoked", token("gone", key=bytes(32))),
    ]


def time_cases():
    forged = bytes(32)
    return [
        verify_case("six seconds past", "token-expired", token(exp=NOW - 6)),
        verify_case("a day past", "token-expired", token(exp=NOW - 86_400)),
        verify_case("smallest expiry", "token-expired", token(exp=1)),
        verify_case("sixty-one seconds ahead", "token-future", token(exp=NOW + 61)),
        verify_case("largest expiry", "token-future", token(exp=9_999_999_999)),
        verify_case("forged and past: nothing about time", "token-mac", token(exp=NOW - 86_400, key=forged)),
        verify_case("forged and ahead: nothing about time", "token-mac", token(exp=NOW + 86_400, key=forged)),
        verify_case("clock at zero", "token-future", token(), now=0),
    ]


def malformed_texts():
    head, tail = "v1.k1.%d." % (NOW + 30), token().rsplit(".", 1)[1]
    odd = ALPHABET[ALPHABET.index(tail[-1]) + 1]
    return {
        "a word": "token",
        "only dots": "...",
        "three pieces": f"v1.k1.{tail}",
        "five pieces": f"{head}{tail}.x",
        "dot at the end": f"{head}{tail}.",
        "dot in front": f".{head}{tail}",
        "no version": f".k1.{NOW + 30}.{tail}",
        "version in capitals": f"V1.k1.{NOW + 30}.{tail}",
        "version with a leading zero": f"v01.k1.{NOW + 30}.{tail}",
        "version without v": f"1.k1.{NOW + 30}.{tail}",
        "version 0": f"v0.k1.{NOW + 30}.{tail}",
        "empty kid": f"v1..{NOW + 30}.{tail}",
        "kid of 17 characters": f"v1.{'k' * 17}.{NOW + 30}.{tail}",
        "kid in capitals": f"v1.K1.{NOW + 30}.{tail}",
        "kid with a slash": f"v1.k/1.{NOW + 30}.{tail}",
        "kid with a blank": f"v1.k 1.{NOW + 30}.{tail}",
        "kid with a non-ASCII letter": f"v1.ké.{NOW + 30}.{tail}",
        "empty expiry": f"v1.k1..{tail}",
        "expiry 0": f"v1.k1.0.{tail}",
        "expiry with a leading zero": f"v1.k1.0{NOW + 30}.{tail}",
        "expiry of eleven digits": f"v1.k1.10000000000.{tail}",
        "expiry with a sign": f"v1.k1.+{NOW + 30}.{tail}",
        "negative expiry": f"v1.k1.-{NOW + 30}.{tail}",
        "hexadecimal expiry": f"v1.k1.0x6B49D21E.{tail}",
        "expiry with a fraction": f"v1.k1.{NOW + 30},5.{tail}",
        "expiry with a blank": f"v1.k1. {NOW + 30}.{tail}",
        "empty MAC": head,
        "MAC cut by one": head + tail[:-1],
        "MAC longer by one": head + tail + "A",
        "MAC with padding": head + tail + "=",
        "MAC in the other alphabet": head + "+/" + tail[2:],
        "MAC in hexadecimal": head + mac("k1", NOW + 30, Claims()).hex(),
        "MAC with unused bits set": head + tail[:-1] + odd,
        "MAC with a blank": head + tail[:20] + " " + tail[21:],
        "blank in front": " " + head + tail,
        "blank behind": head + tail + " ",
        "newline behind": head + tail + "\n",
        "NUL behind": head + tail + "\0",
        "very long": head + tail * 100,
    }


def forged_texts():
    good = token()
    head, tail = good.rsplit(".", 1)
    cases = {"all zeros": f"{head}.{'A' * 43}", "first bit": f"{head}.{base64url(flip(mac('k1', NOW + 30, Claims()), 0))}"}
    cases["last bit"] = f"{head}.{base64url(flip(mac('k1', NOW + 30, Claims()), 255))}"
    cases["expiry prolonged"] = f"v1.k1.{NOW + 31}.{tail}"
    cases["kid exchanged"] = f"v1.old.{NOW + 30}.{tail}"
    full = hmac.new(key_bytes("k1"), message("k1", NOW + 30, Claims()), hashlib.sha512).digest()
    cases["the other half of the HMAC"] = f"{head}.{base64url(full[32:])}"
    return cases


def flip(data, bit):
    changed = bytearray(data)
    changed[bit // 8] ^= 0x80 >> (bit % 8)
    return bytes(changed)


def verify_cases():
    good = token()
    cases = right_cases() + other_claims_cases() + key_cases() + time_cases()
    cases.append(verify_case("no token", "token-missing", ""))
    for version in ("v2", "v10", "v999"):
        cases.append(verify_case(f"version {version}", "token-version", version + good[2:]))
    cases += [verify_case(f"malformed: {name}", "token-malformed", text) for name, text in malformed_texts().items()]
    cases += [verify_case(f"forged: {name}", "token-mac", text) for name, text in forged_texts().items()]
    return cases


def ring_text():
    lines = ["# kid state key socket-path..."]
    for kid, state, paths in RING:
        lines.append(" ".join([kid, state, base64.b64encode(key_bytes(kid)).decode(), *paths]))
    return "\n".join(lines) + "\n"


def document():
    content = {
        "about": "Token v1 of docs/protocol.md; made by make_vectors.py, not by hand.",
        "keyring": ring_text(),
        "sign": sign_cases(),
        "verify": verify_cases(),
    }
    return json.dumps(content, indent=1, ensure_ascii=True) + "\n"


def main(arguments):
    if arguments == ["--check"]:
        if not FILE.exists() or FILE.read_text(encoding="ascii") != document():
            print(f"{FILE.name} is not what {pathlib.Path(__file__).name} makes: run it and look at the difference", file=sys.stderr)
            return 1
        print(f"{FILE.name}: as made")
        return 0
    if arguments:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    FILE.write_text(document(), encoding="ascii")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
