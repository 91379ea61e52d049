"""A pool that crashes the daemon when it is taken over: tried once more, then set aside for inspection."""

import signal

import pytest
from disk_support import assert_has, put
from faults import Faults
from integration_conftest import Command
from manager_support import POOL, SET_ASIDE, TAKEOVER_DONE, TAKEOVER_SET_ASIDE, service  # noqa: F401
from wire_support import assert_serves


def start_that_crashes(service, faults):
    """Killed where the first stretch of the pool's memory is given back: it is being taken over then."""
    faults.arm(1, ["space"], how="kill")
    with pytest.raises(RuntimeError, match=f"ended with -{signal.SIGKILL}"):
        service.start(environment=faults.environment)
    faults.disarm()


def stored_service(service):
    service.start()
    with service.connect() as connection:
        put(connection, b"a", 300)
    assert service.daemon.stop() == 0


def test_a_takeover_that_crashed_once_is_tried_again(service, tmp_path):
    stored_service(service)
    start_that_crashes(service, Faults(tmp_path))
    service.start()
    assert service.takeover().outcome == TAKEOVER_DONE
    with service.connect() as connection:
        assert_has(connection, b"a", 300)


def test_a_pool_that_crashed_the_daemon_twice_is_set_aside(service, tmp_path):
    stored_service(service)
    for _ in range(2):
        start_that_crashes(service, Faults(tmp_path))
    service.start()
    took = service.takeover()
    assert took.outcome == TAKEOVER_SET_ASIDE and took.set_aside_bytes > 100_000
    assert "crashed the daemon 2 times" in service.log() and "set aside for inspection" in service.log()
    assert "set aside" in Command(service.daemon.socket)("status").stdout
    assert sorted(service.manager.names()) == [POOL, SET_ASIDE]
    with service.connect() as connection:
        put(connection, b"b", 300)
    service.restart()
    assert (service.takeover().outcome, service.takeover().set_aside_bytes) == (TAKEOVER_DONE, took.set_aside_bytes)
    assert sorted(service.manager.names()) == [POOL, SET_ASIDE]
    with service.connect() as connection:
        assert_has(connection, b"b", 300)
    assert_serves(service.daemon)


def test_of_two_pools_that_crashed_the_daemon_the_newer_is_kept(service, tmp_path):
    for _ in range(2):
        stored_service(service)
        for _ in range(2):
            start_that_crashes(service, Faults(tmp_path))
        service.start()
        assert service.takeover().outcome == TAKEOVER_SET_ASIDE
        assert sorted(service.manager.names()) == [POOL, SET_ASIDE]
        assert service.daemon.stop() == 0
        service.manager.drop(POOL)
