"""kvquantd.sglang as SGLang's own factory makes it: round trips in its pool, ranks, its interface."""

import inspect

import kvquantd
import kvquantd.sglang
import pytest
import torch
from engine import DIM, HEADS, LAYERS, TOKENS, check_loss, chunk, of_rank, reported_db
from kvquantd._host import key_of
from sglang.srt.mem_cache.hicache_storage import HiCacheStorage, HiCacheStorageExtraInfo
from sglang_engine import SHAPES, LatentPool, Pool, indices, name, start_storage

OVERRIDDEN = ("register_mem_pool_host", "batch_exists", "batch_get_v1", "batch_set_v1", "exists", "get", "batch_get",
              "set", "batch_set")


@pytest.fixture
def start(daemon):
    storages = []

    def begin(pool, *arguments, **options):
        storages.append(start_storage(daemon.socket, pool, *arguments, **options))
        return storages[-1]

    yield begin
    for storage in storages:
        storage.close()


@pytest.mark.parametrize("method", OVERRIDDEN)
def test_its_calls_are_those_of_sglang_s_interface(method):
    theirs = inspect.signature(vars(HiCacheStorage)[method]).parameters.values()
    ours = inspect.signature(vars(kvquantd.sglang.Storage)[method]).parameters.values()
    assert [(one.name, one.default) for one in ours] == [(one.name, one.default) for one in theirs]


def test_nothing_of_the_interface_is_left_abstract():
    assert not kvquantd.sglang.Storage.__abstractmethods__


@pytest.mark.parametrize("layout", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_pages_come_back_as_they_were_in_every_layout(start, layout, dtype):
    pool = Pool(layout, dtype=dtype)
    storage, names = start(pool), [name(number) for number in range(3)]
    for number in range(3):
        pool.page(number).copy_(chunk(number, dtype))
    assert storage.batch_set_v1(names, indices(0, 1, 2)) == [True] * 3
    other = Pool("page_first", dtype=dtype)
    assert start(other).batch_get_v1(names, indices(5, 3, 4)) == [True] * 3
    assert all(torch.equal(other.page(page), chunk(i, dtype)) for i, page in enumerate((5, 3, 4)))
    assert (other.page(0) == 7).all()


def test_as_many_are_there_as_come_before_the_first_that_is_not(start):
    pool = Pool()
    storage = start(pool)
    assert storage.batch_set_v1([name(0), name(1), name(3)], indices(0, 1, 2)) == [True] * 3
    names = [name(number) for number in range(4)]
    assert storage.batch_exists(names) == 2
    assert (storage.exists(name(3)), storage.exists(name(2))) == (True, False)
    assert storage.batch_get_v1(names, indices(4, 5, 6, 7)) == [True, True, False, True]


def test_pages_stand_behind_those_before_them(start):
    storage = start(Pool())
    extra = HiCacheStorageExtraInfo(prefix_keys=[name(0), name(1)])
    blocks = storage._blocks([name(2), name(3)], indices(0, 1), extra)
    assert [block.parent for block in blocks] == [storage._key(name(1)), storage._key(name(2))]
    assert [block.position for block in blocks] == [2 * TOKENS, 3 * TOKENS]
    first, second = storage._blocks([name(0), name(1)], indices(0, 1), HiCacheStorageExtraInfo(prefix_keys=[]))
    assert (first.parent, second.parent) == (None, first.key)


@pytest.mark.parametrize("degree, at", [(1, 2), (2, 1), (2, 4), (4, 2), (1, 8), (8, 1)])
def test_ranks_of_another_degree_get_their_heads(start, degree, at):
    def ranks(count, **options):
        for rank in range(count):
            share = min(count, HEADS)
            pool = Pool(heads=HEADS // share)
            yield pool, start(pool, rank, count, heads=HEADS, **options), of_rank(chunk(1), rank * share // count, share)

    for pool, storage, values in ranks(degree):
        pool.page(0).copy_(values)
        assert storage.batch_set_v1([name(1)], indices(0)) == [True]
    for pool, storage, values in ranks(at, degrees=[1, 2, 4, 8]):
        assert storage.batch_exists([name(1)]) == 1
        assert storage.batch_get_v1([name(1)], indices(3)) == [True]
        assert torch.equal(pool.page(3), values)


def test_the_latent_of_mla_is_stored_by_one_rank_and_there_for_all(start):
    pools = [LatentPool() for _ in range(2)]
    storages = [start(pool, rank, 2, mla=True) for rank, pool in enumerate(pools)]
    latent = torch.randn(TOKENS, LAYERS, 1, 576).half()
    pools[0].kv_buffer[:TOKENS] = latent
    assert [storage.batch_set_v1([name(1)], indices(0)) for storage in reversed(storages)] == [[True]] * 2
    assert storages[1].batch_get_v1([name(1)], indices(2)) == [True]
    assert torch.equal(pools[1].kv_buffer[2 * TOKENS:3 * TOKENS], latent)


@pytest.mark.parametrize("level", ["fast8", 3])
def test_a_lossy_level_loses_what_the_daemon_reports(start, daemon, level):
    pool = Pool()
    storage = start(pool, level=level)
    pool.page(0).copy_(chunk(1))
    assert storage.batch_set_v1([name(1)], indices(0)) == [True]
    ours = key_of(storage._key(name(1)), 0, HEADS)
    geometry = kvquantd.Geometry(LAYERS, HEADS, DIM, dtype="f16")

    def load():
        assert storage.batch_get_v1([name(1)], indices(1)) == [True]
        return pool.page(1)

    check_loss(load, lambda: reported_db(daemon.socket, ours, geometry, TOKENS))


@pytest.mark.parametrize("pool, options", [
    (Pool(), {"interface_v1": 0}),
    (Pool(), {"heads": 2}),
    (type("Unified", (), {"layout": "page_unified"})(), {}),
])
def test_what_it_does_not_know_is_refused_at_the_start(start, pool, options):
    with pytest.raises(ValueError):
        start(pool, **options)
