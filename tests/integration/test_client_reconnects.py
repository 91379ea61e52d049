"""A client whose connection is gone connects anew by itself, and repeats what can do no harm."""

import threading
import time

import numpy as np
import pytest
import wire
from fake_daemon import PATIENCE_SECONDS, play  # noqa: F401
from kvquantd._kvq import ffi, lib
from library import Library
from wire import DATA, HEADER, REPLY, data_frame, encode, frame

LAYERS, HEADS, DIM, PAGE, TOKENS = 2, 2, 4, 4, 8
GEOMETRY = wire.Geometry(LAYERS, HEADS, DIM, DIM)
SESSION = dict(version=1, tokens=TOKENS, tail_tokens=0, page_tokens=PAGE, level=-2, geometry=GEOMETRY, model=b"m")
SHAPE = dict(layers=LAYERS, heads=HEADS, head_dim_k=DIM, head_dim_v=DIM, dtype=lib.KVQ_F16)
MANY_TOKENS = 1 << 17  # more than a socket's buffers hold
BLOCK = np.zeros(LAYERS * MANY_TOKENS * HEADS * DIM, np.uint16)


def state():
    state = ffi.new("struct kvq_session_state *")
    state.session, state.model = b"s", b"m"
    state.geometry, state.page_tokens, state.tokens = SHAPE, PAGE, TOKENS
    state.append_tokens_max = 1 << 20
    return state


def append(library, tokens=PAGE):
    block = dict(block=ffi.from_buffer(BLOCK))
    return library.call("kvq_append", state(), library.options(
        "kvq_append_options", first=TOKENS, tokens=tokens, k=block, v=block))


def fetch(library):
    target = [np.zeros(LAYERS * TOKENS * HEADS * DIM, np.uint16) for _ in range(2)]
    k, v = (dict(block=ffi.cast("void *", ffi.from_buffer(one))) for one in target)
    error = library.call("kvq_fetch", state(), library.options("kvq_fetch_options", k=k, v=v), ffi.NULL)
    assert error != "ok" or all((one == 5).all() for one in target)
    return error


IDS = ffi.new("uint32_t[]", [7, 8])
MODEL = ffi.new("char[]", b"m")


def match(library):
    found = ffi.new("struct kvq_match *")
    error = library.call("kvq_match", library.options(
        "kvq_match_options", model=MODEL, token_ids=IDS, tokens=2), found)
    assert error != "ok" or (ffi.string(found.session), found.tokens) == (b"s", 1)
    return error


def with_options(function, kind, out, **values):
    def call(library):
        texts = {name: ffi.new("char[]", text) if isinstance(text, bytes) else text for name, text in values.items()}
        first = (state(),) if function == "kvq_fork" else ()
        return library.call(function, *first, library.options(kind, **texts), ffi.new(out))
    return call


def data_frames(request_id):
    payload = np.full(PAGE * HEADS * DIM, 5, np.uint16).tobytes()
    return [data_frame(request_id, first, PAGE, layer, part, payload)
            for first in range(0, TOKENS, PAGE) for layer in range(LAYERS) for part in (0, 1)]


REPLIES = {
    wire.PING: ("PingReply", {}), wire.OPEN: ("OpenReply", SESSION), wire.DELETE: ("DeleteReply", {}),
    wire.INFO: ("SessionInfo", dict(session=b"s", tokens_available=TOKENS, id=1, **SESSION)),
    wire.LIST: ("ListReply", {}), wire.STATS: ("StatsReply", {}), wire.FORK: ("ForkReply", {}),
    wire.TRUNCATE: ("TruncateReply", {}), wire.AGE: ("AgeReply", {}), wire.PIN: ("PinReply", {}),
    wire.POLICY: ("PolicyReply", {}), wire.MATCH: ("MatchReply", dict(tokens=1, session=b"s")),
    wire.CONTROL: ("ControlReply", {}),
    wire.DELETE_MANY: ("DeleteManyReply", {}), wire.FETCH: ("FetchReply", dict(version=1, tokens=TOKENS)),
    wire.COMMIT: ("AppendReply", dict(version=2, tokens=TOKENS + PAGE)),
}

