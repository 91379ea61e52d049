"""Attachments: small blobs with a session, from frame to frame."""

import pytest
from wire import (ATTACH_GET, ATTACH_PUT, ATTACHMENT_PIECE_BYTES, BYTES, COMMIT, DATA, DRAINED, EXACT, NORMAL,
                  OPEN_EXISTING, READ_ONLY, Connection, Refused, data_frame, frame)
from wire_support import (SMALL, append, assert_serves, bits, connection, drain, noise, refused,  # noqa: F401
                          wait_until)

PIECE = ATTACHMENT_PIECE_BYTES
MOST_BYTES, MOST = 16 << 20, 64


@pytest.fixture
def session(connection):
    session = connection.open(b"a", geometry=SMALL, level=EXACT)
    append(session, bits(SMALL, 200))
    return session


@pytest.mark.parametrize("count", [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 77, MOST_BYTES])
def test_what_was_attached_is_had_back_to_the_byte(connection, session, count):
    data = noise(count)
    put = connection.attach(b"a", b"x", data)
    got, reply = connection.attachment(b"a", b"x")
    assert got == data
    assert (reply.version, reply.tokens) == (put.version, 200)
    assert put.version > session.version
    assert put.stored_bytes >= count


def test_what_can_be_compressed_takes_less(connection, session):
    assert connection.attach(b"a", b"x", b"again and " * 100_000).stored_bytes < 20_000


def test_a_list_says_what_there_is_by_name(connection, session):
    assert connection.attachments(b"a").attachments == []
    for name in (b"b", b"a", "ä".encode(), b"ab"):
        put = connection.attach(b"a", name, noise(10 * len(name)))
    reply = connection.attachments(b"a")
    assert [(row.name, row.bytes, row.tokens) for row in reply.attachments] == [
        (b"a", 10, 200), (b"ab", 20, 200), (b"b", 10, 200), ("ä".encode(), 20, 200)]
    assert reply.version == put.version
    assert all(row.stored_bytes > 4096 for row in reply.attachments)


def test_the_longest_names_of_the_most_attachments_are_listed(connection, session):
    names = [b"%03d" % i + b"n" * 252 for i in range(MOST)]
    for name in names:
        connection.attach(b"a", name, b"")
    assert [row.name for row in connection.attachments(b"a").attachments] == names
    with refused("unsupported"):
        connection.attach(b"a", b"one more", b"x")
    connection.attach(b"a", names[3], b"in its place")
    assert connection.attachment(b"a", names[3])[0] == b"in its place"


def test_deleted_is_deleted(connection, session):
    connection.attach(b"a", b"x", noise(100_000))
    reply = connection.detach(b"a", b"x")
    assert reply.freed_bytes > 100_000
    assert connection.info(b"a").version == reply.version
    with refused("miss") as caught:
        connection.attachment(b"a", b"x")
    assert "attachment" in str(caught.value)
    with refused("miss"):
        connection.detach(b"a", b"x")


def test_without_the_session_it_is_a_miss_that_says_so(connection):
    for call in (lambda: connection.attach(b"b", b"x", b"1"), lambda: connection.attachment(b"b", b"x"),
                 lambda: connection.attachments(b"b"), lambda: connection.detach(b"b", b"x")):
        with refused("miss") as caught:
            call()
        assert "session" in str(caught.value)


def test_another_version_is_refused(connection, session):
    version = connection.info(b"a").version
    with refused("version_changed"):
        connection.attach(b"a", b"x", b"1", if_version=version + 1)
    version = connection.attach(b"a", b"x", b"1", if_version=version).version
    assert connection.attachment(b"a", b"x", if_version=version)[0] == b"1"
    for call in (connection.attachment, connection.detach):
        with refused("version_changed"):
            call(b"a", b"x", if_version=version - 1)
    connection.detach(b"a", b"x", if_version=version)


@pytest.mark.parametrize("name", [b"", b"n" * 256, b"a\nb", b"\xff", b"\0"])
def test_names_that_cannot_be_are_refused(connection, session, name):
    with refused("invalid"):
        connection.attach(b"a", name, b"1")
    for call in (connection.attachment, connection.detach):
        with refused("invalid"):
            call(b"a", name)


