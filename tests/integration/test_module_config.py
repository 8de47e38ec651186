# SPDX-License-Identifier: Apache-2.0
"""The configuration in force at one place, through a real Apache: merging, peers, key rings of virtual hosts, and new
keys while it runs. Faulty configurations are in test_module_refusals.py."""
import base64
import contextlib
import errno
import os
import socket
import threading
import time

import pytest

import handoff1
from env import KeyRing
from receiver import Site, as_uid

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="Apache, php-fpm and listeners under several uids need root")

# ---------------------------------------------------------------- merging

MERGING = """
SocketHandoffEnabled Off
SocketHandoffMaxData 1000
SocketHandoffSocket @sockets@/chat.sock
AliasMatch ^/(?:on|host|vhost)/.*app.php$ @docroot@/app.php
<Location /on>
    SocketHandoffEnabled On
</Location>
<Location /on/off>
    SocketHandoffEnabled Off
</Location>
<Location /on/off/on>
    SocketHandoffEnabled On
</Location>
<Location /on/big>
    SocketHandoffMaxData 2000
</Location>
<Location /on/big/deeper>
    SocketHandoffMaxRetries 0
</Location>
<Location /on/free>
    SocketHandoffRequireToken Off
</Location>
<Location /on/free/strict>
    SocketHandoffRequireToken On
</Location>
<Location /on/stranger>
    SocketHandoffPeer 61999
</Location>
<Location /on/stranger/root>
    SocketHandoffPeer 0
</Location>
<Location /on/other>
    SocketHandoffSocket @sockets@/other.sock
</Location>
<Location /on/other/both>
    SocketHandoffSocket @sockets@/other.sock
    SocketHandoffSocket @sockets@/more.sock @sockets@/chat.sock
</Location>
<Location /on/elsewhere>
    SocketHandoffAllowedPrefix /run/
</Location>
<Location /on/label>
    SocketHandoffPeerLabel nobody-has-this-label
</Location>
<Location /on/hurried>
    SocketHandoffAcceptTimeoutMs 50
    SocketHandoffMaxRetries 0
</Location>
<Directory @docroot@/folder>
    SocketHandoffEnabled On
    SocketHandoffMaxData 500
</Directory>
<Location /folder/place>
    SocketHandoffMaxData 2000
</Location>
<Files only.php>
    SocketHandoffEnabled On
</Files>
<If "-n %{HTTP:X-On}">
    SocketHandoffEnabled On
</If>
<VirtualHost 127.0.0.1:@port2@>
    DocumentRoot @docroot@
    SocketHandoffEnabled On
    SocketHandoffMaxData 1500
    <Location /vhost/off>
        SocketHandoffEnabled Off
    </Location>
    <Location /vhost/small>
        SocketHandoffMaxData 10
    </Location>
    AliasMatch ^/(?:on|host|vhost)/.*app.php$ @docroot@/app.php
</VirtualHost>
"""

# (host, path, what the plan changes, what happens: "accepted", "page", or the reason of a refusal)
EFFECT = [
    ("main", "/app.php", {}, "page"),
    ("main", "/on/app.php", {}, "accepted"),
    ("main", "/on/deep/app.php", {}, "accepted"),
    ("main", "/on/off/app.php", {}, "page"),
    ("main", "/on/off/on/app.php", {}, "accepted"),
    ("main", "/on/app.php", {"length": 1000}, "accepted"),
    ("main", "/on/app.php", {"length": 1001}, "data-too-large"),
    ("main", "/on/big/app.php", {"length": 2000}, "accepted"),
    ("main", "/on/big/app.php", {"length": 2001}, "data-too-large"),
    ("main", "/on/big/deeper/app.php", {"length": 2000}, "accepted"),
    ("main", "/on/app.php", {"sign": False}, "token-missing"),
    ("main", "/on/free/app.php", {"sign": False}, "accepted"),
    ("main", "/on/free/app.php", {"signing": {"data": "other"}}, "token-mac"),
    ("main", "/on/free/strict/app.php", {"sign": False}, "token-missing"),
    ("main", "/on/stranger/app.php", {}, "daemon-peer"),
    ("main", "/on/stranger/root/app.php", {}, "accepted"),
    ("main", "/on/other/app.php", {}, "path-forbidden"),
    ("main", "/on/other/both/app.php", {}, "accepted"),
    ("main", "/on/elsewhere/app.php", {}, "path-forbidden"),
    ("main", "/on/label/app.php", {}, "daemon-peer"),
    ("main", "/folder/app.php", {"length": 500}, "accepted"),
    ("main", "/folder/app.php", {"length": 501}, "data-too-large"),
    ("main", "/folder/place/app.php", {"length": 2000}, "accepted"),
    ("main", "/only.php", {}, "accepted"),
    ("main", "/app.php", {"headers": {"X-On": "1"}}, "accepted"),
    ("vhost", "/app.php", {"length": 1500}, "accepted"),
    ("vhost", "/app.php", {"length": 1501}, "data-too-large"),
    ("vhost", "/vhost/off/app.php", {}, "page"),
    ("vhost", "/vhost/small/app.php", {"length": 10}, "accepted"),
    ("vhost", "/vhost/small/app.php", {"length": 11}, "data-too-large"),
    # sections of the main server hold in its virtual hosts, too
    ("vhost", "/on/off/app.php", {}, "page"),
    ("vhost", "/folder/place/app.php", {"length": 2000}, "accepted"),
]


