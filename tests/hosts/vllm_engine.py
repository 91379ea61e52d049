"""vLLM's tiering: its own factory, tier interface, look-ups, keys and jobs, over a CPU memory laid out as its
shared region is; what drives them in vLLM is here a loop."""

import itertools
import time

import numpy as np
import torch
from engine import DIM, HEADS, LAYERS, LONG, TOKENS, Engine, chunk, of_rank
from vllm.v1.kv_offload.base import LookupResult, OffloadingSpec, ReqContext, ScheduleEndContext, make_offload_key
from vllm.v1.kv_offload.config import (
    OffloadingCacheConfig,
    OffloadingConfig,
    OffloadingGroupConfig,
    OffloadingModelConfig,
    OffloadingParallelConfig,
)
from vllm.v1.kv_offload.tiering.base import TransferJob
from vllm.v1.kv_offload.tiering.factory import SecondaryTierFactory
from wire_support import wait_until

ROWS, PAGES = 8, 4  # of memory; of the engine's blocks in a chunk
ALIGNMENT = 4096
# Where vLLM's layouts have [2, layers, pages, tokens, heads, head_dim] of a rank's cell.
ORDERS = {"LTHPD": (1, 2, 3, 4, 0, 5), "LHTPD": (1, 2, 4, 3, 0, 5), "LPTHD": (1, 2, 0, 3, 4, 5)}


class Spec(OffloadingSpec):
    def get_manager(self):
        raise NotImplementedError

    def get_worker(self, kv_caches):
        raise NotImplementedError


def spec(degree=1, pages=PAGES, **changes):
    parallel = {"rank": 0, "world_size": degree, "tp_size": degree, "pp_size": 1, "pcp_size": 1, "dcp_size": 1,
                "data_parallel_index": 0, "data_parallel_size": 1, "data_parallel_rank_local": None,
                "is_parallelism_agnostic": False}
    tokens = TOKENS // pages
    share = max(1, HEADS // degree)
    names = tuple(f"layer{i}" for i in range(LAYERS))
    fields = {
        "groups": (OffloadingGroupConfig(tokens_per_block=tokens, layer_names=names, group_id=0),),
        "worker_kv_bytes_per_block": 2 * LAYERS * tokens * share * DIM * 2,
        "enable_kv_cache_events": False, "extra_config": {}, "engine_id": "engine",
        "model": OffloadingModelConfig(name="org/model", dtype="torch.float16"),
        "cache": OffloadingCacheConfig(tokens_per_hash=tokens, blocks_per_chunk=pages),
        "parallel": OffloadingParallelConfig(**parallel | changes.pop("parallel", {})),
    }
    return Spec(OffloadingConfig(**fields | changes))


class Memory:
    """vLLM's CPU memory: a row a chunk, in it the ranks' cells and room up to a page of the system's."""

    def __init__(self, degree=1, pages=PAGES, axes="LTHPD"):
        self.degree, self.pages, self.axes = degree, pages, axes
        self.cell = 2 * LAYERS * TOKENS * max(1, HEADS // degree) * DIM
        row = -(-2 * self.cell * degree // ALIGNMENT) * ALIGNMENT
        self.rows = np.full((ROWS, row), 7, np.int8)

    def write(self, row, values):
        shares = min(self.degree, HEADS)
        for rank in range(self.degree):
            share = of_rank(values, rank * shares // self.degree, shares).unflatten(2, (self.pages, -1))
            cell = share.permute(ORDERS[self.axes]).contiguous().view(-1).numpy().view(np.int8)
            self.rows[row, rank * 2 * self.cell:(rank + 1) * 2 * self.cell] = cell

    def equals(self, row, values):
        other = Memory(self.degree, self.pages, self.axes)
        other.write(0, values)
        used = self.degree * 2 * self.cell
        return np.array_equal(self.rows[row, :used], other.rows[0, :used])

    def values(self, row):
        """Of one rank that has all heads."""
        sizes, order = (2, LAYERS, self.pages, TOKENS // self.pages, HEADS, DIM), ORDERS[self.axes]
        shaped = torch.from_numpy(self.rows[row, :2 * self.cell].view(np.float16)).view([sizes[i] for i in order])
        return shaped.permute([order.index(i) for i in range(6)]).flatten(2, 3)


def key(number):
    return make_offload_key(number.to_bytes(32, "big"), 0)


class Tiers:
    """Drives a tier as vLLM's tiering manager does."""

    def __init__(self, socket, memory, given=None, **options):
        self.memory, self.jobs = memory, itertools.count()
        config = {"type": "Tier", "module_path": "kvquantd.vllm", "layers": LAYERS, "heads": HEADS,
                  "head_dim": DIM, "socket": socket, "axes": memory.axes} | Engine.store_options | options
        given = given or spec(memory.degree, memory.pages)
        self.tier = SecondaryTierFactory.create_secondary_tier(config, memoryview(memory.rows), given)

    def request(self):
        context = ReqContext(f"request{time.monotonic_ns()}")
        self.tier.on_new_request(context)
        return context

    def lookup(self, numbers):
        context, found = self.request(), []

        def asked():
            found[:] = [self.tier.lookup(key(number), context) for number in numbers]
            self.tier.on_schedule_end(ScheduleEndContext((), ()))
            return LookupResult.RETRY not in found

        wait_until(asked)
        self.tier.on_request_finished(context)
        return [result is LookupResult.HIT for result in found]

    def job(self, numbers, rows, is_promotion):
        context = self.request()
        for i, number in enumerate(numbers):
            context.set_offload_key_position(key(number), (i + 1) * TOKENS)
        return TransferJob(next(self.jobs), [key(n) for n in numbers], np.array(rows), is_promotion, context)

    def finish(self, job):
        """The result of a job, which is the only one."""
        results = []

        def came():
            results.extend(self.tier.get_finished_jobs())
            return results

        wait_until(came, 2 * LONG)
        (result,) = results
        assert result.job_id == job.job_id
        return result

    def store(self, numbers, rows):
        job = self.job(numbers, rows, False)
        self.tier.submit_store(job)
        return self.finish(job)

    def load(self, numbers, rows):
        job = self.job(numbers, rows, True)
        self.tier.submit_load(job)
        return self.finish(job)

    def close(self):
        self.tier.shutdown()


class VLLM(Engine):
    def __init__(self, socket):
        self.memory = Memory()
        self.tiers = Tiers(socket, self.memory)

    @property
    def breaker(self):
        return self.tiers.tier._store.breaker

    def store(self, number):
        self.memory.write(0, chunk(number))
        return self.tiers.store([number], [0]).success

    def holds(self, number):
        return self.tiers.lookup([number]) == [True]

    def load(self, number):
        self.memory.rows[1] = 7
        return self.memory.values(1) if self.tiers.load([number], [1]).success else None

    def close(self):
        self.tiers.close()
