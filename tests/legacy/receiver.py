#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A receiver of the bare format in Python: receiver.py SOCKET [stream]. It streams back what the application said, word
by word. The present form of the original wants SOCK_SEQPACKET, an early one SOCK_STREAM. Written for the tests from the description of the format only."""
import array
import os
import socket
import sys
import threading


def receive(connection: socket.socket):
    """(data, client socket or None)"""
    clients = array.array("i")
    data, ancillary, _, _ = connection.recvmsg(1 << 20, socket.CMSG_SPACE(clients.itemsize), socket.MSG_CMSG_CLOEXEC)
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            clients.frombytes(content[:clients.itemsize])
    while piece := connection.recv(65536):
        data += piece
    return b"" if data == b"\0" else data, socket.socket(fileno=clients[0]) if clients else None


def answer(connection: socket.socket) -> None:
    with connection:
        data, client = receive(connection)
    if client is None:
        return
    with client:
        client.setblocking(True)
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\ndata: ")
        for start in range(0, len(data), 4096):
            client.sendall(data[start:start + 4096])
        client.sendall(b"\n\ndata: [DONE]\n\n")


def main() -> None:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM if "stream" in sys.argv[2:] else socket.SOCK_SEQPACKET)
    listener.bind(sys.argv[1])
    os.chmod(sys.argv[1], 0o666)
    listener.listen(64)
    while True:
        threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()


main()