@pytest.fixture(scope="module")
def merging(env):
    port = env.port()
    with Site(env, "event", MERGING.replace("@port2@", str(port)), listen=[f"127.0.0.1:{port}"]) as site:
        site.ports = {"main": site.port, "vhost": port}
        text = (site.docroot / "app.php").read_text()
        for name in ("only.php", "folder/app.php", "folder/place/app.php", "htaccess/app.php"):
            site.page(name, text)
        yield site


@pytest.mark.parametrize("host, path, change, effect", EFFECT,
                         ids=lambda value: str(value).replace("/app.php", "") if isinstance(value, str) else None)
def test_effect(merging, host, path, change, effect):
    change = dict(change)
    how = {"port": merging.ports[host], "headers": change.pop("headers", None)}
    if "length" in change:
        change["data"] = "x"
        change["repeat"] = change.pop("length")
    mark = merging.error_log.position()
    with merging.listener() as gate:
        future = merging.ask(merging.plan(output="the page", **change), path=path, **how)
        if effect == "accepted":
            merging.serve(gate)
        answer = future.result()
        assert merging.quiet(gate, 0.02) and answer.leaks() == []
    if effect == "page":
        assert answer.status == 200 and answer.body == b"the page"
    elif effect == "accepted":
        assert answer.status == 200 and answer.body == b"handed off\n"
    else:
        assert merging.reasons(mark) == [effect] and answer.status in (403, 413, 503)
        merging.expect(f"reason={effect} ")
    if effect in ("page", "accepted"):
        assert merging.reasons(mark) == []


def test_time_limit_of_a_place(merging):
    merging.expect("reason=daemon-timeout")
    with merging.listener() as gate:
        started = time.monotonic()
        future = merging.ask(merging.plan(), path="/on/hurried/app.php")
        handoff = gate.receive()
        assert future.result().status == 503 and time.monotonic() - started < 2
        handoff.close()


def test_not_in_htaccess(merging):
    """Those files belong to the applications."""
    merging.expect("SocketHandoffEnabled not allowed here")
    (merging.docroot / "htaccess" / ".htaccess").write_text("SocketHandoffEnabled On\n")
    assert merging.fetch("/htaccess/app.php").status == 500


def test_label_counts_for_kept_connections(merging):
    """A connection that one place may use is not good enough for another one that asks for more."""
    merging.expect("reason=daemon-peer")
    with merging.listener() as gate:
        for path, status in (("/on/app.php", 200), ("/on/label/app.php", 503), ("/on/app.php", 200)):
            future = merging.ask(merging.plan(), path=path)
            if status == 200:
                merging.serve(gate)
            assert future.result().status == status


# ---------------------------------------------------------------- peers

# SocketHandoffPeer: (uid, gid of the listener) -> whether it gets clients
PEERS = {
    "0": {(0, 0): True, (61002, 61002): False, (61002, 0): False},
    "root": {(0, 0): True, (33, 33): False},
    "@0": {(0, 0): True, (61002, 0): True, (0, 61002): False},
    "@root": {(61002, 0): True, (61002, 61002): False},
    "www-data": {(33, 33): True, (33, 0): True, (0, 33): False},
    "@www-data": {(0, 33): True, (33, 61002): False},
    "61002": {(61002, 61002): True, (61002, 0): True, (0, 61002): False},
    "61002 www-data @61003": {(61002, 0): True, (33, 33): True, (0, 61003): True, (0, 0): False},
    "61002\nSocketHandoffPeer 0": {(61002, 61002): True, (0, 0): True, (33, 33): False},
}


@pytest.fixture(scope="module")
def peers(env):
    conf = "".join(f"<Location /peer{i}/>\nSocketHandoffPeer {peer}\n</Location>\n" for i, peer in enumerate(PEERS))
    with Site(env, "event", conf + "AliasMatch ^/peer[0-9]+/app.php$ @docroot@/app.php\n", peer=61999) as site:
        yield site


