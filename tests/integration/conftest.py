# SPDX-License-Identifier: Apache-2.0
"""Fixtures; the harness is env.py. The fixtures `stack`... are shared by the whole session: do not break them. A test
that breaks things takes the factories."""
import re
import signal
import threading

import pytest

import env as harness
import streams
from nginx import Nginx


# What the run with sanitizers leaves out, where it is slow and adds nothing to the normal one or to other tests of this run:
# a pattern for the names, and the reason.
WITHOUT_SANITIZERS = {
    r"\[(.*-)?(worker|prefork)(-.*)?\]": "the module is the same code in each MPM: with sanitizers in event only",
    r"test_streamer_\w+\.py::\w+\[(.*-)?http2(-.*)?\]":
        "with sanitizers over HTTP/1.1; HTTP/2 is in test_http2.py and test_http2_hostile.py",
    r"test_peers_\w+\.py": "what others' clients send and get is in other tests, byte for byte",
    r"test_signers\.py": "the signers are not C; handoffctl is in test_handoffctl.py",
    r"test_bench_stream\.py": "a test of the bench",
    r"test_hung\.py::test_gate_notices": "sixteen seconds of waiting for a process that is stopped",
    r"test_streamer_demo\.py::test_stop_ends_streams_with_an_error|test_e2e_crash\.py::test_sigterm_ends_in_time":
        "ten seconds of waiting; test_streamer_flow.py does it in one",
}


def pytest_collection_modifyitems(items):
    for item in items if harness.SANITIZE else ():
        for pattern, reason in WITHOUT_SANITIZERS.items():
            if re.search(pattern, item.nodeid):
                item.add_marker(pytest.mark.skip(reason=reason))
                break


def pytest_configure():
    # A run that is asked to end cleans up as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="session")
def env():
    environment = harness.Env()
    yield environment
    environment.close()


@pytest.fixture
def factory(env):
    """factory(Class, ...) makes an object of the harness and stops it when the test ends."""
    made = []

    def make(kind, *arguments, **options):
        made.append(kind(env, *arguments, **options))
        return made[-1]
    yield make
    found = [line for thing in made if hasattr(thing, "undeclared") for line in thing.undeclared()]
    for thing in reversed(made):
        thing.stop()
    found += [line for thing in made if hasattr(thing, "undeclared") for line in thing.undeclared()]
    assert not found, "undeclared log lines:\n" + "\n".join(found)


@pytest.fixture
def apache_factory(env, factory):
    return lambda *arguments, **options: factory(harness.Apache, *arguments, **options)


@pytest.fixture
def handoffd_factory(env, factory):
    return lambda *arguments, **options: factory(harness.Handoffd, *arguments, **options)


@pytest.fixture(scope="session")
def handoffd(env):
    """handoffd with a demo backend behind listener "chat", shared."""
    with harness.Handoffd(env) as daemon:
        yield daemon


@pytest.fixture(scope="session")
def fpm(env):
    """One php-fpm for all Apaches of the session: apache_factory(php="fpm", fpm=fpm)."""
    process = harness.PhpFpm(env)
    yield process
    process.stop()


@pytest.fixture(scope="session")
def stack(env, handoffd, fpm):
    """Apache (event MPM, php-fpm) in front of handoffd (demo), with chat.php and emit.php; .daemon is handoffd."""
    with harness.Apache(env, php="fpm", fpm=fpm, keys=handoffd.keys, sockets=[handoffd.path()]) as apache:
        apache.daemon = handoffd
        apache.chat_page(handoffd)
        apache.emit_page(handoffd.keys.key)
        yield apache


@pytest.fixture(scope="session")
def mock_llm(env):
    with harness.MockLLM(env) as mock:
        yield mock


@pytest.fixture(scope="session")
def authority(env):
    return harness.Authority(env)


@pytest.fixture
def openai_factory(factory):
    """openai_factory(url, ...): handoffd with a backend for that upstream, see streams.openai()."""
    return lambda *arguments, **options: factory(streams.openai, *arguments, **options)


@pytest.fixture(params=["http1", "http2"])
def scripted(request, env, authority, openai_factory):
    """scripted(script, backend options...) -> (upstream, daemon); upstream.host is what the requests name. By HTTP/2
    the daemon talks to nginx, which passes everything on as it comes."""
    made = []

    def make(script, upstream=None, **backend):
        service = harness.ScriptedUpstream(script)
        made.append(service)
        if request.param == "http1":
            service.host = f"127.0.0.1:{service.port}"
            return service, openai_factory(f"http://{service.host}/v1", backend, upstream)
        made.append(Nginx(env, service.port, authority))
        service.host = f"localhost:{made[-1].port}"
        return service, openai_factory(made[-1].url, backend,
                                       {"http": "2", "ca-file": authority.ca_file, **(upstream or {})})
    yield make
    for part in reversed(made):
        part.stop()
    for part in made:
        assert not getattr(part, "errors", None), part.errors


@pytest.fixture(autouse=True)
def undeclared_log_lines(request):
    """Lines that no test declared fail the test that ran when they were written."""
    yield
    if "env" not in request.fixturenames:
        return
    environment = request.getfixturevalue("env")
    found = [line for thing in list(environment.live) for line in thing.undeclared()]
    assert not found, "undeclared log lines (see expect()):\n" + "\n".join(found)


@pytest.fixture
def needs_seccomp():
    if harness.SANITIZE:
        pytest.skip("a sanitizer build has no seccomp filter")


@pytest.fixture
def in_threads():
    """in_threads([callable, ...]) runs them at once and returns their results; the first exception is raised."""
    def run(jobs, timeout=60):
        results, errors = [None] * len(jobs), []

        def work(index, job):
            try:
                results[index] = job()
            except BaseException as error:  # handed to the test
                errors.append(error)
        threads = [threading.Thread(target=work, args=pair, daemon=True) for pair in enumerate(jobs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout)
            assert not thread.is_alive(), "a client hangs"
        if errors:
            raise errors[0]
        return results
    return run
