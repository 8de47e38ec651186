# SPDX-License-Identifier: Apache-2.0
"""A world of its own for one dialer: run by test_dialer.py under `unshare --mount --net`.

    dns_world.py DIALER CONFIG SOCKET GATE_UID [ROUND...]

Brings up loopback, makes 127.0.0.1 the only name server and answers there, starts the dialer with SOCKET at descriptor 3,
asks it, as a streamer that the gate introduced, for upstream 0, and prints "ok PEER SECONDS" or the error's name and the
seconds; then "questions UDP TCP", how many came; then "exit STATUS" of the dialer. Each ROUND (default: 1) is a number of
connections asked for at once, "sleep SECONDS", or "flood WORKERS": so many streamers of backend 1 ask for 1024 connections
each to upstream 1, and nobody waits for the answers.

Upstreams listen on 127.0.0.1:8080, on [::1]:8080, on PUBLIC:8080 and on the unix socket SOCKET.upstream; 127.0.0.2 to
127.0.0.4 answer nothing.
"""
import array
import errno
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

from strace import traced

MESSAGE_STREAMER_CHANNEL, MESSAGE_DIAL = 2, 3  # daemon/common/messages.h
PUBLIC = "93.184.216.34"
ADDRESSES = {  # of the name's first label: IPv4, IPv6
    b"several": (["192.0.2.1", "127.0.0.1"], ["2001:db8::1"]),
    b"long": (["127.0.0.1"], []),
    b"mixed": (["10.0.0.1", "127.0.0.1", "169.254.169.254", PUBLIC], ["::1", "::ffff:127.0.0.1", "fd00::1"]),
    b"mapped": ([], ["::ffff:127.0.0.1"]),
    b"translated": ([], ["64:ff9b::7f00:1"]),
    b"slow": (["127.0.0.2", "127.0.0.1"], []),
    b"silent": (["127.0.0.2", "127.0.0.3", "127.0.0.4"], []),
    b"six": (["127.0.0.2", "127.0.0.3", "127.0.0.4"], ["::ffff:127.0.0.1"]),
}
over_udp, over_tcp = [], []


def loopback_up():
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sH14x", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP


