"""Control messages: bytes that are none, names, geometries and values that cannot be."""

import random

import pytest
from wire import (APPEND, CONTROL_BYTES_MAX, DELETE, F16, F32, FETCH, HELLO, INFO, LIST, OPEN, PING,
                  REPLY, STATS, Connection, Geometry, SimpleNamespace, encode_field, frame, varint)
from wire_support import TINY, assert_ends, assert_serves, connection, refused, stored  # noqa: F401

OPERATIONS = {PING: "Ping", OPEN: "Open", APPEND: "Append", FETCH: "Fetch", INFO: "Info", LIST: "List",
              DELETE: "Delete", STATS: "Stats"}

NO_MESSAGES = {
    "a tag cut off": b"\x80",
    "a varint of eleven bytes": b"\x08" + b"\xff" * 10 + b"\x01",
    "field number 0": b"\x00\x00",
    "a length beyond the message": b"\x0a\x05abc",
    "a length of 2^32 - 1": b"\x0a" + varint((1 << 32) - 1) + b"abc",
    "a length of 2^63": b"\x0a" + varint(1 << 63) + b"abc",
    "a length of 2^64 - 1": b"\x0a" + varint((1 << 64) - 1) + b"abc",
    "a group, which proto3 has not": b"\x0b" * 1000,
    "wire type 7": b"\x0f\x00",
    "a fixed64 cut off": b"\x09\x00\x00",
    "the largest control, all ones": b"\xff" * CONTROL_BYTES_MAX,
}


@pytest.mark.parametrize("control", NO_MESSAGES.values(), ids=NO_MESSAGES)
@pytest.mark.parametrize("type", [type for type in OPERATIONS if type != APPEND], ids=OPERATIONS.get)
def test_control_that_is_no_message_fails_that_request_alone(connection, type, control):
    connection.send(frame(type, 5, control))
    with refused("bad_control"):
        connection.answer(5, "PingReply")
    connection.ping()


@pytest.mark.parametrize("control", NO_MESSAGES.values(), ids=NO_MESSAGES)
def test_an_append_that_is_no_message_fails_alone(connection, control):
    connection.send(frame(APPEND, 5, control))
    with refused("bad_control"):
        connection.answer(5, "AppendReply")
    connection.cancel(5)
    connection.ping()


@pytest.mark.parametrize("control", NO_MESSAGES.values(), ids=NO_MESSAGES)
def test_a_hello_that_is_no_message_ends_the_connection(daemon, control):
    with Connection(daemon.socket, hello=False) as raw:
        raw.send(frame(HELLO, 1, control))
        assert_ends(raw, "bad_control", "protocol")


@pytest.mark.parametrize("type", OPERATIONS, ids=OPERATIONS.get)
def test_random_control_is_answered_and_harms_nothing(daemon, type):
    generator = random.Random(type)
    with Connection(daemon.socket) as connection:
        for round in range(300):
            size = generator.choice([1, 2, 3, 10, 50, 1000])
            control = bytes(generator.randrange(256 if round % 2 else 32) for _ in range(size))
            connection.send(frame(type, 5, control))
            got = connection.receive()
            assert got.request_id == 5
            if type == APPEND:
                connection.cancel(5)
                if got.type == REPLY:
                    connection.receive()
    assert_serves(daemon)


