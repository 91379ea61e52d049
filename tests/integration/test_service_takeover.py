"""The pool lives on in the service manager's keeping: a restart loses nothing, and says so where it does."""

import contextlib
import os
import random
import signal
import socket
import struct
import subprocess
from types import SimpleNamespace

import pytest
from block_support import Blocks
from conftest import STOP_SECONDS, Command, activated, program
from disk_support import assert_has, put
from manager_support import POOL, TAKEOVER_COLD, TAKEOVER_DONE, TAKEOVER_NONE, service  # noqa: F401
from wire import DATA, EXACT, FAST8, FETCH, ON_DISK, OPEN_EXISTING, REPLY, SHARING_IDS, Refused
from wire_support import (LARGE, SMALL, WIDE, append, assert_holds, assert_serves, bits, drain,
                          gaussian_bits, packed, refused, stored, wait_until)


def test_sessions_stay_as_they_were_to_the_last_bit(service):
    service.start()
    with service.connect() as connection:
        for number in range(10):
            put(connection, b"%d" % number, 100 * number + 1, seed=number)
        session, _ = stored(connection, b"lossy", tokens=300, level=3)
        connection.age(b"lossy", 3)
        before, _ = session.fetch()
    service.restart()
    took = service.takeover()
    assert (took.outcome, took.sessions, took.tokens, took.cut_sessions) == (TAKEOVER_DONE, 11, 4810, 0)
    assert "took over 11 sessions of 4810 tokens" in service.log()
    with service.connect() as connection:
        for number in range(10):
            assert_has(connection, b"%d" % number, 100 * number + 1, seed=number)
        assert connection.open(b"lossy", mode=OPEN_EXISTING).fetch()[0] == before


def test_a_session_is_what_it_was(service):
    service.start()
    with service.connect() as connection:
        session, _ = stored(connection, b"a", tokens=300, level=2)
        connection.policy(b"a", ttl_ms=3_600_000, newest_tokens=100, newest_level=0)
        connection.pin(b"a", 3_600_000)
        before = session.info()
    service.restart()
    with service.connect() as connection:
        after = connection.info(b"a")
    for field in ("id", "version", "tokens", "tokens_available", "tail_tokens", "level", "logical_bytes", "values",
                  "model", "levels", "policy", "k", "v"):
        assert getattr(after, field) == getattr(before, field), field
    assert after.stored_bytes <= before.stored_bytes
    assert after.age_ms >= before.age_ms
    assert after.idle_ms >= before.idle_ms
    assert 0 < after.pinned_ms <= before.pinned_ms


def test_as_often_as_it_restarts_appends_go_on_and_memory_is_what_it_was(service):
    service.start()
    for tokens in (100, 28, 1, 171):
        with service.connect() as connection:
            put(connection, b"a", tokens)
            before = connection.stats().memory
        service.restart()
        with service.connect() as connection:
            after = connection.stats().memory
            assert after.pages_bytes == before.pages_bytes
            assert after.tails_bytes == before.tails_bytes
            assert after.sessions_bytes <= before.sessions_bytes
    with service.connect() as connection:
        assert_has(connection, b"a", 300)
        connection.delete(b"a")
        assert connection.stats().memory.pages_bytes == 0


def test_forks_share_chunks_and_tails_and_go_on_alone(service):
    service.start()
    with service.connect() as connection:
        put(connection, b"a", 1300)
        connection.fork(b"a", b"b")
        before = connection.info(b"b")
    service.restart()
    with service.connect() as connection:
        after = connection.info(b"b")
        assert (after.unique_bytes, after.stored_bytes) == (before.unique_bytes, before.stored_bytes)
        put(connection, b"a", 200)
        put(connection, b"b", 300)
        assert_has(connection, b"a", 1500)
        assert_has(connection, b"b", 1600)
        connection.delete(b"a")
        assert_has(connection, b"b", 1600)


def test_sessions_are_found_by_their_tokens_and_share_as_they_did(service):
    ids = random.Random(1).choices(range(50_000), k=300)
    salts = [SimpleNamespace(first=10, tokens=200, salt=b"cat")]
    service.start()
    with service.connect() as connection:
        session = connection.open(b"a", geometry=SMALL, level=EXACT, sharing=SHARING_IDS)
        session.append(300, packed(bits(SMALL, 300)), ids=ids, salts=salts)
    service.restart()
    with service.connect() as connection:
        reply = connection.match(b"model", ids, salts=salts)
        assert (reply.session, reply.tokens) == (b"a", 300)
        assert connection.match(b"model", ids).tokens == 10
        other = connection.open(b"b", geometry=SMALL, level=EXACT, sharing=SHARING_IDS)
        other.append(300, packed(bits(SMALL, 300)), ids=ids, salts=salts)
        wait_until(lambda: connection.stats().sharing.chunks == 2)


