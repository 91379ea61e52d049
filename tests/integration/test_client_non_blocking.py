"""Every call of libkvq gives in its non-blocking form what it gives in the blocking one, also where
the peer takes and gives one byte at a time."""

import os
import pathlib
import select
import socket
import subprocess
import threading
import time

import numpy as np
import pytest
from conftest import program
from fake_daemon import PATIENCE_SECONDS, FakeDaemon
from kvquantd._kvq import ffi, lib
from library import Library, plain

LAYERS, TOKENS, HEADS, DIM = 2, 150, 3, 8
GEOMETRY = dict(layers=LAYERS, heads=HEADS, head_dim_k=DIM, head_dim_v=DIM, dtype=lib.KVQ_F16)
SHAPE = (LAYERS, TOKENS, HEADS, DIM)
UNTOUCHED = 7


class Dribble:
    """A socket before the daemon's that passes so many bytes at a time: (to the daemon, from it)."""

    def __init__(self, path, daemon, sizes):
        self.path, self.daemon, self.sizes = str(path), daemon, sizes
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def _accept(self):
        while True:
            try:
                client = self.listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._pass, args=(client,), daemon=True).start()

    def _pass(self, client):
        with client, socket.socket(socket.AF_UNIX) as daemon:
            daemon.connect(self.daemon)
            ways = {client: (daemon, self.sizes[0]), daemon: (client, self.sizes[1])}
            while True:
                for source in select.select(list(ways), [], [])[0]:
                    target, size = ways[source]
                    data = source.recv(size)
                    if not data:
                        return
                    target.sendall(data)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(5)


@pytest.fixture
def dribble(tmp_path):
    made = []

    def start(daemon, sizes):
        made.append(Dribble(tmp_path / f"dribble{len(made)}", daemon.socket, sizes))
        return made[-1].path

    yield start
    for one in made:
        one.close()


class Place:
    """K or V of SHAPE in memory of its own: at byte strides of (layer, token, head) from an offset."""

    def __init__(self, strides, offset=0, layers=False):
        bytes_needed = offset + 2 * DIM + sum(
            (count - 1) * stride for count, stride in zip(SHAPE[:3], strides))
        self.memory = bytearray([UNTOUCHED]) * bytes_needed
        self.strides = strides
        self.array = np.ndarray(SHAPE, np.uint16, self.memory, offset, (*strides, 2))
        self.held = ffi.from_buffer(self.memory)
        start = ffi.cast("char *", self.held) + offset
        self.layers = ffi.new("void *[]", [start + i * strides[0] for i in range(LAYERS)])
        where = dict(layers=self.layers) if layers else dict(block=start, layer_stride=strides[0])
        self.c = dict(where, token_stride=strides[1], head_stride=strides[2])

    def only_values_were_written(self):
        left = Place.__new__(Place)
        left.memory = bytearray(self.memory)
        offset = self.array.__array_interface__["data"][0] - np.frombuffer(
            self.memory, np.uint8).__array_interface__["data"][0]
        np.ndarray(SHAPE, np.uint16, left.memory, offset, (*self.strides, 2))[:] = UNTOUCHED * 257
        return left.memory == bytearray([UNTOUCHED]) * len(left.memory)


ROW = 2 * DIM
PLACES = {
    "tokens first": lambda: Place((TOKENS * HEADS * ROW, HEADS * ROW, ROW)),
    "heads first": lambda: Place((TOKENS * HEADS * ROW, ROW, TOKENS * ROW)),
    "rows apart, at odd addresses": lambda: Place((TOKENS * HEADS * 19 + 5, HEADS * 19, 19), offset=3),
    "tokens apart": lambda: Place((TOKENS * 61, 61, ROW), offset=1),
    "layers within tokens": lambda: Place((HEADS * ROW, LAYERS * HEADS * ROW, ROW)),
    "a list of layers": lambda: Place((TOKENS * HEADS * ROW + 40, HEADS * ROW, ROW), layers=True),
    "a list of layers, heads first": lambda: Place((9000, ROW, TOKENS * ROW), layers=True),
}


def values(seed):
    return np.random.default_rng(seed).standard_normal(SHAPE).astype(np.float16).view(np.uint16)


def append(library, state, k, v, **options):
    given = library.options("kvq_append_options", first=2**64 - 1, tokens=TOKENS, k=k.c, v=v.c, **options)
    code = lib.kvq_append(library.client, state, given)
    ffi.memmove(given, bytes(len(ffi.buffer(given))), len(ffi.buffer(given)))
    return library.finish(code)


def fetch(library, state, k, v, first=0, **options):
    result = ffi.new("struct kvq_fetch_result *")
    given = library.options("kvq_fetch_options", first=first, end=first + TOKENS, k=k.c, v=v.c, **options)
    code = lib.kvq_fetch(library.client, state, given, result)
    ffi.memmove(given, bytes(len(ffi.buffer(given))), len(ffi.buffer(given)))
    return library.finish(code), plain(result[0])


