"""What client/python/README.md shows is what happens."""

import os
import pathlib
import re
import subprocess
import time

import kvquantd
import pytest
import torch
from conftest import llama
from transformers import DynamicCache

ROOT = pathlib.Path(__file__).resolve().parents[2]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "client/python/README.md").read_text(), re.DOTALL)


@pytest.fixture
def client(tmp_path):
    program = os.environ.get("KVQUANTD", str(ROOT / "build/kvquantd"))
    socket = tmp_path / "kvquantd.sock"
    process = subprocess.Popen([program, "--socket", socket, "--memory", "64M"], stderr=subprocess.DEVNULL)
    with connected_to(str(socket), process) as connected:
        yield connected
    process.terminate()
    process.wait()


def connected_to(socket, process):
    """As soon as it listens; the run of tests has a deadline."""
    while True:
        assert process.poll() is None
        try:
            return kvquantd.connect(socket)
        except kvquantd.CannotConnect:
            time.sleep(0.01)


@pytest.fixture
def chat():
    """A model, what it has been asked, and its cache after the answer."""
    model = llama().to(torch.bfloat16)
    ids, cache = torch.arange(1, 61)[None], DynamicCache()
    return model, go_on(model, ids, cache), cache


def go_on(model, ids, cache):
    return model.generate(ids, past_key_values=cache, attention_mask=torch.ones_like(ids), max_new_tokens=20,
                          min_new_tokens=20, do_sample=False)


def test_a_chat_resumes(client, chat):
    model, ids, cache = chat
    shown = {}
    exec(BLOCKS[0], shown)
    for _ in range(2):  # the second turn adds what is new
        shown["leave"](client, "chat", cache, "a-model", level="exact")
        resumed = shown["resume"](client, "chat", model.dtype)
        assert resumed.get_seq_length() == cache.get_seq_length() == ids.shape[1] - 1
        expected = go_on(model, ids, cache)
        assert torch.equal(go_on(model, ids, resumed), expected)
        ids = expected


def test_a_cache_takes_less(chat, capsys):
    model, ids, _ = chat
    exec(BLOCKS[1], {"model": model, "inputs": {"input_ids": ids, "attention_mask": torch.ones_like(ids)}})
    nbytes, scratch_nbytes, levels = capsys.readouterr().out.split(maxsplit=2)
    tokens = ids.shape[1] + 255
    assert levels.strip() == f"{{3: {tokens}}}"
    assert int(nbytes) < tokens * 3 * 2 * 2 * 16 * 2 / 2  # half of 16 bits: heads of 16 have much beside values
    assert int(scratch_nbytes) > 0
