"""Cancelled calls and fetches with little time: memory is free at once, and the connection serves on."""

import threading
import time

import numpy as np
import pytest
import wire
from fake_daemon import HELLO, PATIENCE_SECONDS, play  # noqa: F401
from kvquantd._kvq import ffi, lib
from library import Library
from test_client_reconnects import (BLOCK, MANY_TOKENS, SAFE, TOKENS, UNSAFE, answer_of, data_frames,
                                    request_of, state)

LAYERS, HEADS, DIM = 2, 2, 4
UNTOUCHED = 7


class Fetch:
    """A fetch into arrays that tell what was written to them."""

    def __init__(self, library, of=None, **options):
        self.arrays = [np.full(LAYERS * TOKENS * HEADS * DIM, UNTOUCHED, np.uint16) for _ in range(2)]
        self.held = [ffi.from_buffer(one) for one in self.arrays]
        k, v = (dict(block=ffi.cast("void *", one)) for one in self.held)
        self.options = library.options("kvq_fetch_options", k=k, v=v, **options)
        self.start = time.monotonic()
        self.code = lib.kvq_fetch(library.client, of or state(), self.options, ffi.NULL)

    def free(self):
        """From here on the memory is the test's own."""
        for one in self.arrays:
            one[:] = UNTOUCHED

    def is_untouched(self):
        return all((one == UNTOUCHED).all() for one in self.arrays)


def stalls(cut, told=None):
    """Sends so many bytes of a fetch's frames, and the rest once the CANCEL has come; then serves."""
    def script(peer):
        peer.greet()
        kind, request_id, control, _ = peer.receive()
        if told is not None:
            told.append(wire.decode("FetchRequest", control).within_ms)
        answer = b"".join(data_frames(request_id))
        peer.send(answer[:cut])
        assert peer.receive()[:2] == (wire.CANCEL, request_id)
        peer.send(answer[cut:])
        peer.error(request_id, "cancelled")
        while True:
            peer.send(answer_of(*request_of(peer)))
    return script


FRAME = len(data_frames(1)[0])
CUTS = [0, 1, 23, 24, 47, 48, 60, FRAME - 1, FRAME, FRAME + 30, 3 * FRAME + 55, 8 * FRAME]


@pytest.mark.parametrize("non_blocking", [False, True])
@pytest.mark.parametrize("cut", CUTS)
def test_a_fetch_that_takes_too_long_is_a_miss_in_time(play, cut, non_blocking):
    told = []
    with Library(play(stalls(cut, told)), non_blocking) as library:
        fetch = Fetch(library, within_ms=150)
        assert library.finish(fetch.code) == lib.KVQ_MISS
        assert 0.14 < time.monotonic() - fetch.start < PATIENCE_SECONDS / 2
        fetch.free()
        assert library.ping() == "ok"
        assert fetch.is_untouched()
        assert 0 < told[0] <= 150


def test_a_fetch_that_is_in_time_is_a_hit(daemon):
    with Library(daemon.socket) as library:
        held = library.open("s", dict(layers=LAYERS, heads=HEADS, head_dim_k=DIM, head_dim_v=DIM, dtype=lib.KVQ_F16))[1]
        block = dict(block=ffi.from_buffer(BLOCK))
        given = library.options("kvq_append_options", first=0, tokens=TOKENS, k=block, v=block)
        assert library.call("kvq_append", held, given) == "ok"
        assert library.finish(Fetch(library, held, within_ms=60000).code) == 0


def test_a_fetch_cannot_outlast_its_time_while_values_go_on_coming(play):
    def script(peer):
        peer.greet()
        _, request_id, _, _ = peer.receive()
        for frame in data_frames(request_id):
            for byte in frame:
                peer.send(bytes([byte]))
                time.sleep(PATIENCE_SECONDS / sum(map(len, data_frames(1))))

    with Library(play(script)) as library:
        fetch = Fetch(library, within_ms=300)
        assert library.finish(fetch.code) == lib.KVQ_MISS
        assert 0.29 < time.monotonic() - fetch.start < PATIENCE_SECONDS / 2


