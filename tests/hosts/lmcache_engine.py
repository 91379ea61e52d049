"""LMCache in multi-process mode: its own native_plugin adapter, keys and memory objects, on a CPU."""

import os
import select

import torch
from engine import DIM, HEADS, LAYERS, LONG, Engine, chunk
from lmcache.v1.distributed.api import MemoryLayoutDesc, ObjectKey
from lmcache.v1.distributed.l2_adapters.factory import create_l2_adapter_from_registry
from lmcache.v1.distributed.l2_adapters.native_connector_l2_adapter import _object_key_to_string
from lmcache.v1.distributed.l2_adapters.native_plugin_l2_adapter import NativePluginL2AdapterConfig
from lmcache.v1.memory_management import MemoryFormat, MemoryObjMetadata, TensorMemoryObj

PARAMS = {"layers": LAYERS, "heads": HEADS, "head_dim": DIM, "dtype": "float16"}


def key(number, rank=0, degree=1, **changes):
    kv_rank = ObjectKey.ComputeKVRank(degree, rank, degree, rank)
    fields = {"chunk_hash": number.to_bytes(32, "big"), "model_name": "org/model", "kv_rank": kv_rank}
    return ObjectKey(**fields | changes)


def memory(values):
    """An object of LMCache's over a tensor."""
    meta = MemoryObjMetadata(values.shape, values.dtype, 0, values.nbytes, 1, fmt=MemoryFormat.KV_2LTD)
    return TensorMemoryObj(values.view(-1).view(torch.uint8), meta, None)


class Adapter:
    """LMCache's adapter with ours in it; each call waits for what it gives."""

    def __init__(self, socket, **options):
        params = PARAMS | Engine.store_options | {"socket": socket} | options
        self.config = NativePluginL2AdapterConfig.from_dict({
            "type": "native_plugin", "module_path": "kvquantd.lmcache", "class_name": "Connector",
            "adapter_params": params, "max_capacity_gb": 1})
        self.l2 = create_l2_adapter_from_registry(self.config)

    def close(self):
        self.l2.close()

    def key_text(self, key):
        return _object_key_to_string(key)

    def wait(self, event_fd):
        """As LMCache's controllers wait."""
        ready, _, _ = select.select([event_fd], [], [], LONG)
        assert ready
        os.eventfd_read(event_fd)

    def store(self, keys, tensors):
        objects = [memory(one) for one in tensors]
        task = self.l2.submit_store_task(keys, objects)
        self.wait(self.l2.get_store_event_fd())
        return self.l2.pop_completed_store_tasks()[task].is_successful()

    def lookup(self, keys):
        task = self.l2.submit_lookup_and_lock_task(keys, {0: MemoryLayoutDesc([], [])})
        self.wait(self.l2.get_lookup_and_lock_event_fd())
        found = self.l2.query_lookup_and_lock_result(task)
        return [found.test(i) for i in range(len(keys))]

    def load(self, keys, tensors):
        objects = [memory(one) for one in tensors]
        task = self.l2.submit_load_task(keys, objects)
        self.wait(self.l2.get_load_event_fd())
        found = self.l2.query_load_result(task)
        return [found.test(i) for i in range(len(keys))]



class LMCache(Engine):
    def __init__(self, socket, **options):
        self.adapter = Adapter(socket, **options)

    @property
    def breaker(self):
        return self.adapter.l2._client._store.breaker

    def store(self, number):
        return self.adapter.store([key(number)], [chunk(number).flatten(3)])

    def holds(self, number):
        return self.adapter.lookup([key(number)]) == [True]

    def load(self, number):
        into = torch.full_like(chunk(number), 7)
        return into if self.adapter.load([key(number)], [into]) == [True] else None

    def close(self):
        self.adapter.close()
