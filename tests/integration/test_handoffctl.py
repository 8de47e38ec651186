# SPDX-License-Identifier: Apache-2.0
"""handoffctl: keys it makes, tokens it signs (checked by the Python implementation of the protocol), and what it finds
wrong with configurations."""
import base64
import hashlib
import hmac
import os
import pathlib
import re
import stat
import struct
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = ROOT / (os.environ.get("BUILD") or "build") / "bin/handoffctl"
BINDING = "v1;192.0.2.7;40112;AAECAwQFBgcICQoLDA0ODw"
PATH = "/run/handoffd/chat.sock"
LINE = re.compile(r"([a-z0-9_-]{1,16}) (sign|verify|revoked) ([A-Za-z0-9+/]{43}=)((?: \S+)+)\n")
KEY = bytes(range(32))
OTHER = bytes(range(32, 64))

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="giving files away needs root")


def run(*arguments, data=b"", status=0):
    """Run handoffctl; its standard output, or its standard error when the wanted status is not 0."""
    result = subprocess.run([TOOL, *map(str, arguments)], input=data, capture_output=True, timeout=30, check=False)
    assert result.returncode == status, result.stderr.decode()
    if status == 0:
        assert result.stderr == b""
        return result.stdout.decode()
    assert result.stdout == b""
    assert result.stderr != b""
    return result.stderr.decode()


def line(kid="k1", state="sign", key=KEY, paths="*"):
    return f"{kid} {state} {base64.b64encode(key).decode()} {paths}\n"


@pytest.fixture
def ring(tmp_path):
    """Writes a key ring file and gives its path."""

    def write(*lines, mode=0o600):
        file = tmp_path / "keys"
        file.write_text("".join(lines))
        file.chmod(mode)
        return file

    return write


def mode_of(file):
    return stat.S_IMODE(file.stat().st_mode)


# ---------------------------------------------------------------- usage

def test_help():
    text = run("--help")
    for command in ("keygen", "sign", "check"):
        assert command in text
        assert run(command, "--help").startswith(f"Usage: handoffctl {command} ")
    assert run("--version").startswith("handoffctl ")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["keygen", "--nonsense"],
        ["keygen", "--kid"],
        ["keygen", "a", "b"],
        ["keygen", "--kid", "K1"],
        ["keygen", "--kid", ""],
        ["keygen", "--kid", "0123456789abcdefg"],
        ["keygen", "--path", "run/x"],
        ["keygen", "--path", "/run/a b"],
        ["keygen", "--path", "/run/a\nk2 sign"],
        ["keygen", "--path", "/" + "a" * 107],
        ["check", "file"],
        ["check", "-x"],
        ["sign"],
    ],
    ids=repr,
)
def test_wrong_usage(arguments):
    run(*arguments, status=2)


@pytest.mark.parametrize(
    "changed",
    [
        {"--keys": None},
        {"--socket": None},
        {"--binding": None},
        {"--socket": "run/x"},
        {"--socket": "*"},
        {"--binding": ""},
        {"--binding": "v2;x"},
        {"--binding": "v1;a b"},
        {"--binding": "v1;a\nb"},
        {"--binding": "v1;" + "a" * 93},
        {"--subject": "a\nb"},
        {"--subject": " a"},
        {"--subject": "a" * 257},
        {"--subject": "é"},
        {"--lifetime": "0"},
        {"--lifetime": "61"},
        {"--lifetime": "-1"},
        {"--lifetime": "1x"},
        {"--lifetime": ""},
        {"--kid": "K1"},
        {"extra": "argument"},
    ],
    ids=repr,
)
def test_wrong_usage_of_sign(ring, changed):
    options = {"--keys": ring(line()), "--socket": PATH, "--binding": BINDING} | changed
    arguments = [word for pair in options.items() if pair[1] is not None for word in pair]
    run("sign", *arguments, status=2)


# ---------------------------------------------------------------- keygen

