"""What the package kvquantd does to keep a store in order: ageing, pins, deleting in bulk."""

import datetime
import time

import kvquantd
import numpy as np
import pytest
from wire_support import wait_until

GEOMETRY = kvquantd.Geometry(layers=2, heads=2, head_dim=64)
TOKENS = 300


@pytest.fixture
def client(daemon):
    with kvquantd.connect(daemon.socket) as client:
        yield client


def make(client, name="s", model="m", level="exact"):
    session = client.open(name, model=model, geometry=GEOMETRY, level=level)
    values = np.random.default_rng(0).standard_normal((2, TOKENS, 2, 64)).astype(np.float16)
    session.append(values, values, settle=True)
    return session


def names(client):
    return [row["session"] for row in client.sessions()]


def test_age_brings_what_is_stored_and_what_comes_to_a_coarser_level(client):
    session = make(client)
    before = session.info()["stored_bytes"]
    aged = session.age(4)
    assert list(aged) == ["level", "stored_bytes_before", "stored_bytes"]
    assert (aged["level"], aged["stored_bytes_before"]) == (4, before)
    assert aged["stored_bytes"] == session.info()["stored_bytes"] < before / 3
    assert session.level == session.info()["level"] == client.open("s").level == 4
    assert session.fetch().levels == [{"level": 4, "tokens": TOKENS}]


def test_age_without_settle_is_done_in_the_daemon_s_own_time(client):
    session = make(client)
    assert session.age("fast8", settle=False)["level"] == "fast8"
    wait_until(lambda: session.fetch().levels == [{"level": "fast8", "tokens": TOKENS}])


def test_age_to_a_finer_level_is_refused(client):
    session = make(client, level=3)
    with pytest.raises(kvquantd.Invalid):
        session.age(2)
    with pytest.raises(ValueError, match="level"):
        session.age("coarse")
    assert session.level == 3


def test_a_policy_is_said_when_a_session_is_opened_and_kept(client):
    given = kvquantd.Policy(newest_tokens=512, newest_level="fast8", floor=5, idle_step=60,
                            ttl=datetime.timedelta(days=1))
    session = client.open("s", model="m", geometry=GEOMETRY, level=2, policy=given)
    kept = kvquantd.Policy(512, "fast8", 5, 60.0, 86400.0)
    assert session.policy() == session.fork("t").policy() == kept
    assert session.info()["policy"] == {"newest_tokens": 512, "newest_level": "fast8", "floor": 5,
                                        "idle_step_ms": 60000, "ttl_ms": 86400000}


def test_a_policy_is_changed_in_what_is_given(client):
    session = client.open("s", model="m", geometry=GEOMETRY, level=2, policy=kvquantd.Policy(floor=5, ttl=3))
    assert session.policy(kvquantd.Policy(floor=3, idle_step=0)) == kvquantd.Policy(0, "fast8", 3, 0.0, 3.0)
    with pytest.raises(kvquantd.Invalid, match="floor"):
        session.policy(kvquantd.Policy(floor=1))
    with pytest.raises(ValueError, match="ttl"):
        session.policy(kvquantd.Policy(ttl=-1))


@pytest.mark.parametrize("lease", [60, 0.0001, datetime.timedelta(hours=2)])
def test_a_pin_lasts_as_long_as_was_said(client, lease):
    session = make(client)
    assert session.info()["pinned_ms"] == 0
    session.pin(lease)
    seconds = lease.total_seconds() if isinstance(lease, datetime.timedelta) else lease
    pinned_ms = session.info()["pinned_ms"]
    assert pinned_ms <= max(1, seconds * 1000)
    assert seconds < 1 or pinned_ms > (seconds - 30) * 1000
    session.unpin()
    assert session.info()["pinned_ms"] == 0
    session.unpin()


@pytest.mark.parametrize("lease", [0, -1, float("nan"), datetime.timedelta(0)])
def test_a_pin_for_no_time_is_refused(client, lease):
    session = make(client)
    with pytest.raises(ValueError, match="lease"):
        session.pin(lease)


def test_what_is_not_there_is_a_miss(client):
    session = make(client)
    session.delete()
    for call in (lambda: session.age(5), lambda: session.pin(1), session.unpin,
                 lambda: session.fork("t"), lambda: session.truncate(1)):
        with pytest.raises(kvquantd.Miss):
            call()


def test_delete_many_deletes_what_every_condition_holds_for(client):
    for name, model in (("a/1", "m"), ("a/2", "other"), ("b/1", "m")):
        make(client, name, model)
    deleted = client.delete_many(prefix="a/", model="m")
    sessions, freed_bytes = deleted
    assert sessions == deleted.sessions == 1
    assert freed_bytes == deleted.freed_bytes > 0
    assert names(client) == ["a/2", "b/1"]
    assert client.delete_many(prefix="nothing") == (0, 0)


def test_delete_many_leaves_pinned_sessions_unless_told(client):
    make(client, "a").pin(60)
    make(client, "b")
    assert client.delete_many(model="m").sessions == 1
    assert names(client) == ["a"]
    assert client.delete_many(model="m", pinned_too=True).sessions == 1
    assert names(client) == []


def test_delete_many_by_time(client):
    old = make(client, "old")
    time.sleep(2.1)
    make(client, "young")
    assert client.delete_many(age=datetime.timedelta(hours=1)) == (0, 0)
    assert client.delete_many(idle=2, dry_run=True).sessions == 1
    old.fetch()
    assert client.delete_many(idle=2).sessions == 0
    assert client.delete_many(age=2).sessions == 1
    assert names(client) == ["young"]


def test_a_dry_run_deletes_nothing(client):
    session = make(client)
    unique = session.info()["unique_bytes"]
    assert client.delete_many(prefix="s", dry_run=True) == (1, unique)
    assert names(client) == ["s"]


def test_delete_many_of_everything_has_to_be_said(client):
    make(client)
    for conditions in ({}, {"prefix": ""}, {"idle": 0}, {"pinned_too": True}):
        with pytest.raises(kvquantd.Invalid):
            client.delete_many(**conditions)
    for conditions in ({"model": ""}, {"idle": -1}, {"age": float("nan")}, {"prefix": "a\0b"}):
        with pytest.raises(ValueError):
            client.delete_many(**conditions)
    assert names(client) == ["s"]


def test_control_drains_makes_read_only_and_limits_the_memory(client):
    session = make(client)
    now = client.control()
    assert 0 < now.pop("used_bytes") < 256 << 20
    assert now == {"state": "normal", "limit_bytes": 256 << 20}
    assert client.control("drained")["state"] == client.status()["state"] == "drained"
    with pytest.raises(kvquantd.ReadOnly) as caught:
        session.fork("other")
    assert caught.value.retryable
    client.control("read-only")
    with pytest.raises(kvquantd.ReadOnly):
        session.delete()
    assert client.control("normal", memory=128 << 20)["limit_bytes"] == 128 << 20
    with pytest.raises(kvquantd.Invalid):
        client.control(memory=1 << 50)
    with pytest.raises(ValueError):
        client.control("asleep")
    assert session.delete() > 0
