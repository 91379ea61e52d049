"""`kvq plan`: what sessions will take, held against what they then take."""

import json

import numpy as np
import pytest
from conftest import Command

LEVELS = ("exact", "fast8", 0, 1, 2, 3, 4, 5)
LAYERS, HEADS, HEAD_DIM = 6, 4, 64


@pytest.fixture
def cache(tmp_path):
    """An .npy file of so many tokens; the values have means, as a model's."""
    def write(tokens, layers=LAYERS, seed=1):
        numbers = np.random.default_rng(seed)
        means = numbers.normal(size=(layers, 2, 1, HEADS, HEAD_DIM))
        values = means + numbers.normal(size=(layers, 2, tokens, HEADS, HEAD_DIM))
        np.save(tmp_path / "cache.npy", values.astype(np.float16))
        return tmp_path / "cache.npy"
    return write


@pytest.fixture
def config(tmp_path):
    def write(**members):
        file = tmp_path / "config.json"
        file.write_text(json.dumps({"num_hidden_layers": LAYERS, "num_attention_heads": 8, "hidden_size": 512,
                                    "num_key_value_heads": HEADS, **members}))
        return file
    return write


def plan(kvq, *arguments):
    """The report, and what a session takes by level."""
    report = kvq.json("plan", *arguments)
    return report, {row["level"]: row["session_bytes"] for row in report["levels"]}


@pytest.mark.parametrize("tokens", [100, 1000, 1024])
def test_a_cache_of_ones_own_takes_what_was_planned(kvq, cache, tokens):
    file = cache(1024)
    _, planned = plan(kvq, file, 1, tokens)
    file = cache(tokens)
    for level in LEVELS:
        info = kvq.json("import", "a", file, "--model", "m", "--level", level, "--replace")
        assert planned[level] == pytest.approx(info["stored_bytes"], rel=0.01), level


def test_values_that_are_drawn_take_what_was_planned(kvq, config):
    _, planned = plan(kvq, config(num_hidden_layers=1, num_key_value_heads=16, head_dim=64), 1, 2048)
    rows = kvq.json("bench", "synthetic")["rows"]
    taken = {row["level"]: row["pool_bytes"] for row in rows
             if (row["name"], row["tensors"]) == ("rag-summary", "kv")}
    assert {level: planned[level] for level in taken} == pytest.approx(taken, rel=0.025)


def test_a_model_that_the_daemon_has_is_planned_by_its_sessions(kvq, cache):
    for name, tokens, level in (("a", 512, 3), ("b", 512, 5), ("c", 1500, 3)):
        if name == "c":
            report, planned = plan(kvq, "m", 1, 1500)
        info = kvq.json("import", name, cache(tokens), "--model", "m", "--level", level)
    assert planned[3] == pytest.approx(info["stored_bytes"], rel=0.02)
    assert {row["level"] for row in report["levels"] if row["values"] == "sessions"} == {3, 5}


def test_so_many_sessions_fit_as_the_plan_says(start_daemon, cache):
    kvq = Command(start_daemon(memory="64M").socket)
    file = cache(512)
    report, _ = plan(kvq, file, 1, 512, "--memory", "64M")
    fit = next(row["sessions_held"] for row in report["levels"] if row["level"] == "exact")
    made = 0
    while kvq.json("status")["pressure"]["rounds"] == 0:
        kvq.json("import", f"s{made}", file, "--model", "m", "--level", "exact")
        made += 1
    assert made - 1 == pytest.approx(fit, rel=0.15)


def test_a_plan_of_many_sessions_is_as_many_times_that_of_one(kvq, config):
    one, of_one = plan(kvq, config(), 1, 1000)
    many, of_many = plan(kvq, config(), 70, 1000)
    assert of_one == of_many and many["bytes_16bit"] == 70 * one["bytes_16bit"]
    assert [row["bytes"] for row in many["levels"]] == [70 * row["bytes"] for row in one["levels"]]
    assert one["bytes_16bit"] == 2 * LAYERS * 1000 * HEADS * HEAD_DIM * 2


def test_what_stands_in_a_models_config_is_its_geometry(kvq, config):
    report, _ = plan(kvq, config(head_dim=128, torch_dtype="bfloat16"), 1, 10)
    shape = [report[name] for name in ("layers", "heads", "head_dim_k", "head_dim_v", "dtype")]
    assert shape == [LAYERS, HEADS, 128, 128, "bf16"]
    nested = json.loads(config().read_text())
    folder = config().parent
    config().write_text(json.dumps({"text_config": nested}))
    assert plan(kvq, f"{folder}/", 1, 10)[0]["head_dim_k"] == 64


@pytest.mark.parametrize("members, word", [
    ({"kv_lora_rank": 512}, "K and V of all tokens"),
    ({"layer_types": ["full_attention", "linear_attention"]}, "K and V of all tokens"),
    ({"num_attention_heads": 0}, "num_attention_heads"),
    ({"head_dim": -1}, "head_dim"),
    ({"num_key_value_heads": 4096, "head_dim": 4096}, "wider than a page"),
])
def test_a_model_that_cannot_be_stored_is_refused_in_words(kvq, config, members, word):
    result = kvq("plan", config(**members), 1, 1)
    assert result.returncode == 1 and word in result.stderr


def test_a_model_of_which_nothing_is_known_is_a_miss(kvq):
    result = kvq("plan", "nobody", 1, 1)
    assert result.returncode == 3 and "config.json" in result.stderr


@pytest.mark.parametrize("counts", [(0, 1), (1, 0), ("x", 1), (1, 2**40)])
def test_counts_that_are_none_are_usage_errors(kvq, counts):
    assert kvq("plan", "tiny", *counts).returncode == 2


def test_no_daemon_is_needed_for_a_file():
    result = Command("/none")("plan", "tiny", 100, 8192, "--memory", "1G")
    assert result.returncode == 0
    assert "100 sessions of 8,192 tokens" in result.stdout and "MiB" in result.stdout
