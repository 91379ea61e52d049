"""What client/python/README.md shows is what happens."""

import pathlib
import re

import kvquantd.hf
import pytest
import torch
from conftest import llama

ROOT = pathlib.Path(__file__).resolve().parents[2]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "client/python/README.md").read_text(), re.DOTALL)


def shown_of(name):
    """The first code that names it."""
    return next(block for block in BLOCKS if name in block)


@pytest.fixture
def chat():
    """A model, and what has been said."""
    model, ids = llama().to(torch.bfloat16), torch.arange(1, 61)[None]
    return model, model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, min_new_tokens=20,
                                 do_sample=False)


def test_a_chat_resumes(daemon, monkeypatch, chat):
    monkeypatch.setenv("KVQ_SOCKET", daemon.socket)
    monkeypatch.setitem(kvquantd.hf.Session.__init__.__kwdefaults__, "deadline", 60)  # a machine may be slow
    model, ids = chat
    for there in (0, 335):  # the second finds the first
        shown = {"model": model, "tokenizer": None, "inputs": {"input_ids": ids, "attention_mask": torch.ones_like(ids)}}
        exec(shown_of("session.restore"), shown)
        assert shown["tokens"] == there
        ids = shown["out"]
    exec(shown_of("kvquantd.Breaker").replace("deadline=5.0", "deadline=60"), shown)
    assert shown["session"].restore(ids).tokens == ids.shape[1] - 1


def test_a_cache_takes_less(chat, capsys):
    model, ids = chat
    exec(shown_of("cache.settle()"), {"model": model, "inputs": {"input_ids": ids, "attention_mask": torch.ones_like(ids)}})
    nbytes, scratch_nbytes, levels = capsys.readouterr().out.split(maxsplit=2)
    tokens = ids.shape[1] + 255
    assert levels.strip() == f"{{(2, 3): {tokens}}}"
    assert int(nbytes) < tokens * 3 * 2 * 2 * 16 * 2 / 2  # half of 16 bits: heads of 16 have much beside values
    assert int(scratch_nbytes) > 0
