"""CompressedDynamicCache as transformers uses it: what update() gives back, and every change of what is there."""

import copy
import io

import pytest
import torch
import transformers
from transformers import DynamicCache

from kvquantd.hf import CompressedDynamicCache

REMOVES = int(transformers.__version__.partition(".")[0]) >= 5  # what crop() takes
EXACT = {8: "exact"}
ROWS, HEADS, DIM = 2, 2, 16


def values(tokens, rows=ROWS, seed=0, dtype=torch.float32, dim=DIM):
    generator = torch.Generator().manual_seed(seed)
    given = torch.randn(2, rows, HEADS, tokens, dim, generator=generator)
    return given.half().to(dtype)  # what float16 holds, so that it comes back as it was


def filled(tokens, levels=EXACT, page_tokens=16, layers=2, **given):
    """A cache and the plain one with the same, token for token after a first part."""
    caches = CompressedDynamicCache(levels=levels, page_tokens=page_tokens), DynamicCache()
    for layer in range(layers):
        k, v = values(tokens, seed=layer, **given)
        first = tokens // 2
        for cache in caches:
            cache.update(k[:, :, :first], v[:, :, :first], layer)
            for token in range(first, tokens):
                cache.update(k[:, :, token : token + 1], v[:, :, token : token + 1], layer)
    return caches


def same(cache, plain):
    return all(torch.equal(getattr(ours, part), getattr(theirs, part))
               for ours, theirs in zip(cache.layers, plain.layers, strict=True) for part in ("keys", "values"))


def test_update_returns_all_tokens():
    cache, plain = CompressedDynamicCache(levels=EXACT, page_tokens=16), DynamicCache()
    for step, count in enumerate((40, 1, 1, 30, 1, 16, 1)):
        for layer in range(2):
            k, v = values(count, seed=step)
            ours, theirs = cache.update(k, v, layer), plain.update(k, v, layer)
            assert all(torch.equal(mine, other) for mine, other in zip(ours, theirs))
    assert cache.tokens_by_level == {"exact": 80, None: 10}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_values_come_back_in_the_model_s_dtype(dtype):
    cache, plain = filled(50, dtype=dtype)
    assert cache.layers[0].keys.dtype == dtype
    assert same(cache, plain)


def test_k_and_v_may_differ_in_head_dim():
    cache, plain = CompressedDynamicCache(levels=EXACT), DynamicCache()
    k, v = values(200)[0], values(200, dim=24)[1]
    for count in (slice(0, 199), slice(199, 200)):
        cache.update(k[:, :, count], v[:, :, count], 0), plain.update(k[:, :, count], v[:, :, count], 0)
    assert same(cache, plain)


def test_values_as_projections_lay_them_need_not_be_contiguous():
    cache = CompressedDynamicCache(levels=EXACT, page_tokens=16)
    k, v = (part.transpose(1, 2).contiguous().transpose(1, 2) for part in values(40))
    cache.update(k[:, :, :39], v[:, :, :39], 0)
    found = cache.update(k[:, :, 39:], v[:, :, 39:], 0)
    assert torch.equal(found[0], k) and torch.equal(found[1], v)


def test_a_value_beyond_float16_is_kept():
    k, v = values(30)
    k[0, 0, 25, 3] = 1e6
    for first in (25, 30):
        cache = CompressedDynamicCache(levels=EXACT, page_tokens=16)
        cache.update(k[:, :, :first], v[:, :, :first], 0)
        for token in range(first, 30):
            cache.update(k[:, :, token : token + 1], v[:, :, token : token + 1], 0)
        assert torch.equal(cache.layers[0].keys, k) and torch.equal(cache.layers[0].values, v)


def test_layers_share_the_scratch():
    cache, _ = filled(40, layers=3)
    k, v = values(1)
    found = [cache.update(k, v, layer)[0] for layer in range(3)]
    assert len({keys.data_ptr() for keys in found}) == 1