def test_many_misses_leave_one_connection(play):
    def script(peer):
        peer.greet()
        late = []
        for _ in range(5):
            late.append(peer.receive()[1])
            assert peer.receive()[0] == wire.CANCEL
        kind, request_id, _, _ = peer.receive()
        for one in reversed(late):
            peer.send(data_frames(one)[0])
        for one in late:
            peer.error(one, "cancelled")
        peer.send(answer_of(kind, request_id))

    with Library(play(script)) as library:
        for _ in range(5):
            assert library.finish(Fetch(library, within_ms=20).code) == lib.KVQ_MISS
        assert library.ping() == "ok"


@pytest.mark.parametrize("cut", CUTS)
def test_a_cancelled_fetch_leaves_memory_alone(play, cut):
    with Library(play(stalls(cut)), non_blocking=True) as library:
        fetch = Fetch(library)
        end = time.monotonic() + 0.1
        while time.monotonic() < end:
            assert fetch.code == lib.KVQ_AGAIN
            library.wait_once(0.02)
            fetch.code = lib.kvq_step(library.client)
        assert lib.kvq_cancel(library.client) == lib.KVQ_CANCELLED
        fetch.free()
        assert library.ping() == "ok" and fetch.is_untouched()


def test_a_fetch_cancelled_by_its_progress_returns_at_once(play):
    asked = []
    stop = ffi.callback("bool(void *, uint64_t)", lambda _, received: bool(asked.append(received)))
    with Library(play(stalls(2 * FRAME))) as library:
        fetch = Fetch(library, progress=stop)
        assert library.finish(fetch.code) == lib.KVQ_CANCELLED
        fetch.free()
        assert len(asked) == 1 and library.ping() == "ok" and fetch.is_untouched()


def begins(name):
    """Starts a call and leaves it: the library's own finish() is not reached."""
    class Left(Exception):
        pass

    def start(library):
        def leave(code):
            assert code == lib.KVQ_AGAIN
            raise Left
        finish, library.finish = library.finish, leave
        with pytest.raises(Left):
            {**SAFE, **UNSAFE}[name](library)
        library.finish = finish
    return start


@pytest.mark.parametrize("name", [*SAFE, *UNSAFE])
def test_any_call_can_be_cancelled(play, name):
    """Its late answer, or the error that the CANCEL asks for, is nothing to the next call."""
    def script(peer):
        peer.greet()
        kind, request_id = request_of(peer)
        assert peer.receive()[:2] == (wire.CANCEL, request_id)
        if name in SAFE:
            peer.send(answer_of(kind, request_id))
        else:
            peer.error(request_id, "cancelled")
        while True:
            peer.send(answer_of(*request_of(peer)))

    with Library(play(script), non_blocking=True) as library:
        begins(name)(library)
        assert lib.kvq_cancel(library.client) == lib.KVQ_CANCELLED
        assert lib.kvq_cancel(library.client) == 0
        assert library.ping() == "ok"


def test_an_append_cancelled_in_the_middle_of_a_frame_ends_that_frame(play):
    """Of its values nothing is read any more; the daemon sees whole frames and a CANCEL."""
    cancelled, seen = threading.Event(), []

    def script(peer):
        peer.greet()
        cancelled.wait(PATIENCE_SECONDS)
        while not seen or seen[-1] != wire.CANCEL:
            kind, request_id, _, _ = peer.receive()
            seen.append(kind)
        peer.error(request_id, "cancelled")
        while True:
            peer.send(answer_of(*request_of(peer)))

    with Library(play(script), non_blocking=True) as library:
        values = np.zeros(len(BLOCK), np.uint16)
        block = dict(block=ffi.from_buffer(values))
        held = state()
        code = lib.kvq_append(library.client, held, library.options(
            "kvq_append_options", first=TOKENS, tokens=MANY_TOKENS, k=block, v=block))
        for _ in range(50):
            assert code == lib.KVQ_AGAIN
            code = lib.kvq_step(library.client)
        assert lib.kvq_cancel(library.client) == lib.KVQ_CANCELLED
        del values, block
        cancelled.set()
        assert library.ping() == "ok"
    assert wire.COMMIT not in seen and wire.APPEND == seen[0] and held.tokens == TOKENS


