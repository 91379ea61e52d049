"""vLLM: a secondary tier of its offloading connector.

    --kv-transfer-config '{"kv_connector": "OffloadingConnector", "kv_role": "kv_both",
        "kv_connector_extra_config": {"spec_name": "TieringOffloadingSpec", "cpu_bytes_to_use": 8589934592,
            "secondary_tiers": [{"type": "Tier", "module_path": "kvquantd.vllm", "model": "...",
                                 "layers": 32, "heads": 8, "head_dim": 128}]}}'
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Callable, ClassVar, Optional, Sequence

import numpy as np
from vllm.v1.kv_offload.base import (  # type: ignore[import-not-found]
    LookupResult,
    Medium,
    OffloadingSpec,
    OffloadKey,
    ReqContext,
    RequestOffloadingContext,
    ScheduleEndContext,
)
from vllm.v1.kv_offload.tiering.async_lookup import (  # type: ignore[import-not-found]
    AsyncLookupManager,
)
from vllm.v1.kv_offload.tiering.backpressure import (  # type: ignore[import-not-found]
    BackpressureDetector,
)
from vllm.v1.kv_offload.tiering.base import (  # type: ignore[import-not-found]
    JobResult,
    SecondaryTierManager,
    TransferJob,
)

from ._host import Block, Layout, Store, heads_of_rank, key_of

log = logging.getLogger("kvquantd")


class Chunks:
    """vLLM's chunks in its CPU memory, as blocks: one for each rank and each of the engine's pages.

    A row has the ranks' cells behind each other; a cell has the layers, each with the chunk's pages.
    """

    def __init__(self, spec: OffloadingSpec, view: memoryview, layout: Layout) -> None:
        config = spec.config
        parallel = config.parallel
        alone = parallel.pp_size, parallel.pcp_size, parallel.dcp_size, len(config.groups)
        if alone != (1, 1, 1, 1) or config.canonical_layout:
            raise ValueError(
                "kvquantd.vllm knows tensor parallelism only, one group of layers, and not canonical_layout"
            )
        if layout.axes[0] != "L":
            raise ValueError(f"in vLLM's memory a layer is a whole: axes begins with L, not {layout.axes!r}")
        ranks = 1 if config.replicated_layout else parallel.tp_size
        self.shares = [heads_of_rank(layout.heads, rank, ranks) for rank in range(ranks)]
        self._layout, self._rows = layout, np.asarray(view).view(np.uint8)
        self._pages = spec.blocks_per_chunk
        self._cell_bytes = config.worker_kv_bytes_per_block * self._pages
        self._page_tokens = config.groups[0].tokens_per_block
        self.tokens = self._page_tokens * self._pages
        self._check_sizes(config.worker_kv_bytes_per_block)

    def _check_sizes(self, bytes_per_block: int) -> None:
        expected = self._layout.token_bytes(self.shares[0].number) * self._page_tokens
        if bytes_per_block != expected:
            raise ValueError(f"a rank's block has {bytes_per_block} bytes, not {expected}")

    def names(self, key: OffloadKey) -> list[bytes]:
        """Those of the pages."""
        return [key_of(key, page) for page in range(self._pages)]

    def _cell(self, row: int, rank: int) -> Any:
        first = rank * self._cell_bytes
        values = self._layout.values(self._rows[row, first : first + self._cell_bytes])
        return values.reshape(self._layout.layers, self._pages, -1)

    def blocks(
        self, rank: int, key: OffloadKey, row: int, parent: Optional[OffloadKey], position: int
    ) -> list[Block]:
        names, heads, cell = self.names(key), self.shares[rank], self._cell(row, rank)
        parents = [self.names(parent)[-1] if parent else None, *names[:-1]]
        return [
            Block(
                name,
                heads,
                *self._layout.pair(cell[:, page], heads.number),
                parent=behind,
                position=position + page * self._page_tokens,
            )
            for page, (name, behind) in enumerate(zip(names, parents))
        ]


class Lookup(AsyncLookupManager):  # type: ignore[misc]
    def __init__(self, store: Store, chunks: Chunks, tier_type: str) -> None:
        self._store, self._chunks = store, chunks
        super().__init__(tier_type)

    def batch_lookup(self, keys: list[OffloadKey], req_context: ReqContext) -> Iterable[bool]:
        """A chunk is there if all ranks' pages are."""
        names = [name for key in keys for name in self._chunks.names(key)]
        shares = dict.fromkeys(self._chunks.shares)
        return _all_of(len(keys), [self._store.exists(names, share) for share in shares])


def _all_of(chunks: int, each_rank: Iterable[Sequence[bool]]) -> list[bool]:
    """Whether a chunk's pages are all true, of all ranks."""
    pages = [all(ranks) for ranks in zip(*each_rank)]
    count = len(pages) // max(chunks, 1)
    return [all(pages[i * count : (i + 1) * count]) for i in range(chunks)]


class Ends(dict[int, OffloadKey]):
    """A request's chunks that were stored, by where they end: the next ones stand behind them."""


