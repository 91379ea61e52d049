"""SGLang: a storage backend of its hierarchical cache, HiCache.

    --enable-hierarchical-cache --hicache-storage-backend dynamic --hicache-storage-backend-extra-config
        '{"backend_name": "kvquantd", "module_path": "kvquantd.sglang", "class_name": "Storage",
          "interface_v1": 1, "model": "..."}'
"""

from __future__ import annotations

from typing import Any, Optional, Sequence

import torch  # type: ignore[import-not-found]
from sglang.srt.mem_cache.hicache_storage import (  # type: ignore[import-not-found]
    HiCacheStorage,
    HiCacheStorageConfig,
    HiCacheStorageExtraInfo,
)

from ._host import Block, Heads, Layout, Store, heads_of_rank, key_of

OURS = "model", "level", "degrees", "lease", "socket", "deadline", "retry_after"
# Where the axes of a host pool's K, or V, stand: R is a token of any page, G a page.
AXES = {
    "layer_first": "LRHD",
    "page_first": "RLHD",
    "page_first_direct": "GLTHD",
    "page_head": "GHTLD",
}


def _name_of(dtype: torch.dtype) -> str:
    return str(dtype).partition(".")[2]


class Storage(HiCacheStorage):  # type: ignore[misc]
    """Keeps the pages of SGLang's host pool as blocks in the daemon.

    The extra config may hold what kvquantd._host.Store takes, and "heads", the model's KV heads, where
    there are fewer than ranks. The pool says the rest: its layers, dtype and layout, of those in AXES.
    With interface_v1 pages go from and to the pool without a copy; only that is supported. Ranks of a
    pipeline or of context parallelism have keys of their own.
    """

    def __init__(self, storage_config: HiCacheStorageConfig, kwargs: Any = None) -> None:
        given = storage_config.extra_config or {}
        if not given.get("interface_v1"):
            raise ValueError('kvquantd.sglang needs "interface_v1": 1 in the extra config')
        self._config = storage_config
        self._options = {name: given[name] for name in OURS if name in given}
        self._model_heads: Optional[int] = given.get("heads")
        self._split = [
            storage_config.pp_rank,
            storage_config.pp_size,
            storage_config.attn_cp_rank,
            storage_config.attn_cp_size,
            storage_config.dcp_rank,
            storage_config.dcp_size,
        ]

    # ---- What SGLang calls ----

    def register_mem_pool_host(self, mem_pool_host: Any) -> None:
        super().register_mem_pool_host(mem_pool_host)
        if mem_pool_host.layout not in AXES:
            raise ValueError(
                f"kvquantd.sglang knows the layouts {', '.join(AXES)}, not {mem_pool_host.layout!r}"
            )
        self._page_size: int = mem_pool_host.page_size
        self._parts = self._parts_of(mem_pool_host)
        heads = self._parts[0].shape[AXES[mem_pool_host.layout].index("H")]
        self._heads, model_heads = self._share(heads)
        sizes = dict(zip(AXES[mem_pool_host.layout], self._parts[0].shape))
        axes = "PLTHD" if len(self._parts) == 2 else "LTHD"
        layout = Layout(sizes["L"], model_heads, sizes["D"], _name_of(mem_pool_host.dtype), axes)
        self._store = Store(layout, **self._options)

    def batch_exists(
        self, keys: list[str], extra_info: Optional[HiCacheStorageExtraInfo] = None
    ) -> int:
        there = self._store.exists([self._key(key) for key in keys], self._heads)
        return [*there, False].index(False)

    def batch_get_v1(
        self,
        keys: list[str],
        host_indices: torch.Tensor,
        extra_info: Optional[HiCacheStorageExtraInfo] = None,
    ) -> list[bool]:
        return self._store.get(self._blocks(keys, host_indices, extra_info))

    def batch_set_v1(
        self,
        keys: list[str],
        host_indices: torch.Tensor,
        extra_info: Optional[HiCacheStorageExtraInfo] = None,
    ) -> list[bool]:
        if not self._config.is_storage_writer:
            return [True] * len(keys)  # another rank has the same, and stores it
        return self._store.put(self._blocks(keys, host_indices, extra_info))

    def exists(self, key: str) -> bool:
        return self.batch_exists([key]) == 1

    def get(
        self,
        key: str,
        target_location: Optional[Any] = None,
        target_sizes: Optional[Any] = None,
    ) -> None:
        """Only interface_v1 knows where a page goes: a miss."""
        return None

    def batch_get(
        self,
        keys: list[str],
        target_locations: Optional[Any] = None,
        target_sizes: Optional[Any] = None,
    ) -> list[None]:
        return [None] * len(keys)

    def set(
        self,
        key: str,
        value: Optional[Any] = None,
        target_location: Optional[Any] = None,
        target_sizes: Optional[Any] = None,
    ) -> bool:
        return False

    def batch_set(
        self,
        keys: list[str],
        values: Optional[Any] = None,
        target_locations: Optional[Any] = None,
        target_sizes: Optional[Any] = None,
    ) -> bool:
        return False

    def close(self) -> None:
        self._store.close()

    # ---- Behind that ----

    def _parts_of(self, pool: Any) -> list[Any]:
        """K and V of the whole pool, or what it has for both, as numpy's arrays on its memory."""
        value_type = Layout(1, 1, 1, _name_of(pool.dtype)).value_type
        parts = [pool.kv_buffer] if self._config.is_mla_model else [pool.k_buffer, pool.v_buffer]
        return [part.view(torch.uint8).numpy().view(value_type) for part in parts]

    def _share(self, pool_heads: int) -> tuple[Heads, int]:
        """The heads of this rank, and how many the model has."""
        if self._config.is_mla_model:
            return Heads(0, 1), 1
        model_heads = self._model_heads or pool_heads * self._config.tp_size
        share = heads_of_rank(model_heads, self._config.tp_rank, self._config.tp_size)
        if share.number != pool_heads:
            raise ValueError(f"the pool has {pool_heads} heads, not {share.number} of {model_heads}")
        return share, model_heads

    def _key(self, page_hash: str) -> bytes:
        return key_of(page_hash, *self._split)

    def _page(self, part: Any, index: int) -> Any:
        axes = AXES[self.mem_pool_host.layout]
        if "G" in axes:
            page = part[index // self._page_size]
        else:
            whole = slice(None)
            tokens = slice(index, index + self._page_size)
            page = part[tuple(tokens if axis == "R" else whole for axis in axes)]
        order = axes.replace("G", "").replace("R", "T")
        return page.transpose([order.index(axis) for axis in "LTHD"])

    def _blocks(
        self,
        keys: Sequence[str],
        host_indices: torch.Tensor,
        extra_info: Optional[HiCacheStorageExtraInfo],
    ) -> list[Block]:
        """Each behind the one before it, from the sequence's start where SGLang tells that."""
        before = (extra_info.prefix_keys if extra_info else None) or []
        names = [self._key(key) for key in [*before[-1:], *keys]]
        parents = names[:-1] if before else [None, *names[:-1]]
        names = names[len(names) - len(keys) :]
        firsts = host_indices[:: self._page_size].tolist()
        blocks = []
        for i, (key, parent, first) in enumerate(zip(names, parents, firsts)):
            pages = [self._page(part, first) for part in self._parts]
            v = pages[1] if len(pages) > 1 else None
            position = (len(before) + i) * self._page_size
            blocks.append(Block(key, self._heads, pages[0], v, parent, position))
        return blocks
