"""What a tenant may have at most, as `limit` lines of the tenants file say."""

import threading
import time

import pytest
from tenant_support import Tenants, row
from test_service_tenants import check
from wire import EXACT, OPEN_EXISTING, PING, Refused
from wire_support import LARGE, TINY, WIDE, append, assert_holds, bits, refused, wait_until

ROWS = row("greedy", "greedy", "worker") + row("calm", "calm", "worker") + row("admin", "admin", "admin")
CHUNK_TOKENS = 128  # 1 MiB of WIDE
LONG_MS = 60000  # nothing here takes so long


def quotas(start_daemon, folder, limits, **options):
    return Tenants(start_daemon, folder, f"{ROWS}limit greedy {limits}\n", **options)


def store(connection, name, chunks=1, **fields):
    """A session of random bits, which take what they take raw; returns it and what it holds."""
    session = connection.open(name, geometry=WIDE, level=EXACT)
    arrays = bits(WIDE, chunks * CHUNK_TOKENS, int.from_bytes(name, "little"))
    append(session, arrays, settle=True, **fields)
    return session, arrays


@pytest.mark.parametrize("line, says", [
    ("limit", "limit TENANT"), ("limit chat", "limit TENANT"), ("limit a/b memory=1G", "limit TENANT"),
    ("limit chat memory", "memory="), ("limit chat room=1", "memory="), ("limit chat memory=", "a size"),
    ("limit chat memory=1K", "at least 1M"), ("limit chat in_flight=1M", "in_flight 16M"),
    ("limit chat sessions=0", "1"), ("limit chat sessions=1M", "number"), ("limit chat requests=-1", "number"),
    ("limit chat memory=99999999999T", "number")])
def test_a_faulty_limit_is_told_with_its_line_and_what_is_allowed(tmp_path, line, says):
    done = check(tmp_path, f"user * chat worker\n{line}\n")
    assert done.returncode == 2
    assert f"{tmp_path / 'tenants'}:2: " in done.stderr and says in done.stderr


def test_limits_of_all_kinds_are_taken(tmp_path):
    line = "limit * memory=2G disk=0 sessions=10 connections=4 in_flight=64M requests=100\nlimit chat memory=512M\n"
    assert check(tmp_path, "user * chat worker\n" + line).returncode == 0


def test_at_its_quota_of_memory_a_tenant_loses_its_own_coldest_sessions(start_daemon, tmp_path):
    tenants = quotas(start_daemon, tmp_path, "memory=8M")
    with tenants.connect("calm") as calm, tenants.connect("greedy") as greedy:
        neighbour = store(calm, b"c", 8)
        for number in range(16):
            last = store(greedy, b"%d" % number, 2, wait_ms=LONG_MS)
        assert_holds(*neighbour)
        assert_holds(*last)
        with refused("miss"):
            greedy.open(b"0", mode=OPEN_EXISTING)


def test_what_does_not_fit_its_quota_is_refused_in_plain_words(start_daemon, tmp_path):
    tenants = quotas(start_daemon, tmp_path, "memory=8M")
    with tenants.connect("calm") as calm, tenants.connect("greedy") as greedy:
        for number in range(3):
            store(greedy, b"%d" % number, 2)
            greedy.pin(b"%d" % number, LONG_MS)
        with refused("quota") as caught:
            store(greedy, b"more", 4, wait_ms=50)
        assert "the tenant greedy" in caught.value.message and "8 MiB" in caught.value.message
        assert_holds(*store(calm, b"c", 8))


def test_after_a_reload_another_quota_holds(start_daemon, tmp_path):
    tenants = quotas(start_daemon, tmp_path, "sessions=1")
    with tenants.connect("greedy") as greedy:
        greedy.open(b"a", geometry=TINY)
        with refused("quota"):
            greedy.open(b"b", geometry=TINY)
        tenants.write(ROWS + "limit greedy sessions=2\n")
        tenants.change(tenants.config)
        wait_until(lambda: "3 lines, 1 of limits" in tenants.log())
        greedy.open(b"b", geometry=TINY)
        with refused("quota"):
            greedy.open(b"c", geometry=TINY)


def test_sessions_beyond_the_quota_are_refused_in_plain_words(start_daemon, tmp_path):
    tenants = quotas(start_daemon, tmp_path, "sessions=2")
    with tenants.connect("greedy") as greedy, tenants.connect("calm") as calm:
        for name in (b"a", b"b", b"a"):
            greedy.open(name, geometry=TINY)
        with refused("quota") as caught:
            greedy.open(b"c", geometry=TINY)
        assert "the tenant greedy" in caught.value.message and "2" in caught.value.message
        with refused("quota"):
            greedy.fork(b"a", b"fork")
        calm.open(b"c", geometry=TINY)
        greedy.delete(b"a")
        greedy.open(b"c", geometry=TINY)


def test_connections_beyond_the_quota_are_refused_in_plain_words(start_daemon, tmp_path):
    tenants = quotas(start_daemon, tmp_path, "connections=1")
    with tenants.connect("greedy") as first:
        with refused("quota") as caught:
            tenants.connect("greedy")
        assert "the tenant greedy" in caught.value.message and "connections" in caught.value.message
        tenants.connect("calm").close()
        first.ping()

    def another():
        try:
            tenants.connect("greedy").close()
            return True
        except Refused:
            return False

    wait_until(another)


def test_a_line_for_everybody_is_for_who_has_none_of_its_own(start_daemon, tmp_path):
    tenants = Tenants(start_daemon, tmp_path, ROWS + "limit * sessions=1\nlimit calm sessions=2\n")
    for name, sessions in (("greedy", 1), ("calm", 2)):
        with tenants.connect(name) as connection:
            for number in range(sessions):
                connection.open(b"%d" % number, geometry=TINY)
            with refused("quota"):
                connection.open(b"more", geometry=TINY)


def test_requests_that_come_too_fast_are_read_later_and_answered_all(start_daemon, tmp_path):
    tenants = quotas(start_daemon, tmp_path, "requests=20")
    with tenants.connect("greedy") as greedy, tenants.connect("calm") as calm:
        begin = time.monotonic()
        ids = [greedy.request(PING, "PingRequest") for _ in range(40)]
        for id in ids:
            greedy.answer(id, "PingReply")
        assert time.monotonic() - begin >= 1 - 0.1
        for _ in range(40):
            calm.ping()


def test_what_is_in_flight_stops_reading_from_its_tenant_alone(start_daemon, tmp_path):
    """Of appends that have begun one at a time fits: the others are read when it has ended."""
    tenants = quotas(start_daemon, tmp_path, "in_flight=16M")
    arrays = bits(LARGE, CHUNK_TOKENS)  # 8 MiB

    def send(session):
        append(session, arrays)
        session.connection.close()

    with tenants.connect("calm") as calm:
        senders = [tenants.connect("greedy") for _ in range(4)]
        sessions = [sender.open(b"%d" % number, geometry=LARGE, level=EXACT) for number, sender in enumerate(senders)]
        first = sessions[0].begin(CHUNK_TOKENS)
        sessions[0].connection.stats()  # it has begun
        threads = [threading.Thread(target=send, args=(session,)) for session in sessions[1:]]
        for thread in threads:
            thread.start()
        assert_holds(*store(calm, b"c", 2))
        assert all(thread.is_alive() for thread in threads)
        sessions[0].connection.cancel(first)
        for thread in threads:
            thread.join()
