"""kvquantd.lmcache behind LMCache's own adapter: round trips, ranks, what is not stored, its interface."""

import inspect
import re

import kvquantd.lmcache
import lmcache.lmcache_fs
import pytest
import torch
from engine import HEADS, LAYERS, DIM, TOKENS, check_loss, chunk, of_rank, reported_db
from kvquantd._host import key_of
from lmcache_engine import Adapter, key

CALLED = ("event_fd", "submit_batch_get", "submit_batch_set", "submit_batch_exists", "submit_batch_delete",
          "drain_completions", "close")


@pytest.fixture
def start(daemon):
    """start(level=3) gives an adapter, which is closed at the test's end."""
    adapters = []

    def begin(**options):
        adapters.append(Adapter(daemon.socket, **options))
        return adapters[-1]

    yield begin
    for adapter in adapters:
        adapter.close()


def into(values):
    return torch.full_like(values, 7)


def parameters_of(method):
    """Those of a method in Python, or as pybind11 writes them down."""
    written = re.fullmatch(r"\w+\((.*)\) -> .*\n", method.__doc__ or "")
    if written:
        return re.findall(r"(\w+): ", re.sub(r"\[[^]]*\]", "", written[1]))
    return list(inspect.signature(method).parameters)


@pytest.mark.parametrize("method", CALLED)
def test_its_calls_are_those_of_lmcache_s_own_connectors(method):
    theirs = getattr(lmcache.lmcache_fs.LMCacheFSClient, method)
    ours = getattr(kvquantd.lmcache.Connector, method)
    assert parameters_of(ours) == parameters_of(theirs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_chunk_comes_back_as_it_was_in_another_server_too(start, dtype):
    name = str(dtype).partition(".")[2]
    values = [chunk(i, dtype) for i in range(3)]
    keys = [key(i) for i in range(3)]
    assert start(dtype=name).store(keys, values)
    got = [into(one) for one in values]
    assert start(dtype=name).load(keys, got) == [True] * 3
    assert all(torch.equal(one, other) for one, other in zip(got, values))


@pytest.mark.parametrize("axes, order", [("PLTHD", (0, 1, 2, 3, 4)), ("TPLHD", (2, 0, 1, 3, 4)),
                                         ("LPHTD", (1, 0, 3, 2, 4))])
def test_values_stand_where_axes_says(start, axes, order):
    """What is stored in one order is loaded in another."""
    values = chunk(1)
    assert start(axes=axes).store([key(1)], [values.permute(order).contiguous()])
    got = into(values)
    assert start().load([key(1)], [got]) == [True]
    assert torch.equal(got, values)


def test_each_key_has_its_own_answer(start):
    adapter = start()
    assert adapter.store([key(1), key(3)], [chunk(1), chunk(3)])
    assert adapter.lookup([key(i) for i in range(4)]) == [False, True, False, True]
    got = [into(chunk(0)) for _ in range(4)]
    assert adapter.load([key(i) for i in range(4)], got) == [False, True, False, True]
    assert torch.equal(got[1], chunk(1)) and torch.equal(got[3], chunk(3))


@pytest.mark.parametrize("other", [{"model_name": "other"}, {"cache_salt": "user"}, {"chunk_hash": b"1"}])
def test_another_key_is_another_chunk(start, other):
    adapter = start()
    assert adapter.store([key(1)], [chunk(1)])
    assert adapter.lookup([key(1), key(1, **other)]) == [True, False]


def test_another_fingerprint_is_a_miss(start):
    assert start().store([key(1)], [chunk(1)])
    assert start(model="other weights").lookup([key(1)]) == [False]


def test_what_is_stored_again_stays_and_is_no_failure(start):
    adapter = start()
    assert adapter.store([key(1)], [chunk(1)]) and adapter.store([key(1)], [chunk(2)])
    got = into(chunk(1))
    assert adapter.load([key(1)], [got]) == [True]
    assert torch.equal(got, chunk(1))


def test_lmcache_s_eviction_deletes(start):
    adapter = start()
    assert adapter.store([key(1), key(2)], [chunk(1), chunk(2)])
    adapter.l2.delete([key(1)])
    assert adapter.lookup([key(1), key(2)]) == [False, True]


def test_an_object_of_another_size_is_a_miss_and_is_not_stored(start):
    adapter = start()
    assert adapter.store([key(1)], [chunk(1)])
    half = chunk(1)[:, :, :TOKENS // 2].contiguous()
    assert adapter.load([key(1)], [half]) == [False]
    assert not adapter.store([key(2)], [torch.zeros(100, dtype=torch.float16)])
    assert adapter.lookup([key(1), key(2)]) == [True, False]


def test_an_object_group_of_another_kind_is_not_stored(start):
    adapter = start()
    assert not adapter.store([key(1, object_group_id=1)], [chunk(1)])
    assert adapter.lookup([key(1, object_group_id=1)]) == [False]
    assert start(groups=[0, 1]).store([key(1, object_group_id=1)], [chunk(1)])


@pytest.mark.parametrize("degree, at", [(1, 2), (1, 4), (2, 1), (2, 4), (4, 1), (4, 2), (4, 8), (8, 1), (8, 2)])
def test_ranks_of_another_degree_get_their_heads(start, degree, at):
    values = chunk(1)
    shares = [of_rank(values, rank * HEADS // degree, HEADS) if degree > HEADS else of_rank(values, rank, degree)
              for rank in range(degree)]
    assert start().store([key(1, rank, degree) for rank in range(degree)], shares)
    adapter = start(degrees=[1, 2, 4, 8])
    wanted = [of_rank(values, rank * HEADS // at, HEADS) if at > HEADS else of_rank(values, rank, at)
              for rank in range(at)]
    keys, got = [key(1, rank, at) for rank in range(at)], [into(one) for one in wanted]
    assert adapter.lookup(keys) == [True] * at
    assert adapter.load(keys, got) == [True] * at
    assert all(torch.equal(one, other) for one, other in zip(got, wanted))


def test_a_rank_that_is_missing_is_a_miss_for_who_needs_its_heads(start):
    assert start().store([key(1, 0, 4)], [of_rank(chunk(1), 0, 4)])
    adapter = start(degrees=[4])
    assert adapter.lookup([key(1)]) == [False]
    assert adapter.load([key(1)], [into(chunk(1))]) == [False]
    assert adapter.lookup([key(1, rank, 4) for rank in range(4)]) == [True, False, False, False]


@pytest.mark.parametrize("level", ["fast8", 1, 3])
def test_a_lossy_level_loses_what_the_daemon_reports(start, daemon, level):
    adapter = start(level=level)
    assert adapter.store([key(1)], [chunk(1)])
    text = adapter.key_text(key(1))
    ours = key_of(kvquantd.lmcache.Key.parse(text).of_all_ranks(), 0, HEADS)
    geometry = kvquantd.Geometry(LAYERS, HEADS, DIM, dtype="f16")

    def load():
        got = into(chunk(1))
        assert adapter.load([key(1)], [got]) == [True]
        return got

    check_loss(load, lambda: reported_db(daemon.socket, ours, geometry, TOKENS))


@pytest.mark.memory("32M")
def test_what_a_look_up_found_stays_for_the_load(start):
    """Others that come meanwhile find no room, or evict others."""
    adapter = start(lease=3600)
    assert adapter.store([key(0)], [chunk(0)])
    assert adapter.lookup([key(0)]) == [True]
    for number in range(1, 120):
        adapter.store([key(number)], [chunk(number)])
    assert not all(adapter.lookup([key(number) for number in range(120)]))
    got = into(chunk(0))
    assert adapter.load([key(0)], [got]) == [True]
    assert torch.equal(got, chunk(0))


@pytest.mark.parametrize("wrong", [{"axes": "PLTH"}, {"axes": "PLTDH"}, {"axes": "PPLTHD"}, {"dtype": "int3"},
                                   {"degrees": [3]}])
def test_a_layout_that_cannot_be_is_refused_at_the_start(daemon, wrong):
    with pytest.raises(ValueError):
        Adapter(daemon.socket, **wrong)