def public_address():
    """A second address of loopback that is nobody's private one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        address = struct.pack("<HH4s8x", socket.AF_INET, 0, socket.inet_aton(PUBLIC))
        fcntl.ioctl(any_socket, 0x8916, struct.pack("16s16s8x", b"lo:1", address))  # SIOCSIFADDR


def answer(question, truncated):
    """The addresses of a name, or that there is no such name; over UDP only the advice to ask over TCP for names with
    "long" in them."""
    end = question.index(b"\0", 12) + 5
    kind = struct.unpack(">H", question[end - 4:end - 2])[0]
    known = ADDRESSES.get(question[13:13 + question[12]].lower())
    addresses = [] if truncated or known is None else known[0 if kind == 1 else 1]
    flags = 0x8380 if truncated else 0x8183 if known is None else 0x8180
    head = question[:2] + struct.pack(">HHHHH", flags, 1, len(addresses), 0, 0)
    records = b""
    for address in addresses:
        raw = socket.inet_pton(socket.AF_INET if kind == 1 else socket.AF_INET6, address)
        records += b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 1, len(raw)) + raw
    return head + question[12:end] + records


def serve_udp(server):
    while True:
        question, peer = server.recvfrom(4096)
        over_udp.append(question)
        server.sendto(answer(question, b"\4long" in question), peer)


def serve_tcp(server):
    while True:
        connection, _ = server.accept()
        stream = connection.makefile("rb")
        while length := stream.read(2):
            reply = answer(stream.read(struct.unpack(">H", length)[0]), False)
            over_tcp.append(reply)
            connection.sendall(struct.pack(">H", len(reply)) + reply)


def name_server():
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 53))
    tcp = socket.create_server(("127.0.0.1", 53))
    for serve, server in ((serve_udp, udp), (serve_tcp, tcp)):
        threading.Thread(target=serve, args=(server,), daemon=True).start()
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
        file.write("nameserver 127.0.0.1\n")
        file.flush()
        os.chmod(file.name, 0o644)
        subprocess.run(["mount", "--bind", file.name, os.path.realpath("/etc/resolv.conf")], check=True)


def start_dialer(program, config, path):
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    os.chmod(path, 0o666)
    listener.listen(8)

    def prepare():
        os.dup2(listener.fileno(), 3)
        command = [*traced("dns"), program, "-c", config]
        os.execve(command[0], command, {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"})

    dialer = subprocess.Popen(["/bin/false"], preexec_fn=prepare, stderr=subprocess.PIPE, close_fds=False)
    for line in dialer.stderr:
        sys.stderr.write(line.decode())
        if b"event=ready" in line:
            break
    threading.Thread(target=lambda: [sys.stderr.write(line.decode()) for line in dialer.stderr], daemon=True).start()
    return dialer


def listeners(path):
    """All that can be connected to; each has to stay referenced."""
    opened = [socket.create_server((address, 8080)) for address in ("127.0.0.1", PUBLIC)]
    opened.append(socket.create_server(("::1", 8080), family=socket.AF_INET6))
    opened.append(socket.socket(socket.AF_UNIX))
    opened[-1].bind(path)
    os.chmod(path, 0o666)
    opened[-1].listen()
    for address in ("127.0.0.2", "127.0.0.3", "127.0.0.4"):
        silent = socket.create_server((address, 8080), backlog=0)
        opened.append(silent)
        for _ in range(4):  # what does not fit its queue gets no answer
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(silent.getsockname())
            opened.append(filler)
    return opened


class Dialing:
    """The gate that introduced a streamer, and that streamer."""

    def __init__(self, path, backend=0, worker=0):
        self.gate = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.gate.connect(path)
        self.streamer, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.gate.sendmsg([struct.pack("<IIII", MESSAGE_STREAMER_CHANNEL, 16, backend, worker)],
                          [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [theirs.fileno()]))])
        theirs.close()
        self.streamer.settimeout(10)

    def ask(self, count, upstream=0):
        for number in range(count):
            self.streamer.send(struct.pack("<IIII", MESSAGE_DIAL, 16, number, upstream))

    def dial(self, count):
        started = time.monotonic()
        self.ask(count)
        for _ in range(count):
            print(self.answer(), f"{time.monotonic() - started:.2f}")

    def answer(self):
        message, fds, _, _ = socket.recv_fds(self.streamer, 64, 1)
        if len(message) != 16:
            return "channel closed"
        error = -struct.unpack("<IIIi", message)[3]
        if error:
            return errno.errorcode[error]
        with socket.socket(fileno=fds[0]) as connected:
            peer = connected.getpeername()
            return "ok " + (peer if isinstance(peer, str) else peer[0])


def main():
    program, config, path, gate_uid, *rounds = sys.argv[1:]
    loopback_up()
    public_address()
    name_server()
    upstreams = listeners(path + ".upstream")
    dialer = start_dialer(program, config, path)
    # The dialer asks who connects; root stays to come back to, to stop it.
    os.setresuid(int(gate_uid), int(gate_uid), 0)
    dialing, flood = Dialing(path), []
    for each in rounds or ["1"]:
        if each.startswith("sleep "):
            time.sleep(float(each.removeprefix("sleep ")))
        elif each.startswith("flood "):
            for worker in range(int(each.removeprefix("flood "))):
                flood.append(Dialing(path, 1, worker))
                flood[-1].ask(1024, 1)
        else:
            dialing.dial(int(each))
    print("questions", len(over_udp), len(over_tcp))
    os.setresuid(0, 0, 0)
    del upstreams
    dialer.send_signal(signal.SIGTERM)
    print("exit", dialer.wait(timeout=10))


main()
