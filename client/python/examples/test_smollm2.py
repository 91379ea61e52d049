"""The model by itself: what is cached is what a later token needs."""

import multiprocessing

import numpy as np
import pytest
from smollm2 import Cache, SmolLM2, convert

IDS = list(range(100, 130))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "smollm2"
    convert(folder)
    return SmolLM2(folder)


def test_two_processes_that_unpack_at_once_both_find_it_unpacked(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=convert, args=(tmp_path / "smollm2",)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]


def logits_after(model, cache, ids):
    return model.logits(model.forward([ids], cache)[0, -1])


def test_in_pieces_or_at_once_is_the_same(model):
    at_once, pieces = Cache(model, 1, len(IDS)), Cache(model, 1, len(IDS))
    expected = logits_after(model, at_once, IDS)
    model.forward([IDS[:17]], pieces)
    model.forward([IDS[17:18]], pieces)
    assert np.allclose(logits_after(model, pieces, IDS[18:]), expected, atol=1e-3)


def test_a_cache_restored_from_its_export_goes_on_as_before(model):
    cache = Cache(model, 1, len(IDS))
    model.forward([IDS[:-1]], cache)
    restored = Cache(model, 2, len(IDS) + 5)
    restored.store(1, *cache.export(0, np.float32))
    restored.store(0, *cache.export(0, np.float32))
    expected = logits_after(model, cache, IDS[-1:])
    found = model.logits(model.forward([IDS[-1:]] * 2, restored)[:, -1])
    assert np.allclose(found, expected, atol=1e-3)


def test_the_model_knows_some_english(model):
    ids = model.tokenizer.encode("The capital of France is").ids
    best = logits_after(model, Cache(model, 1, len(ids)), ids).argmax()
    assert model.tokenizer.decode([int(best)]) == " Paris"
