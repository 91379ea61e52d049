"""Attachments, from Python."""

import asyncio
import contextlib

import kvquantd
import kvquantd.aio
import numpy as np
import pytest

GEOMETRY = kvquantd.Geometry(layers=2, heads=3, head_dim=16)


@pytest.fixture
def session(daemon):
    with kvquantd.connect(daemon.socket) as client:
        session = client.open("a", model="m", geometry=GEOMETRY)
        k = np.random.default_rng(0).normal(size=(2, 40, 3, 16)).astype(np.float16)
        session.append(k, k)
        yield session


@pytest.mark.parametrize("data", [b"", b"state", bytearray(700_000), memoryview(b"12345")[1:],
                                  np.arange(300, dtype=np.uint32)], ids=["none", "bytes", "long", "view", "array"])
def test_what_was_attached_is_had_back(session, data):
    session.attach("x", data)
    got = session.attachment("x")
    assert got == bytes(data)
    assert isinstance(got, bytes)
    assert got.tokens == 40


def test_the_version_is_known_after_each(session):
    for call in (lambda: session.attach("x", b"1"), lambda: session.detach("x")):
        before = session.version
        call()
        assert session.version > before
        known = session.version
        session.refresh()
        assert session.version == known


def test_if_version_holds_a_put_to_the_state_it_is_of(session):
    session.attach("x", b"1", if_version=session.version)
    for call in (lambda: session.attach("x", b"2", if_version=session.version - 1),
                 lambda: session.attachment("x", if_version=session.version - 1),
                 lambda: session.detach("x", if_version=session.version - 1)):
        with pytest.raises(kvquantd.VersionChanged):
            call()
    assert session.attachment("x", if_version=session.version) == b"1"


def test_a_list_has_a_row_for_each(session):
    assert session.attachments() == []
    session.attach("b", bytes(5))
    session.attach("a", bytes(6))
    rows = session.attachments()
    assert [(row["name"], row["bytes"], row["tokens"]) for row in rows] == [("a", 6, 40), ("b", 5, 40)]
    assert session.info()["attachments"] == {
        "count": 2, "bytes": 11, "stored_bytes": sum(row["stored_bytes"] for row in rows)}


def test_what_is_not_there_is_a_miss(session):
    with pytest.raises(kvquantd.Miss, match="attachment"):
        session.attachment("x")
    with pytest.raises(kvquantd.Miss):
        session.detach("x")
    session.attach("x", b"1")
    assert session.detach("x") > 0
    session.delete()
    for call in (lambda: session.attach("x", b"1"), session.attachments, lambda: session.attachment("x")):
        with pytest.raises(kvquantd.Miss, match="session"):
            call()


@pytest.mark.parametrize("name", ["", "n" * 256, "a\nb"])
def test_names_that_cannot_be_are_invalid(session, name):
    with pytest.raises(kvquantd.Invalid):
        session.attach(name, b"1")


def test_too_much_is_invalid_and_too_many_are_unsupported(session):
    with pytest.raises(kvquantd.Invalid):
        session.attach("x", bytes((16 << 20) + 1))
    for number in range(64):
        session.attach(str(number), b"")
    with pytest.raises(kvquantd.Unsupported):
        session.attach("one more", b"")


def test_what_one_call_returned_outlives_the_next(session):
    session.attach("x", b"x" * 300_000)
    session.attach("y", b"y" * 300_000)
    x, y = session.attachment("x"), session.attachment("y")
    assert (x, y) == (b"x" * 300_000, b"y" * 300_000)


def test_asyncio_has_the_same(daemon):
    async def main():
        async with await kvquantd.aio.connect(daemon.socket) as client:
            session = await client.open("b", model="m", geometry=GEOMETRY)
            data = np.random.default_rng(0).bytes(5_000_000)
            await session.attach("x", data)
            assert await session.attachment("x") == data
            assert [row["name"] for row in await session.attachments()] == ["x"]
            task = asyncio.create_task(session.attachment("x"))
            await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                assert await task == data
            assert await session.attachment("x") == data
            assert await session.detach("x") > 5_000_000

    asyncio.run(main())
