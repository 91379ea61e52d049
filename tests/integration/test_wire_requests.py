"""Many requests at a time on one connection: ids, the most in flight, interleaving, cancel."""

import pytest
from wire import (APPEND, CANCEL, COMMIT, DATA, ERROR, FETCH, INFO, PING, REPLY, Connection, Refused, decode,
                  encode, frame)
from wire_support import (SMALL, TINY, append, assert_ends, assert_holds, begun_fetch, bits,  # noqa: F401
                          connection, drain, large, packed, refused, stored)


def test_replies_carry_the_ids_of_their_requests(connection):
    ids = [7, 1, (1 << 32) - 1, 1 << 31, 42]
    connection.send(b"".join(frame(PING, request_id) for request_id in ids))
    assert sorted(connection.receive().request_id for _ in ids) == sorted(ids)


def test_an_id_may_be_used_again_once_its_request_is_closed(connection):
    for _ in range(3):
        connection.request(PING, "PingRequest", request_id=9)
        connection.answer(9, "PingReply")


@pytest.mark.parametrize("type", [PING, INFO, FETCH])
def test_id_0_is_not_for_requests(connection, type):
    connection.send(frame(type, 0))
    assert_ends(connection, "protocol")


def test_an_id_in_use_by_an_append_is_refused(connection):
    session = connection.open(b"chat", geometry=TINY)
    connection.request(PING, "PingRequest", request_id=session.begin(1))
    assert_ends(connection, "protocol")


def test_an_id_in_use_by_a_fetch_is_refused(connection, large):  # noqa: F811
    request_id = begun_fetch(connection)
    connection.request(PING, "PingRequest", request_id=request_id)
    while (got := connection.receive()).type == DATA:
        pass
    assert got.type == ERROR and Refused(got.control).name == "protocol"


def test_one_request_more_than_may_be_in_flight_is_refused_alone(connection):
    sessions = [connection.open(b"%d" % number, geometry=TINY)
                for number in range(connection.limits.requests_max)]
    ids = [session.begin(1) for session in sessions]
    with refused("too_many_requests"):
        connection.ping()
    connection.cancel(ids[0])
    with refused("cancelled"):
        connection.answer(ids[0], "AppendReply")
    connection.ping()


def test_an_append_beyond_what_may_be_in_flight_is_discarded_up_to_its_end(connection):
    sessions = [connection.open(b"%d" % number, geometry=TINY)
                for number in range(connection.limits.requests_max + 1)]
    for session in sessions[:-1]:
        session.begin(1)
    request_id = sessions[-1].begin(1)
    kv = packed(bits(TINY, 1))
    for piece in sessions[-1].pieces(1):
        sessions[-1].send_piece(request_id, kv, piece)
    connection.send(frame(COMMIT, request_id))
    with refused("too_many_requests"):
        connection.answer(request_id, "AppendReply")
    with refused("too_many_requests"):
        connection.ping()


def test_a_thousand_pings_in_one_write_are_each_answered(connection):
    ids = range(100, 1100)
    connection.send(b"".join(frame(PING, request_id) for request_id in ids))
    answers = [connection.receive() for _ in ids]
    assert sorted(answer.request_id for answer in answers) == list(ids)
    for answer in answers:
        assert answer.type == REPLY or Refused(answer.control).name == "too_many_requests"
    assert sum(answer.type == REPLY for answer in answers) >= connection.limits.requests_max


def test_small_requests_are_answered_between_the_frames_of_a_large_fetch(connection, large):  # noqa: F811
    request_id = begun_fetch(connection)
    ping = connection.request(PING, "PingRequest")
    info = connection.request(INFO, "InfoRequest", session=b"large")
    frames = drain(connection, request_id)
    ids = [got.request_id for got in frames]
    assert frames[-1].type == REPLY and ping in ids and info in ids
    assert max(ids.index(ping), ids.index(info)) < len(frames) // 2


def test_two_fetches_on_one_connection_are_both_served(connection, large):  # noqa: F811
    _, arrays = stored(connection, b"small", SMALL, 10)
    request_id = begun_fetch(connection)
    small = connection.request(FETCH, "FetchRequest", session=b"small")
    frames = drain(connection, request_id)
    closed = [got for got in frames if got.request_id == small and got.type == REPLY]
    if not closed:
        closed = drain(connection, small)
    assert decode("FetchReply", closed[-1].control).tokens == 10


