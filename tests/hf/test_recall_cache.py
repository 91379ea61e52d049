"""A generation that sees sinks, the newest tokens and what its queries recall of the rest."""

import pathlib

import kvquantd
import pytest
import torch
from kvquantd.hf import CompressedDynamicCache, RecallCache, _recall
from transformers.cache_utils import DynamicCache

from conftest import llama

ROOT = pathlib.Path(__file__).resolve().parents[2]
ESSAY, OTHER = ROOT / "client/python/examples/essay.txt", ROOT / "proto/page/FORMAT.md"
PROMPT, NEW, WINDOW = 1100, 12, 64
FLOAT16 = 1e-4  # divergence by what is kept in it of a model in float32


@pytest.fixture
def prompt():
    return torch.randint(1, 99, (1, PROMPT), generator=torch.Generator().manual_seed(3))


def opened(client, model, name="book", **changes):
    config = model.config
    geometry = kvquantd.Geometry(config.num_hidden_layers, config.num_key_value_heads, config.head_dim, dtype="f32")
    given = {"model": "tiny", "geometry": geometry, "level": "exact", "key_summaries": True}
    return client.open(name, **given | changes)


def logits(model, cache, ids):
    """Of the last prompt token and of each step, the same tokens whatever the cache."""
    with torch.no_grad():
        rows = [model(ids[:, :-NEW], past_key_values=cache).logits[0, -1]]
        rows += [model(ids[:, i : i + 1], past_key_values=cache).logits[0, -1] for i in range(ids.shape[1] - NEW, ids.shape[1])]
    return torch.stack(rows)


def divergence(expected, got):
    expected, got = expected.log_softmax(-1), got.log_softmax(-1)
    return float((expected.exp() * (expected - got)).sum(-1).mean())


@pytest.fixture
def keys_seen(monkeypatch):
    """How many K each step of one token attends to, layer by layer."""
    seen, forward = [], _recall.sdpa_attention_forward

    def counted(module, query, key, *args, **kwargs):
        if query.shape[2] == 1:
            seen.append(key.shape[2])
        return forward(module, query, key, *args, **kwargs)

    monkeypatch.setattr(_recall, "sdpa_attention_forward", counted)
    return seen


def test_with_a_budget_of_everything_it_is_the_whole_attention(client, model, prompt):
    expected = logits(model, DynamicCache(), prompt)
    got = logits(model, RecallCache(opened(client, model), model, budget=1, window=WINDOW), prompt)
    assert divergence(expected, got) < FLOAT16


def test_a_step_sees_no_more_than_its_budget(client, model, prompt, keys_seen):
    logits(model, RecallCache(opened(client, model), model, budget=0.3, window=WINDOW), prompt)
    assert len(keys_seen) == NEW * model.config.num_hidden_layers
    assert all(0.3 * PROMPT - 20 <= seen <= 0.3 * PROMPT for seen in keys_seen[3:])


def test_what_is_recalled_matters_far_more_than_as_many_newest_tokens(client, smollm2):
    """The text begins again as it began a thousand tokens ago."""
    model, tokenizer = smollm2
    essay, other = (tokenizer(path.read_text(), return_tensors="pt")["input_ids"] for path in (ESSAY, OTHER))
    ids = torch.cat([essay[:, :200], other[:, :800], essay[:, : 20 + NEW]], 1)
    recalled = RecallCache(opened(client, model, level=1), model, budget=0.2, window=WINDOW)
    newest = RecallCache(opened(client, model, "other", level=1), model, budget=0.01, window=204)
    expected = logits(model, DynamicCache(), ids)
    of_recalled, of_newest = (divergence(expected, logits(model, cache, ids)) for cache in (recalled, newest))
    assert of_recalled < 0.1 * of_newest


def test_positions_are_kept(client, model, prompt):
    cache = RecallCache(opened(client, model), model, budget=0.3, window=WINDOW)
    logits(model, cache, prompt)
    assert cache.get_seq_length() == PROMPT