SAFE = {
    "ping": Library.ping,
    "open or create": lambda library: library.open("s", SHAPE)[0],
    "open existing": lambda library: library.open("s", SHAPE, mode=1)[0],
    "find": lambda library: library.find("s")[0],
    "info": lambda library: library.call("kvq_info", b"s", ffi.new("struct kvq_session_info *")),
    "list": lambda library: library.call("kvq_list", 0, 0, ffi.new("struct kvq_session_list *")),
    "stats": lambda library: library.call("kvq_stats", ffi.new("struct kvq_stats *")),
    "fetch": fetch,
    "age": lambda library: library.call("kvq_age", b"s", 3, False, ffi.NULL),
    "pin": lambda library: library.call("kvq_pin", b"s", 1000),
    "policy": lambda library: library.call("kvq_policy", b"s", ffi.NULL, ffi.new("struct kvq_policy *")),
    "match": match,
    "delete many, counting only": with_options(
        "kvq_delete_many", "kvq_delete_many_options", "struct kvq_deleted *", prefix=b"a", dry_run=True),
}
UNSAFE = {
    "open new": lambda library: library.open("s", SHAPE, mode=2)[0],
    "delete": lambda library: library.call("kvq_delete", b"s", ffi.NULL),
    "delete many": with_options(
        "kvq_delete_many", "kvq_delete_many_options", "struct kvq_deleted *", prefix=b"a"),
    "fork": with_options("kvq_fork", "kvq_fork_options", "struct kvq_session_state *", target=b"t"),
    "truncate": lambda library: library.call("kvq_truncate", state(), 4),
    "append": append,
}


def request_of(peer):
    """The next request, an append's once its COMMIT has come."""
    kind, request_id, _, _ = peer.receive()
    first = kind
    while kind in (wire.APPEND, wire.MATCH, DATA):
        kind, request_id, _, _ = peer.receive()
    return wire.MATCH if first == wire.MATCH else kind, request_id


def answer_of(kind, request_id):
    message, values = REPLIES[kind]
    frames = data_frames(request_id) if kind == wire.FETCH else []
    return b"".join(frames) + frame(REPLY, request_id, encode(message, **values))


def serve(peer, requests=None):
    peer.greet()
    while True:
        kind, request_id = request_of(peer)
        if requests is not None:
            requests.append(kind)
        peer.send(answer_of(kind, request_id))


def hangs_up(hung_up, requests=0):
    """A daemon that dies after so many frames, whether or not it is asked; hung_up is set then."""
    def script(peer):
        peer.greet()
        for _ in range(requests):
            peer.receive()
        peer.connection.close()
        hung_up.set()
    return script


def breaks(where):
    """A daemon that dies after a request, or after so many bytes of the answer."""
    def script(peer):
        peer.greet()
        kind, request_id = request_of(peer)
        if where != "asked":
            peer.send(answer_of(kind, request_id)[:where])
    return script


@pytest.fixture
def hung_up():
    return threading.Event()


@pytest.mark.parametrize("non_blocking", [False, True])
@pytest.mark.parametrize("where", ["idle", "asked", 1, HEADER.size - 1])
@pytest.mark.parametrize("name", SAFE)
def test_what_does_no_harm_twice_is_repeated_once(play, hung_up, name, where, non_blocking):
    requests = []
    first = hangs_up(hung_up) if where == "idle" else breaks(where)
    path = play(first, lambda peer: serve(peer, requests))
    with Library(path, non_blocking) as library:
        assert library.connected == "ok"
        assert where != "idle" or hung_up.wait(PATIENCE_SECONDS)
        assert SAFE[name](library) == "ok"
        assert len(requests) == 1
        assert library.ping() == "ok"


@pytest.mark.parametrize("where", range(0, len(answer_of(wire.FETCH, 2)), 31))
def test_a_fetch_is_repeated_wherever_it_breaks(play, where):
    with Library(play(breaks(where), serve)) as library:
        assert fetch(library) == "ok"


@pytest.mark.parametrize("where", ["asked", 1, HEADER.size - 1])
@pytest.mark.parametrize("name", UNSAFE)
def test_what_may_have_been_done_is_not_repeated(play, name, where):
    requests = []
    with Library(play(breaks(where), lambda peer: serve(peer, requests))) as library:
        assert UNSAFE[name](library) == "connection_lost"
        assert requests == [] and not lib.kvq_client_connected(library.client)
        assert library.ping() == "ok" and requests == [wire.PING]


