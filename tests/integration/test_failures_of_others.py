"""What went wrong in other stores of KV caches, a regression test each.

A hit is what was accepted for that session and range, anything else is a miss: each of these broke it.
"""

import numpy
import pytest
from wire import DATA_CONTROL, EXACT, FETCH, OPEN_EXISTING, Connection, Refused
from wire_support import (LARGE, SMALL, append, assert_holds, bits, connection, packed, refused,  # noqa: F401
                          stored, wait_until)


def tokens_there(connection, name):
    return connection.info(name).tokens


def test_a_failed_store_is_not_visible_LMCache_4991(daemon, connection):
    """There a store that failed in the middle stayed visible, and later hits were gibberish."""
    session, arrays = stored(connection, b"chat", tokens=200)
    with Connection(daemon.socket) as dies:
        half = dies.open(b"chat", model=b"", mode=OPEN_EXISTING)
        request_id, pieces = half.begin(300), list(half.pieces(300))
        garbage = [[bytes(300 * SMALL.token_bytes(part))] * SMALL.layers for part in (0, 1)]
        for piece in pieces[:-1]:
            half.send_piece(request_id, garbage, piece)
        dies.ping()
    wait_until(lambda: connection.stats().connections == 1)
    assert tokens_there(connection, b"chat") == 200
    assert_holds(session, arrays)
    more = bits(SMALL, 300, 7)
    append(session, more)
    assert_holds(session, [numpy.concatenate(pair, axis=1) for pair in zip(arrays, more)])


def test_a_read_during_a_write_sees_what_was_before_it_LMCache_207(daemon, connection):
    session, arrays = stored(connection, b"chat", tokens=200)
    more = bits(SMALL, 100, 5)
    request_id = session.begin(100)
    with Connection(daemon.socket) as other:
        for piece in session.pieces(100):
            session.send_piece(request_id, packed(more), piece)
            connection_of_reader = other.open(b"chat", model=b"", mode=OPEN_EXISTING)
            assert_holds(connection_of_reader, arrays)
        session.commit(request_id)
        assert_holds(other.open(b"chat", model=b"", mode=OPEN_EXISTING),
                     [numpy.concatenate(pair, axis=1) for pair in zip(arrays, more)])


def test_what_is_listed_can_be_fetched_and_what_is_gone_is_not_listed_LMCache_426(connection):
    """There a body was evicted, and what told of it was not."""
    for number in range(6):
        stored(connection, b"chat %d" % number, tokens=150 + number)
    connection.delete(b"chat 1")
    connection.truncate(b"chat 2", 100)
    connection.fork(b"chat 3", b"chat 6", 130)
    connection.delete(b"chat 3")
    listed = {info.session: info.tokens_available for info in connection.list().sessions}
    assert listed == {b"chat 0": 150, b"chat 2": 100, b"chat 4": 154, b"chat 5": 155, b"chat 6": 130}
    for name, tokens in listed.items():
        session = connection.open(name, model=b"", mode=OPEN_EXISTING)
        assert session.fetch()[1].tokens == tokens
        with refused("miss"):
            session.fetch(end=tokens + 1)


@pytest.mark.parametrize("other", [{"model": b"other weights"}, {"geometry": LARGE}], ids=["weights", "shape"])
def test_a_name_is_one_models_a_key_without_the_engines_identity(connection, other):
    """Keys that left out whose they were gave one model's cache to another."""
    stored(connection, b"chat")
    with refused("model_mismatch"):
        connection.open(b"chat", **{"model": b"model", "geometry": SMALL, **other})


def test_a_fetch_that_names_its_model_gets_no_other_models_SGLang_24758(connection):
    """There pages were loaded again under different weights."""
    session, _ = stored(connection, b"chat")
    with refused("model_mismatch"):
        session.fetch(model=b"other weights")
    connection.delete(b"chat")
    connection.open(b"chat", model=b"other weights", geometry=SMALL, level=EXACT)
    with refused("model_mismatch"):
        session.fetch(model=b"model")


def test_a_read_does_not_outlive_what_it_reads_Mooncake_850(daemon, connection):
    """There a lease ended in the middle of a read, and the memory was another's by then."""
    session = connection.open(b"large", geometry=LARGE, level=EXACT)
    arrays = bits(LARGE, 256, 3)
    append(session, arrays, settle=True)
    connection.pin(b"large", 1)
    request_id, received = connection.request(FETCH, "FetchRequest", session=b"large"), []
    received.append(connection.receive())
    with Connection(daemon.socket) as other:
        other.delete(b"large")
        fill = other.open(b"fill", geometry=LARGE, level=EXACT)
        append(fill, bits(LARGE, 512, 4))
    with refused("miss"):
        while True:
            got = connection.receive()
            if got.type != received[0].type:
                raise Refused(got.control)
            assert got.request_id == request_id
            received.append(got)
    rows = {(layer, part): arrays[part][layer] for layer in range(LARGE.layers) for part in (0, 1)}
    for got in received:
        first, count, layer, part = DATA_CONTROL.unpack(got.control)
        assert got.payload == rows[layer, part][first:first + count].tobytes()


def test_what_exists_has_its_values_exists_but_null_1374(daemon, connection):
    """There a key existed, and get gave nothing for it."""
    connection.open(b"empty", geometry=SMALL, level=EXACT)
    with Connection(daemon.socket) as other:
        seen = other.open(b"empty", model=b"", mode=OPEN_EXISTING)
        assert seen.tokens == 0 and not seen.created
        with refused("miss"):
            seen.fetch(end=1)
    session, arrays = stored(connection, b"chat", tokens=129)
    assert session.tokens == tokens_there(connection, b"chat") == 129
    assert_holds(session, arrays)
