"""libkvq, through the Python package, against a daemon that breaks the protocol in one way each.

Whatever comes, a call ends in time with an error, nothing outside the caller's arrays is written, and
the connection is not used again once it is out of step.
"""

import asyncio
import contextlib
import socket
import threading
import time

import kvquantd
import kvquantd.aio
import numpy as np
import pytest
import wire
from fake_daemon import HELLO, PATIENCE_SECONDS, Peer
from wire import DATA, DATA_CONTROL, ERROR, HEADER, REPLY, data_frame, decode, encode, frame

LAYERS, TOKENS, HEADS, DIM, PAGE = 2, 8, 2, 4, 4
GEOMETRY = wire.Geometry(LAYERS, HEADS, DIM, DIM)
FRAME_BYTES = PAGE * HEADS * DIM * 2
STATE = dict(version=1, tokens=TOKENS, tail_tokens=0, page_tokens=PAGE, level=-2, geometry=GEOMETRY, model=b"m")


@pytest.fixture
def play(tmp_path):
    """play(script) serves one connection with script(peer) in a thread; gives the socket's path."""
    threads, failures = [], []

    def start(script):
        path = str(tmp_path / f"fake{len(threads)}.sock")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()

        def serve():
            with listener, listener.accept()[0] as connection:
                connection.settimeout(PATIENCE_SECONDS)
                try:
                    script(Peer(connection))
                except (EOFError, OSError):
                    pass  # the client went away, which is what many of these tests want
                except BaseException as failure:
                    failures.append(failure)

        threads.append(threading.Thread(target=serve, daemon=True))
        threads[-1].start()
        return path

    yield start
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()
    assert not failures, failures


def fetch(path, deadline=PATIENCE_SECONDS):
    """Fetches all into the middle of arrays, and sees that nothing beside it was touched."""
    wide = [np.full((LAYERS, TOKENS + 2, HEADS, DIM), 7, np.uint16).view(np.float16) for _ in range(2)]
    with kvquantd.connect(path, deadline=deadline) as client:
        session = client.open("s", model="m")
        try:
            session.fetch(range(0, TOKENS), out=tuple(array[:, 1:-1] for array in wide))
        except kvquantd.Error as error:
            if error.name != "miss":
                with pytest.raises(kvquantd.ConnectionLost):
                    client.ping()
            raise
        finally:
            for array in wide:
                assert (array.view(np.uint16)[:, [0, -1]] == 7).all()


def data(request_id, first=0, tokens=PAGE, layer=0, part=0, payload=None):
    payload = bytes(tokens * HEADS * DIM * 2) if payload is None else payload
    return data_frame(request_id, first, tokens, layer, part, payload)


def whole(request_id):
    return [data(request_id, first, PAGE, layer, part)
            for first in range(0, TOKENS, PAGE) for layer in range(LAYERS) for part in (0, 1)]


def closing(request_id):
    return frame(REPLY, request_id, encode("FetchReply", version=1, tokens=TOKENS))


def answering(frames):
    """A daemon that answers a fetch with frames(request id)."""
    def script(peer):
        peer.greet()
        peer.answer("OpenReply", **STATE)
        peer.send(b"".join(frames(peer.receive()[1])))
        peer.until_closed()
    return script


def test_an_answer_as_it_should_be_is_taken(play):
    fetch(play(answering(lambda i: [*whole(i), closing(i)])))


def test_layers_may_come_in_any_order(play):
    fetch(play(answering(lambda i: [*sorted(whole(i), key=lambda f: f[HEADER.size + 12]), closing(i)])))


def raw_header(magic=wire.MAGIC, version=1, kind=DATA, flags=0, request_id=1, control=24, payload=0):
    return HEADER.pack(magic, version, kind, flags, request_id, control, payload)