def test_blocks_are_found_by_their_keys_and_grow_on(service):
    first, second, third = (bits(SMALL, 64, seed) for seed in (1, 2, 3))
    service.start()
    with service.connect() as connection:
        blocks = Blocks(connection)
        blocks.put(b"1", first)
        blocks.put(b"2", second, parent=b"1")
        before = connection.stats().blocks
    service.restart()
    with service.connect() as connection:
        blocks = Blocks(connection)
        after = connection.stats().blocks
        assert (after.blocks, after.tokens, after.chains, after.index_bytes) == \
            (before.blocks, before.tokens, before.chains, before.index_bytes)
        blocks.put(b"3", third, parent=b"2")
        assert connection.stats().blocks.chains == 1
        came, _ = blocks.get([b"1", b"2", b"3", b"4"], 64)
        assert came == [packed(first), packed(second), packed(third), None]
        assert connection.list().sessions == []


def test_a_tail_that_was_coded_while_idle_comes_back_and_grows(service):
    service.start(tail_idle="1s")
    with service.connect() as connection:
        session = connection.open(b"a", geometry=SMALL, level=FAST8)
        append(session, gaussian_bits(SMALL, 50))
        wait_until(lambda: connection.stats().ageing.coded_tails == 1, 60)
        before, _ = session.fetch()
    service.restart(tail_idle="1h")
    with service.connect() as connection:
        assert connection.stats().memory.tails_bytes == 0
        session = connection.open(b"a", mode=OPEN_EXISTING)
        assert (session.tokens, session.fetch()[0]) == (50, before)
        append(session, gaussian_bits(SMALL, 100))
        assert session.fetch()[1].tokens == 150


def test_attachments_stay_with_their_sessions_and_forks(service, tmp_path):
    data = {b"sampler": random.Random(1).randbytes(600_000), b"empty": b"", b"ids": b"7" * 3_000}
    for options in ({}, {"disk": tmp_path / "disk", "save_on_exit": "no"}):
        service.start(**options)
        with service.connect() as connection:
            put(connection, b"a", 300)
            for name, content in data.items():
                connection.attach(b"a", name, content)
            connection.fork(b"a", b"b")
            before = connection.stats()
        service.restart(**options)
        with service.connect() as connection:
            after = connection.stats()
            assert after.takeover.cut_sessions == 0
            assert after.attachments.attachments == before.attachments.attachments == 3
            assert after.attachments.stored_bytes == before.attachments.stored_bytes
            for session in (b"a", b"b"):
                for name, content in data.items():
                    assert connection.attachment(session, name)[0] == content
            connection.delete(b"a")
            connection.delete(b"b")
        service.restart(**options)
        assert service.daemon.stop() == 0


def test_embeddings_stay_with_their_sessions_and_forks(service, tmp_path):
    vectors = [struct.pack("<4f", *(float(i == axis) for i in range(4))) for axis in range(4)]
    for options in ({}, {"disk": tmp_path / "disk", "save_on_exit": "no"}):
        service.start(**options)
        with service.connect() as connection:
            put(connection, b"a", 300)
            connection.index(b"a", [(i * 50, 50, b"%d" % i, b"", vectors[i]) for i in range(4)], 4)
            connection.fork(b"a", b"b", tokens=100)
            connection.unindex(b"a", labels=[b"1"])
            before = connection.stats().recall.entries
        service.restart(**options)
        with service.connect() as connection:
            assert connection.stats().takeover.cut_sessions == 0
            assert connection.stats().recall.entries == before
            for session, labels in ((b"a", [b"0", b"2", b"3"]), (b"b", [b"0", b"1"])):
                hits, *_ = connection.recall([1, .5, .3, .2], sessions=[session])
                assert [hit.label for hit in hits.hits] == labels
            connection.delete(b"a")
            connection.delete(b"b")
        service.restart(**options)
        assert service.daemon.stop() == 0


def pinned_lengths(connection):
    """(tokens, tokens_available) of every session; pinned, they stay so."""
    for info in connection.list().sessions:
        with contextlib.suppress(Refused):  # it is evicted at this moment
            connection.pin(info.session, 3_600_000)
    return {info.session: (info.tokens, info.tokens_available) for info in connection.list().sessions}


