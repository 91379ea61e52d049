"""kvquantd.llama.Cache where the daemon does not serve: the engine goes on as with a miss."""

import kvquantd
import numpy as np
import pytest
from conftest import evaluated, forget, running_daemon, wait_until
from failing_daemon import Proxy, frozen

from kvquantd.llama import Cache

SHORT, LONG = 1.0, 120.0  # deadlines: of what does not serve, of what does however slow the machine is
RETRY_AFTER, FAILURES = 1000.0, 2


class Clock:
    seconds = 0.0

    def __call__(self):
        return self.seconds


@pytest.fixture(scope="module")
def state(llama, ids):
    return evaluated(llama, ids[:60])


@pytest.fixture
def clock():
    return Clock()


def cache_of(llama, socket, clock, deadline):
    forget(llama)
    breaker = kvquantd.Breaker(
        socket, deadline=deadline, failures=FAILURES, retry_after=RETRY_AFTER, clock=clock)
    return Cache(llama, breaker, level="exact", model="this")


def has(cache, ids):
    try:
        return cache[ids].n_tokens > 0
    except KeyError:
        return False


def misses_without_a_wait_after_some(cache, ids, state):
    for _ in range(FAILURES):
        assert not has(cache, ids)
    assert cache.breaker.state == "open"
    skipped = cache.breaker.skipped
    assert not has(cache, ids) and ids not in cache and cache.cache_size == 0
    cache[ids] = state
    assert cache.breaker.skipped == skipped + 4


def comes_back(cache, ids, clock):
    """By itself, when it is tried again; on a slow machine not the first time."""
    def tried_again():
        clock.seconds += 2 * RETRY_AFTER
        return has(cache, ids)

    wait_until(tried_again)
    assert cache.breaker.state == "closed"


def test_a_daemon_that_is_not_there_yet(llama, ids, state, clock, tmp_path):
    cache = cache_of(llama, str(tmp_path / "kvquantd.sock"), clock, SHORT)
    misses_without_a_wait_after_some(cache, ids, state)
    with running_daemon(tmp_path) as (_, socket):
        cache_of(llama, socket, clock, LONG)[ids] = state
        comes_back(cache, ids, clock)


def test_a_frozen_daemon(llama, ids, state, clock, tmp_path):
    with running_daemon(tmp_path) as (process, socket):
        cache_of(llama, socket, clock, LONG)[ids] = state
        cache = cache_of(llama, socket, clock, SHORT)
        with frozen(process.pid):
            misses_without_a_wait_after_some(cache, ids, state)
        comes_back(cache, ids, clock)


def test_a_slow_daemon(llama, ids, state, clock, tmp_path):
    with running_daemon(tmp_path) as (_, socket), Proxy(tmp_path / "proxy.sock", socket) as proxy:
        cache_of(llama, socket, clock, LONG)[ids] = state
        cache = cache_of(llama, proxy.path, clock, SHORT)
        proxy.slow = True
        misses_without_a_wait_after_some(cache, ids, state)
        proxy.slow = False
        comes_back(cache, ids, clock)


def test_a_full_daemon(llama, ids, state, clock, tmp_path):
    """Full of what may not go; once that may, there is room again."""
    with running_daemon(tmp_path, memory="32M") as (_, socket), kvquantd.connect(socket) as client:
        fill(client)
        cache = cache_of(llama, socket, clock, LONG)
        for _ in range(FAILURES):
            cache[ids] = state
        assert (cache.breaker.write_state, cache.breaker.state) == ("open", "closed")
        assert not has(cache, ids)
        client.delete("other")
        clock.seconds += 2 * RETRY_AFTER
        cache[ids] = state
        assert has(cache, ids)


def fill(client):
    session = client.open("other", model="other", geometry=kvquantd.Geometry(8, 8, 128), level="exact")
    session.pin(3600)
    noise = np.random.default_rng(1).integers(0, 0x7BFF, (8, 256, 8, 128), np.int16).view(np.float16)
    for tokens in (256, 8, 1):
        with pytest.raises(kvquantd.Full):
            while True:
                session.append(noise[:, :tokens], noise[:, :tokens], settle=True)


def test_a_daemon_that_takes_nothing_more_is_still_fetched_from(llama, ids, state, clock, tmp_path):
    with running_daemon(tmp_path) as (_, socket), kvquantd.connect(socket) as client:
        cache = cache_of(llama, socket, clock, LONG)
        cache[ids] = state
        client.control("drained")
        for _ in range(FAILURES):
            cache[ids] = of_other_tokens(state)
        assert (cache.breaker.write_state, cache.breaker.state) == ("open", "closed")
        assert has(cache, ids)
        client.control("normal")
        clock.seconds += 2 * RETRY_AFTER
        cache[ids] = of_other_tokens(state)
        assert (cache.breaker.write_state, cache.report()["new_tokens"]) == ("closed", 60)


def of_other_tokens(state):
    """The same of tokens that no session has."""
    ids = state.input_ids.copy()
    ids[0] += 1
    return type(state)(ids, state.scores, state.n_tokens, state.llama_state, state.llama_state_size, state.seed)