BROKEN = {
    "garbage": lambda i: [b"\xff" * 200],
    "another magic": lambda i: [raw_header(magic=1)],
    "another version": lambda i: [raw_header(version=9)],
    "flags": lambda i: [raw_header(flags=1)],
    "an unknown type": lambda i: [frame(99, i)],
    "a request": lambda i: [frame(wire.PING, i)],
    "another's id": lambda i: [data(i + 1)],
    "id 0": lambda i: [data(0)],
    "a reply to another": lambda i: [closing(i + 1)],
    "a control part of 2^32-1": lambda i: [raw_header(kind=REPLY, request_id=i, control=2**32 - 1)],
    "a control part of 65,537": lambda i: [raw_header(kind=REPLY, request_id=i, control=65537)],
    "a payload of 2^64-1": lambda i: [raw_header(request_id=i, payload=2**64 - 1)],
    "a payload of 1 MiB + 1": lambda i: [raw_header(request_id=i, payload=(1 << 20) + 1)],
    "a payload in a reply": lambda i: [raw_header(kind=REPLY, request_id=i, control=0, payload=8)],
    "a descriptor of 23 bytes": lambda i: [raw_header(request_id=i, control=23)],
    "a descriptor of 25 bytes": lambda i: [raw_header(request_id=i, control=25)],
    "bytes set that must be 0": lambda i: [frame(DATA, i, DATA_CONTROL.pack(0, 4, 0, 0)[:-1] + b"\1",
                                                 bytes(FRAME_BYTES))],
    "a part above 1": lambda i: [data(i, part=2)],
    "a layer beyond the last": lambda i: [data(i, layer=LAYERS)],
    "a layer of 2^32-1": lambda i: [data(i, layer=2**32 - 1)],
    "no tokens": lambda i: [data(i, tokens=0)],
    "more tokens than a page": lambda i: [data(i, tokens=PAGE + 1)],
    "2^32-1 tokens": lambda i: [data(i, tokens=2**32 - 1, payload=bytes(FRAME_BYTES))],
    "tokens before the range": lambda i: [data(i, first=2**64 - 4)],
    "tokens past the range": lambda i: [*whole(i), data(i, first=TOKENS)],
    "a gap": lambda i: [data(i, first=PAGE)],
    "an overlap": lambda i: [data(i), data(i, first=PAGE - 1)],
    "the same twice": lambda i: [data(i), data(i)],
    "a payload one byte short": lambda i: [data(i, payload=bytes(FRAME_BYTES - 1))],
    "a payload one byte long": lambda i: [data(i, payload=bytes(FRAME_BYTES + 1))],
    "an empty payload": lambda i: [data(i, payload=b"")],
    "an end before the last frame": lambda i: [*whole(i)[:-1], closing(i)],
    "an end before the first": lambda i: [closing(i)],
    "a reply that does not decode": lambda i: [*whole(i), frame(REPLY, i, b"\xff\xff\xff")],
    "an error that does not decode": lambda i: [frame(ERROR, i, b"\x0a\xff")],
    "an error of number 0": lambda i: [frame(ERROR, i, encode("ErrorReply", code=0))],
    "an error of a local number": lambda i: [frame(ERROR, i, encode("ErrorReply", code=103))],
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_answer_to_fetch_is_an_error_and_the_end_of_the_connection(play, name):
    with pytest.raises(kvquantd.Error) as caught:
        fetch(play(answering(BROKEN[name])))
    assert caught.value.name == "daemon_protocol"


def test_an_answer_cut_at_any_byte_is_a_lost_connection(play):
    answer = b"".join([*whole(4)[:2], closing(4)])

    for length in [*range(0, 60), *range(FRAME_BYTES + 40, FRAME_BYTES + 110), len(answer) - 1]:
        def script(peer, length=length):
            peer.greet()
            peer.answer("OpenReply", **STATE)
            i = peer.receive()[1]
            peer.send((b"".join(whole(i)[:2]) + closing(i))[:length])
        with pytest.raises(kvquantd.ConnectionLost):
            fetch(play(script))


def test_a_miss_on_the_way_leaves_the_connection_usable(play):
    def script(peer):
        peer.greet()
        peer.answer("OpenReply", **STATE)
        i = peer.receive()[1]
        peer.send(b"".join(whole(i)[:3]))
        peer.error(i, "miss")
        peer.reply(peer.receive()[1], "PingReply")
        peer.until_closed()

    with kvquantd.connect(play(script)) as client:
        session = client.open("s", model="m")
        with pytest.raises(kvquantd.Miss):
            session.fetch(range(0, TOKENS))
        client.ping()


@pytest.mark.parametrize("frames", [lambda i: [], lambda i: whole(i)[:3], lambda i: [data(i)[:30]]])
def test_silence_ends_at_the_deadline(play, frames):
    start = time.monotonic()
    with pytest.raises(kvquantd.Deadline) as caught:
        fetch(play(answering(frames)), deadline=0.3)
    assert caught.value.retryable
    assert 0.25 < time.monotonic() - start < PATIENCE_SECONDS / 2


def test_a_daemon_that_trickles_does_not_outlive_the_deadline(play):
    def script(peer):
        peer.greet()
        peer.answer("OpenReply", **STATE)
        frames = b"".join(whole(peer.receive()[1]))
        for byte in frames:
            peer.send(bytes([byte]))
            time.sleep(PATIENCE_SECONDS / len(frames))

    start = time.monotonic()
    with pytest.raises(kvquantd.Deadline):
        fetch(play(script), deadline=0.4)
    assert time.monotonic() - start < PATIENCE_SECONDS / 2


def stalling(release):
    """A daemon that sends half of a fetch, waits, sends the rest, and answers what comes after."""
    def script(peer):
        peer.greet()
        peer.answer("OpenReply", **STATE)
        i = peer.receive()[1]
        frames = whole(i)
        peer.send(b"".join(frames[:3]))
        assert peer.receive()[:2] == (wire.CANCEL, i)
        assert release.wait(PATIENCE_SECONDS)
        peer.send(b"".join(frames[3:]))
        peer.error(i, "cancelled")
        peer.reply(peer.receive()[1], "PingReply")
        peer.until_closed()
    return script


def sevens():
    return tuple(np.full((LAYERS, TOKENS, HEADS, DIM), 7, np.float16) for _ in range(2))


def test_a_fetch_that_takes_too_long_is_a_miss_and_its_rest_goes_nowhere(play):
    release, out = threading.Event(), sevens()
    with kvquantd.connect(play(stalling(release))) as client:
        session = client.open("s", model="m")
        start = time.monotonic()
        with pytest.raises(kvquantd.Miss):
            session.fetch(range(0, TOKENS), out=out, within=0.2)
        assert 0.15 < time.monotonic() - start < PATIENCE_SECONDS / 2
        for array in out:
            array[:] = 7
        release.set()
        client.ping()
    assert all((array == 7).all() for array in out)


def test_a_cancelled_task_cancels_its_fetch_and_the_rest_goes_nowhere(play):
    release, out = threading.Event(), sevens()

    async def main():
        async with await kvquantd.aio.connect(play(stalling(release))) as client:
            session = await client.open("s", model="m")
            fetching = asyncio.create_task(session.fetch(range(0, TOKENS), out=out))
            while (out[0] == 7).all():
                await asyncio.sleep(0.01)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(fetching, 0.1)
            for array in out:
                array[:] = 7
            release.set()
            await client.ping()

    asyncio.run(main())
    assert all((array == 7).all() for array in out)


def test_a_daemon_that_accepts_and_says_nothing_is_a_deadline(play):
    with pytest.raises(kvquantd.Deadline):
        kvquantd.connect(play(lambda peer: peer.until_closed()), deadline=0.3)


def test_a_refused_hello_tells_the_daemons_words(play):
    with pytest.raises(kvquantd.Error, match="this is version") as caught:
        kvquantd.connect(play(lambda peer: peer.error(peer.receive()[1], "version")))
    assert caught.value.name == "version"


@pytest.mark.parametrize("wrong", [
    dict(version=2), dict(version=0), dict(append_runs_max=0),
])
def test_a_hello_with_limits_that_cannot_be_is_refused(play, wrong):
    def script(peer):
        peer.reply(peer.receive()[1], "HelloReply", **{**HELLO, **wrong})
        peer.until_closed()

    with pytest.raises(kvquantd.Error) as caught:
        kvquantd.connect(play(script))
    assert caught.value.name == "daemon_protocol"


@pytest.mark.parametrize("wrong", [
    dict(geometry=None), dict(page_tokens=0), dict(page_tokens=2**32 - 1), dict(tail_tokens=PAGE),
    dict(geometry=wire.Geometry(0, 1, 8, 8)), dict(geometry=wire.Geometry(1, 2**31, 2**31, 8)),
    dict(geometry=wire.Geometry(1, 1, 0, 8)), dict(geometry=wire.Geometry(1, 1, 8, 8, dtype=9)),
])
def test_a_session_that_cannot_be_is_refused(play, wrong):
    def script(peer):
        peer.greet()
        peer.reply(peer.receive()[1], "OpenReply", **{**STATE, **wrong})
        peer.until_closed()

    with kvquantd.connect(play(script)) as client:
        with pytest.raises(kvquantd.Error) as caught:
            client.open("s", model="m")
    assert caught.value.name == "daemon_protocol"


def append(path, tokens, deadline=PATIENCE_SECONDS):
    values = np.zeros((LAYERS, tokens, HEADS, DIM), np.float16)
    with kvquantd.connect(path, deadline=deadline) as client:
        session = client.open("s", model="m")
        try:
            session.append(values, values)
        finally:
            with contextlib.suppress(kvquantd.ConnectionLost):
                client.ping()


def frames_until_end(peer):
    """The types of an append's frames up to its COMMIT or CANCEL."""
    types = []
    while not types or types[-1] not in (wire.COMMIT, wire.CANCEL):
        types.append(peer.receive()[0])
    return types


def test_an_early_refusal_stops_a_large_append_at_the_end_of_a_frame(play):
    """The daemon refuses at once and reads slowly: far from all is sent, then CANCEL, and all is in step."""
    seen = {}

    def script(peer):
        peer.greet()
        peer.answer("OpenReply", **STATE)
        _, i, control, _ = peer.receive()
        seen["tokens"] = decode("AppendRequest", control).tokens
        peer.error(i, "full")
        time.sleep(0.3)
        seen["types"] = frames_until_end(peer)
        peer.reply(peer.receive()[1], "PingReply")
        peer.until_closed()

    with pytest.raises(kvquantd.Full):
        append(play(script), 1 << 17)
    assert seen["types"][-1] == wire.CANCEL
    assert len(seen["types"]) < seen["tokens"] // PAGE * LAYERS * 2


def test_a_refusal_of_a_small_append_is_taken_at_its_commit(play):
    def script(peer):
        peer.greet()
        peer.answer("OpenReply", **STATE)
        peer.error(peer.receive()[1], "busy")
        assert frames_until_end(peer)[-1] == wire.COMMIT
        peer.reply(peer.receive()[1], "PingReply")
        peer.until_closed()

    with pytest.raises(kvquantd.Busy):
        append(play(script), TOKENS)


def test_an_append_is_cut_anew_by_what_tail_moved_says(play):
    runs = []

    def take(peer):
        first = True
        while True:
            kind, i, control, payload = peer.receive()
            if kind == wire.COMMIT:
                return i
            if first:
                runs.append([decode("AppendRequest", control).tail_tokens])
                first = False
            elif control[12:17] == bytes(5):
                runs[-1].append(DATA_CONTROL.unpack(control)[:2])

    def script(peer):
        peer.greet()
        peer.answer("OpenReply", **STATE)
        peer.error(take(peer), "tail_moved", tokens=TOKENS, tail_tokens=3)
        peer.reply(take(peer), "AppendReply", version=2, tokens=TOKENS + 6, tail_tokens=1)
        peer.reply(peer.receive()[1], "PingReply")
        peer.until_closed()

    append(play(script), 6)
    assert runs == [[0, (8, 4), (12, 2)], [3, (8, 1), (9, 4), (13, 1)]]


def test_a_tail_that_always_moves_ends_after_three_attempts(play):
    attempts = []

    def script(peer):
        peer.greet()
        peer.answer("OpenReply", **STATE)
        while (got := peer.receive())[0] == wire.APPEND:
            attempts.append(got[1])
            frames_until_end(peer)
            peer.error(got[1], "tail_moved", tokens=TOKENS, tail_tokens=len(attempts))
        peer.reply(got[1], "PingReply")
        peer.until_closed()

    with pytest.raises(kvquantd.TailMoved) as caught:
        append(play(script), 3)
    assert caught.value.retryable and len(attempts) == len(set(attempts)) == 3


def test_a_daemon_that_closes_in_the_middle_of_an_append_leaves_its_last_words(play):
    def script(peer):
        peer.greet()
        peer.answer("OpenReply", **STATE)
        peer.receive()
        peer.error(0, "shutting_down")

    with pytest.raises(kvquantd.ShuttingDown):
        append(play(script), 1 << 17)


def test_a_daemon_that_never_reads_an_append_is_a_deadline(play):
    done = threading.Event()

    def script(peer):
        peer.greet()
        peer.answer("OpenReply", **STATE)
        done.wait(PATIENCE_SECONDS)

    try:
        with pytest.raises(kvquantd.Deadline):
            append(play(script), 1 << 17, deadline=0.3)
    finally:
        done.set()


@pytest.mark.parametrize("answer", [
    lambda i: frame(REPLY, i, encode("AppendReply", version=2, tokens=8, tail_tokens=PAGE)),
    lambda i: frame(REPLY, i, b"\xff"),
    lambda i: data(i),
    lambda i: frame(REPLY, i + 1),
])
def test_a_broken_answer_to_append_is_an_error(play, answer):
    def script(peer):
        peer.greet()
        peer.answer("OpenReply", **STATE)
        i = peer.receive()[1]
        frames_until_end(peer)
        peer.send(answer(i))
        peer.until_closed()

    with pytest.raises(kvquantd.Error) as caught:
        append(play(script), TOKENS)
    assert caught.value.name == "daemon_protocol"


def test_a_list_that_never_ends_is_an_error(play):
    def script(peer):
        peer.greet()
        row = wire.SimpleNamespace(session=b"s", model=b"m", id=1, geometry=GEOMETRY)
        while True:
            peer.reply(peer.receive()[1], "ListReply", sessions=[row], more=1)

    with kvquantd.connect(play(script)) as client:
        with pytest.raises(kvquantd.Error) as caught:
            client.sessions()
    assert caught.value.name == "daemon_protocol"


def test_a_reply_that_takes_many_times_its_bytes_is_bounded(play):
    """65,536 bytes of empty sessions would take some 20 MB of structures."""
    def script(peer):
        peer.greet()
        peer.send(frame(REPLY, peer.receive()[1], b"\x0a\x00" * 32768))
        peer.until_closed()

    with kvquantd.connect(play(script)) as client:
        with pytest.raises(kvquantd.Error):
            client.sessions()
