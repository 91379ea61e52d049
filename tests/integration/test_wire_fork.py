"""FORK and TRUNCATE: sessions that share tokens and still are independent of each other."""

import numpy
import pytest
from wire import APPEND, COMMIT, FETCH, OPEN_EXISTING, Connection, frame
from wire_support import (SMALL, append, assert_holds, bits, connection, drain, large, packed,  # noqa: F401
                          refused, stored)

PAGE = 128
LENGTHS = [1, 100, PAGE, PAGE + 1, 300]


def first(arrays, tokens):
    return tuple(array[:, :tokens] for array in arrays)


def joined(*parts):
    return tuple(numpy.concatenate(arrays, axis=1) for arrays in zip(*parts))


def forked(connection, source, target, tokens=0):
    connection.fork(source.name, target, tokens)
    return connection.open(target, model=b"", mode=OPEN_EXISTING)


@pytest.mark.parametrize("tokens", LENGTHS)
@pytest.mark.parametrize("settle", [False, True])
def test_a_fork_has_the_tokens_level_and_model_of_its_source(connection, tokens, settle):
    source, arrays = stored(connection, b"a", tokens=tokens, settle=settle)
    reply = connection.fork(b"a", b"b")
    fork = connection.open(b"b", model=b"", mode=OPEN_EXISTING)
    assert (reply.tokens, reply.tail_tokens) == (source.tokens, source.tail_tokens)
    assert reply.version > source.version
    assert (fork.version, fork.level, fork.model) == (reply.version, source.level, source.model)
    assert_holds(fork, arrays)
    assert connection.info(b"a").version == source.version


@pytest.mark.parametrize("cut", [1, 3, 4, 50, PAGE - 1, PAGE, PAGE + 1, 290, 299, 300])
@pytest.mark.parametrize("settle", [False, True])
def test_a_fork_of_the_first_tokens_goes_on_from_there(connection, cut, settle):
    source, arrays = stored(connection, b"a", tokens=300, settle=settle)
    fork = forked(connection, source, b"b", cut)
    assert fork.tokens == cut
    assert_holds(fork, first(arrays, cut))
    more = bits(SMALL, 200, seed=1)
    append(fork, more)
    assert_holds(fork, joined(first(arrays, cut), more))
    assert_holds(source, arrays)


@pytest.mark.parametrize("who", ["source", "fork"])
@pytest.mark.parametrize("tokens", LENGTHS)
def test_source_and_fork_both_go_on_from_the_same_tail(connection, who, tokens):
    source, arrays = stored(connection, b"a", tokens=tokens)
    fork = forked(connection, source, b"b")
    order = [(source, bits(SMALL, 30, 1)), (fork, bits(SMALL, 31, 2))]
    for session, more in order if who == "source" else order[::-1]:
        append(session, more)
    for session, more in order:
        assert_holds(session, joined(arrays, more))


@pytest.mark.parametrize("deleted, left", [(b"a", b"b"), (b"b", b"a")])
def test_deleting_one_of_two_leaves_the_other_as_it_is(connection, deleted, left):
    source, arrays = stored(connection, b"a", tokens=300)
    fork = forked(connection, source, b"b")
    connection.delete(deleted)
    assert_holds(source if left == b"a" else fork, arrays)


def test_a_fork_of_a_fork_outlives_both(connection):
    source, arrays = stored(connection, b"a", tokens=300)
    second = forked(connection, source, b"b", 200)
    third = forked(connection, second, b"c", 150)
    connection.delete(b"a")
    connection.delete(b"b")
    assert_holds(third, first(arrays, 150))


def test_a_fork_during_an_append_has_what_was_committed(connection):
    source, arrays = stored(connection, b"a", tokens=200)
    more = bits(SMALL, 100, 1)
    request_id, pieces = source.begin(100), list(source.pieces(100))
    for piece in pieces[:3]:
        source.send_piece(request_id, packed(more), piece)
    fork = forked(connection, source, b"b")
    assert_holds(fork, arrays)
    append(fork, bits(SMALL, 100, 2))
    for piece in pieces[3:]:
        source.send_piece(request_id, packed(more), piece)
    source.commit(request_id)
    assert_holds(source, joined(arrays, more))
    assert_holds(fork, joined(arrays, bits(SMALL, 100, 2)))


def test_a_fork_takes_next_to_nothing(connection):
    stored(connection, b"a", tokens=2000, settle=True)
    before = connection.stats().used_bytes
    connection.fork(b"a", b"b")
    info = connection.info(b"b")
    assert connection.stats().used_bytes - before < 5000
    assert info.unique_bytes < 5000 < info.stored_bytes
    connection.delete(b"b")
    assert connection.stats().used_bytes == before