def test_a_cancelled_connect_is_no_connection(play):
    path = ffi.new("char[]", play(lambda peer: peer.until_closed()).encode())
    options = ffi.new("struct kvq_connect_options *", dict(non_blocking=True, socket=path))
    options.size = ffi.sizeof(options[0])
    opened = ffi.new("struct kvq_client **")
    assert lib.kvq_connect(options, opened) == lib.KVQ_AGAIN
    assert lib.kvq_cancel(opened[0]) == lib.KVQ_CANCELLED
    assert not lib.kvq_client_connected(opened[0])
    lib.kvq_close(opened[0])


def test_more_cancelled_calls_than_can_be_told_apart_cost_the_connection_only(play):
    def silent(peer):
        peer.greet()
        peer.until_closed()

    def serve(peer):
        peer.greet()
        while True:
            peer.send(answer_of(*request_of(peer)))

    with Library(play(silent, serve), non_blocking=True) as library:
        for _ in range(17):
            assert lib.kvq_ping(library.client) == lib.KVQ_AGAIN
            assert lib.kvq_cancel(library.client) == lib.KVQ_CANCELLED
        assert library.ping() == "ok"


def test_appends_are_cancelled_against_the_daemon_too(daemon):
    with Library(daemon.socket, non_blocking=True) as library:
        held = library.open("s", dict(layers=LAYERS, heads=HEADS, head_dim_k=DIM, head_dim_v=DIM, dtype=lib.KVQ_F16))[1]
        block = dict(block=ffi.from_buffer(BLOCK))
        given = library.options("kvq_append_options", first=0, tokens=MANY_TOKENS, k=block, v=block)
        for steps in range(0, 40, 3):
            code = lib.kvq_append(library.client, held, given)
            for _ in range(steps):
                code = lib.kvq_step(library.client) if code == lib.KVQ_AGAIN else code
            if code != lib.KVQ_AGAIN:
                break
            assert lib.kvq_cancel(library.client) == lib.KVQ_CANCELLED
            error, found = library.find("s")
            assert (error, found.tokens) == ("ok", 0)


def test_a_deadline_that_is_set_later_is_that_of_the_calls_after_it(play):
    def script(peer):
        peer.greet()
        peer.answer("PingReply")
        peer.until_closed()

    with Library(play(script)) as library:
        lib.kvq_set_deadline(library.client, PATIENCE_SECONDS * 1000)
        assert library.ping() == "ok"
        lib.kvq_set_deadline(library.client, 100)
        assert library.ping() == "deadline"


@pytest.mark.parametrize("deadline_ms, wait_ms, told", [
    (PATIENCE_SECONDS * 1000, 0, range(1, PATIENCE_SECONDS * 500 + 1)),
    (PATIENCE_SECONDS * 1000, 70, range(70, 71)),
    (3 * PATIENCE_SECONDS * 1000, 0, range(0, 1)),
    (-1, 0, range(0, 1)),
])
def test_a_full_daemon_is_told_to_say_so_before_the_deadline(play, deadline_ms, wait_ms, told):
    def script(peer):
        peer.reply(peer.receive()[1], "HelloReply", **HELLO, append_wait_ms=PATIENCE_SECONDS * 1000)
        _, request_id, control, _ = peer.receive()
        told_to.append(wire.decode("AppendRequest", control).wait_ms)
        while peer.receive()[0] != wire.COMMIT:
            pass
        peer.error(request_id, "full")

    told_to, block = [], dict(block=ffi.from_buffer(BLOCK))
    with Library(play(script), deadline_ms=deadline_ms) as library:
        given = library.options("kvq_append_options", first=TOKENS, tokens=1, k=block, v=block, wait_ms=wait_ms)
        assert library.call("kvq_append", state(), given) == "full"
    assert told_to[0] in told
