"""Appends that do not fit: each is refused alone, drops what it brought, and the session is as it was."""

import pytest
from wire import COMMIT, PING, Connection, Geometry, data_frame, frame
from wire_support import (SMALL, TINY, append, assert_ends, assert_holds, bits,  # noqa: F401
                          connection, packed, refused, stored, wait_until)

TOKENS = 300  # runs of 128, 128 and 44 into an empty session


def refused_append(session, *names, tokens=1, **fields):
    """Begins an append that is refused at once, ends it, and returns the error."""
    connection = session.connection
    request_id = session.begin(tokens, **fields)
    with refused(*names) as caught:
        connection.answer(request_id, "AppendReply")
    connection.cancel(request_id)
    connection.ping()
    return caught.value


@pytest.mark.parametrize("first", [0, 99, 101, 1 << 31, 1 << 32, 1 << 63, (1 << 64) - 1])
def test_a_wrong_first_token_is_told_the_length(connection, first):
    session, arrays = stored(connection, b"chat", SMALL, 100)
    assert refused_append(session, "wrong_first", first=first).tokens == 100
    assert_holds(session, arrays)


def test_an_append_repeated_after_its_answer_was_lost_is_told_that_it_was_there(connection):
    session, arrays = stored(connection, b"chat", SMALL, 100)
    assert refused_append(session, "wrong_first", tokens=100, first=0).tokens == 100
    assert_holds(session, arrays)


def test_an_append_of_one_run_too_many_is_too_large(connection):
    session, arrays = stored(connection, b"chat", SMALL, 100)
    refused_append(session, "too_large", tokens=28 + 128 * (connection.limits.append_runs_max - 1) + 1)
    assert_holds(session, arrays)


@pytest.mark.parametrize("tokens", [1 << 32, 1 << 62, 1 << 63, (1 << 64) - 100, (1 << 64) - 1])
def test_token_counts_beyond_all_bounds_are_too_large(connection, tokens):
    session, arrays = stored(connection, b"chat", SMALL, 100)
    refused_append(session, "too_large", tokens=tokens)
    assert_holds(session, arrays)


def test_an_append_of_no_tokens_is_invalid(connection):
    session, arrays = stored(connection, b"chat", SMALL, 100)
    refused_append(session, "invalid", tokens=0)
    assert_holds(session, arrays)


@pytest.mark.parametrize("tail_tokens", [0, 99, 101, 127, 128, 1000, (1 << 32) - 1])
def test_another_tail_is_told_length_and_tail(connection, tail_tokens):
    session, arrays = stored(connection, b"chat", SMALL, 100)
    assert session.tail_tokens == 100
    error = refused_append(session, "tail_moved", tail_tokens=tail_tokens)
    assert (error.tokens, error.tail_tokens) == (100, 100)
    assert_holds(session, arrays)


# (first, tokens, layer, part, payload bytes) of a DATA frame in an append of 300 to SMALL's 100.
ROW = SMALL.token_bytes(0)
WRONG_PIECES = {
    "layer beyond": (100, 28, 2, 0, 28 * ROW),
    "layer 2^31": (100, 28, 1 << 31, 0, 28 * ROW),
    "layer 2^32 - 1": (100, 28, (1 << 32) - 1, 0, 28 * ROW),
    "no tokens": (100, 0, 0, 0, 0),
    "a token less": (100, 27, 0, 0, 27 * ROW),
    "a token more": (100, 29, 0, 0, 29 * ROW),
    "a page of tokens": (100, 128, 0, 0, 128 * ROW),
    "2^31 tokens": (100, 1 << 31, 0, 0, 28 * ROW),
    "2^32 - 1 tokens": (100, (1 << 32) - 1, 0, 0, 28 * ROW),
    "before the append": (72, 28, 0, 0, 28 * ROW),
    "inside a run": (101, 27, 0, 0, 27 * ROW),
    "not at a run": (129, 127, 0, 0, 127 * ROW),
    "behind the append": (400, 28, 0, 0, 28 * ROW),
    "at 2^63": (1 << 63, 28, 0, 0, 28 * ROW),
    "at 2^64 - 1": ((1 << 64) - 1, 28, 0, 0, 28 * ROW),
    "at 2^64 - 28": ((1 << 64) - 28, 28, 0, 0, 28 * ROW),
    "no payload": (100, 28, 0, 0, 0),
    "a byte less": (100, 28, 0, 0, 28 * ROW - 1),
    "a byte more": (100, 28, 0, 0, 28 * ROW + 1),
    "a token's payload more": (100, 28, 0, 0, 29 * ROW),
    "the largest payload": (100, 28, 0, 0, 1 << 20),
}