def test_keygen_prints_a_line():
    first, second = LINE.fullmatch(run("keygen")), LINE.fullmatch(run("keygen"))
    assert first and second
    assert first[2] == "sign" and first[4] == " *"
    assert first[3] != second[3]
    assert len(base64.b64decode(first[3], validate=True)) == 32


def test_keygen_with_names():
    match = LINE.fullmatch(run("keygen", "--kid", "a-key_2026", "--path", "/run/a", "--path", "/run/b"))
    assert match[1] == "a-key_2026" and match[4] == " /run/a /run/b"


def test_keygen_makes_a_file(tmp_path):
    file = tmp_path / "keys"
    old = os.umask(0)
    try:
        assert run("keygen", "--kid", "k1", file) == ""
    finally:
        os.umask(old)
    assert LINE.fullmatch(file.read_text())
    assert mode_of(file) == 0o640
    assert list(tmp_path.iterdir()) == [file]


def test_keygen_adds_to_a_file(ring, tmp_path):
    before = "# mine\n" + line()
    file = ring(before, mode=0o600)
    for number in range(3):
        run("keygen", "--kid", f"new{number}", file)
    content = file.read_text()
    assert content.startswith(before)
    assert [LINE.fullmatch(text + "\n")[1] for text in content.splitlines()[1:]] == ["k1", "new0", "new1", "new2"]
    assert mode_of(file) == 0o600, "the mode must not become wider"
    assert list(tmp_path.iterdir()) == [file]


def test_keygen_ends_an_unfinished_line(ring):
    file = ring(line().rstrip("\n"))
    run("keygen", "--kid", "k2", file)
    assert len(file.read_text().splitlines()) == 2


@as_root
@pytest.mark.parametrize("mode", [0o640, 0o600, 0o400, 0o440])
def test_keygen_keeps_owner_and_mode(ring, mode):
    file = ring(line())
    os.chown(file, 12345, 12346)
    file.chmod(mode)
    run("keygen", "--kid", "k2", file)
    assert (file.stat().st_uid, file.stat().st_gid, mode_of(file)) == (12345, 12346, mode)


@as_root
def test_keygen_keeps_the_label(ring):
    """The new file would have its directory's, which under SELinux Apache may not read, or others may."""
    file = ring(line())
    label = b"system_u:object_r:handoffd_key_t:s0\0"
    try:
        os.setxattr(file, "security.selinux", label)
    except OSError as error:
        pytest.skip(f"no labels on this file system: {error}")
    run("keygen", file)
    assert os.getxattr(file, "security.selinux") == label


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o641, 0o604, 0o700])
def test_keygen_refuses_a_file_others_may_have_read(ring, mode):
    file = ring(line(), mode=mode)
    assert "must be 0640 or tighter" in run("keygen", file, status=1)
    assert file.read_text() == line()
    assert mode_of(file) == mode


def unchanged(file, tmp_path, *arguments, names=("keys",)):
    before = file.read_bytes()
    message = run("keygen", *arguments, file, status=1)
    assert file.read_bytes() == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted(names)
    return message


def test_keygen_refuses_a_kid_that_is_there(ring, tmp_path):
    message = unchanged(ring(line()), tmp_path, "--kid", "k1")
    assert ":2: the kid was used before, on line 1" in message


def test_keygen_refuses_a_faulty_file(ring, tmp_path):
    assert ":1: " in unchanged(ring("nonsense\n"), tmp_path)


def test_keygen_refuses_a_full_ring(ring, tmp_path):
    unchanged(ring(*(line(f"k{number}") for number in range(256))), tmp_path)


def test_keygen_refuses_a_symbolic_link(ring, tmp_path):
    target = ring(line()).rename(tmp_path / "target")
    (tmp_path / "keys").symlink_to(target)
    assert "symbolic link" in unchanged(tmp_path / "keys", tmp_path, names=("keys", "target"))


