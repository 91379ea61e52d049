"""Embeddings: entries and recalls, from frame to frame."""

import struct

import pytest
from wire import (BYTES, COMMIT, DATA, DRAINED, EXACT, F16, F32, INDEX_PUT, RECALL, VECTORS, Connection,
                  Refused, data_frame, frame, packed_entries)
from wire_support import SMALL, append, bits, connection, refused  # noqa: F401

DIM, TOKENS = 8, 200


def vector(*numbers):
    return struct.pack(f"<{DIM}f", *numbers, *[0.0] * (DIM - len(numbers)))


def query(*numbers):
    return [*numbers, *[0.0] * (DIM - len(numbers))]


def entry(first, tokens, *numbers, label=b"", metadata=b""):
    return first, tokens, label, metadata, vector(*numbers)


@pytest.fixture
def session(connection):
    session = connection.open(b"a", geometry=SMALL, level=EXACT)
    append(session, bits(SMALL, TOKENS))
    return session


@pytest.fixture
def indexed(connection, session):
    connection.index(b"a", [entry(0, 50, 1, label=b"x", metadata=b"\0\xff"), entry(50, 50, 1, 1), entry(100, 7, 0, 1)],
                     DIM)
    return session


def ranges(hits):
    return [(hit.first, hit.tokens) for hit in hits.hits]


def test_what_was_put_is_recalled_with_all_that_was_given(connection, session):
    reply = connection.index(b"a", [entry(3, 40, 1, 2, label="ä".encode(), metadata=b"\0\xff"), entry(0, 9, 2, 1)], DIM)
    assert (reply.version, reply.replaced, reply.entries) == (session.version, 0, 2)
    hits, frames, reply = connection.recall(query(1, 2), sessions=[b"a"])
    assert ranges(hits) == [(3, 40), (0, 9)]
    assert (hits.hits[0].label, hits.hits[0].metadata) == ("ä".encode(), b"\0\xff")
    assert hits.hits[0].session == b"a" and hits.hits[0].version == session.version
    assert hits.hits[0].score == pytest.approx(1)
    assert hits.geometry is None and frames == [] and reply.fetched == []


def test_k_and_v_come_behind_the_hits_counted_over_them(connection, indexed):
    hits, frames, reply = connection.recall(query(0, 1), sessions=[b"a"], k=2, fetch=True)
    assert ranges(hits) == [(100, 7), (50, 50)]
    assert reply.fetched == [1, 1] and hits.geometry.layers == SMALL.layers
    assert reply.bytes == sum(len(payload) for *_, payload in frames)
    for part in (0, 1):
        for layer in range(SMALL.layers):
            own = [(first, tokens, payload) for first, tokens, l, p, payload in frames if (l, p) == (layer, part)]
            (k_and_v, _), (rest, _) = (indexed.fetch(100, 107), indexed.fetch(50, 100))
            assert b"".join(payload for *_, payload in sorted(own)) == bytes(
                k_and_v[part][layer]) + bytes(rest[part][layer])


def test_hits_of_a_session_that_changes_meanwhile_are_not_fetched(connection, indexed):
    """The hits are known when they are sent; what is cut off before its K and V are is none any more."""
    hits, _, reply = connection.recall(query(1), sessions=[b"a"], fetch=True, skip_v=True, end_layer=1)
    assert reply.fetched == [1, 1, 1]
    connection.truncate(b"a", 60)
    hits, _, reply = connection.recall(query(1), sessions=[b"a"], fetch=True)
    assert ranges(hits) == [(0, 50)] and reply.fetched == [1]


def test_equal_scores_come_in_the_order_in_which_they_were_put(connection, session):
    for first in (30, 10, 20):
        connection.index(b"a", [entry(first, 1, 1)], DIM)
    hits, *_ = connection.recall(query(1), sessions=[b"a"], k=2)
    assert len(hits.hits) == 2


@pytest.mark.parametrize("fields, message", [
    ({"dim": 0}, "dim"), ({"dim": 4097}, "dim"), ({"dtype": 0}, "dtype"), ({"dtype": 2}, "dtype"),
    ({"metric": 2}, "metric"), ({"entries": 0}, "entries"), ({"entries": 2}, "tokens"),
    ({"entries": (1 << 32) - 1}, "bytes"), ({"dtype": F16}, "bytes"), ({"session": b""}, "name"),
])
def test_a_put_that_cannot_be_is_refused(connection, session, fields, message):
    arguments = {"session": b"a", "entries": 1, "dim": DIM, **fields}
    sent = packed_entries([entry(0, 1, 1)])
    with pytest.raises(Refused) as refusal:
        name, dim = arguments.pop("session"), arguments.pop("dim")
        connection.index(name, [entry(0, 1, 1)], dim, sent=sent, **arguments)
    assert refusal.value.name == "invalid" and message in str(refusal.value)
    assert connection.ping()
    assert connection.info(b"a").entries.entries == 0


def test_more_than_goes_at_a_time_is_too_large(connection, session):
    request_id = connection.request(INDEX_PUT, "IndexPutRequest", session=b"a", dim=DIM, dtype=F32, entries=1,
                                    bytes=(16 << 20) + 1)
    with refused("too_large"):
        connection.answer(request_id, "IndexPutReply")
    connection.send(frame(COMMIT, request_id))
    assert connection.ping()


