"""What transformers' own tests of its caches ask of one, asked of CompressedDynamicCache beside a plain cache.

Their tests/utils/test_cache_utils.py is in no wheel, and takes models from the hub. Of its tests, by name:

Asked here, of SmolLM2 as there, the answer being a plain cache's with our weights: test_cache_batched,
test_cache_beam_search, test_cache_extra_left_padding, test_cache_copy.
Asked in test_generate.py, of random weights: test_cache_gptj_model (GPT-2: no grouped heads, learned positions).
Asked in test_cache.py, of values alone: test_dynamic_cache_retrocompatibility, test_reorder_cache_retrocompatibility,
test_data_parallel_dynamic_cache (a cache made of what another iterates over), test_dynamic_cache of the synthetic ones.

Not asked: those of static, sliding and hybrid caches (of fixed size; sliding layers are transformers' own objects here);
test_quantized_cache_generation (Quanto's and HQQ's processors); those of offloading and of several accelerators (this
cache is on the CPU); those of exportability and CUDA graphs (pages are no tensors that torch.export could trace);
test_dynamic_cache_hard (the score of one sampled text of a model of 4 billion parameters).
"""

import copy

import pytest
import torch
from transformers import DynamicCache

from kvquantd.hf import CompressedDynamicCache

EIGHT_BITS = {4: "fast8"}


def texts(smollm2, cache, prompts, padding=None, **given):
    """What is generated, with what else generate() tells."""
    model, tokenizer = smollm2
    tokenizer.padding_side = "left"
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token  # transformers 4 reads none from GGUF
    inputs = tokenizer(prompts, padding=True, return_tensors="pt", pad_to_multiple_of=padding)
    out = model.generate(**inputs, past_key_values=cache, do_sample=False, max_new_tokens=10,
                         return_dict_in_generate=True, **given)
    assert out.past_key_values is cache
    return tokenizer.batch_decode(out.sequences, skip_special_tokens=True), out


def both(smollm2, prompts, **given):
    config = smollm2[0].config
    expected, _ = texts(smollm2, DynamicCache(config=config), prompts, **given)
    cache = CompressedDynamicCache(config=config, levels=EIGHT_BITS, page_tokens=4)
    found, out = texts(smollm2, cache, prompts, **given)
    assert found == expected
    assert cache.tokens_by_level["fast8"] >= 4
    return found, out


def test_batched(smollm2):
    found, _ = both(smollm2, ["A sequence: 1, 2, 3, 4, 5", "A sequence: A, B, C"])
    assert found[0].startswith("A sequence: 1, 2, 3, 4, 5, 6, 7")


def test_beam_search_moves_sequences(smollm2):
    _, out = both(smollm2, ["Blue is"], num_beams=2, num_return_sequences=2)
    assert any(len(set(beams)) > 1 for beams in out.beam_indices.tolist())


def test_extra_left_padding_changes_nothing(smollm2):
    narrow, _ = both(smollm2, ["The cat"])
    wide, _ = both(smollm2, ["The cat"], padding=32)
    assert narrow == wide


@pytest.fixture(scope="module")
def read(smollm2):
    """Prompts, and caches with the first part of each in it: plain, and ours."""
    model, tokenizer = smollm2
    begin = "You are a helpful assistant. Answer briefly and in plain words. "
    caches = DynamicCache(config=model.config), CompressedDynamicCache(
        config=model.config, levels=EIGHT_BITS, page_tokens=4)
    ids = tokenizer(begin, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        for cache in caches:
            model(ids, past_key_values=cache)
    return [begin + end for end in ("The sky is", "Two and two is", "Paris is")], caches


def test_a_copied_prefix_serves_several_prompts(smollm2, read):
    prompts, caches = read
    for prompt in prompts:
        expected, found = (texts(smollm2, copy.deepcopy(cache), [prompt])[0] for cache in caches)
        assert found == expected
    assert caches[0].get_seq_length() == caches[1].get_seq_length()