def test_evicted_tokens_stay_told(service):
    service.start(append_wait="1min")
    with service.connect() as connection:
        put(connection, b"long", 2000, geometry=WIDE)
        for number in range(30):
            put(connection, b"%d" % number, 300, geometry=WIDE)
            if connection.info(b"long").tokens_available < 2000:
                break
        before = pinned_lengths(connection)
    tokens, available = before[b"long"]
    assert 0 < available < tokens == 2000
    service.restart()
    with service.connect() as connection:
        after = {info.session: (info.tokens, info.tokens_available) for info in connection.list().sessions}
        assert after == before


def test_sockets_are_handed_over_beside_the_pool(service, start_daemon, tmp_path):
    service.start()
    with service.connect() as connection:
        put(connection, b"a", 300)
    assert service.daemon.stop() == 0
    service.manager.catch_up()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "activated"))
        listening.listen()
        service.daemon = start_daemon(memory="64M", listening=[listening], kept=service.manager.kept,
                                      environment=service.manager.environment)
        with service.connect() as connection:
            assert connection.stats().sockets == [str(tmp_path / "activated")]
            assert_has(connection, b"a", 300)


def test_a_start_that_fails_leaves_the_pool_to_the_next(service, tmp_path):
    service.start()
    with service.connect() as connection:
        put(connection, b"a", 300)
    assert service.daemon.stop() == 0
    service.manager.catch_up()
    for socket_path in ("/not/there/kvquantd.sock", "/proc/kvquantd.sock"):
        command = [program("KVQUANTD", "kvquantd"), "--socket", socket_path, "--memory", "64M"]
        done = subprocess.run(activated(command, [], service.manager.kept), capture_output=True, text=True, timeout=60,
                              env={**os.environ, **service.manager.environment},
                              pass_fds=[file for _, file in service.manager.kept])
        assert done.returncode == 1
    service.start()
    assert service.takeover().outcome == TAKEOVER_DONE
    with service.connect() as connection:
        assert_has(connection, b"a", 300)


def test_without_a_manager_nothing_is_kept_or_said(start_daemon):
    daemon = start_daemon()
    assert daemon.stop() == 0
    assert "take" not in daemon.log.read_text()


def test_a_manager_that_keeps_nothing_does_no_harm(service):
    service.start()
    with service.connect() as connection:
        put(connection, b"a", 300)
    assert service.daemon.stop() == 0
    service.manager.drop(POOL)
    service.start()
    assert service.takeover().outcome == TAKEOVER_NONE
    assert_serves(service.daemon)


# --- what is not taken over ---

def test_after_kill_9_it_starts_cold_and_says_so(service):
    service.start()
    for _ in range(3):
        with service.connect() as connection:
            put(connection, b"a", 300)
        service.crash()
        assert service.takeover().outcome == TAKEOVER_COLD
        assert "starting cold" in service.log() and "crashed or was killed" in service.log()
        with service.connect() as connection:
            with refused("miss"):
                connection.info(b"a")
        assert service.manager.names() == [POOL]
    with service.connect() as connection:
        put(connection, b"a", 300)
    service.restart()
    with service.connect() as connection:
        assert_has(connection, b"a", 300)


def test_a_pool_that_was_taken_over_is_lost_with_kill_9_like_any_other(service):
    service.start()
    with service.connect() as connection:
        put(connection, b"a", 300)
    service.restart()
    service.crash()
    assert service.takeover().outcome == TAKEOVER_COLD
    with service.connect() as connection:
        with refused("miss"):
            connection.info(b"a")


@pytest.mark.parametrize("what", ["no pool", "a pool that was cut", "a damaged note", "a file"])
def test_something_else_is_not_taken_over(service, tmp_path, what):
    service.start()
    with service.connect() as connection:
        put(connection, b"a", 300)
    assert service.daemon.stop() == 0
    service.manager.catch_up()
    pool = service.manager.kept[0][1]
    end = os.fstat(pool).st_size
    if what == "a damaged note":
        os.pwrite(pool, b"\xff", end - 4096 + 30)
    else:
        other = os.memfd_create("other")
        if what == "a file":
            other = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
        if what == "a pool that was cut":
            os.pwrite(other, os.pread(pool, 1 << 20, 0), 0)
        service.manager.drop(POOL)
        service.manager.kept.append((POOL, other))
    service.start()
    assert service.takeover().outcome == TAKEOVER_COLD
    assert "starting cold" in service.log()
    assert service.manager.names() == [POOL]
    assert_serves(service.daemon)