def test_frames_out_of_place_are_refused(connection, session):
    data = packed_entries([entry(0, 1, 1)])
    for first, count, layer, part in ((1, len(data), 0, VECTORS), (0, len(data), 1, VECTORS),
                                      (0, len(data), 0, BYTES), (0, len(data) - 1, 0, VECTORS)):
        request_id = connection.request(INDEX_PUT, "IndexPutRequest", session=b"a", dim=DIM, dtype=F32, entries=1,
                                        bytes=len(data))
        connection.send(data_frame(request_id, first, count, layer, part, data) + frame(COMMIT, request_id))
        with refused("invalid"):
            connection.answer(request_id, "IndexPutReply")
    request_id = connection.request(INDEX_PUT, "IndexPutRequest", session=b"a", dim=DIM, dtype=F32, entries=1,
                                    bytes=len(data))
    connection.send(frame(COMMIT, request_id))
    with refused("incomplete"):
        connection.answer(request_id, "IndexPutReply")
    assert connection.ping()


@pytest.mark.parametrize("fields, name", [
    ({"k": 0}, "invalid"), ({"k": 513}, "invalid"), ({"k": (1 << 32) - 1}, "invalid"), ({"dim": 4097}, "invalid"),
    ({"dim": 0}, "invalid"), ({"metric": 2}, "invalid"), ({"label": b"l" * 256}, "invalid"),
    ({"first": 5, "end": 5}, "invalid"), ({"sessions": []}, "invalid"), ({"sessions": [b"nobody"]}, "miss"),
    ({"model": b"other"}, "model_mismatch"), ({"skip_k": 1, "skip_v": 1}, "invalid"), ({"dtype": 99}, "invalid"),
    ({"sessions": [b"a"] * 1025}, "too_large"), ({"dim": DIM - 1}, "incomplete"), ({"layout": 2}, "invalid"),
])
def test_a_recall_that_cannot_be_is_refused(connection, indexed, fields, name):
    asked = {"sessions": [b"a"], **fields}
    if fields.get("dim") == DIM - 1:
        request_id = connection.request(RECALL, "RecallRequest", k=1, dim=DIM, sessions=[b"a"])
        connection.send(data_frame(request_id, 0, DIM - 1, 0, VECTORS, vector(1)[4:]) + frame(COMMIT, request_id))
        with refused(name):
            connection.answer(request_id, "RecallReply")
    else:
        with refused(name):
            connection.recall(query(1), **asked)
    assert connection.ping()


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 1e30])
def test_a_query_that_is_not_finite_is_refused(connection, indexed, number):
    with refused("invalid"):
        connection.recall(query(1, number), sessions=[b"a"])
    with refused("invalid"):
        connection.recall(query(), sessions=[b"a"])
    assert connection.ping()


def test_layers_and_dtypes_that_the_sessions_have_not_are_refused(connection, indexed):
    with refused("invalid"):
        connection.recall(query(1), sessions=[b"a"], fetch=True, first_layer=99)
    with refused("unsupported"):
        connection.recall(query(1), sessions=[b"a"], fetch=True, dtype=6)
    assert connection.ping()


def test_a_cancelled_recall_and_a_lost_connection_leave_the_daemon_as_it_was(connection, indexed, daemon):
    for _ in range(20):
        request_id = connection.request(RECALL, "RecallRequest", k=3, dim=DIM, sessions=[b"a"], fetch=True)
        connection.send(data_frame(request_id, 0, DIM, 0, VECTORS, vector(1)) + frame(COMMIT, request_id))
        connection.cancel(request_id)
        while (got := connection.receive()).type == DATA:
            pass
        assert got.request_id == request_id
    assert connection.ping()
    with Connection(daemon.socket) as other:
        request_id = other.request(RECALL, "RecallRequest", k=3, dim=DIM, sessions=[b"a"])
        other.send(data_frame(request_id, 0, DIM, 0, VECTORS, vector(1)) + frame(COMMIT, request_id))
    assert len(connection.recall(query(1), sessions=[b"a"])[0].hits) == 3


def test_a_drained_daemon_takes_no_entries_but_recalls_and_deletes(connection, indexed):
    connection.control(state=DRAINED)
    with refused("read_only"):
        connection.index(b"a", [entry(0, 1, 1)], DIM)
    assert len(connection.recall(query(1), sessions=[b"a"])[0].hits) == 3
    assert connection.unindex(b"a", labels=[b"x"]).deleted == 1


def test_entries_are_counted(connection, indexed):
    before = connection.stats().recall
    assert (before.entries.entries, before.put, before.deleted) == (3, 3, 0)
    connection.index(b"a", [entry(0, 50, 1, label=b"x")], DIM)
    connection.recall(query(1), model=b"model")
    after = connection.stats().recall
    assert (after.entries.entries, after.put, after.deleted, after.recalls, after.hits) == (3, 4, 1, 1, 3)
    assert after.max_us <= after.total_us
    info = connection.info(b"a")
    assert info.entries.entries == 3 and info.stored_bytes > info.entries.stored_bytes > 0
