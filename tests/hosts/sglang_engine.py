"""SGLang's HiCache: its own factory and storage interface; its host pool, whose module asks for a GPU's
libraries, is one written after sglang.srt.mem_cache.pool_host."""

import torch
from engine import DIM, HEADS, LAYERS, TOKENS, Engine, chunk
from sglang.srt.mem_cache.hicache_storage import HiCacheStorageConfig, HiCacheStorageExtraInfo
from sglang.srt.mem_cache.storage.backend_factory import StorageBackendFactory

PAGES = 8
# Of K, and of V: the shape of a pool, and where [layers, tokens, heads, head_dim] of a page stand in it.
SHAPES = {
    "layer_first": lambda heads: (LAYERS, PAGES * TOKENS, heads, DIM),
    "page_first": lambda heads: (PAGES * TOKENS, LAYERS, heads, DIM),
    "page_first_direct": lambda heads: (PAGES, LAYERS, TOKENS, heads, DIM),
    "page_head": lambda heads: (PAGES, heads, TOKENS, LAYERS, DIM),
}


class Pool:
    """What HostKVCache has of MHATokenToKVPoolHost that storage backends use."""

    def __init__(self, layout="page_first", heads=HEADS, dtype=torch.float16):
        self.layout, self.page_size, self.dtype = layout, TOKENS, dtype
        self.kv_buffer = torch.full((2, *SHAPES[layout](heads)), 7, dtype=dtype)
        self.k_buffer, self.v_buffer = self.kv_buffer

    def page(self, index):
        """A page's K and V, as views: [2, layers, tokens, heads, head_dim]."""
        tokens = slice(index * TOKENS, (index + 1) * TOKENS)
        return {
            "layer_first": lambda: self.kv_buffer[:, :, tokens],
            "page_first": lambda: self.kv_buffer[:, tokens].transpose(1, 2),
            "page_first_direct": lambda: self.kv_buffer[:, index],
            "page_head": lambda: self.kv_buffer[:, index].permute(0, 3, 2, 1, 4),
        }[self.layout]()


class LatentPool:
    """The same of MLATokenToKVPoolHost."""

    def __init__(self, dtype=torch.float16):
        self.layout, self.page_size, self.dtype = "page_first", TOKENS, dtype
        self.kv_buffer = torch.full((PAGES * TOKENS, LAYERS, 1, 576), 7, dtype=dtype)


def start_storage(socket, pool, rank=0, degree=1, mla=False, **options):
    """As SGLang's cache controller attaches it."""
    extra = {"backend_name": "kvquantd", "module_path": "kvquantd.sglang", "class_name": "Storage",
             "interface_v1": 1, "socket": socket} | Engine.store_options | options
    config = HiCacheStorageConfig(
        tp_rank=rank, tp_size=degree, pp_rank=0, pp_size=1, attn_cp_rank=0, attn_cp_size=1, is_mla_model=mla,
        enable_storage_metrics=False, is_page_first_layout=pool.layout.startswith("page_first"),
        model_name="org/model", extra_config=extra)
    storage = StorageBackendFactory.create_backend("dynamic", config, pool)
    storage.register_mem_pool_host(pool)
    storage.on_host_pools_registered()
    return storage


def indices(*pages):
    return torch.cat([torch.arange(page * TOKENS, (page + 1) * TOKENS) for page in pages])


def name(number):
    return f"{number:064x}"


class SGLang(Engine):
    def __init__(self, socket):
        self.pool = Pool()
        self.storage = start_storage(socket, self.pool)

    @property
    def breaker(self):
        return self.storage._store.breaker

    def store(self, number):
        self.pool.page(0).copy_(chunk(number))
        return self.storage.batch_set_v1([name(number)], indices(0), HiCacheStorageExtraInfo(prefix_keys=[])) == [True]

    def holds(self, number):
        return self.storage.batch_exists([name(number)], HiCacheStorageExtraInfo(prefix_keys=[])) == 1

    def load(self, number):
        self.pool.page(1).fill_(7)
        return self.pool.page(1) if self.storage.batch_get_v1([name(number)], indices(1)) == [True] else None

    def close(self):
        self.storage.close()
