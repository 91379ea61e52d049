"""model.generate() with a CompressedDynamicCache. Exact pages of bfloat16 give the very tokens of a plain cache."""

import copy

import pytest
import torch
import transformers
from conftest import llama
from transformers import DynamicCache

from kvquantd.hf import CompressedDynamicCache

EXACT = {8: "exact"}


@pytest.fixture(scope="module")
def exact_model():
    return llama().to(torch.bfloat16)


def prompt(tokens, rows=1, seed=3):
    return torch.randint(1, 99, (rows, tokens), generator=torch.Generator().manual_seed(seed))


def generated(model, cache, ids, **given):
    given = {"max_new_tokens": 40, "min_new_tokens": 40, "do_sample": False} | given
    if "attention_mask" not in given:
        given["attention_mask"] = torch.ones_like(ids)
    return model.generate(ids, past_key_values=cache, **given)


def check_same(model, ids, config=None, levels=EXACT, **given):
    """Both ways of making a cache; returns the cache that was used last."""
    expected = generated(model, DynamicCache(config=config), ids, **given)
    for made_of in (None, config or model.config):
        cache = CompressedDynamicCache(config=made_of, levels=levels, page_tokens=16)
        assert torch.equal(generated(model, cache, ids, **given), expected)
    return cache


def test_greedy(exact_model):
    cache = check_same(exact_model, prompt(30))
    assert cache.tokens_by_level["exact"] >= 48
    assert cache.get_seq_length() == 69  # the last token was not fed


def test_a_batch_with_left_padding(exact_model):
    ids = prompt(30, rows=3)
    mask = torch.ones_like(ids)
    mask[0, :21] = mask[2, :7] = 0
    check_same(exact_model, ids * mask, attention_mask=mask)


def test_beams(exact_model):
    check_same(exact_model, prompt(30, rows=2), num_beams=3)


def test_returning_several_sequences(exact_model):
    transformers.set_seed(5)
    ids, given = prompt(20), {"do_sample": True, "num_return_sequences": 3}
    expected = generated(exact_model, DynamicCache(), ids, **given)
    transformers.set_seed(5)
    assert torch.equal(generated(exact_model, CompressedDynamicCache(levels=EXACT), ids, **given), expected)


@pytest.mark.parametrize("given", [{"prompt_lookup_num_tokens": 4, "eos_token_id": 98}, {"assistant": True}])
def test_assisted(exact_model, given):
    if "assistant" in given:
        assistant = copy.deepcopy(exact_model)
        with torch.no_grad():  # so that it is wrong now and then
            assistant.model.layers[-1].self_attn.o_proj.weight.mul_(0.5)
        given = {"assistant_model": assistant}
    ids = prompt(10).repeat(1, 3)
    check_same(exact_model, ids, **given)


def test_a_chat_goes_on_in_the_same_cache(exact_model):
    caches = DynamicCache(), CompressedDynamicCache(levels=EXACT, page_tokens=16)
    ids = [prompt(30)] * 2
    for turn in range(3):
        ids = [generated(exact_model, cache, given, max_new_tokens=12, min_new_tokens=12)
               for cache, given in zip(caches, ids)]
        assert torch.equal(*ids)
        caches[1].settle()
        ids = [torch.cat([given, prompt(9, seed=turn)], 1) for given in ids]


def test_a_long_prompt_in_parts(exact_model):
    caches = DynamicCache(), CompressedDynamicCache(levels=EXACT, page_tokens=16)
    ids = prompt(120)
    for first, end in ((0, 50), (50, 51), (51, 120)):
        with torch.no_grad():
            expected, found = (exact_model(ids[:, first:end], past_key_values=cache).logits for cache in caches)
        assert torch.equal(found, expected)


def test_gpt2_of_the_geometry_of_distilgpt2():
    torch.manual_seed(2)
    config = transformers.GPT2Config(n_layer=6, n_head=12, n_embd=768, vocab_size=99, eos_token_id=None,
                                     bos_token_id=None, pad_token_id=0, initializer_range=0.2)
    model = transformers.GPT2LMHeadModel(config).eval().to(torch.bfloat16)
    check_same(model, prompt(17))


def test_gpt2_in_float32_stays_close_at_the_default_levels():
    torch.manual_seed(2)
    config = transformers.GPT2Config(n_layer=6, n_head=12, n_embd=768, vocab_size=99, pad_token_id=0)
    model, ids = transformers.GPT2LMHeadModel(config).eval(), prompt(200)
    caches = DynamicCache(), CompressedDynamicCache(config=config)
    with torch.no_grad():
        for end in range(190, 200):
            first = 0 if end == 190 else end - 1
            expected, found = (model(ids[:, first:end], past_key_values=cache).logits.log_softmax(-1)
                               for cache in caches)
    assert 0 < (expected.exp() * (expected - found)).sum(-1)[0, -1] < 1e-4
    assert caches[1].tokens_by_level.keys() == {(2, 3), None}