def test_a_new_process_goes_on_from_the_session(client, model, prompt):
    session = opened(client, model)
    first = RecallCache(session, model, budget=1, window=WINDOW)
    with torch.no_grad():
        model(prompt[:, :-1], past_key_values=first)
        expected = model(prompt[:, -1:], past_key_values=first).logits
        first.crop(-1)
        first.settle()
        again = RecallCache(client.open("book", model="tiny"), model, budget=1, window=WINDOW)
        assert again.get_seq_length() == PROMPT - 1
        got = model(prompt[:, -1:], past_key_values=again).logits
    assert divergence(expected[0], got[0]) < FLOAT16


def test_with_a_level_for_the_rest_every_token_is_seen(client, model, prompt, keys_seen):
    cache = RecallCache(opened(client, model), model, budget=0.3, window=WINDOW, rest=5)
    logits(model, cache, prompt)
    assert keys_seen[-1] == PROMPT


def test_what_is_recalled_is_finer_than_the_rest(client, model, prompt):
    expected = logits(model, DynamicCache(), prompt)
    coarse = CompressedDynamicCache(config=model.config, levels={WINDOW: 5})
    cache = RecallCache(opened(client, model), model, budget=0.4, window=WINDOW, rest=5)
    assert divergence(expected, logits(model, cache, prompt)) < divergence(expected, logits(model, coarse, prompt))


def test_other_caches_of_the_model_are_as_before(client, model, prompt):
    expected = logits(model, DynamicCache(), prompt)
    RecallCache(opened(client, model), model)
    torch.testing.assert_close(logits(model, DynamicCache(), prompt), expected, atol=1e-5, rtol=1e-5)


def test_it_generates(client, model, prompt):
    cache = RecallCache(opened(client, model), model, budget=1, window=WINDOW)
    given = {"attention_mask": torch.ones_like(prompt), "max_new_tokens": NEW, "do_sample": False}
    expected = model.generate(prompt, past_key_values=DynamicCache(), **given)
    assert model.generate(prompt, past_key_values=cache, **given).tolist() == expected.tolist()


def test_a_session_without_key_summaries_is_refused(client, model):
    with pytest.raises(ValueError, match="key_summaries"):
        RecallCache(opened(client, model, key_summaries=False), model)


def test_a_session_of_another_shape_is_refused(client, model):
    geometry = kvquantd.Geometry(2, 2, 16, dtype="f32")
    with pytest.raises(ValueError, match="shape"):
        RecallCache(opened(client, model, geometry=geometry), model)


@pytest.mark.parametrize("budget", [0, -1, 1.5])
def test_a_budget_that_cannot_be_is_refused(client, model, budget):
    with pytest.raises(ValueError, match="budget"):
        RecallCache(opened(client, model), model, budget=budget)


def test_a_session_that_is_gone_is_a_miss(client, model, prompt):
    session = opened(client, model)
    cache = RecallCache(session, model, budget=1, window=WINDOW)
    with torch.no_grad():
        model(prompt, past_key_values=cache)
        session.delete()
        with pytest.raises(kvquantd.Miss):
            model(prompt[:, :1], past_key_values=cache)


@pytest.mark.parametrize("rest", [None, 5])
def test_tokens_go_to_the_session_once_where_a_page_holds_few(client, prompt, rest):
    """A page of more than 2,048 values a token holds 64, of which three are older than the window at once."""
    model = llama(num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, head_dim=1040)
    session = opened(client, model)
    cache, expected = RecallCache(session, model, budget=1, window=WINDOW, rest=rest), DynamicCache()
    with torch.no_grad():
        for ids in (prompt[:, : WINDOW + 192], prompt[:, WINDOW + 192 : WINDOW + 400]):
            model(ids, past_key_values=cache)
            model(ids, past_key_values=expected)
    k, _ = session.fetch()
    assert session.tokens >= 320
    there = expected.layers[0].keys[0, :, : session.tokens].transpose(0, 1)
    torch.testing.assert_close(torch.from_numpy(k[0]), there, atol=0.05, rtol=0.05)
