"""A daemon that is stopped, frozen, full or slow: engines go on as with a miss, without a wait once that is
known, and have their hits again by themselves."""

import pathlib

import kvquantd
import pytest
from failing_daemon import Proxy, frozen
from lmcache_engine import LMCache
from sglang_engine import SGLang
from vllm_engine import VLLM

ENGINES = [LMCache, SGLang, VLLM]
SHORT = 0.2  # a deadline that is meant to pass


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture(params=ENGINES, ids=lambda engine: engine.__name__)
def start(request):
    """start(socket) gives an engine on whose clock no time passes by itself."""
    engines = []

    def begin(socket):
        engine = request.param(socket)
        engine.clock = Clock()
        engine.breaker._serves._clock = engine.breaker._takes._clock = engine.clock
        engines.append(engine)
        return engine

    yield begin
    for engine in engines:
        engine.close()


def check_opens(engine, call, deadline=None):
    """Misses in time, and at last without the daemon being asked."""
    long, engine.breaker._deadline = engine.breaker._deadline, deadline or engine.breaker._deadline
    while engine.breaker.write_state == "closed":
        assert not call(1)
    engine.breaker._deadline = long
    asked, skipped = engine.breaker.failures, engine.breaker.skipped
    assert not call(1)
    assert (engine.breaker.failures, engine.breaker.skipped) == (asked, skipped + 1)


def check_comes_back(engine, number=1):
    assert not engine.hits(number)
    engine.clock.now += 5
    assert engine.hits(number)
    assert engine.holds(number)


def test_a_daemon_that_is_stopped(start, daemon, start_daemon):
    engine = start(daemon.socket)
    assert engine.store(1) and engine.hits(1)
    assert daemon.stop() == 0
    for call in (engine.load, engine.holds, engine.store):
        check_opens(engine, call)
    start_daemon(folder=pathlib.Path(daemon.socket).parent)
    engine.clock.now += 5
    assert engine.store(2) and engine.hits(2)


def test_a_daemon_that_is_not_there_yet(start, start_daemon, tmp_path):
    engine = start(str(tmp_path / "kvquantd.sock"))
    check_opens(engine, engine.holds)
    start_daemon(folder=tmp_path)
    engine.clock.now += 5
    assert engine.store(1) and engine.hits(1)


@pytest.mark.parametrize("call", ["store", "holds", "load"])
def test_a_daemon_that_is_frozen(start, daemon, call):
    engine = start(daemon.socket)
    assert engine.store(1)
    with frozen(daemon.pid):
        check_opens(engine, getattr(engine, call), SHORT)
    check_comes_back(engine)


def test_a_daemon_that_is_slow(start, daemon, tmp_path):
    proxy = Proxy(tmp_path / "proxy.sock", daemon.socket)
    engine = start(proxy.path)
    assert engine.store(1)
    proxy.slow = True
    check_opens(engine, engine.load, SHORT)
    proxy.slow = False
    check_comes_back(engine)
    engine.close()
    proxy.close()


def test_a_daemon_that_takes_nothing_still_gives_what_it_has(start, daemon):
    engine = start(daemon.socket)
    assert engine.store(1)
    with kvquantd.connect(daemon.socket) as operator:
        operator.control("drained")
        check_opens(engine, lambda number: engine.store(number + 1))
        assert engine.hits(1) and engine.holds(1)
        operator.control("normal")
    engine.clock.now += 5
    assert engine.store(2) and engine.hits(2)


def test_a_daemon_at_its_memory_limit(start, start_daemon, tmp_path):
    (tmp_path / "conf").write_text("append_wait = 10ms\n")
    engine = start(start_daemon(memory="32M", arguments=["--config", tmp_path / "conf"]).socket)
    number = 0
    while engine.store(number):
        assert engine.holds(number)  # and so has a lease: nothing may be evicted
        number += 1
    check_opens(engine, lambda _: engine.store(number))
    assert engine.hits(0)
