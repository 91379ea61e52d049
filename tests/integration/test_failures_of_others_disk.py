"""What went wrong in other stores of KV caches where they had a disk or another tier, a regression test each."""

import pytest
from disk_support import assert_has, disk, exact_page, put, values  # noqa: F401
from wire import ON_DISK, OPEN_EXISTING
from wire_support import SMALL, packed, refused, wait_until


def test_the_disk_gives_nobody_anothers_values_LMCache_4385(disk):
    """There the disk tier returned what another request had stored."""
    disk.start()
    with disk.connect() as connection:
        for number in range(8):
            put(connection, b"chat %d" % number, 130 + number, seed=number)
    disk.restart()
    with disk.connect() as connection:
        connection.delete(b"chat 3")
        put(connection, b"chat 3", 140, seed=33)
        connection.truncate(b"chat 5", 100)
    disk.restart()
    with disk.connect() as connection:
        for number in (0, 1, 2, 4, 6, 7):
            assert_has(connection, b"chat %d" % number, 130 + number, seed=number)
        assert_has(connection, b"chat 3", 140, seed=33)
        assert_has(connection, b"chat 5", 100, seed=5)


def test_a_restart_loses_nothing_LMCache_4642_Mooncake_3052(disk):
    """There everything was gone, or was there and could not be found."""
    disk.start()
    with disk.connect() as connection:
        put(connection, b"chat", 300, durability=ON_DISK)
        put(connection, b"idle", 200)
    disk.restart()
    with disk.connect() as connection:
        assert_has(connection, b"chat", 300)
        assert_has(connection, b"idle", 200)
        assert {info.session for info in connection.list().sessions} == {b"chat", b"idle"}


def change_bytes(path):
    """Damages all that stands in the file behind its first blocks, in place."""
    with open(path, "r+b") as file:
        content = bytearray(file.read())
        for at in range(8192, len(content), 64):
            content[at] ^= 0x40
        file.seek(0)
        file.write(content)


def test_a_load_that_fails_is_a_miss_dynamo_15079(disk):
    """There a failed load from disk gave wrong values, and the status of a success."""
    disk.start()
    with disk.connect() as connection:
        put(connection, b"chat", 300)
    disk.restart()
    with disk.connect() as connection:
        wait_until(lambda: not connection.stats().disk.recovering)
        for path in disk.files():
            if path.suffix == ".segment":
                change_bytes(path)
        session = connection.open(b"chat", model=b"", mode=OPEN_EXISTING)
        with refused("miss"):
            session.fetch()
        put(connection, b"another", 200, seed=5)
        assert_has(connection, b"another", 200, seed=5)


def test_values_are_checked_on_a_hit_openvino_genai_3722(disk):
    """There a hash stood with the values, and nobody compared it."""
    disk.start()
    with disk.connect() as connection:
        put(connection, b"chat", 300, durability=ON_DISK)
    disk.daemon.kill()
    disk.damage(exact_page(128, 256))
    disk.start()
    with disk.connect() as connection:
        session = connection.open(b"chat", mode=OPEN_EXISTING)
        assert session.tokens in (128, 300)  # it ends before what a start found damaged
        with refused("miss"):
            session.fetch(first=128, end=256)
        kv, _ = session.fetch(end=128)
        assert list(kv) == list(packed(values(128)))


@pytest.mark.parametrize("model", [b"other weights", b"model "])
def test_what_comes_back_is_its_models_alone_SGLang_24758(disk, model):
    """There pages were loaded again under different weights."""
    disk.start()
    with disk.connect() as connection:
        put(connection, b"chat", 200)
    disk.restart()
    with disk.connect() as connection:
        with refused("model_mismatch"):
            connection.open(b"chat", model=model, geometry=SMALL)
        with refused("model_mismatch"):
            connection.fetch(b"chat", model=model)
        assert_has(connection, b"chat", 200)
