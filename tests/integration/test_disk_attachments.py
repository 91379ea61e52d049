"""Attachments on disk: durable ones outlast kill -9, all of them a restart, and damage is a miss."""

import pytest
from conftest import Command
from disk_support import assert_has, disk, put, values
from wire import EXACT, IN_MEMORY, ON_DISK, OPEN_EXISTING
from wire_support import SMALL, append, noise, refused, wait_until

__all__ = ["disk"]

LONG = 600_000  # three pieces


DATA = {b"empty": b"", b"text": b"again and " * 60_000, b"noise": noise(LONG)}


def attach_all(connection, name, data=None):
    for attachment, content in (data or DATA).items():
        connection.attach(name, attachment, content)


def assert_has_all(connection, name, data=None):
    data = data or DATA
    assert [row.name for row in connection.attachments(name).attachments] == sorted(data)
    for attachment, content in data.items():
        assert connection.attachment(name, attachment)[0] == content


@pytest.mark.parametrize("key", [False, True], ids=["plain", "encrypted"])
def test_they_come_back_after_a_restart_without_taking_memory_before(disk, tmp_path, key):
    options = {"disk_key": tmp_path / "key"} if key else {}
    if key:
        options["disk_key"].write_bytes(noise(32))
        options["disk_key"].chmod(0o600)
    disk.start(**options)
    with disk.connect() as connection:
        put(connection, b"a", 300)
        attach_all(connection, b"a")
        before = connection.attachments(b"a")
    disk.restart(**options)
    with disk.connect() as connection:
        reply = connection.attachments(b"a")
        assert reply.version == before.version
        assert [(row.bytes, row.tokens) for row in reply.attachments] == [
            (row.bytes, row.tokens) for row in before.attachments]
        assert all(row.stored_bytes < 4096 for row in reply.attachments)
        assert_has(connection, b"a", 300)
        assert_has_all(connection, b"a")
        assert connection.stats().attachments.bytes == sum(map(len, DATA.values()))


def test_a_durable_one_outlasts_kill_9_as_does_its_end(disk):
    disk.start()
    with disk.connect() as connection:
        put(connection, b"a", 10, durability=ON_DISK)
        attach_all(connection, b"a")
        connection.attach(b"a", b"text", b"instead")
        connection.detach(b"a", b"empty")
    disk.crash()
    with disk.connect() as connection:
        assert_has(connection, b"a", 10)
        assert_has_all(connection, b"a", {b"text": b"instead", b"noise": DATA[b"noise"]})


def test_one_in_memory_may_be_lost_and_never_is_another(disk):
    disk.start()
    with disk.connect() as connection:
        put(connection, b"a", 10)
        connection.attach(b"a", b"kept", b"1")
        connection.flush(b"a")
        connection.attach(b"a", b"lost", b"2")
    disk.crash()
    with disk.connect() as connection:
        assert_has_all(connection, b"a", {b"kept": b"1"})


@pytest.mark.parametrize("change", ["delete", "replace"])
def test_what_was_deleted_or_replaced_does_not_come_back(disk, change):
    disk.start()
    with disk.connect() as connection:
        put(connection, b"a", 10, durability=IN_MEMORY)
        connection.attach(b"a", b"x", b"1")
        connection.flush(b"a")
        if change == "delete":
            connection.detach(b"a", b"x")
        else:
            connection.attach(b"a", b"x", b"2")
    disk.crash()
    with disk.connect() as connection:
        if change == "delete":
            assert connection.attachments(b"a").attachments == []
        else:
            assert connection.attachment(b"a", b"x")[0] == b"2"


def test_a_session_of_attachments_alone_comes_back(disk):
    disk.start()
    with disk.connect() as connection:
        connection.open(b"a", geometry=SMALL)
        attach_all(connection, b"a")
    disk.restart()
    with disk.connect() as connection:
        assert_has_all(connection, b"a")


def test_a_fork_shares_them_after_a_restart_too(disk):
    disk.start()
    with disk.connect() as connection:
        put(connection, b"a", 10)
        attach_all(connection, b"a")
        connection.fork(b"a", b"b")
    disk.restart()
    with disk.connect() as connection:
        assert_has_all(connection, b"a")
        assert connection.stats().attachments.attachments == len(DATA)
        connection.delete(b"a")
        assert_has_all(connection, b"b")


def test_they_go_to_disk_with_their_sessions_and_come_back_when_asked_for(disk):
    disk.start()
    content = {b"%d" % number: noise(1 << 20, number) for number in range(16)}
    with disk.connect() as connection:
        for name in (b"a", b"b", b"c", b"d", b"e", b"f"):
            connection.open(name, geometry=SMALL, level=EXACT)
            for attachment, data in content.items():
                connection.attach(name, attachment, data, wait_ms=20_000)
        stats = connection.stats()
        assert stats.disk.spilled_bytes > 16 << 20
        assert stats.pressure.evicted_sessions == 0
        for name in (b"a", b"f", b"c"):
            assert_has_all(connection, name, content)
        stats = connection.stats()
        assert stats.disk.loaded_bytes > 16 << 20
        assert stats.used_bytes <= stats.limit_bytes


def test_what_a_deleted_session_had_is_forgotten(disk):
    disk.start()
    with disk.connect() as connection:
        put(connection, b"a", 10, durability=ON_DISK)
        attach_all(connection, b"a")
        live = connection.stats().disk.live_bytes
        connection.delete(b"a")
        wait_until(lambda: connection.stats().disk.live_bytes < live - LONG)


def test_one_that_is_damaged_on_disk_is_a_miss_and_counted_and_others_are_there(disk):
    disk.start()
    with disk.connect() as connection:
        put(connection, b"a", 300)
        attach_all(connection, b"a")
    assert disk.daemon.stop() == 0
    disk.damage(noise(LONG)[:1000])
    disk.start()
    with disk.connect() as connection:
        with refused("miss"):
            connection.attachment(b"a", b"noise")
        assert connection.stats().disk.failed_loads == 1
        assert "times a value on disk was damaged" in Command(disk.daemon.socket)("status").stdout
        with refused("miss"):
            connection.attachment(b"a", b"noise")
        assert connection.attachment(b"a", b"text")[0] == DATA[b"text"]
        assert_has(connection, b"a", 300)
        connection.flush(b"a")
        connection.attach(b"a", b"noise", b"anew")
        assert connection.attachment(b"a", b"noise")[0] == b"anew"


def test_an_append_and_a_put_on_the_way_to_disk_at_once_are_both_there(disk):
    disk.start()
    with disk.connect() as connection, disk.connect() as other:
        session = put(connection, b"a", 10, durability=ON_DISK)
        for number in range(20):
            append(session, tuple(part[:, session.tokens:] for part in values(session.tokens + 5)))
            other.attach(b"a", b"%d" % number, noise(1000, number))
    disk.crash()
    with disk.connect() as connection:
        assert_has(connection, b"a", 110)
        assert_has_all(connection, b"a", {b"%d" % number: noise(1000, number) for number in range(20)})
        assert connection.open(b"a", mode=OPEN_EXISTING).version == connection.attachments(b"a").version