@pytest.mark.parametrize("count", [MOST_BYTES + 1, 2**32, 2**64 - 1])
def test_more_bytes_than_one_has_are_refused_before_any_come(connection, session, count):
    used = connection.stats().used_bytes
    with refused("too_large"):
        connection.answer(connection.request(ATTACH_PUT, "AttachPutRequest", session=b"a", name=b"x", bytes=count),
                          "AttachPutReply")
    assert connection.stats().used_bytes <= used + (1 << 20)


@pytest.mark.parametrize("first, count, layer, part, payload_bytes", [
    (1, PIECE, 0, BYTES, PIECE), (0, PIECE, 1, BYTES, PIECE), (0, PIECE, 0, 0, PIECE), (0, PIECE, 0, 2, PIECE),
    (0, PIECE - 1, 0, BYTES, PIECE), (0, PIECE - 1, 0, BYTES, PIECE - 1), (0, PIECE + 1, 0, BYTES, PIECE + 1),
    (0, 0, 0, BYTES, 0), (PIECE, 10, 0, BYTES, 10), (2**64 - 1, PIECE, 0, BYTES, PIECE)])
def test_data_that_is_not_the_next_piece_is_refused(connection, session, first, count, layer, part, payload_bytes):
    request_id = connection.request(ATTACH_PUT, "AttachPutRequest", session=b"a", name=b"x", bytes=PIECE + 10)
    connection.send(data_frame(request_id, first, count, layer, part, bytes(payload_bytes)))
    connection.send(frame(COMMIT, request_id))
    with refused("invalid"):
        connection.answer(request_id, "AttachPutReply")
    with refused("miss"):
        connection.attachment(b"a", b"x")


@pytest.mark.parametrize("pieces", [0, 1])
def test_a_commit_before_all_came_is_incomplete(connection, session, pieces):
    request_id = connection.request(ATTACH_PUT, "AttachPutRequest", session=b"a", name=b"x", bytes=PIECE + 1)
    connection.send_attachment(request_id, bytes(pieces * PIECE))
    connection.send(frame(COMMIT, request_id))
    with refused("incomplete"):
        connection.answer(request_id, "AttachPutReply")
    connection.ping()


def test_a_piece_too_many_is_refused(connection, session):
    request_id = connection.request(ATTACH_PUT, "AttachPutRequest", session=b"a", name=b"x", bytes=1)
    connection.send_attachment(request_id, b"1")
    connection.send_attachment(request_id, b"2")
    connection.send(frame(COMMIT, request_id))
    with refused("invalid"):
        connection.answer(request_id, "AttachPutReply")


def test_bytes_are_no_part_of_an_append(connection, session):
    request_id = session.begin(1)
    connection.send(data_frame(request_id, 200, 1, 0, BYTES, bytes(SMALL.token_bytes(0))))
    connection.send(frame(COMMIT, request_id))
    with refused("invalid"):
        connection.answer(request_id, "AppendReply")


def test_a_put_that_is_cancelled_or_cut_off_leaves_what_was_there(daemon, connection, session):
    connection.attach(b"a", b"x", b"before")
    request_id = connection.request(ATTACH_PUT, "AttachPutRequest", session=b"a", name=b"x", bytes=2 * PIECE)
    connection.send_attachment(request_id, noise(PIECE))
    connection.cancel(request_id)
    with refused("cancelled"):
        connection.answer(request_id, "AttachPutReply")
    with Connection(daemon.socket) as other:
        request_id = other.request(ATTACH_PUT, "AttachPutRequest", session=b"a", name=b"x", bytes=2 * PIECE)
        other.send_attachment(request_id, noise(PIECE))
        other.ping()
    assert connection.attachment(b"a", b"x")[0] == b"before"
    wait_until(lambda: connection.stats().connections == 1)
    assert connection.stats().attachments.attachments == 1


def test_a_get_that_is_left_halfway_leaves_the_daemon_serving(daemon, connection, session):
    connection.attach(b"a", b"x", noise(MOST_BYTES))
    with Connection(daemon.socket) as other:
        other.request(ATTACH_GET, "AttachGetRequest", session=b"a", name=b"x")
        assert other.receive().type == DATA
    assert_serves(daemon)
    assert connection.attachment(b"a", b"x")[0] == noise(MOST_BYTES)


