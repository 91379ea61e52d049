"""One append sent by several connections."""

import os
import threading
import time

import pytest
from wire import APPEND, COMMIT, OPEN_EXISTING, Connection, Refused, data_frame, frame
from wire_support import (SMALL, append, assert_holds, assert_serves, bits, connection,  # noqa: F401
                          packed, refused, wait_until)

TOKENS = 700


@pytest.fixture
def group(daemon, connection):
    group = Group(daemon.socket)
    yield group
    group.close()


class Group:
    """Connections with the same session open, and one append of theirs."""

    def __init__(self, path, count=2, level=-2, tail=0):
        self.connections = [Connection(path) for _ in range(count)]
        self.sessions = [connection.open(b"chat", geometry=SMALL, level=level)
                         for connection in self.connections]
        self.group = os.urandom(16)
        self.tokens = TOKENS

    def begin(self, number, **fields):
        fields = {"group": self.group, "group_connections": len(self.sessions), **fields}
        return self.sessions[number].begin(self.tokens, **fields)

    def close(self):
        for connection in self.connections:
            connection.close()

    def pieces(self, number):
        """Every run is sent by one of them, in turn."""
        pieces = list(self.sessions[number].pieces(self.tokens))
        runs = sorted({piece[0] for piece in pieces})
        return [piece for piece in pieces if runs.index(piece[0]) % len(self.sessions) == number]

    def send(self, number, request_id, arrays):
        for piece in self.pieces(number):
            self.sessions[number].send_piece(request_id, packed(arrays), piece)

    def send_commit(self, number, request_id):
        self.connections[number].send(frame(COMMIT, request_id))


def joined_append(group, arrays, **fields):
    ids = [group.begin(number, **fields) for number in range(len(group.sessions))]
    for number, request_id in enumerate(ids):
        group.send(number, request_id, arrays)
        group.send_commit(number, request_id)
    return [connection.answer(request_id, "AppendReply")
            for connection, request_id in zip(group.connections, ids)]


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("settle", [False, True])
def test_all_get_the_same_reply_and_the_session_holds_what_each_sent(daemon, connection, count, settle):
    group, arrays = Group(daemon.socket, count), bits(SMALL, TOKENS)
    replies = joined_append(group, arrays, settle=settle)
    assert all(reply == replies[0] for reply in replies)
    assert (replies[0].tokens, replies[0].tail_tokens) == (TOKENS, 0 if settle else TOKENS % 128)
    assert_holds(connection.open(b"chat", model=b"", mode=OPEN_EXISTING), arrays)
    assert connection.stats().appended_tokens == TOKENS
    group.close()


def test_a_joint_append_fills_the_tail_and_that_of_a_fork_too(daemon, connection):
    first, more = bits(SMALL, 200), bits(SMALL, TOKENS, 1)
    append(connection.open(b"chat", geometry=SMALL, level=-2), first)
    connection.fork(b"chat", b"fork")
    append(connection.open(b"fork", model=b"", mode=OPEN_EXISTING), bits(SMALL, 3, 2))
    group = Group(daemon.socket)
    assert group.sessions[0].tail_tokens == 72
    joined_append(group, more)
    (kv, _) = connection.open(b"chat", model=b"", mode=OPEN_EXISTING).fetch(first=200)
    assert kv == packed(more)
    group.close()


def test_members_that_send_at_the_same_time(daemon, connection):
    for seed in range(5):
        group, arrays = Group(daemon.socket, 4), bits(SMALL, TOKENS, seed)
        replies = [None] * 4

        def work(number):
            request_id = group.begin(number)
            group.send(number, request_id, arrays)
            group.send_commit(number, request_id)
            replies[number] = group.connections[number].answer(request_id, "AppendReply")

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(replies)
        assert_holds(connection.open(b"chat", model=b"", mode=OPEN_EXISTING), arrays)
        connection.delete(b"chat")
        group.close()


def test_nothing_is_visible_before_the_last_commit(group, connection):
    arrays = bits(SMALL, TOKENS)
    ids = [group.begin(0), group.begin(1)]
    for number in (0, 1):
        group.send(number, ids[number], arrays)
    group.send_commit(0, ids[0])
    group.connections[0].ping()
    assert connection.info(b"chat").tokens == 0
    group.send_commit(1, ids[1])
    assert group.connections[1].answer(ids[1], "AppendReply").tokens == TOKENS
    assert group.connections[0].answer(ids[0], "AppendReply").tokens == TOKENS