@pytest.mark.parametrize("piece", WRONG_PIECES.values(), ids=WRONG_PIECES)
def test_data_that_does_not_fit_the_append_fails_it_alone(connection, piece):
    session, arrays = stored(connection, b"chat", SMALL, 100)
    request_id = session.begin(300)
    first, tokens, layer, part, size = piece
    connection.send(data_frame(request_id, first, tokens, layer, part, bytes(size)))
    with refused("invalid"):
        connection.answer(request_id, "AppendReply")
    connection.send(frame(COMMIT, request_id))
    connection.ping()
    assert_holds(session, arrays)
    append(session, bits(SMALL, 20))


@pytest.mark.parametrize("when", ["first", "coded", "tail"])
def test_a_part_that_comes_twice_fails_the_append_alone(connection, when):
    session = connection.open(b"chat", geometry=SMALL, level=-2)
    kv = packed(bits(SMALL, TOKENS))
    pieces = list(session.pieces(TOKENS))
    request_id = session.begin(TOKENS)
    for piece in pieces[:1] if when == "first" else pieces:
        session.send_piece(request_id, kv, piece)
    session.send_piece(request_id, kv, pieces[-1] if when == "tail" else pieces[0])
    with refused("invalid"):
        connection.answer(request_id, "AppendReply")
    connection.cancel(request_id)
    assert connection.info(b"chat").tokens == 0


def test_v_of_a_model_that_keeps_none_fails_the_append_alone(connection):
    session = connection.open(b"chat", geometry=Geometry(1, 1, 8, 0), level=-2)
    request_id = session.begin(1)
    connection.send(data_frame(request_id, 0, 1, 0, 1, bytes(16)))
    with refused("invalid"):
        connection.answer(request_id, "AppendReply")
    connection.cancel(request_id)
    connection.ping()


@pytest.mark.parametrize("left_out", [0, 1, 3, 7, 11])
def test_a_commit_before_every_part_came_is_incomplete(connection, left_out):
    session = connection.open(b"chat", geometry=SMALL, level=-2)
    arrays = bits(SMALL, TOKENS)
    request_id = session.begin(TOKENS)
    for number, piece in enumerate(session.pieces(TOKENS)):
        if number != left_out:
            session.send_piece(request_id, packed(arrays), piece)
    with refused("incomplete"):
        session.commit(request_id)
    assert connection.info(b"chat").tokens == 0
    append(session, arrays)
    assert_holds(session, arrays)


def test_a_commit_without_any_part_is_incomplete(connection):
    session = connection.open(b"chat", geometry=SMALL)
    with refused("incomplete"):
        session.commit(session.begin(5))
    connection.ping()


def test_the_control_part_of_a_commit_is_ignored(connection):
    session = connection.open(b"chat", geometry=TINY)
    request_id = session.begin(1)
    for piece in session.pieces(1):
        session.send_piece(request_id, packed(bits(TINY, 1)), piece)
    connection.send(frame(COMMIT, request_id, b"\xff" * 100))
    assert connection.answer(request_id, "AppendReply").tokens == 1


@pytest.mark.parametrize("end", ["commit", "cancel"])
def test_after_an_early_refusal_everything_is_discarded_until_the_append_ends(connection, end):
    session, arrays = stored(connection, b"chat", SMALL, 100)
    request_id = session.begin(TOKENS, first=0)
    kv = packed(bits(SMALL, TOKENS))
    for piece in session.pieces(TOKENS):
        session.send_piece(request_id, kv, piece, first=0)
    connection.send(data_frame(request_id, 77, 3, 9, 1, b"of no shape at all"))
    connection.send(frame(COMMIT, request_id)) if end == "commit" else connection.cancel(request_id)
    with refused("wrong_first"):
        connection.answer(request_id, "AppendReply")
    connection.ping()
    assert_holds(session, arrays)