def test_what_fork_refuses(connection):
    source, _ = stored(connection, b"a")
    stored(connection, b"b")
    for name, fields in {"exists": {"target": b"b"}, "miss": {"target": b"c", "tokens": 101},
                         "version_changed": {"target": b"c", "if_version": source.version + 1},
                         "invalid": {"target": b"\x01"}}.items():
        with refused(name):
            connection.fork(b"a", **fields)
    with refused("exists"):
        connection.fork(b"a", b"a")
    with refused("miss"):
        connection.fork(b"none", b"c")
    with refused("miss"):
        connection.info(b"c")
    connection.fork(b"a", b"c", if_version=source.version)


def test_an_empty_session_has_empty_forks(connection):
    connection.open(b"a", geometry=SMALL)
    assert connection.fork(b"a", b"b").tokens == 0


@pytest.mark.parametrize("cut", [0, 1, 4, PAGE - 1, PAGE, PAGE + 1, 290, 299])
@pytest.mark.parametrize("settle", [False, True])
def test_a_truncated_session_keeps_its_first_tokens_and_goes_on_from_there(connection, cut, settle):
    session, arrays = stored(connection, b"a", tokens=300, settle=settle)
    version = session.version
    reply = session.truncate(cut)
    assert (reply.tokens, reply.tail_tokens) == (cut, max(cut - 256, 0) if not settle else 0)
    assert reply.version > version
    assert connection.info(b"a").tokens == cut
    more = bits(SMALL, 150, 1)
    append(session, more)
    assert_holds(session, joined(first(arrays, cut), more))


def test_truncating_to_the_length_changes_nothing(connection):
    session, arrays = stored(connection, b"a")
    version = session.version
    assert session.truncate(100).version == version
    assert_holds(session, arrays)


def test_truncating_gives_memory_back(connection):
    session = connection.open(b"a", geometry=SMALL, level=-2)
    append(session, bits(SMALL, 128), settle=True)
    before = connection.stats().used_bytes
    append(session, bits(SMALL, 2000))
    session.truncate(128)
    assert connection.stats().used_bytes <= before + 2048  # of its list of chunks


def test_what_truncate_refuses(connection):
    session, arrays = stored(connection, b"a")
    for name, fields in {"miss": {"tokens": 101},
                         "version_changed": {"tokens": 1, "if_version": session.version + 1}}.items():
        with refused(name):
            connection.truncate(b"a", **fields)
    with refused("miss"):
        connection.truncate(b"none", 0)
    request_id = session.begin(5)
    with refused("busy"):
        connection.truncate(b"a", 1)
    connection.cancel(request_id)
    with refused("cancelled"):
        connection.answer(request_id, "AppendReply")
    assert_holds(session, arrays)
    connection.truncate(b"a", 1, if_version=session.version)


def test_a_fork_keeps_what_its_source_truncates(connection):
    source, arrays = stored(connection, b"a", tokens=300)
    fork = forked(connection, source, b"b")
    source.truncate(270)
    append(source, bits(SMALL, 30, 1))
    assert_holds(fork, arrays)
    assert_holds(source, joined(first(arrays, 270), bits(SMALL, 30, 1)))


def test_requests_take_effect_in_the_order_sent(connection):
    """A truncate, an append, a fork and a delete in one go."""
    session, arrays = stored(connection, b"a", tokens=300)
    more = packed(bits(SMALL, 7, 1))
    ids = [connection.request(13, "TruncateRequest", session=b"a", tokens=256)]
    session.tokens, session.tail_tokens = 256, 0
    request_id = connection.request(APPEND, "AppendRequest", session=b"a", first=256, tokens=7)
    for piece in session.pieces(7):
        session.send_piece(request_id, more, piece)
    connection.send(frame(COMMIT, request_id))
    ids += [request_id, connection.request(12, "ForkRequest", session=b"a", target=b"b"),
            connection.request(9, "DeleteRequest", session=b"a")]
    answers = {}
    while len(answers) < len(ids):
        got = connection.receive()
        answers[got.request_id] = got
    assert sorted(answers) == sorted(ids)
    fork = connection.open(b"b", model=b"", mode=OPEN_EXISTING)
    assert_holds(fork, joined(first(arrays, 256), bits(SMALL, 7, 1)))
    with refused("miss"):
        connection.info(b"a")


def test_a_fetch_that_reaches_truncated_tokens_is_a_miss_even_if_others_stand_there(daemon, large):
    request_id = large.connection.request(FETCH, "FetchRequest", session=b"large", dtype=3)
    assert large.connection.receive().request_id == request_id
    with Connection(daemon.socket) as other:
        session = other.open(b"large", model=b"", mode=OPEN_EXISTING)
        session.truncate(900)
        values = bits(session.geometry, 124, 1)
        append(session, values)
    closing = drain(large.connection, request_id)[-1]
    assert closing.type == 65
