"""What memory has no room for goes to disk, and comes back when it is fetched."""

import contextlib

import pytest
from disk_support import assert_has, disk, exact_page, put, values
from wire import EXACT, OPEN_EXISTING, Geometry, Refused
from wire_support import LARGE, append, assert_holds, bits, packed, refused, wait_until

__all__ = ["disk"]

MIDDLE = Geometry(layers=4, heads=4, head_dim_k=64, head_dim_v=64, dtype=1)  # 4 KiB a token


def fill(connection, sessions, tokens=1024, geometry=MIDDLE):
    """Sessions of random bits, of 4 MiB each; what they hold."""
    held = []
    for number in range(sessions):
        values = bits(geometry, tokens, seed=number)
        append(connection.open(b"%d" % number, geometry=geometry, level=EXACT), values, wait_ms=60000)
        held.append(values)
    return held


def test_three_times_the_memory_is_held_and_fetched_bit_for_bit(disk):
    disk.start()
    with disk.connect() as connection:
        held = fill(connection, 48)
        stats = connection.stats()
        assert stats.disk.spilled_bytes > 100 << 20
        assert stats.pressure.evicted_tokens == 0
        for number, values in enumerate(held):
            assert_holds(connection.open(b"%d" % number, mode=OPEN_EXISTING), values)
        stats = connection.stats()
        assert stats.disk.loaded_bytes > 100 << 20
        assert stats.pressure.evicted_tokens == 0
        assert stats.used_bytes <= stats.limit_bytes


def test_raw_tails_go_to_disk_and_nobody_loses_them(disk):
    disk.start(tail_idle="never", append_wait="60s")
    with disk.connect() as connection:
        held = fill(connection, 24, tokens=100, geometry=LARGE)
        for number, values in enumerate(held):
            assert_holds(connection.open(b"%d" % number, mode=OPEN_EXISTING), values)
        stats = connection.stats()
        assert stats.pressure.coded_tails > 10
        assert stats.pressure.evicted_tokens == 0


def test_what_came_back_unchanged_goes_again_without_being_written(disk):
    disk.start()
    with disk.connect() as connection:
        held = fill(connection, 24)
        for _ in range(2):
            for number, values in enumerate(held):
                assert_holds(connection.open(b"%d" % number, mode=OPEN_EXISTING), values)
        stats = connection.stats().disk
        assert stats.spilled_bytes > 1.5 * stats.written_bytes
        assert stats.written_bytes < 1.1 * (24 * 4 << 20)


def test_what_was_spilled_comes_back_after_a_restart(disk):
    disk.start()
    with disk.connect() as connection:
        held = fill(connection, 24)
    disk.restart()
    with disk.connect() as connection:
        for number, values in enumerate(held):
            assert_holds(connection.open(b"%d" % number, mode=OPEN_EXISTING), values)


def test_what_was_spilled_of_sessions_in_memory_is_a_miss_after_kill_9(disk):
    disk.start()
    with disk.connect() as connection:
        fill(connection, 24)
    disk.crash()
    with disk.connect() as connection:
        assert connection.stats().sessions == 0
        wait_until(lambda: connection.stats().disk.live_bytes < 1 << 20)


def test_a_deleted_session_gives_its_room_on_disk_back(disk):
    disk.start()
    with disk.connect() as connection:
        fill(connection, 24)
        for number in range(24):
            connection.delete(b"%d" % number)
        wait_until(lambda: connection.stats().disk.live_bytes < 1 << 20)


def test_a_full_disk_evicts_what_is_coldest_there(disk):
    disk.start(disk_size="64M")
    with disk.connect() as connection:
        held = fill(connection, 48)
        stats = connection.stats()
        assert stats.disk.used_bytes <= 64 << 20
        assert stats.disk.evicted_bytes > 50 << 20
        assert stats.pressure.evicted_tokens == 0
        left = {int(one.session): one.tokens_available for one in connection.list().sessions}
        assert 20 < len(left) < 48
        assert min(left) == 48 - len(left)
        for number in sorted(left, reverse=True)[:10]:
            assert_holds(connection.open(b"%d" % number, mode=OPEN_EXISTING), held[number])


def test_a_daemon_that_ends_saves_what_was_used_last_as_far_as_the_disk_has_room(disk):
    disk.start(memory="160M", disk_size="64M")
    with disk.connect() as connection:
        held = fill(connection, 30)
    disk.restart(memory="160M", disk_size="64M")
    with disk.connect() as connection:
        left = {int(one.session): one.tokens_available for one in connection.list().sessions}
        assert 8 < len(left) < 20 and 29 in left
        for number, tokens in left.items():
            session = connection.open(b"%d" % number, mode=OPEN_EXISTING)
            assert_holds(session, tuple(part[:, :tokens] for part in held[number]))


def test_a_damaged_chunk_is_a_miss_and_the_tokens_before_it_are_not(disk):
    disk.start()
    with disk.connect() as connection:
        put(connection, b"a", 1280)
    assert disk.daemon.stop() == 0
    disk.damage(exact_page(640, 768))
    disk.start()
    with disk.connect() as connection:
        session = connection.open(b"a", mode=OPEN_EXISTING)
        assert session.tokens in (640, 1280)  # found to be damaged at the start, or when it is read
        with refused("miss"):
            session.fetch(first=640, end=768)
        kv, _ = session.fetch(end=640)
        assert list(kv) == list(packed(values(640)))
        assert connection.stats().disk.failed_loads == (session.tokens == 1280)


def test_a_file_that_is_removed_is_a_miss_and_what_comes_later_is_on_disk_again(disk):
    def segments():
        return {path for path in disk.files() if path.suffix == ".segment"}

    def is_flushed(connection):
        try:
            return connection.flush(b"a").sessions == 1
        except Refused as error:
            assert error.name == "disk"
            return False

    disk.start()
    with disk.connect() as connection:
        put(connection, b"a", 1280)
    before = segments()
    disk.restart()
    with disk.connect() as connection:
        assert connection.info(b"a").tokens_available == 1280
        wait_until(lambda: segments() and not segments() & before)  # a small file is written anew
        for path in segments():
            path.unlink()
        with refused("miss") as caught:
            connection.fetch(b"a")
        assert caught.value.tokens == connection.info(b"a").tokens_available == 0
        assert connection.stats().disk.failed_loads >= 1
        with contextlib.suppress(Refused):  # the disk notices when it has written to the file
            put(connection, b"a", 300)
        assert_has(connection, b"a", 300)
        wait_until(lambda: is_flushed(connection))
    assert "was removed by somebody else" in disk.daemon.log.read_text()
    disk.crash()
    with disk.connect() as connection:
        assert_has(connection, b"a", 300)


@pytest.mark.parametrize("key", [bytes(range(32)), b"ab" * 32 + b"\n"], ids=["bytes", "digits"])
def test_an_encrypted_folder_has_no_plain_values_and_is_read_with_its_key(disk, tmp_path, key):
    path = tmp_path / "key"
    path.write_bytes(key)
    path.chmod(0o600)
    disk.start(disk_key=path)
    with disk.connect() as connection:
        put(connection, b"a", 1280)
    disk.restart(disk_key=path)
    with disk.connect() as connection:
        assert_has(connection, b"a", 1280)
    assert disk.daemon.stop() == 0
    assert all(b"KVQCHUNK" not in file.read_bytes() for file in disk.files())
    path.write_bytes(bytes(32))
    with pytest.raises(RuntimeError, match="key"):
        disk.start(disk_key=path)


def test_a_second_daemon_is_refused_the_folder(disk):
    disk.start()
    with pytest.raises(RuntimeError, match="another"):
        disk.start()
