"""llama.cpp's own way to leave and resume: a sequence's state in a file, where llama-cpp-python is installed."""

import importlib.util
import pathlib
import statistics
import sys
import tempfile
import time

import torch

# What `make test-llama` installs in this checkout, behind what this Python has itself.
BUILT = pathlib.Path(__file__, "../../../../../build/venv-llama").resolve()
sys.path += map(str, BUILT.glob("lib/python3*/site-packages"))
ROUNDS = 5
INSTALLED = importlib.util.find_spec("llama_cpp") is not None


def measure_slot(model_file, ids):
    """Bytes of the file, seconds of its restore (the median) and of the prefill that it saves. None: it is
    not installed, or the model is no GGUF file."""
    if not INSTALLED or model_file is None:
        return None
    import llama_cpp

    llama = llama_cpp.Llama(str(model_file), n_ctx=len(ids) + 1, n_threads=torch.get_num_threads(),
                            n_threads_batch=torch.get_num_threads(), flash_attn=True, verbose=False)
    start = time.perf_counter()
    llama.eval(ids)
    prefill_seconds = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "slot")
        tokens = (llama_cpp.llama_token * len(ids))(*ids)
        size = llama_cpp.llama_state_seq_save_file(llama._ctx.ctx, bytes(path), 0, tokens, len(ids))
        seconds = [restore_seconds(llama_cpp, llama, path, tokens) for _ in range(ROUNDS)]
    return {"bytes": size, "seconds": statistics.median(seconds), "prefill_seconds": prefill_seconds,
            "speedup": prefill_seconds / statistics.median(seconds)}


def restore_seconds(llama_cpp, llama, path, tokens):
    llama._ctx.kv_cache_clear()
    count = llama_cpp.ctypes.c_size_t()
    start = time.perf_counter()
    restored = llama_cpp.llama_state_seq_load_file(
        llama._ctx.ctx, bytes(path), 0, tokens, len(tokens), llama_cpp.ctypes.byref(count))
    seconds = time.perf_counter() - start
    if not restored or count.value != len(tokens):
        raise RuntimeError("llama.cpp restored nothing")
    return seconds
