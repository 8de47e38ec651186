# SPDX-License-Identifier: Apache-2.0
"""Signs socket handoffs (docs/protocol.md, sections 1 and 2) with the standard library alone.

    signer = Signer("/etc/handoffd/keys")
    headers, body = signer.sign(environ["HANDOFF_BINDING"], "/run/handoffd/chat.sock", b'{"prompt": "Hello"}', "user-42")

Add the headers to the response and send the body, byte for byte, as its body; mod_socket_handoff does the rest. chat.py
is an application that does so. Take the binding from the variable HANDOFF_BINDING only: an HTTP_* variable could be a
client's.
"""
import base64
import binascii
import hashlib
import hmac
import json
import os
import re
import stat
import struct
import time

LIFETIME = 30  # seconds; verifiers refuse more than 60
HEADER_DATA_MAX = 4096  # longer data goes into the body: servers limit a header line
KEY_LENGTH = 32
FILE_MAX = 65536
PATH_MAX = 107
SUBJECT_MAX = 256


class HandoffError(Exception):
    """What keeps a handoff from being signed. No message holds key material, a token or the data."""


def pae(pieces):
    """PASETO's pre-authentication encoding: no two lists of pieces encode to the same bytes."""
    return struct.pack("<Q", len(pieces)) + b"".join(struct.pack("<Q", len(piece)) + piece for piece in pieces)


def token(key, kid, expires, binding, socket_path, subject, data):
    """Token v1: HMAC-SHA-512, cut to 32 bytes, over everything that decides a handoff."""
    texts = ["handoff-token-v1", kid, str(expires), binding, socket_path, subject]
    message = pae([text.encode() for text in texts] + [hashlib.sha512(data).digest()])
    mac = hmac.new(key, message, hashlib.sha512).digest()[:32]
    return f"v1.{kid}.{expires}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def parts(data, attachments):
    """Data with attachments, for sign(source="parts"): a dictionary, and a list of (name, media type, bytes)."""
    listed, offset = [], 0
    for name, kind, content in attachments:
        listed.append({"name": name, "type": kind, "offset": offset, "length": len(content)})
        offset += len(content)
    encoded = json.dumps({**data, "attachments": listed}).encode()
    return struct.pack("<Q", len(encoded)) + encoded + b"".join(content for _, _, content in attachments)


def fits_header(data):
    """Printable ASCII without a blank at either end: what arrives unchanged as a header's value."""
    return re.fullmatch(rb"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?", data) is not None


# ---------------------------------------------------------------- key ring


def read_file(file):
    """The key ring's text, when the file is safe: regular, of root or ours, mode 0640 or tighter."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise HandoffError(f"{file}: {error.strerror}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise HandoffError(f"{file}: not a regular file")
        if status.st_mode & 0o7137:
            raise HandoffError(f"{file}: mode is {stat.S_IMODE(status.st_mode):04o}, must be 0640 or tighter")
        if status.st_uid not in (0, os.geteuid()):
            raise HandoffError(f"{file}: owned by uid {status.st_uid}, must be root or uid {os.geteuid()}")
        with open(descriptor, "rb", closefd=False) as stream:
            text = stream.read(FILE_MAX + 1)
    finally:
        os.close(descriptor)
    if len(text) > FILE_MAX:
        raise HandoffError(f"{file}: larger than {FILE_MAX} bytes")
    return text.decode("utf-8", "surrogateescape")


def parse_line(line):
    """(kid, state, key, paths) of one line; ValueError says what is wrong."""
    if re.search(r"[\x00-\x08\x0a-\x1f\x7f]", line):
        raise ValueError("control bytes in the line")
    kid, state, encoded, *paths = re.findall(r"[^ \t]+", line) + [""] * 3
    paths = [path for path in paths if path]
    if not re.fullmatch(r"[a-z0-9_-]{1,16}", kid):
        raise ValueError("a kid is 1 to 16 of a-z, 0-9, _ and -")
    if state not in ("sign", "verify", "revoked"):
        raise ValueError("the state is sign, verify or revoked")
    try:
        key = base64.b64decode(encoded.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        key = b""
    if len(key) != KEY_LENGTH or base64.b64encode(key).decode() != encoded:
        raise ValueError(f"the key is not base64 of {KEY_LENGTH} bytes with padding")
    if not paths:
        raise ValueError("no socket path (or *) after the key")
    if any(path != "*" and (path[0] != "/" or len(os.fsencode(path)) > PATH_MAX) for path in paths):
        raise ValueError(f"a socket path begins with / and has at most {PATH_MAX} bytes (or is *)")
    return kid, state, key, paths


def signing_key(file, socket_path):
    """(kid, key) of the first line with state sign for this socket path."""
    chosen, lines = None, {}
    for number, line in enumerate(read_file(file).split("\n"), 1):
        if line.startswith("#") or not line.strip(" \t"):
            continue
        try:
            kid, state, key, paths = parse_line(line)
            if kid in lines:
                raise ValueError(f"the kid was used before, on line {lines[kid]}")
        except ValueError as error:
            raise HandoffError(f"{file}:{number}: {error}") from None
        lines[kid] = number
        if chosen is None and state == "sign" and (socket_path in paths or "*" in paths):
            chosen = kid, key
    if chosen is None:
        raise HandoffError(f"{file}: no key signs for {socket_path}")
    return chosen


# ---------------------------------------------------------------- signer


class Signer:
    """Signs with the keys of a key ring file, which is read for each token: a rotation counts at once."""

    def __init__(self, key_file, lifetime=LIFETIME):
        if not 1 <= lifetime <= 60:
            raise HandoffError("a token lives 1 to 60 seconds")
        self.key_file, self.lifetime = key_file, lifetime

    def sign(self, binding, socket_path, data=b"", subject="", source=None):
        """The response's headers, a list of pairs, and its body. source: None chooses header or body; "body"; "parts"."""
        if not binding:
            raise HandoffError("no binding: mod_socket_handoff is not enabled for this request")
        if not re.fullmatch(r"v1;[\x21-\x7e]{1,92}", binding):
            raise HandoffError("not a binding of version 1")
        if not re.fullmatch(r"/[\x21-\x7e]+", socket_path) or len(socket_path) > PATH_MAX:
            raise HandoffError(f"a socket path is absolute, printable, and has at most {PATH_MAX} bytes")
        if subject and (len(subject) > SUBJECT_MAX or not fits_header(subject.encode())):
            raise HandoffError(f"a subject has at most {SUBJECT_MAX} printable characters, no blank at either end")
        kid, key = signing_key(self.key_file, socket_path)
        expires = int(time.time()) + self.lifetime
        headers = [
            ("X-Socket-Handoff", socket_path),
            ("X-Handoff-Token", token(key, kid, expires, binding, socket_path, subject, data)),
        ]
        if subject:
            headers.append(("X-Handoff-Subject", subject))
        if source is None and data and len(data) <= HEADER_DATA_MAX and fits_header(data):
            return [*headers, ("X-Handoff-Data", data.decode("ascii"))], b""
        if data:
            headers.append(("X-Handoff-Data-Source", source or "body"))
        return headers, data
