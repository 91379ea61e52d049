"""kvquantd.llama.Cache with llama-cpp-python and a real model."""

import pathlib

import kvquantd
import llama_cpp
import pytest
from conftest import evaluated, forget, open_llama, wait_until
from llama_cpp.llama_cache import BaseLlamaCache

from kvquantd.llama import Cache

PROMPT, ANSWER = 257, 8  # the state before the last token is of two whole pages
FP16_BYTES_PER_TOKEN = 23040
F32, Q4_0, Q8_0, BF16 = 0, 2, 8, 30  # as GGML numbers them


def read_and_answer(llama, prompt):
    """Greedy token ids; the engine then has all but the last of them in its cache."""
    answer = []
    for token in llama.generate(prompt, temp=0.0, reset=True):
        answer.append(token)
        if len(answer) == ANSWER:
            return answer


def answer_after(llama, cache, prompt):
    """What the engine answers with what the cache has, and of how many tokens that was."""
    forget(llama)
    state = cache[prompt]
    llama.load_state(state)
    return read_and_answer(llama, prompt), state.n_tokens


@pytest.fixture(scope="module")
def state(llama, ids):
    """After all of the prompt but its last token."""
    return evaluated(llama, ids[: PROMPT - 1])


@pytest.fixture(scope="module")
def uninterrupted(llama, ids, state):
    forget(llama)
    llama.load_state(state)
    return read_and_answer(llama, ids[:PROMPT])


def of_fresh_engine(llama, socket, level="exact", **given):
    forget(llama)
    return Cache(llama, socket, level=level, **given)


def test_it_is_what_llama_cpp_python_asks_of_a_cache(llama, socket):
    cache = Cache(llama, socket)
    assert isinstance(cache, BaseLlamaCache) and not BaseLlamaCache.__abstractmethods__ - vars(Cache).keys()
    assert cache  # it would be taken for none otherwise
    llama.set_cache(cache)
    llama.set_cache(None)


def test_a_chat_goes_on_at_exact_as_if_it_had_not_been_interrupted(llama, socket, ids, state, uninterrupted):
    cache = of_fresh_engine(llama, socket)
    cache[ids[:PROMPT]] = state
    assert answer_after(llama, cache, ids[:PROMPT]) == (uninterrupted, PROMPT - 1)


def test_at_exact_the_state_is_the_same_to_the_byte(llama, socket, ids, state):
    cache = of_fresh_engine(llama, socket)
    cache[ids] = state
    assert bytes(cache[ids[:PROMPT]].llama_state) == state.llama_state
    assert cache.report()["how"] == "values, level exact"


def test_level_3_takes_less_than_a_quarter_and_answers_alike(llama, socket, ids, state, uninterrupted):
    cache = of_fresh_engine(llama, socket, level=3)
    cache[ids] = state
    answer, _ = answer_after(llama, cache, ids[:PROMPT])
    assert answer[:2] == uninterrupted[:2]
    wait_until(lambda: cache.report()["ratio"] > 4)
    report = cache.report()
    assert report["state_bytes"] > (PROMPT - 1) * FP16_BYTES_PER_TOKEN
    assert report["stored_bytes"] == cache.cache_size


def test_of_a_longer_state_only_the_new_tokens_are_sent(llama, socket, ids, state):
    cache = of_fresh_engine(llama, socket, level=3)
    cache[ids] = evaluated(llama, ids[:150])
    assert cache.report()["new_tokens"] == 150
    cache[ids] = state
    assert cache.report()["new_tokens"] == PROMPT - 1 - 150
    with kvquantd.connect(socket) as client:
        assert [session["tokens"] for session in client.sessions()] == [PROMPT - 1]


def test_what_was_fetched_is_never_coded_again(llama, socket, ids, state):
    cache = of_fresh_engine(llama, socket, level=5)
    cache[ids] = state
    with kvquantd.connect(socket) as client:
        before = client.sessions()
        cache[ids] = cache[ids[:PROMPT]]
        assert [each["version"] for each in client.sessions()] == [each["version"] for each in before]
    assert cache.report()["new_tokens"] == 0


def test_a_prompt_that_goes_another_way_gets_the_common_prefix(llama, socket, ids, state, uninterrupted):
    cache = of_fresh_engine(llama, socket)
    cache[ids] = state
    other = ids[:120] + ids[300:330]
    found = cache[other]
    assert found.n_tokens == 120
    assert list(found.input_ids[:120]) == ids[:120]
    cache[other] = evaluated(llama, other)
    assert cache.report()["new_tokens"] == len(other) - 120
    assert answer_after(llama, cache, ids[:PROMPT]) == (uninterrupted, PROMPT - 1)


def test_a_prompt_that_no_session_begins_with_is_a_miss(llama, socket, ids, state):
    cache = of_fresh_engine(llama, socket)
    cache[ids] = state
    assert ids[:5] in cache and ids[1:] not in cache
    with pytest.raises(KeyError):
        cache[ids[1:]]


