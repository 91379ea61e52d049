"""kvquantd.vllm as vLLM's own factory makes it: jobs and look-ups over its memory, ranks, its interface."""

import inspect

import kvquantd
import kvquantd.vllm
import pytest
from engine import DIM, HEADS, LAYERS, TOKENS, check_loss, chunk, reported_db
from kvquantd._host import key_of
from vllm.v1.kv_offload.tiering.base import SecondaryTierManager
from vllm_engine import ORDERS, PAGES, Memory, Tiers, key, spec

OVERRIDDEN = ("lookup", "submit_store", "submit_load", "get_finished_jobs", "on_new_request", "on_request_finished",
              "on_schedule_end", "drain_jobs", "shutdown")


@pytest.fixture
def start(daemon):
    started = []

    def begin(memory, *arguments, **options):
        started.append(Tiers(daemon.socket, memory, *arguments, **options))
        return started[-1]

    yield begin
    for tiers in started:
        tiers.close()


@pytest.mark.parametrize("method", OVERRIDDEN)
def test_its_calls_are_those_of_vllm_s_interface(method):
    theirs = inspect.signature(vars(SecondaryTierManager)[method]).parameters.values()
    ours = inspect.signature(vars(kvquantd.vllm.Tier)[method]).parameters.values()
    assert [(one.name, one.default) for one in ours] == [(one.name, one.default) for one in theirs]


def test_it_takes_what_vllm_makes_a_tier_with_and_leaves_nothing_abstract():
    theirs = list(inspect.signature(SecondaryTierManager).parameters)
    assert list(inspect.signature(kvquantd.vllm.Tier).parameters)[:len(theirs)] == theirs
    assert not kvquantd.vllm.Tier.__abstractmethods__


@pytest.mark.parametrize("axes", ORDERS)
@pytest.mark.parametrize("pages", [1, PAGES])
def test_chunks_come_back_as_they_were(start, axes, pages):
    memory = Memory(pages=pages, axes=axes)
    tiers = start(memory)
    for row in range(3):
        memory.write(row, chunk(row))
    assert tiers.store([0, 1, 2], [0, 1, 2]).success
    other = Memory(pages=pages, axes="LTHPD")
    result = start(other).load([2, 0, 1], [5, 6, 4])
    assert (result.success, result.transfer_bytes) == (True, 3 * 2 * other.cell)
    assert all(other.equals(row, chunk(number)) for number, row in zip((2, 0, 1), (5, 6, 4)))
    assert (other.rows[7] == 7).all()


def test_a_look_up_tells_which_chunks_are_there(start):
    memory = Memory()
    tiers = start(memory)
    memory.write(0, chunk(1))
    assert tiers.store([1], [0]).success
    assert tiers.lookup([0, 1, 2]) == [False, True, False]


def test_of_a_load_vllm_learns_which_came_and_asks_no_more_for_the_others(start):
    memory = Memory()
    tiers = start(memory)
    memory.write(0, chunk(1))
    assert tiers.store([1], [0]).success
    result = tiers.load([0, 1, 2], [3, 4, 5])
    assert (result.success, result.successful_keys) == (False, (key(1),))
    assert memory.equals(4, chunk(1))


def test_drain_jobs_returns_when_all_results_are_there(start):
    memory = Memory()
    tiers = start(memory)
    jobs = [tiers.job([row], [row], False) for row in range(4)]
    for job in jobs:
        tiers.tier.submit_store(job)
    tiers.tier.drain_jobs()
    assert {result.job_id for result in tiers.tier.get_finished_jobs()} == {job.job_id for job in jobs}


@pytest.mark.parametrize("degree, at", [(1, 2), (2, 1), (4, 2), (2, 4), (1, 8), (8, 1)])
def test_ranks_of_another_degree_get_their_heads(start, degree, at):
    memory, other = Memory(degree), Memory(at)
    memory.write(0, chunk(1))
    assert start(memory).store([1], [0]).success
    tiers = start(other, degrees=[1, 2, 4, 8])
    assert tiers.lookup([1]) == [True]
    assert tiers.load([1], [2]).success
    assert other.equals(2, chunk(1))


@pytest.mark.parametrize("level", ["fast8", 3])
def test_a_lossy_level_loses_what_the_daemon_reports(start, daemon, level):
    memory = Memory(pages=1)
    tiers = start(memory, level=level)
    memory.write(0, chunk(1))
    assert tiers.store([1], [0]).success
    ours = key_of(key_of(key(1), 0), 0, HEADS)
    geometry = kvquantd.Geometry(LAYERS, HEADS, DIM, dtype="f16")

    def load():
        assert tiers.load([1], [1]).success
        return memory.values(1)

    check_loss(load, lambda: reported_db(daemon.socket, ours, geometry, TOKENS))


@pytest.mark.parametrize("changes", [{"parallel": {"pp_size": 2}}, {"parallel": {"dcp_size": 2}},
                                     {"canonical_layout": True}, {"worker_kv_bytes_per_block": 4096}])
def test_what_it_does_not_know_is_refused_at_the_start(start, changes):
    with pytest.raises(ValueError):
        start(Memory(), spec(**changes))
