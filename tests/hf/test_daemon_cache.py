"""CompressedDynamicCache with a socket: old tokens are in the daemon while the model generates."""

import copy
import gc

import kvquantd
import pytest
import torch
from conftest import llama
from transformers import DynamicCache

from kvquantd.hf import CompressedDynamicCache


@pytest.fixture(scope="module")
def exact_model():
    return llama().to(torch.bfloat16)


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    monkeypatch.setattr("kvquantd.hf._daemon.DEADLINE_SECONDS", 60)  # a machine may be slow


def cache_of(model, daemon, levels={8: "exact"}):
    return CompressedDynamicCache(config=model.config, levels=levels, page_tokens=16, socket=daemon.socket)


def prompt(tokens, seed=3):
    return torch.randint(1, 99, (1, tokens), generator=torch.Generator().manual_seed(seed))


def generated(model, cache, ids, tokens=40):
    return model.generate(ids, past_key_values=cache, attention_mask=torch.ones_like(ids), max_new_tokens=tokens,
                          min_new_tokens=tokens, do_sample=False)


def test_the_very_tokens_of_a_plain_cache_are_generated(exact_model, daemon):
    ids = [prompt(30)] * 2
    caches = DynamicCache(), cache_of(exact_model, daemon)
    for turn in range(2):
        ids = [generated(exact_model, cache, given) for cache, given in zip(caches, ids)]
        assert torch.equal(*ids)
        caches[1].settle()
        assert caches[1].layers[0].tail()[0].shape[2] == 0
        ids = [torch.cat([given, prompt(5, seed=turn)], 1) for given in ids]


def test_old_tokens_are_there_and_not_here(exact_model, daemon, client):
    cache, here = cache_of(exact_model, daemon), CompressedDynamicCache(levels={8: "exact"}, page_tokens=16)
    for one in (cache, here):
        generated(exact_model, one, prompt(200))
    assert cache.nbytes < here.nbytes / 2
    session, = client.sessions()
    assert session["tokens"] == 224 and session["pinned_ms"] > 0
    assert cache.daemon_nbytes > 0
    assert cache.tokens_by_level.pop(None) == 239 - 224


def test_they_end_with_the_cache(exact_model, daemon, client):
    cache = cache_of(exact_model, daemon)
    generated(exact_model, cache, prompt(30))
    assert len(client.sessions()) == 1
    del cache
    gc.collect()
    assert client.sessions() == []


def test_older_tokens_are_kept_at_the_coarser_level(exact_model, daemon, client):
    cache = cache_of(exact_model, daemon, levels={8: 1, 100: 4})
    generated(exact_model, cache, prompt(30))
    policy = client.open(client.sessions()[0]["session"]).policy()
    assert (policy.newest_tokens, policy.newest_level, policy.floor) == (92, 1, 4)


@pytest.mark.parametrize("length", [60, 30, 5])
def test_crop(exact_model, daemon, length):
    caches = DynamicCache(), cache_of(exact_model, daemon)
    text = [generated(exact_model, cache, prompt(30)) for cache in caches][0]
    for cache in caches:
        cache.crop(length - cache.get_seq_length())
        assert cache.get_seq_length() == length
    more = torch.cat([text[:, :length], prompt(5)], 1)
    assert torch.equal(*(generated(exact_model, cache, more) for cache in caches))


def test_reset(exact_model, daemon, client):
    cache = cache_of(exact_model, daemon)
    generated(exact_model, cache, prompt(30))
    cache.reset()
    assert client.sessions()[0]["tokens"] == cache.get_seq_length() == 0
    assert torch.equal(generated(exact_model, cache, prompt(30)), generated(exact_model, DynamicCache(), prompt(30)))


def test_a_daemon_that_goes_away_is_an_error(exact_model, daemon):
    cache = cache_of(exact_model, daemon)
    text = generated(exact_model, cache, prompt(30))
    daemon.stop()
    with pytest.raises(kvquantd.ConnectionLost):
        generated(exact_model, cache, text)


def test_what_cannot_be_is_refused(exact_model, daemon):
    with pytest.raises(ValueError, match="config"):
        CompressedDynamicCache(socket=daemon.socket)
    with pytest.raises(ValueError, match="two levels"):
        cache_of(exact_model, daemon, levels={8: 1, 16: 2, 32: 3})
    with pytest.raises(ValueError, match="2 sequences"):
        generated(exact_model, cache_of(exact_model, daemon), prompt(30).repeat(2, 1))
    with pytest.raises(TypeError, match="not copied"):
        copy.deepcopy(cache_of(exact_model, daemon))