@pytest.mark.parametrize("non_blocking", [False, True])
@pytest.mark.parametrize("name", [*SAFE, *UNSAFE])
def test_what_was_not_sent_goes_to_the_new_connection(play, hung_up, name, non_blocking):
    with Library(play(hangs_up(hung_up), serve), non_blocking) as library:
        assert hung_up.wait(PATIENCE_SECONDS)
        assert {**SAFE, **UNSAFE}[name](library) == "ok"


@pytest.mark.parametrize("name", [*SAFE, *UNSAFE])
def test_two_lost_connections_are_the_callers(play, name):
    with Library(play(breaks("asked"), breaks("asked"), serve)) as library:
        assert {**SAFE, **UNSAFE}[name](library) == "connection_lost"


@pytest.mark.parametrize("frames", [1, 2, 1000])
@pytest.mark.parametrize("non_blocking", [False, True])
def test_an_append_that_breaks_before_its_commit_is_repeated(play, frames, non_blocking):
    commits = []

    def first(peer):
        peer.greet()
        for _ in range(frames):
            assert peer.receive()[0] != wire.COMMIT

    with Library(play(first, lambda peer: serve(peer, commits)), non_blocking) as library:
        assert append(library, MANY_TOKENS) == "ok"
        assert commits == [wire.COMMIT]


def test_an_append_in_parts_begins_on_a_new_connection(play, hung_up):
    commits = []
    with Library(play(hangs_up(hung_up), lambda peer: serve(peer, commits))) as library:
        assert hung_up.wait(PATIENCE_SECONDS)
        held = state()
        assert library.call("kvq_append_begin", held, library.options(
            "kvq_append_options", first=TOKENS, tokens=PAGE)) == "ok"
        assert library.call("kvq_append_part", 0, lib.KVQ_K, ffi.from_buffer(BLOCK), 0, 0) == "ok"
        assert library.call("kvq_append_commit") == "ok" and commits == [wire.COMMIT]


def test_an_append_in_parts_is_lost_once(play, hung_up):
    with Library(play(hangs_up(hung_up, requests=1), serve)) as library:
        options = library.options("kvq_append_options", first=TOKENS, tokens=PAGE)
        held = state()
        assert library.call("kvq_append_begin", held, options) == "ok"
        assert hung_up.wait(PATIENCE_SECONDS)
        part = ("kvq_append_part", 0, lib.KVQ_K, ffi.from_buffer(BLOCK), 0, 0)
        assert library.call(*part) == "connection_lost"
        assert library.call(*part) == "argument"
        assert library.ping() == "ok"


def test_a_commit_that_finds_the_connection_lost_is_not_repeated(play):
    with Library(play(breaks("asked"), serve)) as library:
        held = state()
        assert library.call("kvq_append_begin", held, library.options(
            "kvq_append_options", first=TOKENS, tokens=PAGE)) == "ok"
        for layer in range(LAYERS):
            for part in (0, 1):
                assert library.call("kvq_append_part", layer, part, ffi.from_buffer(BLOCK), 0, 0) == "ok"
        assert library.call("kvq_append_commit") == "connection_lost"
        assert held.tokens == TOKENS and library.ping() == "ok"


def test_without_reconnecting_a_lost_connection_stays_lost(play):
    with Library(play(breaks("asked"), serve), no_reconnect=True) as library:
        for _ in range(3):
            assert library.ping() == "connection_lost"
        assert "connect anew" in library.message


def test_where_nobody_listens_any_more_the_connection_is_lost(play):
    with Library(play(breaks("asked"))) as library:
        for _ in range(2):
            assert library.ping() == "connection_lost"
        assert "is kvquantd running?" in library.message


@pytest.mark.parametrize("second", [lambda peer: peer.until_closed(), lambda peer: (peer.greet(), peer.until_closed())])
def test_repeating_takes_no_more_time_than_the_call_has(play, second):
    with Library(play(breaks("asked"), second), deadline_ms=400) as library:
        start = time.monotonic()
        assert library.ping() == "deadline"
        assert 0.3 < time.monotonic() - start < PATIENCE_SECONDS / 2


def test_a_daemon_that_was_started_anew_is_found(start_daemon, tmp_path):
    first = start_daemon(folder=tmp_path / "daemon")
    with Library(first.socket) as library:
        assert library.open("s", SHAPE)[0] == "ok"
        first.stop()
        start_daemon(folder=tmp_path / "daemon")
        assert library.call("kvq_delete", b"s", ffi.NULL) == "miss"