def without_times(value):
    times = ("age_ms", "idle_ms", "pinned_ms", "pid", "uptime_seconds", "rss_bytes", "used_bytes",
             "memory", "sockets", "operations", "id", "version", "connections", "keeper")
    return {name: one for name, one in value.items() if name not in times and "connections" not in name}


def structure(library, function, kind, *arguments):
    out = ffi.new(f"struct {kind} *")
    return library.call(function, *arguments, out), without_times(plain(out[0]))


def everything(library):
    """Every call once, with what it gives: names of errors, structures, and values."""
    log = [library.connected, library.ping()]
    error, state = library.open("one", GEOMETRY, level=3)
    log += [error, without_times(plain(state[0]))]
    log.append(library.open("one", {**GEOMETRY, "heads": 4})[0])
    k, v = PLACES["tokens first"](), PLACES["heads first"]()
    k.array[:], v.array[:] = values(1), values(2)
    log += [append(library, state, k, v, settle=True), without_times(plain(state[0]))]
    log.append(append(library, library.find("one")[1], k, v, settle=True))
    back = PLACES["rows apart, at odd addresses"](), PLACES["tokens apart"]()
    error, found = library.find("one")
    code, result = fetch(library, found, *back, first=100)
    log += [error, without_times(plain(found[0])), code, without_times(result)]
    log += [place.array.tobytes() for place in back]
    for place in back:
        assert place.only_values_were_written()
    fork = library.options("kvq_fork_options", target=(target := ffi.new("char[]", b"two")), tokens=200)
    log.append(structure(library, "kvq_fork", "kvq_session_state", found, fork))
    del target
    log += [library.call("kvq_truncate", found, 100), without_times(plain(found[0]))]
    log += [library.call("kvq_truncate", found, 10**6), library.call("kvq_pin", b"two", 50000)]
    log.append(structure(library, "kvq_age", "kvq_aged", b"two", 4, True))
    log.append(structure(library, "kvq_age", "kvq_aged", b"two", 1, False))
    log.append(structure(library, "kvq_info", "kvq_session_info", b"two"))
    log.append(structure(library, "kvq_info", "kvq_session_info", b"none"))
    sessions = ffi.new("struct kvq_session_list *")
    log.append(library.call("kvq_list", 0, 0, sessions))
    log += [without_times(plain(sessions.sessions[i])) for i in range(sessions.count)]
    log.append(structure(library, "kvq_stats", "kvq_stats"))
    many = library.options("kvq_delete_many_options", prefix=(prefix := ffi.new("char[]", b"t")))
    log.append(structure(library, "kvq_delete_many", "kvq_deleted", many))
    del prefix
    log += in_parts(library)
    freed = ffi.new("uint64_t *")
    log += [library.call("kvq_delete", b"one", freed), freed[0] > 0, library.call("kvq_delete", b"one", freed)]
    return log


def in_parts(library):
    _, state = library.open("parts", GEOMETRY)
    place = PLACES["layers within tokens"]()
    place.array[:] = values(3)
    start = ffi.cast("char *", place.held)
    given = library.options("kvq_append_options", first=0, tokens=TOKENS)
    log = []
    for end in ("kvq_append_abort", "kvq_append_commit"):
        log.append(library.call("kvq_append_begin", state, given))
        log.append(library.ping())
        for layer in reversed(range(LAYERS)):
            for part in (1, 0):
                log.append(library.call("kvq_append_part", layer, part, start + layer * place.strides[0],
                                        place.strides[1], place.strides[2]))
        log += [library.call(end), state.tokens]
    k, v = PLACES["tokens first"](), PLACES["a list of layers, heads first"]()
    log += [fetch(library, state, k, v)[0], k.array.tobytes() == v.array.tobytes() == values(3).tobytes()]
    return log


def test_calls_that_do_not_block_give_what_those_that_do_give(start_daemon, dribble):
    with Library(start_daemon().socket) as library:
        expected = everything(library)
    with Library(start_daemon().socket, non_blocking=True) as library:
        assert everything(library) == expected
    assert "ok" in expected and "model_mismatch" in expected and "miss" in expected


@pytest.mark.parametrize("sizes", [(1, 1), (7, 3), (1 << 16, 1), (1, 1 << 16)])
@pytest.mark.parametrize("non_blocking", [False, True])
def test_bytes_may_come_one_at_a_time(start_daemon, dribble, sizes, non_blocking):
    with Library(start_daemon().socket) as library:
        expected = everything(library)
    with Library(dribble(start_daemon(), sizes), non_blocking) as library:
        assert everything(library) == expected
        assert library.waits > 0 or not non_blocking


@pytest.mark.parametrize("k", PLACES)
@pytest.mark.parametrize("v", PLACES)
@pytest.mark.parametrize("non_blocking", [False, True])
def test_values_may_stand_anywhere(daemon, dribble, k, v, non_blocking):
    with Library(dribble(daemon, (4000, 4000)), non_blocking) as library:
        state = library.open("s", GEOMETRY)[1]
        source = PLACES[k](), PLACES[v]()
        source[0].array[:], source[1].array[:] = values(4), values(5)
        assert append(library, state, *source) == 0
        target = PLACES[v](), PLACES[k]()
        assert fetch(library, state, *target)[0] == 0
        for here, there in zip(source, target):
            assert (here.array == there.array).all()
            assert there.only_values_were_written()