@pytest.mark.parametrize("name,field", [
    ("empty geometries", b"\x1a\x00"),
    ("geometries with empty ropes", b"\x1a\x02\x32\x00"),
    ("levels", b"\x22\x02\x08\x00"),
    ("unknown messages", b"\xfa\x01\x00"),
    ("unknown numbers", b"\xf8\x01\x00"),
    ("empty names", b"\x0a\x00"),
])
def test_a_control_full_of_repeated_fields_is_answered(daemon, connection, name, field):
    control = field * (CONTROL_BYTES_MAX // len(field))
    connection.send(frame(OPEN, 5, control))
    with refused("bad_control", "invalid"):
        connection.answer(5, "OpenReply")
    connection.ping()
    assert_serves(daemon)


@pytest.mark.parametrize("type", [LIST, STATS, PING], ids=OPERATIONS.get)
def test_unknown_fields_are_ignored(connection, type):
    unknown = encode_field(1000, "uint", 7) + encode_field(1001, "bytes", b"x" * 100) + \
        encode_field(1002, "double", 1.0)
    connection.send(frame(type, 5, unknown))
    assert connection.receive().type == REPLY


BAD_NAMES = {
    "empty": b"",
    "256 bytes": b"n" * 256,
    "65,000 bytes": b"n" * 65000,
    "NUL": b"chat\0",
    "NUL alone": b"\0",
    "newline": b"a\nb",
    "0x1f": b"a\x1f",
    "DEL": b"a\x7fb",
    "0xff": b"\xff",
    "a sequence cut off": b"a\xc3",
    "an overlong slash": b"\xc0\xaf",
    "an overlong NUL": b"\xc0\x80",
    "a surrogate": b"\xed\xa0\x80",
    "beyond U+10FFFF": b"\xf4\x90\x80\x80",
    "five bytes": b"\xf8\x88\x80\x80\x80",
    "a continuation alone": b"a\x80",
}
GOOD_NAMES = {
    "one byte": b"a",
    "255 bytes": b"n" * 255,
    "a space": b" ",
    "two bytes a letter": "über".encode(),
    "three": "会話".encode(),
    "four": "💬".encode(),
    "U+10FFFF": "\U0010ffff".encode(),
    "slashes and dots": b"../../etc/passwd",
    "a format": b"%s%n",
}


@pytest.mark.parametrize("name", BAD_NAMES.values(), ids=BAD_NAMES)
@pytest.mark.parametrize("type", [OPEN, APPEND, FETCH, INFO, DELETE], ids=OPERATIONS.get)
def test_a_name_that_cannot_be_is_invalid(connection, type, name):
    fields = {OPEN: {"model": b"model", "geometry": TINY}, APPEND: {"tokens": 1}}.get(type, {})
    with refused("invalid"):
        connection.call(type, OPERATIONS[type], session=name, **fields)


@pytest.mark.parametrize("name", GOOD_NAMES.values(), ids=GOOD_NAMES)
def test_a_name_that_can_be_names_a_session(connection, name):
    stored(connection, name, TINY, 2)
    assert connection.info(name).session == name
    assert [session.session for session in connection.list().sessions] == [name]
    connection.delete(name)


@pytest.mark.parametrize("name", [b"chat\0", b"chat\0more"])
def test_a_name_with_a_nul_is_not_the_name_before_it(connection, name):
    stored(connection, b"chat", TINY, 2)
    for call in (connection.info, connection.fetch, connection.delete):
        with refused("invalid"):
            call(name)
    assert connection.info(b"chat").tokens == 2


def test_names_that_begin_alike_are_different_sessions(connection):
    for length in range(1, 20):
        stored(connection, b"a" * length, TINY, length)
    for length in range(1, 20):
        assert connection.info(b"a" * length).tokens == length


@pytest.mark.parametrize("model", [b"", b"m" * 256])
def test_a_fingerprint_that_cannot_be_is_invalid(connection, model):
    with refused("invalid"):
        connection.open(b"chat", model=model, geometry=TINY)


@pytest.mark.parametrize("model", [b"m", b"m" * 255])
def test_a_fingerprint_of_1_to_255_bytes_is_kept(connection, model):
    assert connection.open(b"chat", model=model, geometry=TINY).model == model


MAX32 = (1 << 32) - 1
BAD_GEOMETRIES = {
    "0 layers": Geometry(0, 1, 8, 8),
    "0 heads": Geometry(1, 0, 8, 8),
    "0 dims of K": Geometry(1, 1, 0, 8),
    "no K and no V": Geometry(1, 1, 0, 0),
    "dtype unset": Geometry(1, 1, 8, 8, 0),
    "dtype 9": Geometry(1, 1, 8, 8, 9),
    "dtype 2^31": Geometry(1, 1, 8, 8, 1 << 31),
    "more rotated dims than there are": Geometry(
        1, 1, 8, 8, F16, SimpleNamespace(pairing=1, theta=10000.0, dims=9)),
    "pairing 3": Geometry(1, 1, 8, 8, F16, SimpleNamespace(pairing=3, theta=10000.0, dims=8)),
}
TOO_LARGE_GEOMETRIES = {
    "a token of K beyond a page": Geometry(1, 1, (1 << 18) + 1, 0),
    "a token of V beyond a page": Geometry(1, 1, 8, (1 << 18) + 1),
    "heads x dims is 2^32": Geometry(1, 1 << 16, 1 << 16, 0),
    "heads x dims is 2^32 + 2^16": Geometry(1, (1 << 16) + 1, 1 << 16, 8),
    "heads x dims x 4 is 2^32": Geometry(1, 1 << 15, 1 << 15, 1 << 15),
    "heads x dims is 2^63": Geometry(1, 1 << 31, 1 << 31, 1 << 31),
    "layers x heads x dims is 2^64": Geometry(1 << 31, 1 << 17, 1 << 16, 0),
    "2^32 - 1 layers": Geometry(MAX32, 1, 8, 8),
    "2^31 layers": Geometry(1 << 31, 1, 8, 8),
    "2^32 - 1 of everything": Geometry(MAX32, MAX32, MAX32, MAX32),
    "K of a page, V of 2^32 - 1": Geometry(1, 1, 8, MAX32),
}


@pytest.mark.parametrize("geometry", BAD_GEOMETRIES.values(), ids=BAD_GEOMETRIES)
def test_a_geometry_that_cannot_be_is_invalid(connection, geometry):
    with refused("invalid"):
        connection.open(b"chat", geometry=geometry)
    with refused("miss"):
        connection.info(b"chat")


@pytest.mark.parametrize("geometry", TOO_LARGE_GEOMETRIES.values(), ids=TOO_LARGE_GEOMETRIES)
def test_a_geometry_beyond_what_can_be_held_is_unsupported(connection, geometry):
    with refused("unsupported"):
        connection.open(b"chat", geometry=geometry)
    with refused("miss"):
        connection.info(b"chat")


@pytest.mark.memory("64M")
def test_a_raw_chunk_above_an_eighth_of_the_limit_is_unsupported(connection):
    chunk = Geometry(layers=32, heads=4, head_dim_k=128, head_dim_v=128)  # 128 tokens: exactly 8 MiB
    connection.open(b"an eighth", geometry=chunk)
    with refused("unsupported"):
        connection.open(b"more", geometry=Geometry(33, 4, 128, 128))
    with refused("unsupported"):
        connection.open(b"float32", geometry=Geometry(32, 4, 128, 128, F32))


@pytest.mark.parametrize("heads,head_dim_k,head_dim_v,page_tokens", [
    (1, 1, 0, 128), (3, 64, 64, 128), (8, 128, 128, 128), (8, 256, 256, 128), (8, 257, 0, 64),
    (8, 128, 257, 64), (8, 1024, 1024, 32), (1, 1 << 18, 0, 1), (1, 1 << 17, 8, 2)])
def test_a_page_is_the_largest_power_of_two_of_tokens_within_a_mebibyte(
        connection, heads, head_dim_k, head_dim_v, page_tokens):
    session = connection.open(b"chat", geometry=Geometry(1, heads, head_dim_k, head_dim_v))
    assert session.page_tokens == page_tokens


@pytest.mark.parametrize("level", [-3, 6, 1 << 30, -(1 << 31)])
def test_a_level_that_is_none_is_invalid(connection, level):
    with refused("invalid"):
        connection.open(b"chat", geometry=TINY, level=level)


@pytest.mark.parametrize("level", range(-2, 6))
def test_a_session_has_the_level_it_was_opened_with(connection, level):
    assert connection.open(b"chat", geometry=TINY, level=level).level == level
    assert connection.info(b"chat").level == level


def test_a_mode_that_is_none_is_invalid(connection):
    with refused("invalid"):
        connection.open(b"chat", geometry=TINY, mode=3)


def test_creating_without_a_geometry_is_invalid(connection):
    with refused("invalid"):
        connection.open(b"chat")


@pytest.mark.parametrize("fields", [{"dtype": 9}, {"dtype": 1 << 31}, {"layout": 2}])
def test_a_fetch_of_a_dtype_or_layout_that_is_none_is_invalid(connection, fields):
    stored(connection, b"chat", TINY, 3)
    with refused("invalid"):
        connection.fetch(b"chat", **fields)


def test_an_append_in_a_layout_that_is_none_is_invalid(connection):
    session = connection.open(b"chat", geometry=TINY)
    request_id = session.begin(1, layout=2)
    with refused("invalid"):
        connection.answer(request_id, "AppendReply")
    connection.cancel(request_id)
    connection.ping()
