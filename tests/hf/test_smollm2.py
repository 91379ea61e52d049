"""A real model with its old tokens compressed: what that takes and what it does."""

import pathlib

import pytest
import torch
from transformers import DynamicCache

from kvquantd.hf import CompressedDynamicCache

ESSAY = pathlib.Path(__file__).resolve().parents[2] / "client/python/examples/essay.txt"
BYTES_PER_TOKEN = 30 * 2 * 3 * 64 * 2  # at 16 bits
PROMPT, SCORED = 250, 40


@pytest.fixture(scope="module")
def ids(smollm2):
    _, tokenizer = smollm2
    return tokenizer(ESSAY.read_text(), return_tensors="pt")["input_ids"][:, : PROMPT + SCORED]


def log_probabilities(model, cache, ids):
    """Of what follows the prompt and each token after it; the tokens are the text's own."""
    found = []
    with torch.no_grad():
        model(ids[:, :PROMPT], past_key_values=cache)
        for token in range(PROMPT, PROMPT + SCORED):
            logits = model(ids[:, token : token + 1], past_key_values=cache).logits
            found.append(logits[0, -1].log_softmax(-1))
    return torch.stack(found)


def divergence(expected, found):
    return float((expected.exp() * (expected - found)).sum(-1).mean())


@pytest.fixture(scope="module")
def compared(smollm2, ids):
    """The cache at the default levels, and its divergence from the plain one."""
    model, _ = smollm2
    cache = CompressedDynamicCache(config=model.config)
    expected = log_probabilities(model, DynamicCache(config=model.config), ids)
    return cache, divergence(expected, log_probabilities(model, cache, ids))


def test_the_default_levels_hardly_change_what_the_model_says(compared):
    assert 1e-5 < compared[1] < 0.01


def test_at_rest_the_cache_takes_less_than_a_quarter_of_16_bits(compared):
    cache, _ = compared
    assert cache.get_seq_length() == PROMPT + SCORED
    cache.settle()
    assert cache.nbytes < (PROMPT + SCORED) * BYTES_PER_TOKEN / 4