def test_a_get_that_is_read_slowly_ends_with_a_miss_when_it_is_deleted(daemon, connection, session):
    connection.attach(b"a", b"x", noise(MOST_BYTES))
    with Connection(daemon.socket) as other:
        request_id = other.request(ATTACH_GET, "AttachGetRequest", session=b"a", name=b"x")
        assert other.receive().type == DATA
        connection.delete(b"a")
        with refused("miss"):
            raise Refused(drain(other, request_id)[-1].control)


def test_a_fork_has_what_its_source_has(connection, session):
    connection.attach(b"a", b"early", b"1")
    append(session, bits(SMALL, 100, 1))
    connection.attach(b"a", b"late", b"2")
    connection.fork(b"a", b"all")
    connection.fork(b"a", b"part", 250)
    assert [row.name for row in connection.attachments(b"all").attachments] == [b"early", b"late"]
    assert [row.name for row in connection.attachments(b"part").attachments] == [b"early"]
    connection.attach(b"a", b"early", b"3")
    connection.delete(b"a")
    assert connection.attachment(b"all", b"early")[0] == b"1"


def test_a_truncation_to_nothing_deletes_them(connection, session):
    connection.attach(b"a", b"x", b"1")
    connection.truncate(b"a", 1)
    assert connection.attachment(b"a", b"x")[1].tokens == 200
    connection.truncate(b"a", 0)
    assert connection.attachments(b"a").attachments == []
    assert connection.stats().attachments.attachments == 0


def test_info_and_statistics_count_them(connection, session):
    before = connection.info(b"a")
    assert (before.attachments.count, before.attachments.bytes) == (0, 0)
    connection.attach(b"a", b"x", noise(100_000))
    connection.attach(b"a", b"y", b"")
    connection.fork(b"a", b"b")
    info, stats = connection.info(b"a"), connection.stats()
    assert (info.attachments.count, info.attachments.bytes) == (2, 100_000)
    assert info.attachments.stored_bytes > 100_000
    assert info.stored_bytes - before.stored_bytes > info.attachments.stored_bytes
    assert (stats.attachments.attachments, stats.attachments.bytes) == (2, 100_000)
    assert stats.attachments.stored_bytes == info.attachments.stored_bytes < stats.memory.sessions_bytes
    connection.attachment(b"a", b"x")
    with refused("miss"):
        connection.attachment(b"a", b"z")
    stats = connection.stats().attachments
    assert (stats.put, stats.hits, stats.misses, stats.damaged) == (2, 1, 1, 0)


def test_attachments_are_held_by_the_limit_too(start_daemon):
    daemon = start_daemon(memory="64M")
    with Connection(daemon.socket) as connection:
        connection.open(b"a", geometry=SMALL)
        connection.pin(b"a", 3_600_000)
        taken = 0
        with refused("full"):
            for number in range(MOST):
                connection.attach(b"a", b"%d" % number, noise(4 << 20), wait_ms=1)
                taken += 1
        stats = connection.stats()
        assert taken > 5 and stats.used_bytes <= stats.limit_bytes
        for number in range(taken):
            assert connection.attachment(b"a", b"%d" % number)[0] == noise(4 << 20)
        connection.delete(b"a")
        assert connection.stats().attachments.stored_bytes == 0


def test_sessions_are_evicted_to_make_room_for_one(start_daemon):
    daemon = start_daemon(memory="64M")
    with Connection(daemon.socket) as connection:
        connection.open(b"old", geometry=SMALL)
        for number in range(8):  # below the high mark
            connection.attach(b"old", b"%d" % number, noise(4 << 20), wait_ms=20_000)
        connection.open(b"new", geometry=SMALL)
        connection.pin(b"new", 3_600_000)
        for number in range(8):
            connection.attach(b"new", b"%d" % number, noise(4 << 20), wait_ms=20_000)
        with refused("miss"):
            connection.open(b"old", mode=OPEN_EXISTING)


def test_a_drained_daemon_takes_none_and_a_read_only_one_deletes_none(connection, session):
    connection.attach(b"a", b"x", b"1")
    connection.control(state=DRAINED)
    with refused("read_only"):
        connection.attach(b"a", b"y", b"2")
    connection.control(state=READ_ONLY)
    with refused("read_only"):
        connection.detach(b"a", b"x")
    assert connection.attachment(b"a", b"x")[0] == b"1"
    connection.control(state=NORMAL)
    connection.detach(b"a", b"x")


