"""What kvq and the package kvquantd make of a daemon's disk."""

import asyncio

import kvquantd
import kvquantd.aio
import numpy as np
import pytest
from conftest import Command
from disk_support import disk

__all__ = ["disk"]

GEOMETRY = kvquantd.Geometry(layers=2, heads=2, head_dim=64)


@pytest.fixture
def values():
    return np.random.default_rng(0).standard_normal((2, 300, 2, 64)).astype(np.float16)


@pytest.fixture
def cache(tmp_path, values):
    path = tmp_path / "cache.npy"
    np.save(path, np.stack([values, values], axis=1))
    return path


def kvq(disk):
    return Command(disk.daemon.socket)


def test_a_durable_session_of_python_outlasts_kill_9(disk, values):
    disk.start()
    with kvquantd.connect(disk.daemon.socket) as client:
        session = client.open("a", model="m", geometry=GEOMETRY, level="exact", durability="disk")
        session.append(values, values)
        assert session.info()["durability"] == "disk"
    disk.crash()
    with kvquantd.connect(disk.daemon.socket) as client:
        k, v = client.open("a").fetch()
        assert np.array_equal(k, values) and np.array_equal(v, values)
        assert client.open("a").info()["disk_bytes"] > 0


def test_flush_of_python_is_of_one_session_or_of_all(disk, values):
    disk.start()
    with kvquantd.connect(disk.daemon.socket) as client:
        for name in "abc":
            client.open(name, model="m", geometry=GEOMETRY).append(values, values)
        client.open("a").flush()
        disk.crash()
    with kvquantd.connect(disk.daemon.socket) as client:
        assert [row["session"] for row in client.sessions()] == ["a"]
        client.open("b", model="m", geometry=GEOMETRY).append(values, values)
        assert client.flush() == 2
        disk.crash()
    with kvquantd.connect(disk.daemon.socket) as client:
        assert [row["session"] for row in client.sessions()] == ["a", "b"]
        assert client.status()["disk"]["used_bytes"] > 0


def test_flush_may_be_awaited(disk, values):
    async def run():
        async with await kvquantd.aio.connect(disk.daemon.socket) as client:
            session = await client.open("a", model="m", geometry=GEOMETRY)
            await session.append(values, values)
            await session.flush()
            return await client.flush()
    disk.start()
    assert asyncio.run(run()) == 1


def test_without_a_disk_python_says_so(daemon):
    with kvquantd.connect(daemon.socket) as client:
        with pytest.raises(kvquantd.Unsupported, match="disk"):
            client.open("a", model="m", geometry=GEOMETRY, durability="disk")
        with pytest.raises(kvquantd.Unsupported, match="disk"):
            client.flush()
        with pytest.raises(ValueError, match="durability"):
            client.open("a", model="m", geometry=GEOMETRY, durability="tape")
        assert client.status()["disk"] is None


def test_kvq_imports_durably_and_shows_it(disk, cache):
    disk.start()
    assert kvq(disk)("import", "a", cache, "--model", "m", "--durable").returncode == 0
    assert kvq(disk).json("info", "a")["durability"] == "disk"
    assert "it is durable there" in kvq(disk)("info", "a").stdout
    disk.crash()
    assert kvq(disk).json("info", "a")["tokens"] == 300
    assert kvq(disk).json("status")["disk"]["live_bytes"] > 0
    assert "disk        " in kvq(disk)("status").stdout


def test_kvq_flushes_one_or_all(disk, cache):
    disk.start()
    for name in "ab":
        kvq(disk)("import", name, cache, "--model", "m")
    assert kvq(disk)("flush", "a").stdout == "a is on disk\n"
    assert kvq(disk)("flush").stdout == "2 sessions are on disk\n"
    assert kvq(disk).json("flush") == {"sessions": 2}
    assert kvq(disk)("flush", "c").returncode == 3
    disk.crash()
    assert len(kvq(disk).json("sessions")) == 2


def test_kvq_says_that_there_is_no_disk(daemon):
    done = Command(daemon.socket)("flush")
    assert (done.returncode, done.stdout) == (1, "")
    assert "without a disk" in done.stderr and done.stderr.count("\n") == 1
