"""Open, info, list, delete, stats: who a session belongs to, and what is said about it."""

import dataclasses

import pytest
from wire import (BF16, F16, F32, OPEN_EXISTING, OPEN_NEW, PLACE_TAIL, Connection, Geometry, SimpleNamespace)
from wire_support import (SMALL, TINY, append, assert_holds, bits, connection, refused,  # noqa: F401
                          stored)

ROPE = SimpleNamespace(pairing=1, theta=10000.0, dims=16)
ROTATED = dataclasses.replace(SMALL, rope=ROPE)


def rope(**changes):
    return dataclasses.replace(ROTATED, rope=SimpleNamespace(**{**vars(ROPE), **changes}))


def test_a_session_is_created_once(connection):
    assert connection.open(b"chat", geometry=SMALL).created
    again = connection.open(b"chat", geometry=SMALL)
    assert not again.created and again.tokens == 0


def test_open_tells_the_sessions_length_tail_and_version(connection):
    session, arrays = stored(connection, b"chat", SMALL, 200)
    again = connection.open(b"chat", geometry=SMALL)
    assert (again.tokens, again.tail_tokens, again.version) == (200, session.tail_tokens, session.version)


def test_open_of_an_existing_session_needs_no_geometry_and_tells_it(connection):
    connection.open(b"chat", geometry=ROTATED)
    session = connection.open(b"chat", mode=OPEN_EXISTING)
    assert dataclasses.replace(session.geometry, rope=None) == SMALL
    assert (session.geometry.rope.pairing, session.geometry.rope.theta, session.geometry.rope.dims) == \
        (1, 10000.0, 16)
    assert session.model == b"model"


def test_open_existing_of_none_is_a_miss_and_creates_nothing(connection):
    with refused("miss"):
        connection.open(b"chat", geometry=SMALL, mode=OPEN_EXISTING)
    assert not connection.list().sessions


def test_open_new_of_one_that_exists_is_refused_and_harms_nothing(connection):
    session, arrays = stored(connection, b"chat")
    with refused("exists"):
        connection.open(b"chat", geometry=SMALL, mode=OPEN_NEW)
    with refused("exists"):
        connection.open(b"chat", model=b"another", geometry=TINY, mode=OPEN_NEW)
    assert_holds(session, arrays)


def test_a_session_keeps_the_level_of_its_creation(connection):
    connection.open(b"chat", geometry=SMALL, level=1)
    assert connection.open(b"chat", geometry=SMALL, level=4).level == 1


@pytest.mark.parametrize("model", [b"mode", b"model2", b"Model"])
def test_another_fingerprint_is_a_mismatch(connection, model):
    session, arrays = stored(connection, b"chat")
    with refused("model_mismatch"):
        connection.open(b"chat", model=model, geometry=SMALL)
    with refused("model_mismatch"):
        connection.open(b"chat", model=model, mode=OPEN_EXISTING)
    with refused("model_mismatch"):
        connection.fetch(b"chat", model=model)
    assert_holds(session, arrays)


@pytest.mark.parametrize("geometry", [
    Geometry(3, 3, 16, 16, F16, ROPE), Geometry(2, 4, 16, 16, F16, ROPE), Geometry(2, 3, 17, 16, F16, ROPE),
    Geometry(2, 3, 16, 17, F16, ROPE), Geometry(2, 3, 16, 0, F16, ROPE), Geometry(2, 3, 16, 16, BF16, ROPE),
    Geometry(2, 3, 16, 16, F32, ROPE), Geometry(3, 2, 16, 16, F16, ROPE),
    rope(pairing=2), rope(theta=500000.0), rope(dims=8), rope(scaling=2.0), SMALL,
], ids=lambda geometry: ",".join(map(str, dataclasses.astuple(geometry)[:5])))
def test_another_geometry_is_a_mismatch(connection, geometry):
    connection.open(b"chat", geometry=ROTATED)
    with refused("model_mismatch"):
        connection.open(b"chat", geometry=geometry)


def test_a_scaling_of_0_means_1(connection):
    connection.open(b"chat", geometry=rope(scaling=0.0))
    assert not connection.open(b"chat", geometry=rope(scaling=1.0)).created


def test_fetch_with_the_sessions_own_model_is_served(connection):
    stored(connection, b"chat")
    assert connection.fetch(b"chat", model=b"model")[1].tokens == 100


