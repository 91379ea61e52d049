"""Frames: every header field at and beyond its bounds, broken and cut conversations, splits of any kind."""

import pathlib
import random
import re
import socket

import pytest
from wire import (APPEND, CANCEL, COMMIT, CONTROL_BYTES_MAX, DATA, DATA_CONTROL, ERROR, FETCH, HEADER,
                  HELLO, INFO, LIST, MAGIC, OPEN, PAYLOAD_BYTES_MAX, PING, REPLY, STATS, VECTORS, VERSION,
                  Closed, Connection, Refused, data_frame, decode, encode, frame)
from wire_support import (TINY, assert_ends, assert_holds, assert_serves, bits, connection,  # noqa: F401
                          packed, refused, wait_until)

HELLO_FRAME = frame(HELLO, 1, encode("HelloRequest", version_min=1, version_max=1))
TOKENS = 3


def header(magic=MAGIC, version=VERSION, type=PING, flags=0, request_id=1, control=0, payload=0):
    return HEADER.pack(magic, version, type, flags, request_id, control, payload)


def conversation(name, seed=0):
    """A whole valid conversation as frames: hello, open, append of TOKENS, info, fetch, list, stats."""
    kv = packed(bits(TINY, TOKENS, seed))
    return [
        HELLO_FRAME,
        frame(OPEN, 2, encode("OpenRequest", session=name, model=b"model", geometry=TINY)),
        frame(APPEND, 3, encode("AppendRequest", session=name, tokens=TOKENS)),
        data_frame(3, 0, TOKENS, 0, 0, kv[0][0]),
        data_frame(3, 0, TOKENS, 0, 1, kv[1][0]),
        frame(COMMIT, 3),
        frame(INFO, 4, encode("InfoRequest", session=name)),
        frame(FETCH, 5, encode("FetchRequest", session=name)),
        frame(LIST, 6),
        frame(STATS, 7),
    ]


def tokens_of(connection, name):
    try:
        return connection.info(name).tokens
    except Refused as error:
        assert error.name == "miss"
        return None


@pytest.fixture
def raw(daemon):
    """A connection that has said nothing yet."""
    with Connection(daemon.socket, hello=False) as connection:
        yield connection


def test_a_conversation_cut_at_any_byte_leaves_nothing_visible(daemon, connection):
    frames = conversation(b"000")
    opened, committed = (len(b"".join(frames[:count])) for count in (2, 6))
    for cut in range(len(b"".join(frames))):
        name = b"%03d" % cut
        with Connection(daemon.socket, hello=False) as broken:
            broken.send(b"".join(conversation(name))[:cut])
        if cut < committed:
            assert tokens_of(connection, name) in ((None,) if cut < opened else (None, 0))
    for cut in range(committed):
        assert tokens_of(connection, b"%03d" % cut) in ((None,) if cut < opened else (None, 0))
    assert_serves(daemon)


def test_a_session_whose_append_was_cut_at_any_byte_takes_the_append_again(daemon, connection):
    frames = conversation(b"000")
    begin, end = (len(b"".join(frames[:count])) for count in (2, 6))
    for cut in range(begin, end):
        name = b"%03d" % cut
        with Connection(daemon.socket, hello=False) as broken:
            broken.send(b"".join(conversation(name))[:cut])
        wait_until(lambda: tokens_of(connection, name) == 0)
        arrays = bits(TINY, TOKENS, seed=cut)

        def accepted():
            try:
                connection.open(name, geometry=TINY).append(TOKENS, packed(arrays))
            except Refused as error:
                assert error.name == "busy"
                return False
            return True

        wait_until(accepted)
        assert_holds(connection.open(name, geometry=TINY), arrays)


def test_half_closing_in_the_middle_of_a_frame_ends_the_connection(raw):
    raw.send(HELLO_FRAME + frame(OPEN, 2, b"\x0a\x05chat")[:-1])
    raw.receive()
    raw.socket.shutdown(socket.SHUT_WR)
    with pytest.raises(Closed):
        while True:
            raw.receive()


@pytest.mark.parametrize("after_hello", [False, True])
@pytest.mark.parametrize("offset", range(4))
def test_a_wrong_magic_ends_the_connection(raw, after_hello, offset):
    if after_hello:
        raw.hello()
    broken = bytearray(HELLO_FRAME)
    broken[offset] ^= 0x20
    raw.send(broken)
    assert_ends(raw, "protocol")


@pytest.mark.parametrize("after_hello", [False, True])
@pytest.mark.parametrize("version", [0, 2, 255])
def test_a_frame_of_another_version_ends_the_connection(raw, after_hello, version):
    if after_hello:
        raw.hello()
    raw.send(header(version=version))
    assert_ends(raw, "version")


