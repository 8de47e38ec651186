# SPDX-License-Identifier: Apache-2.0
"""A world of its own for one dialer: run by test_cage.py under `unshare --mount --net`.

    dns_world.py DIALER CONFIG SOCKET GATE_UID

Brings up loopback, makes 127.0.0.1 the only name server and answers there, starts the dialer with SOCKET at descriptor 3,
asks it, as a streamer that the gate introduced, for upstream 0, and prints "ok PEER" or the error's name; then "tcp N",
how many questions came over TCP; then "exit STATUS" of the dialer.
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

MESSAGE_STREAMER_CHANNEL, MESSAGE_DIAL = 2, 3  # daemon/common/messages.h
ADDRESSES = {1: ["192.0.2.1", "127.0.0.1"], 28: ["2001:db8::1", "::1"]}
over_tcp = []


def loopback_up():
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sH14x", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP


def answer(question, truncated):
    """Several addresses for every name; over UDP only the advice to ask over TCP for names with "long" in them."""
    end = question.index(b"\0", 12) + 5
    kind = struct.unpack(">H", question[end - 4:end - 2])[0]
    addresses = [] if truncated else ADDRESSES.get(kind, [])
    head = question[:2] + struct.pack(">HHHHH", 0x8380 if truncated else 0x8180, 1, len(addresses), 0, 0)
    records = b""
    for address in addresses:
        raw = socket.inet_pton(socket.AF_INET if kind == 1 else socket.AF_INET6, address)
        records += b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 60, len(raw)) + raw
    return head + question[12:end] + records


def serve_udp(server):
    while True:
        question, peer = server.recvfrom(4096)
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
        os.execve(program, [program, "-c", config], {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"})

    dialer = subprocess.Popen(["/bin/false"], preexec_fn=prepare, stderr=subprocess.PIPE, close_fds=False)
    for line in dialer.stderr:
        sys.stderr.write(line.decode())
        if b"event=ready" in line:
            break
    threading.Thread(target=lambda: [sys.stderr.write(line.decode()) for line in dialer.stderr], daemon=True).start()
    return dialer


def dial(path):
    gate = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    gate.connect(path)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    gate.sendmsg([struct.pack("<IIII", MESSAGE_STREAMER_CHANNEL, 16, 0, 0)],
                 [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [theirs.fileno()]))])
    theirs.close()
    ours.settimeout(10)
    ours.send(struct.pack("<IIII", MESSAGE_DIAL, 16, 7, 0))
    message, fds, _, _ = socket.recv_fds(ours, 64, 1)
    if len(message) != 16:
        return "channel closed"
    error = -struct.unpack("<IIIi", message)[3]
    return "ok " + socket.socket(fileno=fds[0]).getpeername()[0] if error == 0 else errno.errorcode[error]


def main():
    program, config, path, gate_uid = sys.argv[1:]
    loopback_up()
    name_server()
    upstream = socket.create_server(("127.0.0.1", 8080))
    dialer = start_dialer(program, config, path)
    # The dialer asks who connects; root stays to come back to, to stop it.
    os.setresuid(int(gate_uid), int(gate_uid), 0)
    print(dial(path))
    print("tcp", len(over_tcp))
    os.setresuid(0, 0, 0)
    upstream.close()
    dialer.send_signal(signal.SIGTERM)
    print("exit", dialer.wait(timeout=10))


main()