class Tier(SecondaryTierManager):  # type: ignore[misc]
    """Keeps vLLM's chunks as blocks in the daemon.

    model, level, degrees, lease, socket, deadline, retry_after: see kvquantd._host.Store. layers, heads
    (of the model, over all ranks), head_dim and dtype (the engine's, unless it is given) say what
    vLLM's memory holds, and axes in which order: "LTHPD" is its layout LBNHC, "LHTPD" LBHNC, both with K
    and V of a head next to each other; "LTHD" with heads 1 and the latent's head_dim is MLA. workers:
    jobs at the same time.
    """

    medium: ClassVar[Medium] = Medium.STORAGE

    def __init__(
        self,
        offloading_spec: OffloadingSpec,
        primary_kv_view: memoryview,
        tier_type: str,
        backpressure_detector: Optional[BackpressureDetector] = None,
        *,
        layers: int,
        heads: int,
        head_dim: int,
        dtype: Optional[str] = None,
        axes: str = "LTHPD",
        workers: int = 4,
        **store: Any,
    ) -> None:
        super().__init__(offloading_spec, primary_kv_view, tier_type, backpressure_detector)
        known = dtype or offloading_spec.config.model.dtype.rpartition(".")[2]
        layout = Layout(layers, heads, head_dim, known, axes)
        self._chunks = Chunks(offloading_spec, primary_kv_view, layout)
        self._store = Store(layout, **store)
        self._lookup = Lookup(self._store, self._chunks, tier_type)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="kvquantd-vllm")
        self._lock = threading.Lock()
        self._finished: list[JobResult] = []
        self._running: set[Future[None]] = set()
        self._loads: dict[int, list[OffloadKey]] = {}

    # ---- What vLLM calls ----

    def lookup(self, key: OffloadKey, req_context: ReqContext) -> LookupResult:
        there = self._lookup.lookup(key, req_context)
        if there is None:
            return LookupResult.RETRY
        return LookupResult.HIT if there else LookupResult.MISS

    def submit_store(self, job_metadata: TransferJob) -> None:
        self._submit(job_metadata, self._store.put)

    def submit_load(self, job_metadata: TransferJob) -> None:
        self._loads[job_metadata.job_id] = list(job_metadata.keys)
        self._submit(job_metadata, self._store.get)

    def get_finished_jobs(self) -> Iterable[JobResult]:
        with self._lock:
            finished, self._finished = self._finished, []
        for job in finished:
            came = job.successful_keys or ()
            if not job.success:  # else vLLM would go on asking for what it was told is there
                missing = [key for key in self._loads.get(job.job_id, []) if key not in came]
                self._lookup.mark_miss(missing)
            self._loads.pop(job.job_id, None)
        return finished

    def on_new_request(self, req_context: ReqContext) -> RequestOffloadingContext:
        return RequestOffloadingContext()

    def on_request_finished(self, req_context: ReqContext) -> None:
        self._lookup.cleanup(req_context.req_id)

    def on_schedule_end(self, context: ScheduleEndContext) -> None:
        self._lookup.flush()

    def drain_jobs(self) -> None:
        with self._lock:
            running = list(self._running)
        wait(running)

    def shutdown(self) -> None:
        self._pool.shutdown(wait=True)
        self._lookup.shutdown()
        self._store.close()

    # ---- Behind that ----

    def _submit(self, job: TransferJob, move: Callable[[Sequence[Block]], list[bool]]) -> None:
        task = self._pool.submit(self._run, job, move, self._blocks(job))
        with self._lock:
            self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: Future[None]) -> None:
        with self._lock:
            self._running.discard(task)

    def _run(
        self,
        job: TransferJob,
        move: Callable[[Sequence[Block]], list[bool]],
        blocks: list[list[Block]],
    ) -> None:
        began, keys = time.monotonic(), list(job.keys)
        try:
            each = _all_of(len(keys), map(move, blocks))
        except Exception:  # vLLM waits for a result, and goes on with this one
            log.exception("kvquantd.vllm failed")
            each = [False] * len(keys)
        moved = [key for key, done in zip(keys, each) if done]
        size = sum(block.nbytes for of_rank in blocks for block in of_rank)
        success = all(each)
        took = time.monotonic() - began
        result = JobResult(job.job_id, success, None if success else tuple(moved), took, size)
        with self._lock:
            self._finished.append(result)

    def _blocks(self, job: TransferJob) -> list[list[Block]]:
        """Each rank's; a chunk's behind those of the chunk before it, where the request has told that."""
        ends = job.req_context.get_state(Ends) or Ends()
        job.req_context.set_state(ends)
        places = [job.req_context.get_offload_key_position(key) or 0 for key in job.keys]
        ends.update({end: key for key, end in zip(job.keys, places) if end})
        firsts = [max(0, end - self._chunks.tokens) for end in places]
        return [
            [
                block
                for key, row, first in zip(job.keys, job.chunk_ids, firsts)
                for block in self._chunks.blocks(rank, key, int(row), ends.get(first), first)
            ]
            for rank in range(len(self._chunks.shares))
        ]
