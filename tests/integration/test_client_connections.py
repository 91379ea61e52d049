"""A large fetch over several connections gives what it gives over one; and the addresses a client takes."""

import socket
import threading

import numpy as np
import pytest
import wire
from fake_daemon import PATIENCE_SECONDS, Peer, play  # noqa: F401
from kvquantd._kvq import ffi, lib
from library import Library, plain
from wire import REPLY, data_frame, decode, encode, frame

LAYERS, HEADS, DIM, PAGE, TOKENS = 2, 8, 128, 128, 8192
PART_BYTES = LAYERS * TOKENS * HEADS * DIM * 2  # 32 MiB of K, as many of V
SHAPE = dict(layers=LAYERS, heads=HEADS, head_dim_k=DIM, head_dim_v=DIM, dtype=lib.KVQ_F16)


@pytest.fixture(scope="module")
def source():
    small = np.random.default_rng(7).standard_normal(PART_BYTES // 16).astype(np.float16)
    return np.tile(small, 8)


def append(library, source, name="s"):
    state = library.open(name, SHAPE, level=3)[1]
    block = dict(block=ffi.from_buffer(source))
    given = library.options("kvq_append_options", first=0, tokens=TOKENS, k=block, v=block, settle=True)
    assert library.call("kvq_append", state, given) == "ok"
    return state


def fetch(library, state, **options):
    arrays = [np.zeros(PART_BYTES // 2, np.float16) for _ in range(2)]
    k, v = (dict(block=ffi.cast("void *", ffi.from_buffer(one))) for one in arrays)
    result = ffi.new("struct kvq_fetch_result *")
    given = library.options("kvq_fetch_options", k=k, v=v, **options)
    return library.call("kvq_fetch", state, given, result), plain(result[0]), arrays


def stats_of(library):
    stats = ffi.new("struct kvq_stats *")
    assert library.call("kvq_stats", stats) == "ok"
    return stats


@pytest.mark.memory("1G")
@pytest.mark.parametrize("non_blocking", [False, True])
def test_several_connections_give_what_one_gives(daemon, source, non_blocking):
    with Library(daemon.socket) as one, Library(daemon.socket, non_blocking, connections=3) as several:
        state = append(one, source)
        before = stats_of(one).connections
        for options in ({}, dict(first=100, end=TOKENS - 77), dict(first_layer=1), dict(end=200)):
            error, expected, arrays = fetch(one, state, **options)
            assert error == "ok"
            error, result, same = fetch(several, state, **options)
            assert error == "ok"
            assert all((here == there).all() for here, there in zip(arrays, same))
            for part in "kv":
                assert result[part]["energy"] == pytest.approx(expected[part]["energy"])
                assert result[part].pop("error") == pytest.approx(expected[part].pop("error"))
                result[part].pop("energy"), expected[part].pop("energy")
            assert result["levels"][:result["level_count"]] == expected["levels"][:expected["level_count"]]
            result.pop("levels"), expected.pop("levels")
            assert result == expected
        assert stats_of(one).connections == before + 2


@pytest.mark.memory("1G")
def test_small_fetches_and_clients_that_do_not_ask_stay_on_one_connection(daemon, source):
    with Library(daemon.socket) as one, Library(daemon.socket, connections=8) as several:
        state = append(one, source)
        assert fetch(one, state)[0] == fetch(several, state, end=128)[0] == "ok"
        assert stats_of(one).connections == 2


def test_more_than_eight_connections_are_refused(daemon):
    with Library(daemon.socket, connections=9) as library:
        assert library.connected == "argument"


class Ranges:
    """A daemon whose connections answer fetches; version, error and place of the break differ."""

    def __init__(self, *connections):
        self.asked, self.cancelled = [], []
        self.scripts = [lambda peer, one=one: self.serve(peer, **one) for one in connections]

    def serve(self, peer, version=1, error=None, cut=None, wait=None):
        peer.greet()
        while True:
            kind, request_id, control, _ = peer.receive()
            if kind == wire.PING:
                peer.reply(request_id, "PingReply")
                continue
            if kind == wire.CANCEL:
                self.cancelled.append(request_id)
                if wait:  # else the answer was on its way
                    peer.error(request_id, "cancelled")
                continue
            request = decode("FetchRequest", control)
            self.asked.append((request.first, request.end))
            if wait:
                continue
            if error:
                peer.error(request_id, error)
                continue
            payload = bytes([3]) * (PAGE * HEADS * DIM * 2)
            for first in range(request.first, request.end, PAGE):
                if cut is not None and first - request.first >= cut:
                    return
                for layer in range(LAYERS):
                    for part in (0, 1):
                        peer.send(data_frame(request_id, first, PAGE, layer, part, payload))
            level = wire.SimpleNamespace(level=request.first % 2, tokens=request.end - request.first)
            loss = wire.SimpleNamespace(error=1.0, energy=2.0, estimated=request.first > 0)
            peer.send(frame(REPLY, request_id, encode(
                "FetchReply", version=version, tokens=request.end - request.first,
                bytes=(request.end - request.first) * LAYERS * HEADS * DIM * 4, levels=[level], k=loss, v=loss)))


def state():
    made = ffi.new("struct kvq_session_state *")
    made.session, made.model, made.geometry, made.page_tokens, made.tokens = b"s", b"m", SHAPE, PAGE, TOKENS
    return made


HALF = TOKENS // 2


@pytest.mark.parametrize("non_blocking", [False, True])
def test_ranges_of_one_version_are_summed(play, non_blocking):
    ranges = Ranges({}, {})
    with Library(play(*ranges.scripts), non_blocking, connections=2) as library:
        error, result, arrays = fetch(library, state())
    assert error == "ok" and sorted(ranges.asked) == [(0, HALF), (HALF, TOKENS)]
    assert (result["tokens"], result["bytes"], result["level_count"]) == (TOKENS, 2 * PART_BYTES, 1)
    assert result["levels"][0] == dict(level=0, tokens=TOKENS)
    assert result["k"] == result["v"] == dict(error=2.0, energy=4.0, estimated=True)
    assert all((one.view(np.uint8) == 3).all() for one in arrays)


@pytest.mark.parametrize("non_blocking", [False, True])
def test_ranges_of_different_versions_are_fetched_again_on_one_connection(play, non_blocking):
    ranges = Ranges(dict(version=4), dict(version=5))
    with Library(play(*ranges.scripts), non_blocking, connections=2) as library:
        error, result, _ = fetch(library, state())
    assert (error, result["version"], result["tokens"]) == ("ok", 4, TOKENS)
    assert ranges.asked[-1] == (0, TOKENS) and len(ranges.asked) == 3


@pytest.mark.parametrize("cut", [0, PAGE, HALF - PAGE])
def test_a_further_connection_that_is_lost_costs_time_only(play, cut):
    with Library(play(*Ranges({}, dict(cut=cut)).scripts), connections=2) as library:
        error, result, _ = fetch(library, state())
        assert (error, result["tokens"]) == ("ok", TOKENS)
        assert library.ping() == "ok"


def test_a_daemon_that_takes_no_further_connection_is_fetched_from_on_one(play):
    with Library(play(*Ranges({}).scripts), connections=4) as library:
        error, result, _ = fetch(library, state())
        assert (error, result["tokens"]) == ("ok", TOKENS)


@pytest.mark.parametrize("failing", [0, 1])
@pytest.mark.parametrize("non_blocking", [False, True])
def test_a_miss_on_one_connection_cancels_the_others(play, failing, non_blocking):
    connections = [dict(wait=True), dict(wait=True)]
    connections[failing] = dict(error="miss")
    ranges = Ranges(*connections)
    with Library(play(*ranges.scripts), non_blocking, connections=2) as library:
        assert fetch(library, state())[0] == "miss"
        assert library.ping() == "ok"
    assert len(ranges.asked) <= 2 and len(ranges.cancelled) <= 1


@pytest.mark.parametrize("non_blocking", [False, True])
def test_a_miss_in_time_ends_all_connections_fetches(play, non_blocking):
    ranges = Ranges(dict(wait=True), dict(wait=True))
    with Library(play(*ranges.scripts), non_blocking, connections=2) as library:
        assert fetch(library, state(), within_ms=200)[0] == "miss"
        assert library.ping() == "ok"


# ---- Addresses ----

def tcp_of(daemon):
    with Library(daemon.socket) as library:
        stats = stats_of(library)
        return [plain(stats.sockets[i]) for i in range(stats.socket_count)][-1]


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
@pytest.mark.parametrize("non_blocking", [False, True])
@pytest.mark.memory("1G")
def test_everything_goes_over_tcp(start_daemon, source, host, non_blocking):
    daemon = start_daemon(memory="1G", arguments=["--tcp", f"{host}:0"])
    with Library(tcp_of(daemon), non_blocking, connections=2) as library:
        assert library.connected == "ok"
        error, result, _ = fetch(library, append(library, source))
        assert (error, result["tokens"]) == ("ok", TOKENS)
        assert library.ping() == "ok"


def test_a_hosts_name_is_looked_up_and_all_its_addresses_tried(start_daemon):
    """localhost may be ::1 first, where nobody listens."""
    daemon = start_daemon(arguments=["--tcp", "127.0.0.1:0"])
    port = tcp_of(daemon).rpartition(":")[2]
    with Library(f"localhost:{port}") as library:
        assert library.connected == "ok" and library.ping() == "ok"


@pytest.mark.parametrize("address", [
    "localhost", "localhost:", ":7420", "::1:7420", "[::1]", "[]:7420", "[::1:7420", "7420"])
def test_what_is_neither_a_path_nor_host_and_port_is_refused(address):
    with Library(address) as library:
        assert library.connected == "argument" and "host:port" in library.message


@pytest.mark.parametrize("address", ["127.0.0.1:none", "no.such.host.invalid:1", "127.0.0.1:1", "[::1]:1"])
def test_an_address_where_nobody_is_cannot_be_connected_to(address):
    with Library(address) as library:
        assert library.connected == "cannot_connect" and address in library.message


def test_a_request_on_a_tcp_connection_that_ended_goes_to_a_new_one():
    """The kernel takes a request for a peer that is gone; what may not be sent twice looks before."""
    listener, hung_up = socket.create_server(("127.0.0.1", 0)), threading.Event()

    def serve():
        for first in (True, False):
            with listener.accept()[0] as connection:
                peer = Peer(connection)
                peer.greet()
                if not first:
                    peer.answer("DeleteReply")
            hung_up.set()

    thread = threading.Thread(target=serve)
    thread.start()
    with Library(f"127.0.0.1:{listener.getsockname()[1]}") as library:
        assert hung_up.wait(PATIENCE_SECONDS)
        assert library.call("kvq_delete", b"s", ffi.NULL) == "ok"
    thread.join()
    listener.close()