def test_with_far_more_memory_it_starts_cold_and_says_so(service):
    service.start(memory="32M")
    with service.connect() as connection:
        put(connection, b"a", 300)
    service.restart(memory="64M")
    assert service.takeover().outcome == TAKEOVER_DONE
    service.restart(memory="65M")
    assert "less than half of the memory limit" in service.takeover().why
    assert "less than half of the memory limit" in service.log()


def test_status_tells_what_was_taken_over(service):
    service.start()
    with service.connect() as connection:
        put(connection, b"a", 300)
    service.restart()
    kvq = Command(service.daemon.socket)
    assert "taken over  1 sessions of 300 tokens" in kvq("status").stdout
    assert kvq.json("status")["takeover"]["outcome"] == "done"
    service.crash()
    kvq = Command(service.daemon.socket)
    assert "attention   it began cold: what the service manager kept was in use" in kvq("status").stdout
    assert kvq.json("status")["takeover"]["outcome"] == "cold"


# --- with a disk ---

def test_with_a_disk_sessions_come_out_of_memory_and_the_rest_from_there(service, tmp_path):
    options = {"disk": tmp_path / "disk", "save_on_exit": "no"}
    service.start(**options)
    with service.connect() as connection:
        for number in range(10):
            put(connection, b"%d" % number, 128, geometry=LARGE)
        put(connection, b"durable", 300, durability=ON_DISK)
        put(connection, b"memory", 300)
        wait_until(lambda: connection.stats().disk.spilled_chunks > 0)
    service.restart(**options)
    took = service.takeover()
    assert (took.outcome, took.sessions, took.cut_sessions) == (TAKEOVER_DONE, 12, 0)
    with service.connect() as connection:
        for number in range(10):
            assert_has(connection, b"%d" % number, 128, geometry=LARGE)
        assert connection.stats().disk.loaded_chunks > 0
        assert_has(connection, b"durable", 300)
        assert_has(connection, b"memory", 300)
        put(connection, b"durable", 100)
        connection.delete(b"0")
    service.crash(**options)
    with service.connect() as connection:
        assert_has(connection, b"durable", 400)
        for name in (b"0", b"memory"):
            with refused("miss"):
                connection.info(name)


def test_without_the_disk_that_there_was_only_what_memory_had_is_left(service, tmp_path):
    service.start(memory="64M", disk=tmp_path / "disk", save_on_exit="no")
    with service.connect() as connection:
        put(connection, b"durable", 300, durability=ON_DISK)
        put(connection, b"memory", 300)
    service.restart(memory="64M")
    with service.connect() as connection:
        assert_has(connection, b"durable", 300)
        assert_has(connection, b"memory", 300)
        put(connection, b"durable", 100)
        assert_has(connection, b"durable", 400)


def test_a_disk_that_holds_others_is_read_beside_the_pool(service, tmp_path):
    service.start(disk=tmp_path / "disk", save_on_exit="no")
    with service.connect() as connection:
        put(connection, b"a", 300, durability=ON_DISK)
        put(connection, b"c", 200, durability=ON_DISK)
    assert service.daemon.stop() == 0
    service.manager.drop(POOL)
    service.start()
    with service.connect() as connection:
        put(connection, b"b", 300)
        put(connection, b"c", 100)
    service.restart(disk=tmp_path / "disk", save_on_exit="no")
    with service.connect() as connection:
        assert_has(connection, b"a", 300)
        assert_has(connection, b"b", 300)
        assert_has(connection, b"c", 100)
        assert [info.session for info in connection.list().sessions] == [b"a", b"b", b"c"]


def test_a_fetch_under_way_ends_before_the_pool_is_handed_over(service):
    service.start()
    with service.connect() as connection:
        _, arrays = stored(connection, b"a", LARGE, 128)
        request_id = connection.request(FETCH, "FetchRequest", session=b"a")
        assert connection.receive().type == DATA
        service.daemon.process.send_signal(signal.SIGTERM)
        assert drain(connection, request_id)[-1].type == REPLY
    assert service.daemon.process.wait(STOP_SECONDS) == 0
    service.start()
    with service.connect() as connection:
        assert_holds(connection.open(b"a", mode=OPEN_EXISTING), arrays)
