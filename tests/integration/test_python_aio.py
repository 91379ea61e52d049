"""kvquantd.aio: the calls of the package on an event loop, side by side, and cancelled."""

import asyncio
import threading

import kvquantd
import kvquantd.aio
import numpy as np
import pytest

LAYERS, TOKENS, HEADS, DIM = 4, 1000, 4, 64
GEOMETRY = kvquantd.Geometry(layers=LAYERS, heads=HEADS, head_dim=DIM)


def values(seed=0, tokens=TOKENS):
    shape = (2, LAYERS, tokens, HEADS, DIM)
    return np.random.default_rng(seed).standard_normal(shape, np.float32).astype(np.float16)


def same(fetched, expected):
    return all(np.array_equal(ours, theirs) for ours, theirs in zip(fetched, expected))


@pytest.fixture
def run(daemon):
    """run(work) gives what `await work(client)` returns."""

    def run(work):
        async def main():
            async with await kvquantd.aio.connect(daemon.socket) as client:
                return await asyncio.wait_for(work(client), 60)

        return asyncio.run(main())

    return run


async def make(client, name="s", level="exact", seed=0):
    session = await client.open(name, model="m", geometry=GEOMETRY, level=level)
    await session.append(*values(seed))
    return session


def test_every_call_has_its_awaitable(run):
    async def work(client):
        await client.ping()
        session = await make(client)
        assert (session.tokens, session.created, session.level) == (TOKENS, True, "exact")
        assert same(await session.fetch(), values())
        fork = await session.fork("t", 300)
        assert await fork.truncate(200) == fork.tokens == 200
        await fork.refresh()
        assert (await fork.info())["tokens"] == 200
        assert (await fork.age(3))["level"] == fork.level == 3
        assert same(await fork.fetch(within=30), values()[:, :, :200])
        await session.pin(60)
        await session.unpin()
        assert [row["session"] for row in await client.sessions()] == ["s", "t"]
        assert (await client.status())["sessions"] == 2
        assert await fork.delete() >= 0
        assert (await client.delete_many(prefix="s")).sessions == 1

    run(work)


def public(kind):
    return {name for name in dir(kind) if not name.startswith("_")}


def test_both_clients_have_the_same_calls():
    assert public(kvquantd.aio.AsyncClient) == public(kvquantd.Client)
    assert public(kvquantd.aio.AsyncSession) == public(kvquantd.Session)


def test_no_thread_is_started(run):
    async def work(client):
        await (await make(client)).fetch()
        return threading.active_count()

    assert run(work) == threading.active_count()


def test_two_sessions_go_on_side_by_side_on_one_loop(daemon, run):
    async def one(name, seed):
        async with await kvquantd.aio.connect(daemon.socket) as client:
            session = await make(client, name, seed=seed)
            for _ in range(5):
                assert same(await session.fetch(), values(seed))

    async def work(client):
        await asyncio.gather(one("a", 1), one("b", 2))

    run(work)


def test_tasks_that_share_a_client_take_turns(run):
    async def work(client):
        sessions = await asyncio.gather(*(make(client, f"s{n}", seed=n) for n in range(4)))
        fetched = await asyncio.gather(*(session.fetch() for session in sessions))
        assert all(same(pair, values(n)) for n, pair in enumerate(fetched))

    run(work)


def test_the_loop_goes_on_while_a_call_waits(run):
    """The daemon answers a settled append when all is coded: long enough for others to run."""
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    async def work(client):
        session = await client.open("s", model="m", geometry=GEOMETRY, level=3)
        ticking = asyncio.create_task(tick())
        await session.append(*values(tokens=4000), settle=True)
        ticking.cancel()
        assert ticks > 5

    run(work)


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8, 13, 21])
def test_a_fetch_cancelled_at_any_time_leaves_the_client_usable(run, turns):
    async def work(client):
        session = await make(client)
        out = tuple(values(seed=9))
        task = asyncio.create_task(session.fetch(range(0, TOKENS), out=out))
        for _ in range(turns):
            await asyncio.sleep(0)
        was_done = task.done()
        if task.cancel():
            with pytest.raises(asyncio.CancelledError):
                await task
            before = [part.copy() for part in out]
            await client.ping()
            assert same(out, before)
        assert same(await session.fetch(), values())
        return was_done

    assert run(work) in (True, False)


def test_an_append_that_is_cancelled_leaves_all_or_nothing(run):
    async def work(client):
        session = await make(client)
        task = asyncio.create_task(session.append(*values(seed=1)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await session.refresh()
        assert session.tokens in (TOKENS, 2 * TOKENS)
        session_tokens = session.tokens
        assert await session.append(*values(seed=1)) == session_tokens + TOKENS
        assert same(await session.fetch(range(0, TOKENS)), values())

    run(work)


def test_a_call_s_time_can_be_bounded_by_asyncio(run):
    async def work(client):
        session = await make(client)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(session.fetch(), 0)
        assert same(await session.fetch(), values())

    run(work)


def test_errors_are_those_of_the_blocking_client(run):
    async def work(client):
        with pytest.raises(kvquantd.Miss):
            await client.open("nothing")
        session = await make(client)
        with pytest.raises(kvquantd.WrongFirst) as caught:
            await session.append(*values(), first=3)
        assert caught.value.tokens == TOKENS
        await client.close()
        await client.close()
        with pytest.raises(kvquantd.ConnectionLost, match="closed"):
            await client.ping()

    run(work)


def test_no_daemon_is_an_exception(tmp_path):
    with pytest.raises(kvquantd.CannotConnect):
        asyncio.run(kvquantd.aio.connect(str(tmp_path / "none.sock")))


def test_a_daemon_that_says_nothing_is_a_deadline(tmp_path):
    import socket
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "silent.sock"))
        listener.listen()
        with pytest.raises(kvquantd.Deadline):
            asyncio.run(kvquantd.aio.connect(str(tmp_path / "silent.sock"), deadline=0.2))