def test_keygen_waits_for_nobody(ring, tmp_path):
    (tmp_path / "keys.new").write_text("somebody else's")
    assert "another handoffctl" in unchanged(ring(line()), tmp_path, names=("keys", "keys.new"))
    assert (tmp_path / "keys.new").read_text() == "somebody else's"


def test_keygen_refuses_other_kinds_of_file(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert "not a regular file" in run("keygen", fifo, status=1)
    run("keygen", tmp_path, status=1)
    run("keygen", tmp_path / "missing" / "keys", status=1)


def test_two_at_once_lose_no_key(tmp_path):
    file = tmp_path / "keys"
    processes = [
        subprocess.Popen([TOOL, "keygen", "--kid", f"k{number}", file], stderr=subprocess.DEVNULL) for number in range(20)
    ]
    done = {f"k{number}" for number, process in enumerate(processes) if process.wait(timeout=30) == 0}
    assert done
    assert {text.split()[0] for text in file.read_text().splitlines()} == done


def test_a_full_disk_is_an_error():
    with open("/dev/full", "wb") as full:
        result = subprocess.run([TOOL, "keygen"], stdout=full, stderr=subprocess.PIPE, timeout=30, check=False)
    assert result.returncode == 1 and b"standard output" in result.stderr


# ---------------------------------------------------------------- sign

def mac(key, *pieces):
    message = struct.pack("<Q", len(pieces)) + b"".join(struct.pack("<Q", len(piece)) + piece for piece in pieces)
    return base64.urlsafe_b64encode(hmac.new(key, message, hashlib.sha512).digest()[:32]).rstrip(b"=").decode()


def assert_token(token, data, *, kid="k1", key=KEY, subject="", path=PATH, lifetime=30):
    version, token_kid, exp, token_mac = token.split(".")
    assert (version, token_kid) == ("v1", kid)
    assert abs(int(exp) - time.time() - lifetime) < 5
    digest = hashlib.sha512(data).digest()
    texts = ["handoff-token-v1", kid, exp, BINDING, path, subject]
    assert token_mac == mac(key, *(text.encode() for text in texts), digest)


def sign(file, *arguments, data=b"", status=0):
    return run("sign", "--keys", file, "--socket", PATH, "--binding", BINDING, *arguments, data=data, status=status)


@pytest.mark.parametrize("data", [b"", b'{"prompt":"x"}', bytes(range(256)), b"a" * 1_000_000], ids=len)
def test_sign(ring, data):
    output = sign(ring(line()), data=data)
    assert output.endswith("\n")
    assert_token(output.rstrip("\n"), data)


def test_sign_with_subject_and_lifetime(ring):
    output = sign(ring(line()), "--subject", "user-42", "--lifetime", "60", data=b"{}")
    assert_token(output.strip(), b"{}", subject="user-42", lifetime=60)


def test_sign_chooses_the_first_key_that_signs(ring):
    file = ring(
        line("old", "verify"), line("gone", "revoked"), line("else", paths="/run/else"), line("k2", key=OTHER, paths=PATH), line("k3")
    )
    assert_token(sign(file).strip(), b"", kid="k2", key=OTHER)
    assert_token(sign(file, "--kid", "k3").strip(), b"", kid="k3")
    assert "state sign" in sign(file, "--kid", "old", status=1)
    assert "state sign" in sign(file, "--kid", "gone", status=1)
    assert "does not sign for" in sign(file, "--kid", "else", status=1)
    assert "no key nobody" in sign(file, "--kid", "nobody", status=1)


def test_sign_without_a_key(ring, tmp_path):
    assert "no key signs for" in sign(ring(line(paths="/run/else")), status=1)
    assert "no key signs for" in sign(ring(line(state="verify")), status=1)
    assert "No such file" in sign(tmp_path / "missing", status=1)
    assert ":2: " in sign(ring(line(), "nonsense\n"), status=1)
    assert "0640" in sign(ring(line(), mode=0o644), status=1)


def headers(*arguments):
    lines = sign(*arguments[:1], "--headers", *arguments[2:], data=arguments[1]).splitlines()
    return dict(text.split(": ", 1) for text in lines), len(lines)


def test_headers(ring):
    fields, count = headers(ring(line()), b'{"prompt":"x"}', "--subject", "user-42")
    assert count == 4
    assert_token(fields.pop("X-Handoff-Token"), b'{"prompt":"x"}', subject="user-42")
    assert fields == {"X-Socket-Handoff": PATH, "X-Handoff-Subject": "user-42", "X-Handoff-Data": '{"prompt":"x"}'}


@pytest.mark.parametrize("data", [b"a\nb", b" a", b"a ", b"\0", "é".encode(), b"a" * 4097], ids=repr)
def test_headers_for_data_in_the_body(ring, data):
    fields, _ = headers(ring(line()), data)
    assert_token(fields.pop("X-Handoff-Token"), data)
    assert fields == {"X-Socket-Handoff": PATH, "X-Handoff-Data-Source": "body"}


def test_headers_without_data(ring):
    fields, count = headers(ring(line()), b"")
    assert count == 2 and set(fields) == {"X-Socket-Handoff", "X-Handoff-Token"}


def test_no_secret_in_messages_or_arguments(ring):
    text = base64.b64encode(KEY).decode()
    for content in (line() + line(), f"{text} k1 sign *\n", f"k1 {text} sign *\n", f"k1 sign {text[:-1]} *\n"):
        assert text[:10] not in sign(ring(content), status=1)


def test_no_core_dump(ring):
    arguments = [TOOL, "sign", "--keys", ring(line()), "--socket", PATH, "--binding", BINDING]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 10
        proc = pathlib.Path(f"/proc/{process.pid}")
        # It waits for the data; the key ring is read by then, or will be.
        while b"keys" not in (proc / "cmdline").read_bytes() or not re.search(
            r"Max core file size\s+0\s+0", (proc / "limits").read_text()
        ):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert KEY not in (proc / "environ").read_bytes() + (proc / "cmdline").read_bytes()
        process.stdin.close()
        assert process.wait(timeout=30) == 0


# ---------------------------------------------------------------- check

CONFIGURATION = """
key-file = "{keys}"
listen "/run/handoffd/chat.sock" {{
    backend = "demo"
    allow-peer = {{ "{user}" }}
}}
backend "demo" {{
    type = "demo"
}}
"""


@pytest.fixture
def configuration(tmp_path):
    def write(keys, text=CONFIGURATION):
        file = tmp_path / "handoffd.conf"
        file.write_text(text.format(keys=keys, user=os.getuid()))
        return file

    return write


def test_check(ring, configuration):
    file = configuration(ring(line()))
    assert run("check", "-c", file) == "ok\n"
    assert run("check", "--config", file) == "ok\n"


def test_check_names_the_line(ring, configuration):
    file = configuration(ring(line()), CONFIGURATION.replace('type = "demo"', 'type = "nonsense"'))
    assert f"{file}:" in run("check", "-c", file, status=1)
    file = configuration(ring(line()), CONFIGURATION + "nonsense = 1\n")
    number = len(file.read_text().splitlines())
    assert f"{file}:{number}: " in run("check", "-c", file, status=1)


def test_check_reads_the_key_ring(ring, configuration, tmp_path):
    keys = ring(line(), "nonsense\n")
    assert f"{keys}:2: " in run("check", "-c", configuration(keys), status=1)
    keys = ring(line(paths="/run/else"))
    assert f"no key for {PATH}" in run("check", "-c", configuration(keys), status=1)
    keys = ring(line(state="revoked"))
    assert f"no key for {PATH}" in run("check", "-c", configuration(keys), status=1)
    assert "missing" in run("check", "-c", configuration(tmp_path / "missing"), status=1)
    # A gate only verifies.
    assert run("check", "-c", configuration(ring(line(state="verify")))) == "ok\n"


def test_check_without_a_configuration(tmp_path):
    assert "missing" in run("check", "-c", tmp_path / "missing", status=1)
