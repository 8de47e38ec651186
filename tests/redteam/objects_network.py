# SPDX-License-Identifier: Apache-2.0
"""Objects of the network: services of the runner that must hear nothing, and sockets that a target has in hand."""
import array
import ctypes
import fcntl
import os
import pathlib
import secrets
import select
import socket
import struct

from objects_files import Object
from world import FD_OBJECT, LIBC, descriptor_copy, descriptors, free_port

IPPROTO_UDPLITE, TCP_REPAIR, SO_GET_FILTER = 136, 19, 26
SOL_TCP = socket.SOL_TCP


def arrives(sock, wait=0.03):
    return bool(select.select([sock], [], [], wait)[0])


class Service(Object):
    """A listener of the runner: a connection or a datagram that arrives is harm."""

    def plant(self, family=socket.AF_INET, kind=socket.SOCK_STREAM, protocol=0, where="port", mode=0o666):
        self.kind = kind
        self.service = socket.socket(family, kind, protocol)
        self.closing.append(self.service)
        if where == "port":
            self.service.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
            self.parameters["port"] = self.service.getsockname()[1]
        elif where == "machine":
            self.parameters["port"] = 50000 + secrets.randbelow(10000)
            self.service.bind((socket.VMADDR_CID_ANY, self.parameters["port"]))
        elif where == "abstract":
            self.service.bind(f"\0redteam-{self.secret}")
            self.parameters["unix"] = f"@redteam-{self.secret}"
        else:
            path = self.victim / "service"
            self.service.bind(str(path))
            path.chmod(mode)
            self.parameters["unix"] = path
        if kind != socket.SOCK_DGRAM:
            self.service.listen(8)
        with open("/sys/class/net/lo/ifindex", encoding="ascii") as stream:
            self.parameters["loopback"] = stream.read().strip()

    def harm(self, trial):
        if not arrives(self.service):
            return self._is_connected(trial)
        if self.kind != socket.SOCK_DGRAM:
            connection, _ = self.service.accept()
            connection.close()
            return "a connection arrived"
        return "a datagram arrived" if self.secret.encode() in self.service.recv(4096) else None

    def _is_connected(self, trial):
        """A datagram socket that is connected to the runner's, without a word so far."""
        if self.kind != socket.SOCK_DGRAM or "unix" not in self.parameters:
            return None
        for number, link in descriptors(trial.pid).items():
            if not link.startswith("socket:"):
                continue
            with socket.socket(fileno=descriptor_copy(trial.pid, number)) as copy:
                try:
                    if copy.family == socket.AF_UNIX and copy.getpeername() == self.service.getsockname():
                        return "a socket is connected to it"
                except OSError:
                    continue
        return None


class Wire(Service):
    """All that goes over the loopback interface, as the runner sees it."""

    def plant(self):
        super().plant(**DATAGRAMS)
        self.wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
        self.wire.bind(("lo", 3))
        self.closing.append(self.wire)

    def harm(self, trial):
        while arrives(self.wire):
            if self.secret.encode() in self.wire.recv(65536):
                return "a packet was on the wire"
        return None


class Traffic(Service):
    def plant(self):
        super().plant(kind=socket.SOCK_DGRAM)

    def harm(self, trial):
        return self.was_read(trial)


class Client(Service):
    """A client's connection that the target has in hand, and another listener to which it must not be turned."""

    def plant(self, refused=False, **rest):
        super().plant(**rest)
        if refused:
            self.theirs = socket.socket()
            self.theirs.setblocking(False)
            self.theirs.connect_ex(("127.0.0.1", free_port()))
            select.select([], [self.theirs], [], 1)
            self.theirs.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self.theirs.setblocking(True)
        else:
            with socket.socket() as site:
                site.bind(("127.0.0.1", 0))
                site.listen(1)
                self.client = socket.create_connection(site.getsockname())
                self.theirs, _ = site.accept()
                self.closing.append(self.client)
        self.closing.append(self.theirs)
        self.fds[FD_OBJECT] = self.theirs.fileno()


