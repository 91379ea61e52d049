"""Token ids: what a match finds by them, and what sessions share that chose to."""

import itertools
import random
import struct
import threading
from types import SimpleNamespace

import numpy
import pytest
from wire import (COMMIT, DATA, EXACT, MATCH, OPEN_EXISTING, SHARING_BYTES, SHARING_IDS, TOKEN_IDS, Connection,
                  Geometry, data_frame, frame)
from wire_support import (SMALL, TINY, append, assert_holds, assert_serves, bits, connection,  # noqa: F401
                          gaussian_bits, packed, refused, wait_until)

PAGE = 128
MODEL = b"model"


def ids_of(tokens, seed=0):
    return random.Random(seed).choices(range(50_000), k=tokens)


def salt(first, tokens, text):
    return SimpleNamespace(first=first, tokens=tokens, salt=text)


def stored(connection, name, ids, arrays=None, geometry=SMALL, level=EXACT, settle=False, salts=(), **fields):
    """A session of these token ids; returns it and what it holds."""
    session = connection.open(name, geometry=geometry, level=level, **fields)
    arrays = bits(geometry, len(ids)) if arrays is None else arrays
    session.append(len(ids), packed(arrays), ids=ids, settle=settle, salts=salts)
    return session, arrays


def found(reply):
    return reply.session, reply.tokens


@pytest.mark.parametrize("step", [1, 7, PAGE, 1000])
def test_a_match_says_which_session_and_how_many_tokens(connection, step):
    ids = ids_of(300)
    session, _ = stored(connection, b"a", ids)
    reply = connection.match(MODEL, ids[:200] + [ids[200] + 1], step=step)
    assert found(reply) == (b"a", 200)
    assert (reply.version, reply.session_tokens, reply.level) == (session.version, 300, EXACT)


def test_without_a_match_nothing_is_named(connection):
    stored(connection, b"a", ids_of(300))
    reply = connection.match(MODEL, ids_of(300, seed=1))
    assert found(reply) == (b"", 0)
    assert found(connection.match(MODEL, [])) == (b"", 0)


def test_a_fork_from_a_match_goes_on_there_and_takes_no_pages(connection):
    ids = ids_of(400)
    _, arrays = stored(connection, b"a", ids[:300])
    reply = connection.match(MODEL, ids[:256] + ids_of(10, seed=1))
    pages = connection.stats().memory.pages_bytes
    connection.fork(reply.session, b"b", reply.tokens, if_version=reply.version)
    fork = connection.open(b"b", model=b"", mode=OPEN_EXISTING)
    assert connection.stats().memory.pages_bytes == pages
    assert_holds(fork, tuple(array[:, :256] for array in arrays))
    assert connection.info(b"b").token_ids_tokens == 256


@pytest.mark.parametrize("other", ["model", "geometry", "salt"])
def test_another_model_geometry_or_salt_does_not_match(connection, other):
    ids = ids_of(200)
    stored(connection, b"a", ids, salts=[salt(10, 20, b"cat")])
    same = {"model": MODEL, "geometry": SMALL, "salts": [salt(10, 20, b"cat")]}
    assert found(connection.match(ids=ids, **same)) == (b"a", 200)
    different = {"model": b"model2", "geometry": Geometry(2, 3, 16, 32), "salts": [salt(10, 20, b"dog")]}
    reply = connection.match(ids=ids, **{**same, other if other != "salt" else "salts":
                                         different[other if other != "salt" else "salts"]})
    assert found(reply) == ((b"a", 10) if other == "salt" else (b"", 0))


def test_ids_may_come_before_after_and_between_the_values(connection):
    ids, arrays = ids_of(300), bits(SMALL, 300)
    session = connection.open(b"a", geometry=SMALL, level=EXACT)
    request_id = session.begin(300, token_ids=True)
    parts = iter([ids[:1], ids[1:200], ids[200:]])
    at = 0
    for index, piece in enumerate(session.pieces(300)):
        if index in (0, 3):
            part = next(parts)
            connection.send_ids(request_id, part, at)
            at += len(part)
        session.send_piece(request_id, packed(arrays), piece)
    connection.send_ids(request_id, next(parts), at)
    session.commit(request_id)
    assert found(connection.match(MODEL, ids)) == (b"a", 300)
    assert_holds(session, arrays)