@pytest.mark.parametrize("number", range(len(PEERS)), ids=[peer.replace("\n", " + ") for peer in PEERS])
def test_peer(peers, number):
    for (uid, gid), allowed in list(PEERS.values())[number].items():
        mark = peers.error_log.position()
        with as_uid(uid, gid):
            gate = peers.listener()
        with gate:
            future = peers.ask(peers.plan(), path=f"/peer{number}/app.php")
            if allowed:
                peers.serve(gate)
            else:
                peers.expect("reason=daemon-peer")
            assert future.result().status == (200 if allowed else 503), (uid, gid)
            assert peers.reasons(mark) == ([] if allowed else ["daemon-peer"])
            assert peers.quiet(gate, 0.02)


def own_label():
    """Security label that a peer of ours sees, None where the kernel gives none."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        try:
            return ours.getsockopt(socket.SOL_SOCKET, 31, 1024).rstrip(b"\0\n").decode()
        except OSError as error:
            if error.errno == errno.ENOPROTOOPT:
                return None
            raise


def test_peer_label(env):
    label = own_label()
    if not label:
        pytest.skip("this kernel gives sockets no security label (SO_PEERSEC: protocol not available)")
    with Site(env, "event", f'SocketHandoffPeerLabel other "{label}"\n') as site, site.listener() as gate:
        future = site.ask(site.plan())
        site.serve(gate)
        assert future.result().status == 200


# ---------------------------------------------------------------- tenants

TENANTS = """
SocketHandoffKeyFile @shared@
<VirtualHost 127.0.0.1:@a@>
    DocumentRoot @docroot@
    SocketHandoffKeyFile @ring-a@
</VirtualHost>
<VirtualHost 127.0.0.1:@b@>
    DocumentRoot @docroot@
    SocketHandoffKeyFile @ring-b@