def test_sliding_layers_are_left_alone():
    torch.manual_seed(4)
    config = transformers.Gemma3TextConfig(
        hidden_size=64, intermediate_size=96, num_hidden_layers=4, vocab_size=99, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, sliding_window=24, pad_token_id=0, eos_token_id=None,
        bos_token_id=None, layer_types=["sliding_attention", "full_attention"] * 2)
    model = transformers.Gemma3ForCausalLM(config).eval().to(torch.bfloat16)
    ids = prompt(30)
    expected = generated(model, DynamicCache(config=config), ids)
    cache = CompressedDynamicCache(config=config, levels=EXACT, page_tokens=16)
    assert torch.equal(generated(model, cache, ids), expected)
    assert cache.uncompressed_layers == [0, 2]
    window = sum(cache.layers[i].keys.nbytes + cache.layers[i].values.nbytes for i in (0, 2))
    own = sum(cache.layers[i].own_nbytes for i in (1, 3))
    pages = sum(len(part) for i in (1, 3) for part in cache.layers[i].page_rows())
    assert cache.nbytes >= window + own + pages


def test_layers_that_use_another_layer_s_k_and_v():
    torch.manual_seed(4)
    config = transformers.Gemma3nTextConfig(
        hidden_size=64, intermediate_size=96, num_hidden_layers=6, vocab_size=99, head_dim=16,
        num_attention_heads=4, num_key_value_heads=2, sliding_window=24, num_kv_shared_layers=2,
        layer_types=["sliding_attention", "full_attention"] * 3, vocab_size_per_layer_input=99,
        hidden_size_per_layer_input=8, laurel_rank=8, altup_num_inputs=2, pad_token_id=0,
        activation_sparsity_pattern=[0.0] * 6, eos_token_id=None, bos_token_id=None)
    model = transformers.Gemma3nForCausalLM(config).eval().to(torch.bfloat16)
    ids = prompt(30)
    expected = generated(model, DynamicCache(config=config), ids)
    cache = CompressedDynamicCache(config=config, levels=EXACT, page_tokens=16)
    assert torch.equal(generated(model, cache, ids), expected)
    assert cache.tokens_by_level["exact"] >= 48


def test_what_update_returned_holds_where_layers_share_it():
    config = transformers.Gemma3nTextConfig(num_hidden_layers=4, num_kv_shared_layers=1,
                                            layer_types=["full_attention"] * 4,
                                            activation_sparsity_pattern=[0.0] * 4)
    cache, given = CompressedDynamicCache(config=config, levels=EXACT, page_tokens=16), []
    for layer in range(3):
        k = torch.randn(1, 2, 40, 16, generator=torch.Generator().manual_seed(layer)).half()
        cache.update(k[:, :, :39], k[:, :, :39], layer)
        given.append((k, cache.update(k[:, :, 39:], k[:, :, 39:], layer)))
    assert all(torch.equal(k, keys) and torch.equal(k, values) for k, (keys, values) in given)


def test_hidden_states_and_attentions_stay_as_they_were(exact_model):
    """They are kept until the end of generate(), long after the scratch has gone on."""
    given = {"return_dict_in_generate": True, "output_hidden_states": True}
    ids = prompt(30)
    expected = generated(exact_model, DynamicCache(), ids, **given).hidden_states
    found = generated(exact_model, CompressedDynamicCache(levels=EXACT), ids, **given).hidden_states
    assert all(torch.equal(a, b) for ours, theirs in zip(found, expected) for a, b in zip(ours, theirs))


def test_a_cache_that_crosses_to_an_encoder_s_states():
    torch.manual_seed(6)
    config = transformers.T5Config(vocab_size=99, d_model=64, d_kv=16, d_ff=96, num_layers=2, num_heads=4,
                                   decoder_start_token_id=0, eos_token_id=None, pad_token_id=0)
    model = transformers.T5ForConditionalGeneration(config).eval().to(torch.bfloat16)
    ids = prompt(40)
    given = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 30, "min_new_tokens": 30,
             "do_sample": False}
    found = [model.generate(ids, past_key_values=transformers.EncoderDecoderCache(*made()), **given)
             for made in (lambda: (DynamicCache(), DynamicCache()),
                          lambda: [CompressedDynamicCache(levels=EXACT, page_tokens=16) for _ in range(2)])]
    assert torch.equal(*found)