def test_ids_follow_the_session_through_its_life(connection):
    ids = ids_of(400)
    session, _ = stored(connection, b"a", ids[:300])
    session.truncate(200)
    assert connection.info(b"a").token_ids_tokens == 200
    session.append(200, packed(bits(SMALL, 200, 1)), ids=ids[200:400])
    assert found(connection.match(MODEL, ids)) == (b"a", 400)
    append(session, bits(SMALL, 5, 2))
    assert (connection.info(b"a").tokens, connection.info(b"a").token_ids_tokens) == (405, 400)
    connection.delete(b"a")
    assert found(connection.match(MODEL, ids)) == (b"", 0)
    wait_until(lambda: connection.stats().sharing.token_ids_bytes == 0)


@pytest.mark.parametrize("first, count, layer, payload_bytes",
                         [(1, 5, 0, 20), (0, 11, 0, 44), (0, 5, 1, 20), (0, 5, 0, 16), (0, 5, 0, 21), (0, 0, 0, 0),
                          (2**64 - 1, 5, 0, 20), (0, 2**32 - 1, 0, 20)])
@pytest.mark.parametrize("operation", ["append", "match"])
def test_token_ids_that_cannot_be_are_refused(connection, operation, first, count, layer, payload_bytes):
    session = connection.open(b"a", geometry=SMALL)
    if operation == "append":
        request_id, reply = session.begin(10, token_ids=True), "AppendReply"
    else:
        request_id, reply = connection.request(MATCH, "MatchRequest", model=MODEL, tokens=10), "MatchReply"
    connection.send(data_frame(request_id, first, count, layer, TOKEN_IDS, bytes(payload_bytes)))
    connection.send(frame(COMMIT, request_id))
    with refused("invalid"):
        connection.answer(request_id, reply)
    connection.ping()


@pytest.mark.parametrize("operation", ["append", "match"])
def test_commit_before_all_ids_came_is_incomplete(connection, operation):
    session = connection.open(b"a", geometry=SMALL)
    if operation == "append":
        request_id = session.begin(10, token_ids=True)
        for piece in session.pieces(10):
            session.send_piece(request_id, packed(bits(SMALL, 10)), piece)
    else:
        request_id = connection.request(MATCH, "MatchRequest", model=MODEL, tokens=10)
    connection.send_ids(request_id, ids_of(9))
    connection.send(frame(COMMIT, request_id))
    with refused("incomplete"):
        connection.answer(request_id, "MatchReply")
    assert connection.info(b"a").tokens == 0


def test_token_ids_of_an_append_that_has_none_are_refused(connection):
    session = connection.open(b"a", geometry=SMALL)
    request_id = session.begin(10)
    connection.send_ids(request_id, ids_of(10))
    connection.send(frame(COMMIT, request_id))
    with refused("invalid"):
        connection.answer(request_id, "AppendReply")


@pytest.mark.parametrize("salts", [[salt(5, 0, b"x")], [salt(9, 2, b"x")], [salt(5, 2, b"x" * 65)],
                                   [salt(5, 3, b"x"), salt(7, 1, b"y")], [salt(5, 2, b"x"), salt(1, 2, b"y")],
                                   [salt(2**64 - 1, 1, b"x")], [salt(1, 2**64 - 1, b"x")]])
@pytest.mark.parametrize("operation", ["append", "match"])
def test_salts_that_cannot_be_are_refused(connection, operation, salts):
    session = connection.open(b"a", geometry=SMALL)
    if operation == "append":
        request_id = session.begin(10, token_ids=True, salts=salts)
    else:
        request_id = connection.request(MATCH, "MatchRequest", model=MODEL, tokens=10, salts=salts)
    connection.send(frame(COMMIT, request_id))
    with refused("invalid"):
        connection.answer(request_id, "MatchReply")


