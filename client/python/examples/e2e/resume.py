"""A session that comes back from the daemon against a prefill, and against a raw file."""

import contextlib
import os
import pathlib
import shutil
import statistics
import subprocess
import tempfile
import time

import kvquantd
import numpy as np
import torch
from transformers import DynamicCache

from .generation import generate, loss
from .llama_slot import measure_slot

BUILT = pathlib.Path(__file__, "../../../../../build/kvquantd").resolve()  # of this checkout
START_SECONDS = 60
MEMORY = "2G"
ROUNDS = 5
SCORED_TOKENS = 64


@contextlib.contextmanager
def daemon(socket):
    """The socket of the daemon that is named, or of one of its own, or None where there is none."""
    built = str(BUILT) if BUILT.exists() else shutil.which("kvquantd")
    program = os.environ.get("KVQUANTD") or built
    if socket or not program:
        yield socket
        return
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "kvquantd.sock")
        with open(os.path.join(folder, "log"), "wb") as log:
            process = subprocess.Popen([program, "--socket", path, "--memory", MEMORY], stderr=log)
        try:
            wait_for(path, process)
            yield path
        finally:
            process.terminate()
            process.wait()


def wait_for(path, process):
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            kvquantd.connect(path).close()
            return
        except (kvquantd.Error, OSError):
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def measure_resume(opened, scenario, level, baseline, cache, socket):
    """baseline: the scenario's run on `cache`, whose first tokens are the prompt's."""
    k, v = exported(cache, scenario.ids.shape[1])
    expected = baseline.logits[1:1 + SCORED_TOKENS]

    def scored(restored):
        ids = scenario.ids.new_tensor([baseline.ids[:scenario.ids.shape[1] + 1]])
        run = generate(opened.model, ids, restored, len(expected), "resumed", baseline.ids)
        return loss(expected, run.logits).figures()

    with kvquantd.connect(socket) as client, tempfile.TemporaryDirectory() as folder:
        sources = {f"kvquantd, level {level}": Stored(client, opened, level, k, v),
                   "kvquantd, exact": Stored(client, opened, "exact", k, v),
                   "raw file of 16 bits": RawFile(pathlib.Path(folder), k, v)}
        seconds = timed_in_turn(sources, opened.model)
        rows = [{"name": name, "bytes": source.nbytes, **seconds[name],
                 "speedup": baseline.first_token_seconds / seconds[name]["seconds"],
                 **scored(in_cache(opened.model, *source.read()))}
                for name, source in sources.items()]
    return {"scenario": scenario.name, "tokens": scenario.ids.shape[1],
            "prefill_seconds": baseline.first_token_seconds, "rows": rows,
            "llama_cpp": measure_slot(opened.gguf, scenario.ids[0].tolist())}


class Stored:
    """A session of its own, until it has been measured."""

    def __init__(self, client, opened, level, k, v):
        layers, _, heads, head_dim = k.shape
        geometry = kvquantd.Geometry(
            layers=layers, heads=heads, head_dim=head_dim, dtype="float16")
        name = f"e2e-{os.getpid()}-{level}"
        self.session = client.open(
            name, model=opened.name, geometry=geometry, level=level, new=True)
        self.session.append(k, v, settle=True)
        self.nbytes = self.session.info()["stored_bytes"]

    def read(self):
        return self.session.fetch()


class RawFile:
    """K and V as they are; what is read is in the page cache, as the daemon's bytes are in memory."""

    def __init__(self, folder, k, v):
        self.path, self.shape = folder / "kv.f16", (2, *k.shape)
        np.stack([k, v]).tofile(self.path)
        self.nbytes = self.path.stat().st_size

    def read(self):
        return tuple(np.fromfile(self.path, np.float16).reshape(self.shape))


def timed_in_turn(sources, model):
    """Medians: of reading alone, and with the cache filled so that the model can go on."""
    found = {name: {"read_seconds": [], "seconds": []} for name in sources}
    for _ in range(ROUNDS):
        for name, source in sources.items():
            start = time.perf_counter()
            k, v = source.read()
            found[name]["read_seconds"].append(time.perf_counter() - start)
            in_cache(model, k, v)
            found[name]["seconds"].append(time.perf_counter() - start)
    return {name: {what: statistics.median(all_of) for what, all_of in times.items()}
            for name, times in found.items()}


def exported(cache, tokens):
    """K and V [layers, tokens, heads, head_dim] in float16."""
    return tuple(
        np.stack([getattr(layer, part)[0, :, :tokens].transpose(0, 1).half().numpy()
                  for layer in cache.layers])
        for part in ("keys", "values"))


def in_cache(model, k, v):
    cache = DynamicCache(config=model.config)
    for layer, parts in enumerate(zip(k, v)):
        both = (torch.from_numpy(part).transpose(0, 1)[None].to(model.dtype) for part in parts)
        cache.update(*both, layer)
    return cache