def test_keys_and_iteration_have_memory_of_their_own():
    cache, plain = filled(40, layers=3)
    pairs = [entry[:2] for entry in cache]
    k, v = values(1)
    cache.update(k, v, 0)
    assert all(torch.equal(ours, theirs) for pair, layer in zip(pairs, plain.layers)
               for ours, theirs in zip(pair, (layer.keys, layer.values)))


def test_older_tokens_get_coarser():
    cache, plain = filled(200, levels={8: "exact", 40: "fast8", 80: 2, 150: 4}, page_tokens=8)
    assert cache.levels == {8: "exact", 40: "fast8", 80: 2, 150: 4}
    assert list(cache.tokens_by_level) == [4, 2, "fast8", "exact", None]
    error = (cache.layers[0].keys - plain.layers[0].keys).abs().mean((0, 1, 3))
    # From the oldest on: the first four tokens are always exact, the other errors get smaller.
    assert error[:4].max() == 0 and error[-40:].max() == 0
    assert error[8:40].mean() > 2 * error[60:110].mean() > 4 * error[130:150].mean() > 0


def test_k_and_v_may_have_levels_of_their_own():
    cache, plain = filled(200, levels={8: ("exact", "fast8"), 40: (1, 4), 80: (3, 4)}, page_tokens=8)
    assert cache.levels == {8: ("exact", "fast8"), 40: (1, 4), 80: (3, 4)}
    assert list(cache.tokens_by_level) == [(3, 4), (1, 4), ("exact", "fast8"), None]
    k, v = ((getattr(cache.layers[0], part) - getattr(plain.layers[0], part)).abs().mean((0, 1, 3))
            for part in ("keys", "values"))
    assert k[160:184].max() == 0 < v[160:184].min()
    assert 0 < 2 * k[130:152].mean() < k[8:112].mean() < v[8:112].mean() / 1.5


def test_a_step_costs_no_coding_but_where_a_page_is_full():
    cache, _ = filled(24, page_tokens=16)
    before = cache.layers[0].page_rows()
    cache.update(*values(1), 0)
    assert cache.layers[0].page_rows() == before


@pytest.mark.parametrize("length", [39, 30, 20, 3, 0])
def test_crop_to_a_length(length):
    cache, plain = filled(40)
    for one in (cache, plain):
        one.crop(length - 40 if REMOVES else length)
    if length:
        assert same(cache, plain)
    k, v = values(20, seed=9)
    for one in (cache, plain):
        for layer in range(2):
            one.update(k, v, layer)
    assert same(cache, plain) and cache.get_seq_length() == length + 20


def test_crop_of_nothing_is_what_transformers_makes_of_it():
    cache, plain = filled(40)
    cache.crop(0), plain.crop(0)
    assert cache.get_seq_length() == plain.get_seq_length() == (40 if REMOVES else 0)


def test_crop_by_a_number_of_tokens():
    cache, plain = filled(40)
    cache.crop(-25), plain.crop(-25)
    assert same(cache, plain) and cache.get_seq_length() == 15


def test_crop_takes_a_positive_number_as_transformers_does():
    cache, plain = filled(40)
    if REMOVES:
        with pytest.raises(ValueError):
            cache.crop(5)
    else:
        cache.crop(5), plain.crop(5)
    assert same(cache, plain)


def test_beams_are_reordered():
    cache, plain = filled(40)
    for one in (cache, plain):
        one.reorder_cache(torch.tensor([1, 1]))
    assert same(cache, plain)
    k, v = values(1, seed=5)
    assert torch.equal(cache.update(k, v, 0)[0], plain.update(k, v, 0)[0])


def test_sequences_are_repeated_and_selected():
    cache, plain = filled(40)
    for change, given in (("batch_repeat_interleave", 3), ("batch_select_indices", torch.tensor([5, 0, 2])),
                          ("batch_select_indices", torch.tensor([True, False, True]))):
        getattr(cache, change)(given), getattr(plain, change)(given)
        assert same(cache, plain)


def test_what_beams_share_is_held_once():
    cache, _ = filled(200, rows=1)
    cache.settle()
    before = cache.nbytes
    cache.batch_repeat_interleave(8)
    assert cache.nbytes < 1.2 * before


