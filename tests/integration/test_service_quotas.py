"""What a tenant may have at most, as `limit` lines of the tenants file say."""

import re
import threading
import time

import pytest
from conftest import Command
from tenant_support import Tenants, row, token
from test_service_tenants import check
from wire import EXACT, OPEN_EXISTING, PING, Refused
from wire_support import LARGE, TINY, WIDE, append, assert_holds, bits, packed, refused, wait_until

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


def test_a_tenant_is_told_its_own_quotas_and_an_admin_all(start_daemon, tmp_path):
    tenants = quotas(start_daemon, tmp_path, "memory=8M sessions=2 requests=1000")
    with tenants.connect("greedy") as greedy, tenants.connect("admin") as admin:
        store(greedy, b"a")
        [own] = greedy.stats().tenants
        assert own.tenant == "greedy" and own.memory_bytes.limit == 8 << 20 and own.requests_limit == 1000
        assert own.memory_bytes.used > 1 << 19 and (own.sessions.used, own.sessions.limit) == (1, 2)
        assert (own.connections.used, own.connections.limit) == (1, 0)
        told = {row.tenant: row for row in admin.stats().tenants}
        assert {"default", "greedy", "admin"} <= set(told)
        assert told["greedy"].memory_bytes.used == own.memory_bytes.used


def test_status_shows_quotas(start_daemon, tmp_path):
    tenants = quotas(start_daemon, tmp_path, "memory=8M sessions=2 requests=1000")
    (tmp_path / "token").write_text(token("greedy").hex())
    (tmp_path / "token").chmod(0o600)
    kvq = Command(tenants.daemon.socket)
    arguments = ("status", "--token-file", tmp_path / "token")
    assert re.search("^quotas +of greedy, memory .* of 8.* MiB, sessions 0 of 2, 1000 requests a second$",
                     kvq(*arguments).stdout, re.MULTILINE)
    [row] = kvq.json(*arguments)["tenants"]
    assert row["tenant"] == "greedy" and row["memory_bytes"]["limit"] == 8 << 20


def test_after_a_client_that_went_away_in_the_middle_nothing_is_charged(start_daemon, tmp_path):
    tenants = quotas(start_daemon, tmp_path, "memory=64M in_flight=32M connections=10")
    with tenants.connect("admin") as admin:
        def used():
            [row] = [row for row in admin.stats().tenants if row.tenant == "greedy"]
            return (row.memory_bytes.used, row.in_flight_bytes.used, row.sessions.used, row.connections.used)

        for _ in range(3):
            gone = tenants.connect("greedy")
            session = gone.open(b"s", geometry=LARGE, level=EXACT)
            arrays = packed(bits(LARGE, CHUNK_TOKENS))
            request_id = session.begin(CHUNK_TOKENS)
            for piece in list(session.pieces(CHUNK_TOKENS))[:5]:
                session.send_piece(request_id, arrays, piece)
            gone.socket.send(b"KVQ1")  # the beginning of a frame
            gone.close()
            wait_until(lambda: used()[3] == 0)
            with tenants.connect("greedy") as other:
                other.delete(b"s")
        wait_until(lambda: used() == (0, 0, 0, 0))