@pytest.mark.parametrize("flags", [1, 0x100, 0xFFFF])
def test_flags_end_the_connection(connection, flags):
    connection.send(header(flags=flags))
    assert_ends(connection, "protocol")


@pytest.mark.parametrize("type", [PING, DATA])
@pytest.mark.parametrize("control", [CONTROL_BYTES_MAX + 1, 1 << 31, (1 << 32) - 1])
def test_a_control_length_above_the_limit_ends_the_connection(connection, type, control):
    connection.send(header(type=type, control=control))
    assert_ends(connection, "too_large")


@pytest.mark.parametrize("type", [PING, DATA])
@pytest.mark.parametrize("payload", [PAYLOAD_BYTES_MAX + 1, 1 << 31, (1 << 32) - 1, (1 << 32) + 1,
                                     1 << 63, (1 << 64) - 1])
def test_a_payload_length_above_the_limit_ends_the_connection(connection, type, payload):
    connection.send(header(type=type, control=24 * (type == DATA), payload=payload))
    assert_ends(connection, "too_large")


def peak_bytes(daemon):
    """The largest address space the daemon ever had: an allocation shows even if it is never touched."""
    status = pathlib.Path(f"/proc/{daemon.pid}/status").read_text()
    return int(re.search(r"VmPeak:\s*(\d+)", status)[1]) * 1024


def test_lengths_above_the_limit_are_refused_before_anything_is_allocated(daemon):
    assert_serves(daemon)
    before = peak_bytes(daemon)
    for length in (1 << 31, (1 << 32) - 1, 1 << 63, (1 << 64) - 1):
        with Connection(daemon.socket) as other:
            other.send(header(type=DATA, control=24, payload=length))
            assert_ends(other, "too_large")
    assert peak_bytes(daemon) - before < 1 << 30


@pytest.mark.parametrize("type", [HELLO, PING, OPEN, APPEND, COMMIT, FETCH, CANCEL, STATS])
@pytest.mark.parametrize("payload", [1, PAYLOAD_BYTES_MAX])
def test_a_payload_where_none_may_be_ends_the_connection(connection, type, payload):
    connection.send(header(type=type, payload=payload))
    assert_ends(connection, "protocol")


@pytest.mark.parametrize("control", [0, 1, 23, 25, CONTROL_BYTES_MAX])
def test_data_with_a_descriptor_of_another_length_ends_the_connection(connection, control):
    connection.send(header(type=DATA, control=control, payload=2) + bytes(control))
    assert_ends(connection, "protocol")


def test_a_request_without_control_is_one_of_defaults(connection):
    connection.send(frame(PING, 5))
    assert connection.receive() == (REPLY, 5, b"", b"")


def test_a_control_of_one_byte_fails_alone_where_it_is_no_message(connection):
    connection.send(frame(PING, 5, b"\x08"))
    with refused("bad_control"):
        connection.answer(5, "PingReply")
    connection.ping()


def test_a_control_of_the_largest_length_is_read(connection):
    name = bytes([ord("n")]) * (CONTROL_BYTES_MAX - 4)
    control = encode("InfoRequest", session=name)
    assert len(control) == CONTROL_BYTES_MAX
    connection.send(frame(INFO, 5, control))
    with refused("invalid", "bad_control"):
        connection.answer(5, "SessionInfo")
    connection.ping()


@pytest.mark.parametrize("type", [*range(2, 12), DATA, REPLY, ERROR, 0, 31, 255])
def test_a_first_frame_that_is_not_hello_ends_the_connection(raw, type):
    raw.send(data_frame(1, 0, 1, 0, 0, b"") if type == DATA else frame(type, 1))
    assert_ends(raw, "protocol")


@pytest.mark.parametrize("type", [DATA, COMMIT])
def test_a_frame_of_an_append_that_is_not_there_ends_the_connection(connection, type):
    connection.send(data_frame(9, 0, 1, 0, 0, bytes(16)) if type == DATA else frame(COMMIT, 9))
    assert_ends(connection, "protocol")


def test_data_for_a_request_that_is_no_append_ends_the_connection(connection):
    connection.open(b"chat", geometry=TINY)
    connection.send(frame(FETCH, 9, encode("FetchRequest", session=b"chat")) +
                    data_frame(9, 0, 1, 0, 0, bytes(16)))
    names = []
    with pytest.raises(Closed):
        while True:
            got = connection.receive()
            names += [Refused(got.control).name] if got.type == ERROR else []
    assert names[-1] == "protocol"


def test_an_unknown_operation_fails_alone(connection):
    connection.send(frame(0, 5, b"anything"))
    with refused("unknown_operation"):
        connection.answer(5, "PingReply")
    connection.ping()