class Options(Client):
    """The options of a client's socket, which the runner can ask for at its own copy."""
    NAMES = {
        "SO_MARK": (socket.SOL_SOCKET, socket.SO_MARK, 4), "SO_PRIORITY": (socket.SOL_SOCKET, socket.SO_PRIORITY, 4),
        "SO_BINDTODEVICE": (socket.SOL_SOCKET, 25, 16), "SO_RCVBUF": (socket.SOL_SOCKET, socket.SO_RCVBUF, 4),
        "SO_LINGER": (socket.SOL_SOCKET, socket.SO_LINGER, 8), "TCP_REPAIR": (SOL_TCP, TCP_REPAIR, 4),
        "TCP_CONGESTION": (SOL_TCP, socket.TCP_CONGESTION, 16), "TCP_ULP": (SOL_TCP, 31, 16),
        "IP_TRANSPARENT": (socket.SOL_IP, socket.IP_TRANSPARENT, 4), "IP_TOS": (socket.SOL_IP, socket.IP_TOS, 4),
    }

    def plant(self):
        super().plant()
        now = self.theirs.getsockopt(SOL_TCP, socket.TCP_CONGESTION, 16).strip(b"\0").decode()
        others = pathlib.Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split()
        self.parameters["congestion"] = next((name for name in others if name != now), now)
        self.before = self._options()

    def _options(self):
        found = {"filter": self._filter()}
        for name, (level, option, size) in self.NAMES.items():
            try:
                found[name] = self.theirs.getsockopt(level, option, size)
            except OSError as error:
                found[name] = error.errno
        return found

    def _filter(self):
        """The number of instructions of its filter."""
        length = ctypes.c_uint(0)
        LIBC.getsockopt(self.theirs.fileno(), socket.SOL_SOCKET, SO_GET_FILTER, None, ctypes.byref(length))
        return length.value

    def harm(self, trial):
        after = self._options()
        changed = [name for name, value in self.before.items() if after[name] != value]
        return f"{changed[0]} of the client's socket was changed" if changed else None


class Accomplice(Client):
    """Somebody who waits for a descriptor, or for somebody to pretend."""

    def plant(self, credentials=False, **rest):
        super().plant(family=socket.AF_UNIX, where="path", **rest)
        self.credentials = credentials
        self.parameters["uid"] = 12345
        if credentials:
            self.service.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)

    def harm(self, trial):
        if not arrives(self.service):
            return None
        connection, _ = self.service.accept()
        with connection:
            if not arrives(connection):
                return None
            _, controls, _, _ = connection.recvmsg(64, 256)
        for _, kind, data in controls:
            if kind == socket.SCM_RIGHTS:
                fds = array.array("i", data)
                for fd in fds:
                    os.close(fd)
                return None if self.credentials else "the accomplice has the client's socket"
            if kind == socket.SCM_CREDENTIALS and self.credentials and struct.unpack("3i", data)[1] == 12345:
                return "it was taken for another user"
        return None


class Port(Object):
    """An address where the attacker listens."""

    def plant(self, kind=socket.SOCK_STREAM, unix=False):
        self.kind, self.unix = kind, unix
        self.parameters["port"] = free_port(kind)
        self.parameters["unix"] = f"@redteam-{self.secret}"

    def harm(self, trial):
        port = self.parameters["port"]
        if trial.got.startswith(b"port "):
            port = int(trial.got[5:].split(b".")[0])
        if self.kind == socket.SOCK_DGRAM:
            return f"it has the port {port}" if f":{port:04X} " in pathlib.Path("/proc/net/udp").read_text() else None
        with socket.socket(socket.AF_UNIX if self.unix else socket.AF_INET) as visitor:
            address = f"\0redteam-{self.secret}" if self.unix else ("127.0.0.1", port)
            return "it takes connections" if visitor.connect_ex(address) == 0 else None


class Family(Object):
    """A socket of a family that is harm by itself."""

    def plant(self, family=0):
        self.family = family

    def harm(self, trial):
        for number, link in descriptors(trial.pid).items():
            if link.startswith("socket:"):
                with socket.socket(self.family, 3, 0, descriptor_copy(trial.pid, number)) as copy:
                    if copy.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN) == self.family:
                        return "it has such a socket"
        return None


