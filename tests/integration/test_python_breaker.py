"""kvquantd.Breaker: whatever the daemon does, a run is a hit or a miss in time, and it comes back by itself."""

import logging
import os
import pathlib
import threading

import kvquantd
import numpy as np
import pytest
from failing_daemon import Proxy, frozen

SHAPE = LAYERS, TOKENS, HEADS, DIM = 2, 64, 2, 64
GEOMETRY = kvquantd.Geometry(layers=LAYERS, heads=HEADS, head_dim=DIM)
VALUES = np.random.default_rng(1).standard_normal(SHAPE).astype(np.float16)
SHORT = 0.2  # a deadline that is meant to pass
LONG = 60  # one that is not
FAILURES = 2


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def broken(clock, tmp_path):
    """A breaker without a daemon."""
    return kvquantd.Breaker(str(tmp_path / "none.sock"), failures=FAILURES, retry_after=5, clock=clock)


@pytest.fixture
def breaker(clock, daemon):
    with kvquantd.Breaker(daemon.socket, deadline=LONG, failures=FAILURES, clock=clock) as breaker:
        breaker.run(lambda client: store(client, "s"))
        yield breaker


def store(client, name):
    client.open(name, model="m", geometry=GEOMETRY, level="exact").append(VALUES, VALUES)


def fetch(client):
    return client.open("s").fetch()


def is_hit(found):
    return found is not None and np.array_equal(found[0], VALUES)


class Asked:
    """Work that counts how often it was begun."""

    def __init__(self, work):
        self.work, self.count = work, 0

    def __call__(self, client):
        self.count += 1
        return self.work(client)


def check_opens(breaker, work=fetch, **given):
    """Runs that fail in time, each with the daemon asked, then one at once without."""
    for _ in range(FAILURES):
        assert breaker.state == "closed"
        assert breaker.run(work, "miss", **given) == "miss"
    asked = Asked(work)
    skipped = breaker.skipped
    assert breaker.run(asked, "miss", deadline=LONG, writes=given.get("writes", False)) == "miss"
    assert (asked.count, breaker.skipped) == (0, skipped + 1)


def check_comes_back(breaker, clock):
    assert breaker.run(fetch) is None
    clock.now += 5
    assert is_hit(breaker.run(fetch))
    assert breaker.state == "closed"
    assert is_hit(breaker.run(fetch))


# ---- A daemon that does not serve ----


def test_one_that_is_not_there_yet_is_a_miss_and_later_serves(start_daemon, clock, tmp_path):
    breaker = kvquantd.Breaker(str(tmp_path / "kvquantd.sock"), deadline=LONG, failures=FAILURES, clock=clock)
    check_opens(breaker)
    start_daemon(folder=tmp_path)
    assert breaker.run(lambda client: store(client, "s")) is None
    clock.now += 5
    assert breaker.run(lambda client: store(client, "s") or "stored") == "stored"
    assert is_hit(breaker.run(fetch))
    breaker.close()


def test_one_that_is_stopped_is_a_miss_and_serves_after_its_start(breaker, clock, daemon, start_daemon):
    assert daemon.stop() == 0
    check_opens(breaker)
    start_daemon(folder=pathlib.Path(daemon.socket).parent)
    clock.now += 5
    assert breaker.run(lambda client: store(client, "s") or "stored") == "stored"
    assert breaker.state == "closed"
    assert is_hit(breaker.run(fetch))


def test_one_that_is_restarted_between_two_runs_is_no_failure(breaker, daemon, start_daemon):
    assert daemon.stop() == 0
    start_daemon(folder=pathlib.Path(daemon.socket).parent)
    assert breaker.run(fetch) is None
    assert (breaker.misses, breaker.failures) == (1, 0)


def test_one_that_is_frozen_is_a_miss_within_the_deadline(breaker, clock, daemon):
    with frozen(daemon.pid):
        check_opens(breaker, deadline=SHORT)
    check_comes_back(breaker, clock)


def test_one_that_freezes_before_there_is_a_connection_is_a_miss_too(clock, daemon):
    breaker = kvquantd.Breaker(daemon.socket, deadline=SHORT, failures=FAILURES, clock=clock)
    with frozen(daemon.pid):
        check_opens(breaker)


def test_one_that_is_slow_is_a_miss_within_the_deadline(breaker, clock, daemon, tmp_path):
    with Proxy(tmp_path / "proxy.sock", daemon.socket) as proxy, \
            kvquantd.Breaker(proxy.path, deadline=LONG, failures=FAILURES, clock=clock) as slowed:
        assert is_hit(slowed.run(fetch))
        proxy.slow = True
        check_opens(slowed, deadline=SHORT)
        proxy.slow = False
        check_comes_back(slowed, clock)


def test_the_deadline_is_of_all_calls_of_a_run_together(breaker):
    def work(client):
        for done in range(1 << 30):
            client.ping()

    assert breaker.run(work, "miss", deadline=SHORT) == "miss"
    assert breaker.failures == 1


# ---- A daemon that has no room ----


@pytest.fixture
def full(breaker):
    """It refuses what writes, and has what it had."""
    with kvquantd.connect(breaker._socket) as client:
        client.control("drained")
        yield client


def append(client):
    return client.open("t", model="m", geometry=GEOMETRY).append(VALUES, VALUES)


def test_one_without_room_stops_runs_that_write_and_serves_those_that_read(breaker, clock, full):
    check_opens(breaker, append, writes=True)
    assert (breaker.state, breaker.write_state) == ("closed", "open")
    assert is_hit(breaker.run(fetch))
    full.control("normal")
    clock.now += 5
    assert breaker.run(append, writes=True) == TOKENS
    assert breaker.write_state == "closed"