@pytest.mark.parametrize("type", [40, 63, REPLY, ERROR, 66, 127, 128, 255])
def test_a_type_that_no_client_sends_ends_the_connection(connection, type):
    connection.send(frame(type, 5))
    assert_ends(connection, "protocol")


def test_a_second_hello_ends_the_connection(connection):
    connection.send(HELLO_FRAME)
    assert_ends(connection, "protocol")


@pytest.mark.parametrize("versions", [(1, 1), (0, 1), (1, 2), (1, (1 << 32) - 1), (0, (1 << 32) - 1)])
def test_hello_agrees_on_the_common_version(raw, versions):
    assert raw.hello(*versions).version == 1


@pytest.mark.parametrize("versions", [(0, 0), (2, 2), (2, (1 << 32) - 1)])
def test_hello_without_a_common_version_ends_the_connection(raw, versions):
    raw.send(frame(HELLO, 1, encode("HelloRequest", version_min=versions[0], version_max=versions[1])))
    assert_ends(raw, "version")


def test_hello_says_the_limits_that_hold(raw):
    limits = raw.hello()
    assert (limits.control_bytes_max, limits.payload_bytes_max) == (CONTROL_BYTES_MAX, PAYLOAD_BYTES_MAX)
    assert limits.requests_max >= 1 and limits.append_runs_max >= 1
    assert limits.server


def test_hello_names_only_features_both_sides_know(raw):
    assert raw.hello(features=(1 << 64) - 1).features == 0


def check_answers(connection, name, arrays):
    """The answers to conversation(), in whatever order they come."""
    replies, data, unanswered = {}, {}, set(range(1, 8))
    while unanswered:
        got = connection.receive()
        if got.type == DATA:
            first, tokens, layer, part = DATA_CONTROL.unpack(got.control)
            assert (first, tokens, layer) == (0, TOKENS, 0)
            data[part] = got.payload
        else:
            assert got.type == REPLY, Refused(got.control)
            replies[got.request_id] = got.control
            unanswered.remove(got.request_id)
    assert decode("SessionInfo", replies[4]).tokens == TOKENS
    assert data == {part: layers[0] for part, layers in enumerate(packed(arrays))}
    assert name in [session.session for session in decode("ListReply", replies[6]).sessions]


@pytest.mark.parametrize("seed", range(20))
def test_frames_split_at_random_places_are_understood(raw, seed):
    generator = random.Random(seed)
    data = b"".join(conversation(b"split", seed))
    while data:
        size = generator.choice([1, 2, 23, 24, 25, 100, 1000])
        raw.send(data[:size])
        data = data[size:]
    check_answers(raw, b"split", bits(TINY, TOKENS, seed))


def test_frames_sent_byte_by_byte_are_understood(raw):
    for byte in b"".join(conversation(b"bytes")):
        raw.send(bytes([byte]))
    check_answers(raw, b"bytes", bits(TINY, TOKENS))


def test_a_whole_conversation_in_one_write_is_understood(raw):
    raw.send(b"".join(conversation(b"whole")))
    check_answers(raw, b"whole", bits(TINY, TOKENS))


def test_random_bytes_do_not_harm_the_daemon(daemon):
    generator = random.Random(1)
    for _ in range(200):
        with Connection(daemon.socket, hello=False) as broken:
            broken.socket.sendall(generator.randbytes(generator.randrange(1, 300)))
    assert_serves(daemon)


def test_conversations_with_flipped_bits_do_not_harm_the_daemon(daemon):
    generator = random.Random(2)
    for round in range(400):
        data = bytearray(b"".join(conversation(b"flip")))
        for _ in range(generator.randrange(1, 4)):
            data[generator.randrange(len(HELLO_FRAME) * (round % 2), len(data))] ^= 1 << generator.randrange(8)
        with Connection(daemon.socket, hello=False) as broken:
            broken.send(data)
            broken.socket.shutdown(socket.SHUT_WR)
            with pytest.raises(Closed):
                while True:
                    broken.receive()
    assert_serves(daemon)


@pytest.mark.parametrize("offset", range(17, 24))
def test_a_descriptor_with_bytes_set_that_must_be_0_ends_the_connection(connection, offset):
    request_id = connection.open(b"chat", geometry=TINY).begin(1)
    control = bytearray(DATA_CONTROL.pack(0, 1, 0, 0))
    control[offset] = 1
    connection.send(frame(DATA, request_id, bytes(control), bytes(16)))
    assert_ends(connection, "protocol")


@pytest.mark.parametrize("part", [VECTORS + 1, 255])
def test_a_descriptor_of_a_part_that_is_none_ends_the_connection(connection, part):
    request_id = connection.open(b"chat", geometry=TINY).begin(1)
    connection.send(data_frame(request_id, 0, 1, 0, part, bytes(16)))
    assert_ends(connection, "protocol")