def test_a_fingerprint_with_a_nul_is_not_the_one_before_it(connection):
    session, arrays = stored(connection, b"chat")
    with refused("invalid", "model_mismatch"):
        connection.open(b"chat", model=b"model\0", geometry=SMALL)
    with refused("invalid", "model_mismatch"):
        connection.fetch(b"chat", model=b"model\0")


def test_two_models_do_not_share_a_session(connection):
    stored(connection, b"one", SMALL, 10, seed=1)
    session = connection.open(b"two", model=b"other", geometry=TINY)
    arrays = bits(TINY, 10, seed=2)
    append(session, arrays)
    assert_holds(session, arrays)
    assert [s.model for s in connection.list().sessions] == [b"model", b"other"]


def test_every_change_raises_the_version(connection):
    session = connection.open(b"chat", geometry=SMALL)
    versions = [session.version]
    for seed in range(4):
        append(session, bits(SMALL, 50, seed))
        versions.append(session.version)
        assert connection.info(b"chat").version == session.version
    assert versions == sorted(set(versions))


def test_a_fetch_does_not_change_the_version(connection):
    session, _ = stored(connection, b"chat")
    session.fetch()
    assert connection.info(b"chat").version == session.version


def test_a_version_never_comes_again_after_delete(connection):
    seen = set()
    for seed in range(5):
        session = connection.open(b"chat", geometry=SMALL)
        versions = [session.version]
        append(session, bits(SMALL, 10, seed))
        versions.append(session.version)
        assert not seen & set(versions)
        assert not seen or min(versions) > max(seen)
        seen |= set(versions)
        connection.delete(b"chat")


def test_an_id_never_comes_again_after_delete(connection):
    ids = []
    for _ in range(3):
        connection.open(b"chat", geometry=SMALL)
        ids.append(connection.info(b"chat").id)
        connection.delete(b"chat")
    assert len(set(ids)) == 3 and 0 not in ids


def test_a_session_of_no_tokens_is_told_as_such(connection):
    connection.open(b"chat", geometry=SMALL)
    info = connection.info(b"chat")
    assert (info.tokens, info.tokens_available, info.tail_tokens, info.values) == (0, 0, 0, 0)
    assert info.logical_bytes == 0


@pytest.mark.parametrize("geometry", [SMALL, Geometry(2, 3, 16, 8, F32), Geometry(2, 3, 16, 0, BF16)])
def test_info_counts_values_and_bytes_at_the_inputs_width(connection, geometry):
    stored(connection, b"chat", geometry, 300)
    info = connection.info(b"chat")
    assert info.values == 300 * geometry.layers * geometry.heads * (geometry.head_dim_k + geometry.head_dim_v)
    assert info.logical_bytes == info.values * (4 if geometry.dtype == F32 else 2)
    assert (info.session, info.model, info.level) == (b"chat", b"model", -2)
    assert (info.tokens, info.tokens_available, info.page_tokens) == (300, 300, 128)
    assert info.geometry.dtype == geometry.dtype
    assert 0 < info.unique_bytes <= info.stored_bytes


def test_infos_tail_is_that_of_its_levels(connection):
    session, _ = stored(connection, b"chat", SMALL, 300)
    info = connection.info(b"chat")
    assert info.tail_tokens == session.tail_tokens
    assert sum(row.tokens for row in info.levels if row.place == PLACE_TAIL) == info.tail_tokens


def test_infos_bytes_are_those_of_its_levels(connection):
    stored(connection, b"chat", SMALL, 300)
    info = connection.info(b"chat")
    assert sum(row.bytes for row in info.levels) <= info.stored_bytes
    assert sum(row.bytes for row in info.levels) >= 0.9 * info.stored_bytes


@pytest.mark.parametrize("call", ["info", "fetch", "delete"])
def test_what_is_not_there_is_a_miss(connection, call):
    with refused("miss"):
        getattr(connection, call)(b"chat")


def test_an_append_to_what_is_not_there_is_a_miss(connection):
    session = connection.open(b"chat", geometry=TINY)
    connection.delete(b"chat")
    request_id = session.begin(1)
    with refused("miss"):
        connection.answer(request_id, "AppendReply")
    connection.cancel(request_id)
    connection.ping()