def test_salts_without_ids_more_than_fit_and_too_many_tokens_are_refused(connection):
    session = connection.open(b"a", geometry=SMALL)
    request_id = session.begin(10, salts=[salt(0, 1, b"x")])
    connection.send(frame(COMMIT, request_id))
    with refused("invalid"):
        connection.answer(request_id, "AppendReply")
    request_id = connection.request(MATCH, "MatchRequest", model=MODEL, tokens=5000,
                                    salts=[salt(i, 1, b"x") for i in range(1025)])
    connection.send(frame(COMMIT, request_id))
    with refused("too_large"):
        connection.answer(request_id, "MatchReply")
    for tokens in (2**20 + 1, 2**63, 2**64 - 1):
        request_id = connection.request(MATCH, "MatchRequest", model=MODEL, tokens=tokens)
        connection.send(frame(COMMIT, request_id))
        with refused("too_large"):
            connection.answer(request_id, "MatchReply")


def test_a_match_that_is_cancelled_or_cut_off_leaves_nothing(daemon, connection):
    used = connection.stats().used_bytes
    request_id = connection.request(MATCH, "MatchRequest", model=MODEL, tokens=100_000)
    connection.send_ids(request_id, ids_of(1000))
    connection.send(frame(10, request_id))
    with refused("cancelled"):
        connection.answer(request_id, "MatchReply")
    with Connection(daemon.socket) as other:
        other.request(MATCH, "MatchRequest", model=MODEL, tokens=100_000)
        other.ping()
    wait_until(lambda: connection.stats().used_bytes <= used)


def test_a_million_tokens_are_matched(connection):
    ids = list(range(2**20))
    stored(connection, b"a", ids[:2000], bits(TINY, 2000), geometry=TINY)
    assert found(connection.match(MODEL, ids)) == (b"a", 2000)


@pytest.mark.parametrize("level", [EXACT, -1, 2])
def test_the_same_prefix_appended_twice_is_stored_once(connection, level):
    ids = ids_of(512)
    arrays = gaussian_bits(SMALL, 512)
    stored(connection, b"a", ids, arrays, level=level, settle=True, sharing=SHARING_IDS)
    pages = connection.stats().memory.pages_bytes
    second, _ = stored(connection, b"b", ids, arrays, level=level, settle=True, sharing=SHARING_IDS)
    stats = connection.stats()
    assert stats.memory.pages_bytes == pages
    assert (stats.sharing.chunks, stats.sharing.bytes) == (4, pages)
    info = connection.info(b"b")
    assert info.sharing == SHARING_IDS
    assert info.unique_bytes < info.stored_bytes - pages + 1
    kept, _ = second.fetch()
    connection.delete(b"a")
    assert second.fetch()[0] == kept


@pytest.mark.parametrize("sharing", [SHARING_IDS, SHARING_BYTES])
def test_exact_values_are_given_back_as_they_came_whoever_shares(connection, sharing):
    ids, one, other = ids_of(256), bits(SMALL, 256), bits(SMALL, 256, seed=1)
    sessions = [stored(connection, b"a", ids, one, sharing=sharing, settle=True),
                stored(connection, b"b", ids, other, sharing=sharing, settle=True),
                stored(connection, b"c", ids, one, sharing=sharing, settle=True)]
    assert connection.stats().sharing.chunks == 2
    for session, arrays in sessions:
        assert_holds(session, arrays)


def test_sharing_that_is_none_is_refused(connection):
    with refused("invalid"):
        connection.open(b"a", geometry=SMALL, sharing=3)