class Addresses(Object):
    """The addresses of the loopback interface."""

    def plant(self):
        self.address = f"198.51.100.{1 + secrets.randbelow(250)}"
        self.parameters["address"] = self.address
        self.parameters["loopback"] = pathlib.Path("/sys/class/net/lo/ifindex").read_text().strip()

    def _is_ours(self):
        with socket.socket() as probe:
            try:
                probe.bind((self.address, 0))
                return True
            except OSError:
                return False

    def harm(self, trial):
        return "the interface has another address" if self._is_ours() else None

    def clean(self):
        if self._is_ours():
            index = int(self.parameters["loopback"])
            body = struct.pack("BBBBI", socket.AF_INET, 32, 0, 0, index) + struct.pack("HH", 8, 2) + \
                socket.inet_aton(self.address)
            with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
                netlink.send(struct.pack("IHHII", 16 + len(body), 21, 1, 1, 0) + body)  # RTM_DELADDR
        super().clean()


class Interface(Object):
    """The loopback interface's MTU."""
    FILE = pathlib.Path("/sys/class/net/lo/mtu")

    def plant(self):
        self.before = int(self.FILE.read_text())
        hand = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.closing.append(hand)
        self.fds[FD_OBJECT] = hand.fileno()
        self.parameters["mtu"] = self.before - 1

    def harm(self, trial):
        return "the MTU was changed" if int(self.FILE.read_text()) != self.before else None

    def clean(self):
        if int(self.FILE.read_text()) != self.before:
            request = struct.pack("16si", b"lo", self.before).ljust(40, b"\0")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                fcntl.ioctl(sock, 0x8922, request)
        super().clean()


DATAGRAMS = {"kind": socket.SOCK_DGRAM}
UNIX = {"family": socket.AF_UNIX, "where": "path"}
ABSTRACT = {"family": socket.AF_UNIX, "where": "abstract"}
PACKETS = {"kind": socket.SOCK_SEQPACKET}

NETWORK = {
    "tcp-service": (Service, {}, "a TCP service that is none of its upstreams"),
    "tcp6-service": (Service, {"family": socket.AF_INET6}, "the same by IPv6"),
    "udp-service": (Service, DATAGRAMS, "a UDP service"),
    "udplite-service": (Service, {**DATAGRAMS, "protocol": IPPROTO_UDPLITE}, "a UDP-Lite service"),
    "vsock-service": (Service, {"family": socket.AF_VSOCK, "where": "machine"}, "a service of the virtual machine's host"),
    "wire": (Wire, {}, "the network below its filters"),
    "traffic": (Traffic, {}, "the traffic of others"),
    "abstract-service": (Service, ABSTRACT, "an abstract unix socket, as of D-Bus"),
    "abstract-datagrams": (Service, {**ABSTRACT, **DATAGRAMS}, "an abstract unix datagram socket"),
    "abstract-packets": (Service, {**ABSTRACT, **PACKETS}, "an abstract unix packet socket"),
    "unix-service": (Service, UNIX, "a unix socket that anybody may connect to"),
    "unix-datagrams": (Service, {**UNIX, **DATAGRAMS}, "a unix datagram socket that anybody may write to"),
    "unix-packets": (Service, {**UNIX, **PACKETS}, "a unix packet socket that anybody may connect to"),
    "private-service": (Service, {**UNIX, "mode": 0o600}, "a unix socket of root, as of Docker"),
    "private-packets": (Service, {**UNIX, **PACKETS, "mode": 0o600}, "a unix packet socket of root"),
    "client": (Client, {}, "a client's socket in hand"),
    "refused-socket": (Client, {"refused": True}, "a socket in hand that was refused"),
    "client-options": (Options, {}, "the options of a client's socket"),
    "accomplice": (Accomplice, {}, "an accomplice who listens"),
    "accomplice-packets": (Accomplice, PACKETS, "an accomplice who listens for packets"),
    "credentials-reader": (Accomplice, {"credentials": True}, "a service that asks who writes"),
    "port": (Port, {}, "a TCP port"),
    "any-port": (Port, {}, "a TCP port that the kernel chooses"),
    "udp-port": (Port, DATAGRAMS, "a UDP port"),
    "abstract-name": (Port, {"unix": True}, "an abstract unix name"),
    "alg-socket": (Family, {"family": 38}, "the kernel's cryptography"),
    "xdp-socket": (Family, {"family": 44}, "packets past the network stack"),
    "addresses": (Addresses, {}, "the addresses of an interface"),
    "interface": (Interface, {}, "the settings of an interface"),
}