def test_after_an_early_refusal_the_id_is_in_use_until_the_append_ends(connection):
    session, _ = stored(connection, b"chat", SMALL, 100)
    request_id = session.begin(1, first=0)
    with refused("wrong_first"):
        connection.answer(request_id, "AppendReply")
    connection.request(PING, "PingRequest", request_id=request_id)
    assert_ends(connection, "protocol")


@pytest.mark.parametrize("end", ["commit", "cancel"])
def test_after_an_early_refusal_and_its_end_the_id_can_be_used_again(connection, end):
    session, arrays = stored(connection, b"chat", SMALL, 100)
    request_id = session.begin(1, first=0)
    with refused("wrong_first"):
        connection.answer(request_id, "AppendReply")
    connection.send(frame(COMMIT, request_id)) if end == "commit" else connection.cancel(request_id)
    connection.request(PING, "PingRequest", request_id=request_id)
    connection.answer(request_id, "PingReply")


def test_after_an_early_refusal_other_requests_are_served(connection):
    session, arrays = stored(connection, b"chat", SMALL, 100)
    request_id = session.begin(1, first=0)
    with refused("wrong_first"):
        connection.answer(request_id, "AppendReply")
    assert_holds(session, arrays)
    append(session, bits(SMALL, 5))
    connection.send(frame(COMMIT, request_id))
    connection.ping()


def test_a_second_writer_is_refused_until_the_first_is_done(daemon, connection):
    session = connection.open(b"chat", geometry=SMALL, level=-2)
    arrays = bits(SMALL, 50)
    request_id = session.begin(50)
    connection.ping()  # then it has begun
    with Connection(daemon.socket) as other:
        second = other.open(b"chat", geometry=SMALL)
        refused_append(second, "busy")
        for piece in session.pieces(50):
            session.send_piece(request_id, packed(arrays), piece)
        session.commit(request_id)
        assert refused_append(second, "wrong_first").tokens == 50
    assert_holds(session, arrays)


def test_a_second_append_of_the_same_connection_is_refused_too(connection):
    session = connection.open(b"chat", geometry=SMALL)
    first = session.begin(50)
    refused_append(session, "busy")
    connection.cancel(first)
    with refused("cancelled"):
        connection.answer(first, "AppendReply")


def test_refused_appends_take_no_memory(connection):
    session, arrays = stored(connection, b"chat", SMALL, 100)
    used = connection.stats().used_bytes
    for _ in range(50):
        refused_append(session, "wrong_first", first=1)
    assert connection.stats().used_bytes == used
    assert_holds(session, arrays)


def test_a_delete_during_an_append_leaves_nothing(daemon, connection):
    session = connection.open(b"chat", geometry=SMALL)
    kv = packed(bits(SMALL, TOKENS))
    request_id = session.begin(TOKENS)
    pieces = list(session.pieces(TOKENS))
    for piece in pieces[:5]:
        session.send_piece(request_id, kv, piece)
    connection.ping()  # all of that was read
    with Connection(daemon.socket) as other:
        wait_until(lambda: other.info(b"chat").tokens == 0)
        other.delete(b"chat")
        for piece in pieces[5:]:
            session.send_piece(request_id, kv, piece)
        with refused("miss", "cancelled"):
            session.commit(request_id)
        with refused("miss"):
            other.info(b"chat")
        assert other.open(b"chat", geometry=SMALL).tokens == 0


def test_an_append_to_a_session_deleted_and_created_anew_does_not_reach_the_new_one(daemon, connection):
    session = connection.open(b"chat", geometry=SMALL)
    kv = packed(bits(SMALL, TOKENS))
    request_id = session.begin(TOKENS)
    pieces = list(session.pieces(TOKENS))
    for piece in pieces[:5]:
        session.send_piece(request_id, kv, piece)
    connection.ping()  # all of that was read
    with Connection(daemon.socket) as other:
        other.delete(b"chat")
        other.open(b"chat", geometry=SMALL)
        for piece in pieces[5:]:
            session.send_piece(request_id, kv, piece)
        with refused("miss", "cancelled"):
            session.commit(request_id)
        assert other.info(b"chat").tokens == 0