</VirtualHost>
"""


@pytest.fixture(scope="module")
def tenants(env):
    folder = env.folder("tenants", 0o777)
    paths = {name: str(folder / f"{name}.sock") for name in "ab"}
    keys = {name: handoff1.Key(f"key-{name}", paths=(paths[name],)) for name in "ab"}
    same = {name: handoff1.Key("main", paths=(paths[name],)) for name in "ab"}
    ports = {name: env.port() for name in "ab"}
    rings = {"shared": KeyRing(env, *keys.values()), **{name: KeyRing(env, keys[name], same[name]) for name in "ab"}}
    conf = TENANTS.replace("@shared@", str(rings["shared"].file()))
    for name in "ab":
        conf = conf.replace(f"@{name}@", str(ports[name])).replace(f"@ring-{name}@", str(rings[name].file()))
    with Site(env, "event", conf, keys=None, prefix=f"{folder}/",
              listen=[f"127.0.0.1:{port}" for port in ports.values()]) as site:
        site.ports, site.paths = {**ports, "shared": site.port}, paths
        site.secrets = {**{f"key-{name}": keys[name].secret for name in "ab"},
                        **{f"main-{name}": same[name].secret for name in "ab"}}
        yield site


# (virtual host, whose listener, key) -> what happens
CROSSING = [
    ("a", "a", "key-a", "accepted"), ("b", "b", "key-b", "accepted"),
    ("a", "a", "main-a", "accepted"), ("b", "b", "main-b", "accepted"),
    ("shared", "a", "key-a", "accepted"), ("shared", "b", "key-b", "accepted"),
    ("shared", "b", "key-a", "token-key-forbidden"), ("shared", "a", "key-b", "token-key-forbidden"),
    ("b", "b", "key-a", "token-key-unknown"), ("a", "a", "key-b", "token-key-unknown"),
    ("b", "b", "main-a", "token-mac"), ("a", "b", "key-a", "token-key-forbidden"),
    ("b", "a", "key-a", "token-key-unknown"), ("a", "b", "main-a", "token-key-forbidden"),
    ("shared", "a", "main-a", "token-key-unknown"),
]


@pytest.mark.parametrize("host, listener, key, effect", CROSSING)
def test_tenants(tenants, host, listener, key, effect):
    """A key is good for the virtual hosts whose ring has it and the listeners that its line names."""
    kid = "main" if key.startswith("main") else key
    signing = {"kid": kid, "key": base64.b64encode(tenants.secrets[key]).decode()}
    mark = tenants.error_log.position()
    with tenants.listener(tenants.paths["a"]) as a, tenants.listener(tenants.paths["b"]) as b:
        gate = {"a": a, "b": b}[listener]
        future = tenants.ask(tenants.plan(socket_path=gate.path, signing=signing), port=tenants.ports[host])
        if effect == "accepted":
            tenants.serve(gate)
            assert future.result().status == 200
        else:
            tenants.expect(f"reason={effect} ")
            assert future.result().status == 403 and tenants.reasons(mark) == [effect]
        assert tenants.quiet(a, 0.02) and tenants.quiet(b, 0.02)


# ---------------------------------------------------------------- new keys

ROTATING = r"""<?php
foreach (file('@keys@') as $line) { // as a signer does: the first key whose state is sign
    [$kid, $state, $key] = explode(' ', trim($line));
    if ($state === 'sign') { break; }
}
$exp = (string) (time() + 30);
$pieces = ['handoff-token-v1', $kid, $exp, $_SERVER['HANDOFF_BINDING'], '@path@', '', hash('sha512', '{}', true)];
$message = pack('P', count($pieces));
foreach ($pieces as $piece) { $message .= pack('P', strlen($piece)) . $piece; }
$mac = substr(hash_hmac('sha512', $message, base64_decode($key), true), 0, 32);
header("X-Handoff-Token: v1.$kid.$exp." . rtrim(strtr(base64_encode($mac), '+/', '-_'), '='));
header('X-Socket-Handoff: @path@');
header('X-Handoff-Data: {}');
header("X-Kid: $kid");
"""


class Load:
    """Clients in a loop, and the daemon that answers them."""

    def __init__(self, site, gate, target, clients=4):
        self.site, self.gate, self.target, self.stop, self.answers, self.failures = site, gate, target, False, [], []
        self.threads = [threading.Thread(target=self.client, daemon=True) for _ in range(clients)]
        self.threads.append(threading.Thread(target=self.serve, daemon=True))

    def client(self):
        while not self.stop:
            try:
                self.answers.append(self.site.fetch(self.target))
            except OSError as error:
                self.failures.append(error)

    def serve(self):
        while any(thread.is_alive() for thread in self.threads[:-1]):
            with contextlib.suppress(TimeoutError):
                handoff = self.gate.receive(0.1)
                handoff.accept()
                handoff.answer()

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop = True
        for thread in self.threads:
            thread.join(20)
            assert not thread.is_alive()

    def more(self, count=40):
        """Until so many more were answered."""
        enough, deadline = len(self.answers) + count, time.monotonic() + 20
        while len(self.answers) < enough:
            assert time.monotonic() < deadline and not self.failures, self.failures[:3]
            time.sleep(0.01)


@pytest.mark.parametrize("mpm", ["event", "prefork"])
def test_rotation_under_load(env, mpm):
    """Add as verify, switch to sign, revoke, a graceful restart after each: no request is refused or lost."""
    old, new = handoff1.Key("old"), handoff1.Key("new")

    def ring(old_state, new_state):
        states = ((old, old_state), (new, new_state))
        return [handoff1.Key(key.kid, key.secret, state) for key, state in states if state]
    keys = KeyRing(env, *ring("sign", None))
    with Site(env, mpm, keys=keys) as site, site.listener(backlog=256) as gate:
        signer = keys.file(site.php_uid)
        site.page("rotating.php", ROTATING.replace("@keys@", str(signer)).replace("@path@", site.path))
        mark = site.error_log.position()
        with Load(site, gate, "/rotating.php") as load:
            load.more()
            for states in (("sign", "verify"), ("verify", "sign"), ("revoked", "sign")):
                keys.set(*ring(*states))
                if states[1] == "verify":
                    load.more()
                site.graceful()
                load.more()
        assert load.failures == [] and site.reasons(mark) == []
        assert {answer.status for answer in load.answers} == {200}
        assert {answer.header("x-kid") for answer in load.answers} == {"old", "new"}
        assert load.answers[-1].header("x-kid") == "new"
        # What was revoked is refused at once.
        site.expect("reason=token-key-revoked")
        signing = {"kid": "old", "key": base64.b64encode(old.secret).decode()}
        assert site.fetch(site.target(site.plan(signing=signing))).status == 403


def test_bad_keys_before_a_graceful_restart(env):
    """configtest, which apachectl graceful runs first, finds what would end the server."""
    keys = KeyRing(env)
    conf = f"SocketHandoffKeyFile {keys.file()}\nSocketHandoffPeer 0\nSocketHandoffSocket *\n"
    assert Site.configtest(env, conf).returncode == 0
    keys.file().chmod(0o644)
    result = Site.configtest(env, conf)
    assert result.returncode != 0 and "AHSH0002" in result.stderr
