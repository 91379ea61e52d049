"""POLICY: how a session is kept, said when it is opened, asked for, and changed."""

import pytest
from wire import EXACT, FAST8, PLACE_PAGES, policy, policy_numbers
from wire_support import SMALL, append, connection, gaussian_bits, refused, wait_until  # noqa: F401

DEFAULTS = dict(newest_tokens=0, newest_level=FAST8, floor=4, idle_step_ms=30 * 60 * 1000, ttl_ms=0)
CHOSEN = dict(newest_tokens=300, newest_level=1, floor=5, idle_step_ms=60000, ttl_ms=3600000)


def levels(connection, name):
    return {row.level: row.tokens for row in connection.info(name).levels if row.place == PLACE_PAGES}


def test_a_session_that_says_nothing_has_what_the_daemon_is_configured_for(connection):
    connection.open(b"a", geometry=SMALL)
    reply = connection.policy(b"a")
    assert (reply.level, policy_numbers(reply.policy)) == (3, DEFAULTS)


def test_a_level_that_is_named_is_the_floor_too(connection):
    connection.open(b"a", geometry=SMALL, level=1)
    assert policy_numbers(connection.policy(b"a").policy)["floor"] == 1
    connection.open(b"b", geometry=SMALL, level=EXACT)
    never_lossy = policy_numbers(connection.policy(b"b").policy)
    assert (never_lossy["floor"], never_lossy["newest_level"]) == (EXACT, EXACT)


def test_a_policy_is_said_at_open_kept_and_given_to_forks(connection):
    connection.open(b"a", geometry=SMALL, level=2, policy=policy(**CHOSEN))
    connection.fork(b"a", b"b")
    for name in (b"a", b"b"):
        assert policy_numbers(connection.policy(name).policy) == CHOSEN
        assert policy_numbers(connection.info(name).policy) == CHOSEN


def test_opening_a_session_that_exists_leaves_its_policy(connection):
    connection.open(b"a", geometry=SMALL, level=2, policy=policy(**CHOSEN))
    connection.open(b"a", geometry=SMALL, level=4, policy=policy(floor=4))
    assert policy_numbers(connection.policy(b"a").policy) == CHOSEN


def test_a_change_is_of_what_it_names_and_is_no_change_of_the_session(connection):
    connection.open(b"a", geometry=SMALL, level=2, policy=policy(**CHOSEN))
    before = connection.info(b"a")
    assert policy_numbers(connection.policy(b"a", floor=3, ttl_ms=0).policy) == {**CHOSEN, "floor": 3, "ttl_ms": 0}
    assert policy_numbers(connection.policy(b"a", newest_tokens=0).policy)["newest_tokens"] == 0
    assert connection.info(b"a").version == before.version


@pytest.mark.parametrize("change", [dict(floor=1), dict(newest_level=3), dict(floor=6), dict(newest_level=-3),
                                    dict(ttl_ms=1 << 63), dict(idle_step_ms=1 << 63)])
def test_what_cannot_be_is_refused_and_changes_nothing(connection, change):
    connection.open(b"a", geometry=SMALL, level=2, policy=policy(**CHOSEN))
    with refused("invalid"):
        connection.policy(b"a", **{"newest_tokens": 7, **change})
    with refused("invalid"):
        connection.open(b"b", geometry=SMALL, level=2, policy=policy(**change))
    assert policy_numbers(connection.policy(b"a").policy) == CHOSEN


def test_a_policy_of_no_session_is_a_miss(connection):
    with refused("miss"):
        connection.policy(b"none")
    with refused("invalid"):
        connection.policy(b"")


def test_ageing_by_request_moves_floor_and_newest_level_along(connection):
    connection.open(b"a", geometry=SMALL, level=2, policy=policy(newest_tokens=128, newest_level=0))
    connection.age(b"a", 4)
    now = policy_numbers(connection.policy(b"a").policy)
    assert (now["floor"], now["newest_level"]) == (4, 4)


def test_fewer_newest_tokens_bring_the_others_to_the_sessions_level(connection):
    session = connection.open(b"a", geometry=SMALL, level=4, policy=policy(newest_tokens=1000, newest_level=1))
    append(session, gaussian_bits(SMALL, 512))
    wait_until(lambda: set(levels(connection, b"a")) == {1})
    connection.policy(b"a", newest_tokens=128)
    wait_until(lambda: levels(connection, b"a").get(1) == 128)
    connection.policy(b"a", newest_tokens=512)
    append(session, gaussian_bits(SMALL, 128), settle=True)
    assert levels(connection, b"a")[1] == 256, "what is coarser already stays"


def test_time_makes_an_idle_session_coarser_and_deletes_it_in_the_end(connection):
    session = connection.open(b"a", geometry=SMALL, level=1, policy=policy(floor=3, idle_step_ms=100))
    append(session, gaussian_bits(SMALL, 256), settle=True)
    connection.open(b"b", geometry=SMALL)
    wait_until(lambda: set(levels(connection, b"a")) == {3})
    assert connection.info(b"a").policy_state.idle_steps >= 2
    ageing = connection.stats().ageing
    assert ageing.chunks >= 2 and ageing.bytes_after < ageing.bytes_before
    connection.policy(b"a", ttl_ms=100)
    wait_until(lambda: [row.session for row in connection.list().sessions] == [b"b"])
    assert connection.stats().ageing.expired_sessions == 1
    with refused("miss"):
        connection.info(b"a")
