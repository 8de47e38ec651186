# SPDX-License-Identifier: Apache-2.0
"""What the tests of handlers share: a program that does what the request's data says, in each mode and with limits."""
import os
import socket
import struct

import handoff1
from env import Handoffd, ROOT
from streams import Exchange

EXAMPLES = ROOT / "examples" / "handlers"

# Runs its data as Python.
PUPPET = """
import os, signal, sys, time
def out(*pieces):
    for piece in pieces:
        while piece:
            piece = piece[os.write(1, piece):]
def err(piece):
    while piece:
        piece = piece[os.write(2, piece):]
def head(*lines, status=b"200 OK"):
    out(b"HTTP/1.1 " + status + b"\\r\\n" + b"".join(line + b"\\r\\n" for line in lines) + b"\\r\\n")
with os.fdopen(int(os.environ["HANDOFF_DATA_FD"]), "rb") as file:
    exec(file.read())
"""


class Handlers(Handoffd):
    """handoffd with the puppet behind a listener for each mode, and for each of `more`: {"slow": {"mode": "http",
    "wall-time": 1}}, options of the handler section; "backend" and "listen" in it are those of the other sections."""

    def __init__(self, env, more=None, **how):
        folder = env.folder("programs")
        (folder / "puppet.py").write_text(PUPPET)
        sections = {mode: {"mode": mode} for mode in ("http", "cgi", "text", "sse")} if more is None else more
        handlers, backends, listens = {}, {}, {}
        for name, options in sections.items():
            options = dict(options)
            backends[name] = {"type": "handler", "handler": name, **options.pop("backend", {})}
            listens[name] = {"backend": name, **options.pop("listen", {})}
            handlers[name] = {"command": ["/usr/bin/python3", "-I", "-S", str(folder / "puppet.py")], **options}
        super().__init__(env, allow_peer=(os.geteuid(),), handlers=handlers, backends=backends, listens=listens, **how)

    def exited(self, run) -> str:
        """The log line that tells of the end of this run: an Exchange, or a response by run()."""
        return self.log.wait(rf"event=handler-exited id={run.id} ", 10)[0]


def run(daemon, listener: str, code, method: str = "GET", **how):
    """The whole answer of the puppet that runs this code."""
    with Exchange(daemon, code.encode() if isinstance(code, str) else code, listener, method=method, **how) as made:
        response = made.response(method)
        response.id = made.id
        return response


def relayed(daemon, listener: str, code: str, method: str = "GET"):
    """(status, [header lines], body, whether it is whole) of a client that a module relays."""
    ours, theirs = socket.socketpair()
    with ours, handoff1.Sender(daemon.path(listener)) as sender:
        fields = handoff1.make_fields(ours, sender.path, code.encode(), key=daemon.keys.key, method=method,
                                      binding="v1;192.0.2.7;40112;AAECAwQFBgcICQoLDA0ODw")
        reply_socket = sender.send_fields(fields, theirs, handoff1.FLAG_RELAY)
        theirs.close()
        reply = reply_socket.receive(20)
        assert reply and reply.accepted, reply
        reply_socket.close()
        ours.settimeout(20)
        raw = b""
        while piece := ours.recv(65536):
            raw += piece
    return parse_relay(raw)


def parse_relay(raw: bytes):
    magic, length, count, zero = struct.unpack_from("<8sIHH", raw)
    assert (magic, count, zero) == (b"HANDREL1", 2, 0)
    kind, _, size, status, kind2, _, size2 = struct.unpack_from("<HHIHHHI", raw, 16)
    assert (kind, size, kind2) == (1, 2, 2) and length == 34 + size2
    lines = raw[34:length].decode("latin-1").split("\r\n")[:-1]
    body, position = b"", length
    while position < len(raw):
        size, = struct.unpack_from("<I", raw, position)
        position += 4
        if size == 0:
            assert position == len(raw), "bytes after the end"
            return status, lines, body, True
        body += raw[position:position + size]
        position += size
    return status, lines, body, False