def test_a_reset_cache_is_as_new():
    cache, _ = filled(40)
    cache.reset()
    assert cache.get_seq_length() == 0 and cache.tokens_by_level == {}
    k, v = values(10, rows=3)
    cache.update(k, v, 0)
    assert torch.equal(cache.layers[0].keys, k)


def test_a_settled_cache_has_no_tail_and_goes_on():
    cache, plain = filled(45)
    cache.settle()
    assert cache.tokens_by_level == {"exact": 45}
    k, v = values(1)
    for layer in range(2):
        assert torch.equal(cache.update(k, v, layer)[0], plain.update(k, v, layer)[0])
    assert same(cache, plain)


def through_torch_save(cache):
    file = io.BytesIO()
    torch.save(cache, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, through_torch_save])
def test_a_copy_goes_on_by_itself(duplicate):
    cache, plain = filled(45, levels={8: 3, 20: 4})
    other = duplicate(cache)
    assert same(other, cache) and other.levels == cache.levels
    k, v = values(1)
    for layer in range(3):  # also one that is new
        other.update(k, v, layer)
    assert (other.get_seq_length(), cache.get_seq_length(), len(cache.layers)) == (46, 45, 2)


def test_a_copy_of_an_empty_cache_is_one():
    other = copy.deepcopy(CompressedDynamicCache())
    other.update(*values(3), 0)
    assert other.get_seq_length() == 3


def test_a_cache_is_made_of_what_another_iterates_over():
    cache, plain = filled(40)
    assert same(CompressedDynamicCache(list(cache), levels=EXACT), plain)


def test_nbytes_counts_pages_tail_and_tables():
    cache, _ = filled(200, layers=1, levels={8: 3}, page_tokens=16)
    pages = sum(len(page) for page in cache.layers[0].page_rows())
    tail = 2 * ROWS * HEADS * 16 * DIM * 2
    assert pages + tail < cache.nbytes < pages + tail + 100 * len(cache.layers[0].page_rows()) + 500
    assert cache.scratch_nbytes > 2 * ROWS * HEADS * 200 * DIM * 4


def test_little_more_is_held_than_the_newest_tokens_take():
    cache, token_bytes = CompressedDynamicCache(), 2 * ROWS * HEADS * DIM * 2
    for tokens in range(1, 190):
        cache.update(*values(1), 0)
        assert tokens * token_bytes < cache.nbytes < (tokens + 16) * token_bytes + 500


def test_gradients_flow_through_new_tokens_only():
    cache, _ = filled(40)
    k, v = values(2)
    k.requires_grad_()
    keys, _ = cache.update(k, v, 0)
    keys.sum().backward()
    assert torch.equal(k.grad, torch.ones_like(k))


@pytest.mark.parametrize("levels", [{}, {-1: 3}, {8: 3, 20: 3}, {8: 3, 20: 2}, {8: 6}, {8: "coarse"},
                                    {8: (2, 3), 20: (2, 3)}, {8: (2, 3), 20: (3, 2)}, {8: (2, 6)}])
def test_levels_that_cannot_be_are_refused(levels):
    with pytest.raises(ValueError):
        CompressedDynamicCache(levels=levels)


@pytest.mark.parametrize("page_tokens", [0, 48, 256])
def test_pages_that_cannot_be_are_refused(page_tokens):
    with pytest.raises(ValueError):
        CompressedDynamicCache(page_tokens=page_tokens)


def test_other_dtypes_are_refused():
    with pytest.raises(TypeError, match="float64"):
        CompressedDynamicCache().update(*values(3, dtype=torch.float64), 0)


@pytest.mark.parametrize("rows, dtype", [(3, torch.float32), (ROWS, torch.float16)])
def test_values_unlike_those_before_are_refused(rows, dtype):
    cache, _ = filled(40)
    with pytest.raises(ValueError):
        cache.update(*values(1, rows=rows, dtype=dtype), 0)
    assert cache.get_seq_length() == 40


def test_the_device_is_named_in_a_refusal():
    k, v = (part.to("meta") for part in values(3))
    with pytest.raises(ValueError, match="meta"):
        CompressedDynamicCache().update(k, v, 0)