def test_two_connections_that_append_the_same_at_once_store_it_once(daemon, connection):
    ids, arrays = ids_of(PAGE * 6), bits(SMALL, PAGE * 6)

    def run(name):
        with Connection(daemon.socket) as own:
            for turn in range(5):
                session, _ = stored(own, b"%s%d" % (name, turn), ids, arrays, sharing=SHARING_IDS, settle=True)
                assert_holds(session, arrays)

    threads = [threading.Thread(target=run, args=(name,)) for name in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    one = connection.info(b"a0")
    wait_until(lambda: connection.stats().memory.pages_bytes <= one.stored_bytes)
    for name in connection.list().sessions:
        assert_holds(connection.open(name.session, model=b"", mode=OPEN_EXISTING), arrays)


def test_random_lives_match_as_a_plain_list_of_them_would(connection):
    """Sessions grow, are cut, forked and deleted; a match is at least as long as what a search over all
    of them finds, and never longer."""
    chance = random.Random(1)
    texts, names = {}, itertools.count()

    def common(a, b):
        return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))

    for _ in range(300):
        action = chance.choice(["new", "append", "append", "truncate", "fork", "delete", "match", "match"])
        name = chance.choice(sorted(texts)) if texts else None
        if action == "new" or name is None:
            name = b"s%d" % next(names)
            connection.open(name, geometry=TINY)
            texts[name] = []
        elif action == "append":
            session = connection.open(name, geometry=TINY)
            new = [int(chance.random() < 0.05) for _ in range(chance.randrange(1, 200))]
            session.append(len(new), packed(bits(TINY, len(new))), ids=new)
            texts[name] = texts[name] + new
        elif action == "truncate":
            tokens = chance.randrange(len(texts[name]) + 1)
            connection.truncate(name, tokens)
            texts[name] = texts[name][:tokens]
        elif action == "fork" and texts[name]:
            tokens = chance.randrange(1, len(texts[name]) + 1)
            target = b"s%d" % next(names)
            connection.fork(name, target, tokens)
            texts[target] = texts[name][:tokens]
        elif action == "delete" and len(texts) > 5:
            connection.delete(name)
            del texts[name]
        query = [int(chance.random() < 0.05) for _ in range(300)]
        base = texts[chance.choice(sorted(texts))]
        query = base[:chance.randrange(len(base) + 1)] + query
        reply = connection.match(MODEL, query)
        assert reply.tokens == max(common(query, text) for text in texts.values())
        assert reply.tokens == 0 or common(query, texts[reply.session]) == reply.tokens
    for name in texts:
        connection.delete(name)
    assert connection.stats().sharing.token_ids_bytes == 0


def test_a_malformed_match_harms_nobody(daemon, connection):
    chance = random.Random(2)
    stored(connection, b"a", ids_of(300))
    for _ in range(100):
        with Connection(daemon.socket) as other:
            request_id = other.request(MATCH, "MatchRequest", model=MODEL, tokens=chance.choice([0, 1, 300, 2**20]))
            for _ in range(chance.randrange(4)):
                count = chance.choice([0, 1, 5, 300, 2**32 - 1])
                control = struct.pack("<QIIB7x", chance.choice([0, 1, 300, 2**64 - 1]), count,
                                      chance.choice([0, 0, 0, 7]), chance.choice([0, 1, 2, 2, 2]))
                other.send(frame(DATA, request_id, control, bytes(4 * min(count, 300) + chance.choice([0, 0, 1]))))
            other.send(frame(COMMIT, request_id))
            other.receive()
    assert_serves(daemon)
    assert found(connection.match(MODEL, ids_of(300))) == (b"a", 300)


def test_statistics_count_matches_and_hits(connection):
    ids = ids_of(10)
    stored(connection, b"a", ids)
    connection.match(MODEL, ids)
    connection.match(MODEL, ids_of(10, seed=1))
    sharing = connection.stats().sharing
    assert (sharing.matches, sharing.match_hits, sharing.matched_tokens) == (2, 1, 10)
    assert sharing.token_ids_bytes >= 40
    assert numpy.isclose(connection.stats().unique_bytes, connection.info(b"a").unique_bytes, rtol=0.5)