def test_what_the_engine_has_is_not_fetched(llama, socket, ids, state):
    cache = of_fresh_engine(llama, socket)
    cache[ids] = state
    llama.load_state(state)
    with pytest.raises(KeyError):
        cache[ids[:PROMPT]]


def test_sessions_of_another_model_level_or_setting_are_a_miss(llama, socket, ids, state):
    of_fresh_engine(llama, socket, level=3, model="this")[ids] = state
    for given in ({"model": "that", "level": 3}, {"model": "this", "level": 4}):
        assert ids not in of_fresh_engine(llama, socket, **given)
    assert ids not in Cache(open_llama(rope_freq_base=1e6), socket, model="this")
    assert ids in of_fresh_engine(llama, socket, level=3, model="this")


def test_a_restored_state_takes_no_memory_for_scores(llama, socket, ids, state):
    cache = of_fresh_engine(llama, socket)
    cache[ids] = state
    restored = cache[ids[:PROMPT]]
    assert restored.scores.nbytes < 100
    llama.scores[:] = 1
    llama.load_state(restored)
    assert not llama.scores.any()


def test_scores_of_all_tokens_are_refused(socket):
    with pytest.raises(ValueError, match="logits_all"):
        Cache(open_llama(logits_all=True, n_ctx=64), socket)


def test_create_completion_works_with_it(llama, socket, ids):
    """As llama-cpp-python itself uses a cache."""
    prompt = llama.detokenize(ids[:80]).decode()
    cache = of_fresh_engine(llama, socket)
    llama.set_cache(cache)
    first = llama.create_completion(prompt, max_tokens=6, temperature=0.0)
    forget(llama)
    again = llama.create_completion(prompt, max_tokens=6, temperature=0.0)
    llama.set_cache(None)
    assert cache.report()["hits"] == 1
    assert again["choices"][0]["text"] == first["choices"][0]["text"]


@pytest.mark.parametrize("settings,level,how", [
    ({}, "exact", "values, level exact"),  # without flash attention V is transposed
    ({}, 3, "values, level 3"),
    ({"type_k": BF16, "type_v": BF16}, 3, "values, level 3"),
    ({"type_k": F32, "type_v": F32}, "exact", "values, level exact"),
    ({"flash_attn": True, "type_k": Q8_0, "type_v": Q8_0}, 3,
     "values of q8_0, level 3"),
    ({"flash_attn": True, "type_k": Q8_0, "type_v": Q8_0}, "exact",
     "exact rows"),
    ({"flash_attn": True, "type_k": Q4_0, "type_v": Q4_0}, 3,
     "exact rows"),
    ({"type_k": Q4_0}, 3, "exact rows"),
])
def test_caches_of_other_types_and_layouts(socket, ids, settings, level, how):
    engine, prompt = open_llama(n_ctx=256, **settings), ids[:40]
    saved = evaluated(engine, prompt[:-1])
    expected = read_and_answer(engine, prompt)
    cache = of_fresh_engine(engine, socket, level=level)
    cache[prompt] = saved
    report = cache.report()
    assert (report["how"], report["tokens"]) == (how, 39)
    answer, tokens = answer_after(engine, cache, prompt)
    assert tokens == 39
    if "exact" in how:
        assert answer == expected
        forget(engine)
        assert bytes(cache[prompt].llama_state) == saved.llama_state
    else:
        assert answer[:1] == expected[:1]


def test_a_state_that_is_not_understood_is_kept_whole_and_says_so(llama, socket, ids, state):
    strange = llama_cpp.llama.LlamaState(
        input_ids=state.input_ids, scores=state.scores, n_tokens=state.n_tokens,
        llama_state=state.llama_state + b"another cache", llama_state_size=0, seed=0)
    cache = of_fresh_engine(llama, socket, level=3)
    cache[ids] = strange
    report = cache.report()
    assert report["how"] == "whole" and "13 bytes" in report["why"]
    assert report["stored_bytes"] > 0.5 * len(state.llama_state)
    assert bytes(cache[ids[:PROMPT]].llama_state) == strange.llama_state
    with pytest.raises(KeyError):  # it cannot be cut
        cache[ids[: PROMPT - 50]]


def test_the_model_is_named_by_what_is_in_its_files(llama, socket, tmp_path):
    from kvquantd.llama._model import model_name

    for name, pieces in {"a": b"12", "b": b"13", "c": b"12"}.items():
        for number, piece in enumerate(pieces, 1):
            (tmp_path / f"{name}-{number:05}-of-00002.gguf").write_bytes(bytes([piece]))
    names = [model_name(str(tmp_path / f"{name}-00001-of-00002.gguf")).partition("@")[2] for name in "abc"]
    assert names[0] == names[2] != names[1]
    assert pathlib.Path(llama.model_path).stem in Cache(llama, socket).model