def test_the_descriptor_stays_the_same_and_a_blocking_client_has_none(daemon):
    with Library(daemon.socket) as blocking, Library(daemon.socket, non_blocking=True) as library:
        assert lib.kvq_client_fd(blocking.client) == -1
        before = lib.kvq_client_fd(library.client)
        assert library.ping() == "ok" and lib.kvq_client_fd(library.client) == before >= 0


@pytest.fixture
def late(tmp_path):
    """A daemon that answers a ping once told to: (path, event)."""
    go_on = threading.Event()

    def script(peer):
        peer.greet()
        request = peer.receive()
        go_on.wait(PATIENCE_SECONDS)
        peer.reply(request[1], "PingReply")

    daemon = FakeDaemon(tmp_path / "late", script)
    yield daemon.path, go_on
    daemon.close()


def test_one_call_at_a_time(late):
    path, go_on = late
    with Library(path, non_blocking=True) as library:
        assert lib.kvq_ping(library.client) == lib.KVQ_AGAIN
        assert lib.kvq_ping(library.client) == lib.KVQ_ARGUMENT
        assert "kvq_step" in library.message
        go_on.set()
        assert library.finish(lib.KVQ_AGAIN) == 0
        assert lib.kvq_step(library.client) == lib.KVQ_ARGUMENT


def test_a_step_too_early_does_no_harm(late):
    path, go_on = late
    with Library(path, non_blocking=True) as library:
        code = lib.kvq_ping(library.client)
        for _ in range(100):
            assert code == lib.KVQ_AGAIN
            code = lib.kvq_step(library.client)
        go_on.set()
        assert library.finish(code) == 0


def test_a_deadline_is_told_and_kept(tmp_path):
    daemon = FakeDaemon(tmp_path / "s", lambda peer: (peer.greet(), peer.until_closed()))
    with Library(daemon.path, non_blocking=True, deadline_ms=300) as library:
        start = time.monotonic()
        code = lib.kvq_ping(library.client)
        assert 0 < lib.kvq_client_timeout_ms(library.client) <= 300
        assert library.finish(code) == lib.KVQ_DEADLINE
        assert 0.25 < time.monotonic() - start < PATIENCE_SECONDS / 2
    daemon.close()


def test_connecting_does_not_wait_for_a_full_backlog(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen(0)
        waiting = []
        while True:  # until the kernel takes no more
            waiting.append(socket.socket(socket.AF_UNIX))
            waiting[-1].setblocking(False)
            try:
                waiting[-1].connect(str(tmp_path / "s"))
            except BlockingIOError:
                break
        options = ffi.new("struct kvq_connect_options *", dict(non_blocking=True, deadline_ms=300))
        path = ffi.new("char[]", bytes(tmp_path / "s"))
        options.size, options.socket = ffi.sizeof(options[0]), path
        opened = ffi.new("struct kvq_client **")
        code = lib.kvq_connect(options, opened)
        assert code == lib.KVQ_AGAIN
        assert lib.kvq_client_events(opened[0]) == 0 and 0 <= lib.kvq_client_timeout_ms(opened[0]) <= 5
        while code == lib.KVQ_AGAIN:
            time.sleep(max(0, lib.kvq_client_timeout_ms(opened[0])) / 1000)
            code = lib.kvq_step(opened[0])
        assert code == lib.KVQ_DEADLINE
        lib.kvq_close(opened[0])
        for one in waiting:
            one.close()


def test_a_long_transfer_gives_the_loop_its_turn(daemon):
    """No step moves much more than a MiB, however fast the daemon is."""
    geometry = dict(layers=8, heads=8, head_dim_k=128, head_dim_v=128, dtype=lib.KVQ_F16)
    memory = bytearray(np.random.default_rng(1).bytes(8 * 1024 * 8 * 128 * 2))
    back = bytearray(len(memory))
    with Library(daemon.socket, non_blocking=True) as library:
        state = library.open("s", geometry)[1]
        for function, options, held in (
                ("kvq_append", dict(first=0, tokens=1024), memory), ("kvq_fetch", {}, back)):
            block = ffi.from_buffer(held)
            given = library.options(f"{function}_options", k=dict(block=block), v=dict(block=block), **options)
            before = library.waits
            arguments = (state, given) if function == "kvq_append" else (state, given, ffi.NULL)
            assert library.call(function, *arguments) == "ok"
            assert library.waits - before >= 16
    assert back == memory


def test_the_example_serves_two_clients_in_one_loop(daemon):
    folder = os.environ.get("KVQ_EXAMPLES") or pathlib.Path(program("KVQ", "kvq")).parent / "examples"
    result = subprocess.run([str(pathlib.Path(folder) / "event_loop"), daemon.socket],
                            capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "".join(f"event-loop {i}: the same, bit for bit\n" for i in (0, 1))