def test_after_delete_nothing_is_there(connection):
    stored(connection, b"chat")
    assert connection.delete(b"chat").freed_bytes > 0
    for call in (connection.info, connection.fetch, connection.delete):
        with refused("miss"):
            call(b"chat")
    assert not connection.list().sessions
    assert connection.open(b"chat", geometry=TINY).created


def test_delete_gives_the_memory_back(connection):
    connection.open(b"first", geometry=SMALL)
    before = connection.stats().used_bytes
    stored(connection, b"chat", SMALL, 1000)
    assert connection.stats().used_bytes > before
    connection.delete(b"chat")
    assert connection.stats().used_bytes == before


def test_list_pages_give_every_session_once_by_ascending_id(connection):
    for number in range(25):
        connection.open(b"%02d" % number, geometry=TINY)
    names, after, pages = [], 0, 0
    while True:
        reply = connection.list(after, limit=7)
        assert len(reply.sessions) <= 7
        assert [s.id for s in reply.sessions] == sorted(s.id for s in reply.sessions)
        assert all(s.id > after for s in reply.sessions)
        names += [s.session for s in reply.sessions]
        pages += 1
        if not reply.more:
            break
        after = reply.sessions[-1].id
    assert names == [b"%02d" % number for number in range(25)]
    assert pages == 4


def test_more_sessions_than_fit_one_control_are_listed_in_pages(connection):
    names = [b"%03d" % number + b"n" * 252 for number in range(300)]
    for name in names:
        connection.open(name, model=b"m" * 255, geometry=TINY)
    listed, after = [], 0
    for _ in range(300):
        reply = connection.list(after)
        listed += [s.session for s in reply.sessions]
        if not reply.more:
            break
        after = reply.sessions[-1].id
    assert listed == names


def test_a_list_limit_larger_than_fits_is_answered_with_what_fits(connection):
    for number in range(300):
        connection.open(b"%03d" % number + b"n" * 252, model=b"m" * 255, geometry=TINY)
    reply = connection.list(limit=(1 << 32) - 1)
    assert 0 < len(reply.sessions) < 300 and reply.more


def test_a_list_survives_the_deletion_of_its_last_session(connection):
    for number in range(4):
        connection.open(b"%d" % number, geometry=TINY)
    page = connection.list(limit=2)
    connection.delete(page.sessions[-1].session)
    assert [s.session for s in connection.list(page.sessions[-1].id).sessions] == [b"2", b"3"]


@pytest.mark.parametrize("after_id", [1 << 62, (1 << 64) - 1])
def test_a_list_after_the_last_id_is_empty(connection, after_id):
    connection.open(b"chat", geometry=TINY)
    reply = connection.list(after_id)
    assert not reply.sessions and not reply.more


def test_a_list_says_of_a_session_what_info_says(connection):
    stored(connection, b"chat", SMALL, 300)
    info, listed = connection.info(b"chat"), connection.list().sessions[0]
    assert 0 <= listed.age_ms - info.age_ms < 10000 and 0 <= listed.idle_ms - info.idle_ms < 10000
    info.levels, info.age_ms, info.idle_ms = [], listed.age_ms, listed.idle_ms
    assert listed == info


def test_stats_count_sessions_tokens_and_requests(daemon, connection):
    before = connection.stats()
    stored(connection, b"one", SMALL, 100)
    stored(connection, b"two", TINY, 20)
    with refused("miss"):
        connection.info(b"three")
    stats = connection.stats()
    assert (stats.sessions, stats.tokens) == (2, 120)
    assert stats.bytes_16bit == 2 * (100 * 2 * 3 * 32 + 20 * 16)
    assert stats.pid == daemon.pid and daemon.socket in stats.sockets
    assert stats.limit_bytes == 256 << 20
    assert 0 < stats.stored_bytes <= stats.used_bytes <= stats.limit_bytes
    assert abs(stats.rss_bytes - daemon.rss_bytes()) < 64 << 20
    assert stats.connections == 1 and stats.uptime_seconds > 0 and stats.version
    rows = {row.operation: row for row in stats.operations}
    earlier = {row.operation: row for row in before.operations}
    assert rows["open"].requests - earlier["open"].requests == 2
    assert rows["append"].requests - earlier["append"].requests == 2
    assert rows["info"].errors - earlier["info"].errors == 1


def test_stats_count_connections(daemon, connection):
    with Connection(daemon.socket), Connection(daemon.socket):
        assert connection.stats().connections == 3