def test_an_append_goes_through_while_a_fetch_runs(connection, large):  # noqa: F811
    session = connection.open(b"small", geometry=SMALL, level=-2)
    arrays = bits(SMALL, 10)
    fetch = begun_fetch(connection)
    request_id = session.begin(10)
    for piece in session.pieces(10):
        session.send_piece(request_id, packed(arrays), piece)
    connection.send(frame(COMMIT, request_id))
    frames = drain(connection, fetch)
    answers = [got for got in frames if got.request_id == request_id]
    assert [got.type for got in answers or [connection.receive()]] == [REPLY]
    session.tokens = 10
    assert_holds(session, arrays)


def test_cancel_ends_a_fetch(connection, large):  # noqa: F811
    request_id = begun_fetch(connection)
    connection.cancel(request_id)
    frames = drain(connection, request_id)
    assert frames[-1].type == ERROR and Refused(frames[-1].control).name == "cancelled"
    assert len(frames) < 2 * 8 * 16 // 2
    connection.ping()
    connection.request(PING, "PingRequest", request_id=request_id)
    connection.answer(request_id, "PingReply")


def test_cancel_ends_an_append_and_drops_it(connection):
    session = connection.open(b"chat", geometry=SMALL, level=-2)
    used = connection.stats().used_bytes
    kv = packed(bits(SMALL, 1000))
    request_id = session.begin(1000)
    for piece in list(session.pieces(1000))[:-1]:
        session.send_piece(request_id, kv, piece)
    connection.cancel(request_id)
    with refused("cancelled"):
        connection.answer(request_id, "AppendReply")
    assert connection.info(b"chat").tokens == 0
    assert connection.stats().used_bytes == used
    arrays = bits(SMALL, 30)
    append(session, arrays)
    assert_holds(session, arrays)


def test_an_append_may_be_begun_with_the_id_of_a_cancelled_one(connection):
    session = connection.open(b"chat", geometry=SMALL, level=-2)
    arrays = bits(SMALL, 30)
    request_id = session.begin(30)
    connection.cancel(request_id)
    with refused("cancelled"):
        connection.answer(request_id, "AppendReply")
    connection.send(frame(APPEND, request_id, encode("AppendRequest", session=b"chat", tokens=30)))
    for piece in session.pieces(30):
        session.send_piece(request_id, packed(arrays), piece)
    connection.send(frame(COMMIT, request_id))
    assert decode("AppendReply", connection.receive().control).tokens == 30


def test_a_cancel_that_comes_late_is_ignored(connection):
    session, arrays = stored(connection, b"chat", SMALL, 30)
    for request_id in range(1, 20):
        connection.cancel(request_id)
    connection.ping()
    assert_holds(session, arrays)


@pytest.mark.parametrize("request_id", [0, 12345, (1 << 32) - 1])
def test_a_cancel_of_an_id_not_in_use_is_ignored(connection, request_id):
    connection.cancel(request_id)
    connection.ping()


def test_a_cancel_with_control_harms_nothing(connection):
    connection.send(frame(CANCEL, 5, b"\xff" * 10))
    connection.ping()


def test_requests_after_a_commit_see_it(connection):
    session = connection.open(b"chat", geometry=SMALL, level=-2)
    kv = packed(bits(SMALL, 300))
    request_id = session.begin(300)
    for piece in session.pieces(300):
        session.send_piece(request_id, kv, piece)
    connection.send(frame(COMMIT, request_id))
    info = connection.request(INFO, "InfoRequest", session=b"chat")
    answers = {got.request_id: got for got in (connection.receive(), connection.receive())}
    assert answers[request_id].type == REPLY
    assert decode("SessionInfo", answers[info].control).tokens == 300


def test_a_large_fetch_does_not_hold_up_another_connection(daemon, connection, large):  # noqa: F811
    begun_fetch(connection)
    with Connection(daemon.socket) as other:
        for _ in range(20):
            other.ping()
        assert_holds(*stored(other, b"small", SMALL, 20))