@pytest.mark.parametrize("how", ["lost", "cancelled", "refused"])
@pytest.mark.parametrize("committed", [False, True])
def test_one_that_ends_before_ends_it_for_all(group, connection, how, committed):
    arrays = bits(SMALL, TOKENS)
    ids = [group.begin(0), group.begin(1)]
    group.send(0, ids[0], arrays)
    if committed:
        group.send_commit(0, ids[0])
    group.connections[0].ping()
    if how == "lost":
        group.connections[1].close()
    elif how == "cancelled":
        group.connections[1].cancel(ids[1])
    else:
        group.connections[1].send(data_frame(ids[1], 5, 1, 0, 0, b""))
    if not committed:
        wait_until(lambda: connection.stats().connections == (2 if how == "lost" else 3))
        time.sleep(0.05)
        group.send_commit(0, ids[0])
    with refused("cancelled"):
        group.connections[0].answer(ids[0], "AppendReply")
    if how != "lost":
        with refused("cancelled" if how == "cancelled" else "invalid"):
            group.connections[1].answer(ids[1], "AppendReply")
        if how == "refused":
            group.connections[1].cancel(ids[1])
    wait_until(lambda: connection.stats().memory.tails_bytes == 0)
    assert connection.info(b"chat").tokens == 0
    again = bits(SMALL, 10, 1)
    append(connection.open(b"chat", geometry=SMALL), again)
    assert_holds(connection.open(b"chat", geometry=SMALL), again)


def test_one_that_never_comes_is_not_waited_for(group, connection):
    request_id = group.begin(0, wait_ms=200)
    group.send(0, request_id, bits(SMALL, TOKENS))
    start = time.monotonic()
    group.send_commit(0, request_id)
    with refused("incomplete"):
        group.connections[0].answer(request_id, "AppendReply")
    assert 0.1 < time.monotonic() - start < 30
    append(connection.open(b"chat", geometry=SMALL), bits(SMALL, 10))


def test_a_run_comes_on_one_connection(group):
    arrays = packed(bits(SMALL, TOKENS))
    ids = [group.begin(0), group.begin(1)]
    pieces = list(group.sessions[0].pieces(TOKENS))
    group.sessions[0].send_piece(ids[0], arrays, pieces[0])
    group.connections[0].ping()
    group.sessions[1].send_piece(ids[1], arrays, pieces[1])
    with refused("invalid"):
        group.connections[1].answer(ids[1], "AppendReply")


def test_parts_that_no_connection_sent_are_missed(group):
    ids = [group.begin(0), group.begin(1)]
    group.send(0, ids[0], bits(SMALL, TOKENS))
    for number in (0, 1):
        group.send_commit(number, ids[number])
    names = set()
    for number in (0, 1):
        with pytest.raises(Refused) as caught:
            group.connections[number].answer(ids[number], "AppendReply")
        names.add(caught.value.name)
    assert names == {"incomplete", "cancelled"}


@pytest.mark.parametrize("fields", [{"tokens": TOKENS + 1}, {"first": 1}, {"tail_tokens": 1}, {"settle": True},
                                    {"group_connections": 3}])
def test_who_says_something_else_than_the_first_is_refused(group, fields):
    group.begin(0)
    group.connections[0].ping()
    fields = {"first": 0, "tokens": TOKENS, "tail_tokens": 0, "group": group.group, "group_connections": 2,
              **fields}
    request_id = group.connections[1].request(APPEND, "AppendRequest", session=b"chat", **fields)
    with refused("invalid"):
        group.connections[1].answer(request_id, "AppendReply")


def test_another_group_or_one_too_many_is_busy(group, connection):
    group.begin(0)
    group.begin(1)
    for number in (0, 1):
        group.connections[number].ping()
    for name in (group.group, os.urandom(16), b""):
        request_id = connection.request(APPEND, "AppendRequest", session=b"chat", tokens=TOKENS, group=name,
                                        group_connections=2 if name else 0)
        with refused("busy"):
            connection.answer(request_id, "AppendReply")
        connection.cancel(request_id)


@pytest.mark.parametrize("fields", [{"group": b"short", "group_connections": 2}, {"group_connections": 2},
                                    {"group": bytes(16)}, {"group": bytes(16), "group_connections": 65}])
def test_a_group_that_is_none_is_invalid(connection, fields):
    connection.open(b"chat", geometry=SMALL)
    request_id = connection.request(APPEND, "AppendRequest", session=b"chat", tokens=1, **fields)
    with refused("invalid"):
        connection.answer(request_id, "AppendReply")


def test_a_session_deleted_meanwhile_is_nobodys(daemon, group, connection):
    arrays = bits(SMALL, TOKENS)
    ids = [group.begin(0), group.begin(1)]
    for number in (0, 1):
        group.send(number, ids[number], arrays)
    for number in (0, 1):
        group.connections[number].ping()
    connection.delete(b"chat")
    for number in (0, 1):
        group.send_commit(number, ids[number])
    for number in (0, 1):
        with refused("miss", "cancelled"):
            group.connections[number].answer(ids[number], "AppendReply")
    assert_serves(daemon)