def test_one_at_its_memory_limit_is_without_room(start_daemon, clock, tmp_path):
    (tmp_path / "conf").write_text("append_wait = 10ms\n")
    daemon = start_daemon(memory="32M", arguments=["--config", tmp_path / "conf"])
    values = np.random.default_rng(2).integers(0, 0x7BFF, (LAYERS, 2048, HEADS, DIM)).astype(np.uint16)

    def fill(client):
        session = client.open("t", model="m", geometry=GEOMETRY, level="exact")
        session.pin(3600)
        while True:
            session.append(values.view(np.float16), values.view(np.float16))

    with kvquantd.Breaker(daemon.socket, deadline=LONG, failures=FAILURES, clock=clock) as breaker:
        breaker.run(lambda client: store(client, "s") or client.open("s").pin(3600))
        check_opens(breaker, fill, writes=True)
        assert (breaker.state, breaker.write_state) == ("closed", "open")
        assert is_hit(breaker.run(fetch))


# ---- What is no failure, and what is no miss ----


@pytest.mark.parametrize("work", [
    lambda client: client.open("none"),
    lambda client: client.open("s", model="another"),
    lambda client: client.open("s", model="m", geometry=GEOMETRY, new=True),
    lambda client: client.open("s").append(VALUES, VALUES, first=1),
    lambda client: client.open("s").fetch(range(0, 1), if_version=999),
])
def test_an_answer_is_a_miss_and_no_failure(breaker, work):
    for _ in range(FAILURES + 1):
        assert breaker.run(work, "miss", writes=True) == "miss"
    assert (breaker.state, breaker.write_state) == ("closed", "closed")
    assert (breaker.misses, breaker.failures, breaker.skipped) == (FAILURES + 1, 0, 0)


@pytest.mark.parametrize("work, kind", [
    (lambda client: client.open("s").append(VALUES[:1], VALUES), ValueError),
    (lambda client: client.open("s").policy(kvquantd.Policy(newest_level=5)), kvquantd.Invalid),
    (lambda client: client.open(7), AttributeError),
    (lambda client: {}["x"], KeyError),
])
def test_a_wrong_call_is_raised(breaker, work, kind):
    for _ in range(FAILURES + 1):
        with pytest.raises(kind):
            breaker.run(work)
    assert (breaker.state, breaker.misses) == ("closed", 0)


@pytest.mark.parametrize("wrong", [{"failures": 0}, {"deadline": -1}, {"retry_after": float("inf")}])
def test_a_breaker_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError):
        kvquantd.Breaker(**wrong)


# ---- The circuit ----


def test_only_failures_in_a_row_open_it(breaker, daemon):
    for _ in range(FAILURES + 1):
        assert breaker.run(lambda client: client._connection.close() or client.ping(), "miss") == "miss"
        breaker.run(fetch)
    assert (breaker.state, breaker.failures) == ("closed", FAILURES + 1)


def test_one_that_fails_again_when_it_is_tried_stays_open_as_long_again(broken, clock):
    check_opens(broken)
    for _ in range(3):
        clock.now += 4.9
        assert broken.run(fetch) is None
        clock.now += 0.1
        failures = broken.failures
        assert broken.run(fetch) is None
        assert (broken.failures, broken.state) == (failures + 1, "open")


def test_one_run_at_a_time_tries_again(breaker, clock, daemon):
    with frozen(daemon.pid):
        check_opens(breaker, deadline=SHORT)
    clock.now += 5
    others = []

    def work(client):
        others.append((breaker.state, breaker.run(fetch, "skipped")))
        return fetch(client)

    assert is_hit(breaker.run(work))
    assert others == [("half-open", "skipped")]


def test_a_wrong_call_leaves_the_next_to_try_again(broken, clock, monkeypatch):
    check_opens(broken)
    clock.now += 5
    with pytest.raises(TypeError):
        broken.run(fetch, deadline="soon")
    monkeypatch.setattr("kvquantd._breaker.connect", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        broken.run(fetch)
    assert broken.state == "open"
    monkeypatch.undo()
    failures = broken.failures
    assert broken.run(fetch) is None
    assert broken.failures == failures + 1


def test_changes_of_state_are_logged_once_each(start_daemon, clock, tmp_path, caplog):
    breaker = kvquantd.Breaker(str(tmp_path / "kvquantd.sock"), deadline=LONG, failures=FAILURES, clock=clock)
    with caplog.at_level(logging.DEBUG, "kvquantd"):
        check_opens(breaker)
        for _ in range(3):
            clock.now += 5
            breaker.run(fetch)
        assert [record.getMessage()[:23] for record in caplog.records] == ["kvquantd does not serve"]
        start_daemon(folder=tmp_path)
        clock.now += 5
        for _ in range(3):
            breaker.run(lambda client: client.ping())
        assert [record.getMessage() for record in caplog.records[1:]] == ["kvquantd serves again"]
    breaker.close()


# ---- Connections ----


def test_runs_at_the_same_time_do_not_wait_for_each_other(breaker):
    together = threading.Barrier(3)

    def work(client):
        together.wait(LONG)
        return fetch(client)

    found = [None] * 3
    threads = [threading.Thread(target=lambda i=i: found.__setitem__(i, breaker.run(work))) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(is_hit(one) for one in found)


def test_a_forked_process_connects_by_itself(breaker):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 7 if is_hit(breaker.run(fetch)) else 1
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert is_hit(breaker.run(fetch))
    assert breaker.misses == 0


def test_a_closed_breaker_connects_anew(breaker, daemon):
    breaker.close()
    breaker.close()
    assert is_hit(breaker.run(fetch))
