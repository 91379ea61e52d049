"""The end-to-end benchmark on a tiny model of random weights: its report, and its page in a browser."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
import tokenizers
import transformers

from conftest import llama

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "client/python/examples/e2e_benchmark.py"
NAME = "kvquant-e2e-benchmark"
TOKENS, CONTEXT = 64, 260  # each has a page coded before it ends
VOCABULARY = 95
TEMPLATE = "{% for m in messages %}<user>{{ m['content'] }}</user>{% endfor %}"


def letter_tokenizer():
    """A token a printable letter of ASCII; of others nothing is left."""
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)] + ["\u0120"]  # that one is the space
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    wrapped = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    wrapped.chat_template = TEMPLATE
    return wrapped


def run(folder, model, *options):
    model.save_pretrained(folder / "model")
    letter_tokenizer().save_pretrained(folder / "model")
    command = [sys.executable, EXAMPLE, "--model", folder / "model", "--tokens", TOKENS, "--rounds", 1,
               "--context", CONTEXT, "--threads", 1, "--output-dir", folder / "out", *options]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True)


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """The folder of one run of all scenarios, and what was printed."""
    folder = tmp_path_factory.mktemp("e2e")
    done = run(folder, llama(vocab_size=VOCABULARY, initializer_range=0.1))
    assert done.returncode == 0, done.stderr
    return folder / "out", done.stdout


@pytest.fixture(scope="module")
def report(output):
    return json.loads((output[0] / f"{NAME}.json").read_text())


def test_each_scenario_has_the_tokens_that_were_asked_for(report):
    assert [s["name"] for s in report["scenarios"]] == ["product-explainer", "developer-note", "long"]
    assert all(s["generated_tokens"] == TOKENS for s in report["scenarios"])
    assert report["scenarios"][-1]["prompt_tokens"] == CONTEXT
    for s in report["scenarios"]:
        assert s["cache"]["tokens"] == s["prompt_tokens"] + TOKENS - 1


def test_all_tokens_are_counted_at_the_level_they_lie_at(report):
    for s in report["scenarios"]:
        in_use, at_rest = (s["compressed"][state]["tokens_by_level"] for state in ("in_use", "at_rest"))
        assert sum(in_use.values()) == s["cache"]["tokens"]
        assert 64 <= in_use["as it came"] < 64 + 128
        assert at_rest == {"2/3": s["cache"]["tokens"]}


def test_ratios_are_of_the_bytes_that_are_shown(report):
    for s in report["scenarios"]:
        assert s["cache"]["bytes_at_16_bits"] == 2 * s["cache"]["values"]
        assert s["cache"]["bytes"] == 4 * s["cache"]["values"]  # the model is float32
        for state in (s["compressed"]["in_use"], s["compressed"]["at_rest"]):
            assert state["ratio_16_bits"] == pytest.approx(16 / state["bits_per_value"])
            assert state["ratio_model_dtype"] == pytest.approx(2 * state["ratio_16_bits"])
            assert state["bytes"] + state["saved_bytes"] == s["cache"]["bytes"]
        assert s["speedup"] == pytest.approx(
            s["compressed"]["tokens_per_second"] / s["baseline"]["tokens_per_second"])


def test_the_summary_is_of_all_scenarios(report):
    scenarios, summary = report["scenarios"], report["summary"]
    assert summary["saved_bytes"] == sum(s["compressed"]["at_rest"]["saved_bytes"] for s in scenarios)
    assert summary["average_speedup"] == pytest.approx(sum(s["speedup"] for s in scenarios) / 3)
    assert summary["average_generated_tokens"] == TOKENS


def test_loss_is_small_and_not_nothing(report):
    for s in report["scenarios"]:
        in_use, at_rest = s["compressed"]["in_use"], s["compressed"]["at_rest"]
        assert in_use["tokens"] == at_rest["tokens"] == TOKENS
        assert 0 < in_use["kld_mean"] < 0.05 and 0 < at_rest["kld_mean"] < 0.05
        assert in_use["agreement"] > 0.5  # the likeliest tokens of random weights are close


def test_bytes_are_noted_as_the_cache_grows(report):
    for s in report["scenarios"]:
        grown = s["compressed"]["bytes_by_tokens"]
        assert grown[-1] == [s["cache"]["tokens"], s["compressed"]["at_rest"]["bytes"]]
        assert grown[-2] == [s["cache"]["tokens"], s["compressed"]["in_use"]["bytes"]]
        assert [tokens for tokens, _ in grown] == sorted(tokens for tokens, _ in grown)


def test_what_comes_back_from_the_daemon_is_compared_with_a_raw_file(report):
    compressed, exact, raw = report["resume"]["rows"]
    assert report["resume"]["tokens"] == CONTEXT
    assert compressed["bytes"] < exact["bytes"] < 1.2 * raw["bytes"]
    assert exact["kld_mean"] == raw["kld_mean"] < compressed["kld_mean"] < 0.05
    assert all(0 < row["read_seconds"] <= row["seconds"] for row in (compressed, exact, raw))


def test_where_llama_cpp_is_not_installed_its_row_says_so(output, report):
    assert report["resume"]["llama_cpp"] is None
    assert "| llama.cpp's slot restore |" in (text := (output[0] / f"{NAME}.md").read_text())
    assert "not installed" in text


def test_both_texts_are_shown_in_full_in_every_form(output, report):
    import html

    for ending in ("md", "txt", "html"):
        content = (output[0] / f"{NAME}.{ending}").read_text()
        shown = html.unescape(content) if ending == "html" else content
        for s in report["scenarios"]:
            assert s["asked"] in shown
            assert s["baseline"]["text"] in shown and s["compressed"]["text"] in shown


def test_the_transcript_says_how_it_came_about(output, report):
    transcript, printed = (output[0] / f"{NAME}.txt").read_text(), output[1]
    assert printed.startswith(transcript)
    assert report["command"] in transcript and report["environment"]["cpu"] in transcript
    assert transformers.__version__ in transcript
    assert "\r" not in printed  # no progress bar but on a terminal


def test_a_model_that_cannot_be_opened_is_refused_in_plain_words(tmp_path):
    command = [sys.executable, str(EXAMPLE), "--model", str(tmp_path / "nothing")]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert "cannot open the model" in done.stderr and "SmolLM2-135M-Instruct" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_of_distilgpt2s_geometry_is_measured(tmp_path):
    config = transformers.GPT2Config(n_layer=2, n_head=12, n_embd=768, n_positions=1024,
                                     vocab_size=VOCABULARY,
                                     bos_token_id=None, eos_token_id=None)
    done = run(tmp_path, transformers.GPT2LMHeadModel(config).eval(), "--scenario", "long")
    assert done.returncode == 0, done.stderr
    only, = json.loads((tmp_path / "out" / f"{NAME}.json").read_text())["scenarios"]
    assert only["cache"]["values"] == (CONTEXT + TOKENS - 1) * 2 * 2 * 768
    assert only["compressed"]["at_rest"]["ratio_16_bits"] > 3


def test_layers_with_a_window_are_counted_as_they_are(tmp_path):
    config = transformers.MistralConfig(
        hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, vocab_size=VOCABULARY, sliding_window=32, bos_token_id=None,
        eos_token_id=None)
    done = run(tmp_path, transformers.MistralForCausalLM(config).eval(), "--scenario", "long")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out" / f"{NAME}.json").read_text())
    compressed, = (s["compressed"] for s in report["scenarios"])
    assert compressed["uncompressed_layers"] == [0, 1]
    assert compressed["in_use"]["ratio_model_dtype"] == pytest.approx(1, rel=0.01)
    assert report["resume"] is None


@pytest.mark.parametrize("level", ["6", "2/3/4", "64:coarse", "old:3"])
def test_levels_that_cannot_be_are_refused(level):
    done = subprocess.run([sys.executable, str(EXAMPLE), "--level", level], capture_output=True, text=True)
    assert done.returncode == 2 and "--level" in done.stderr


def test_a_profile_is_shown_without_a_model():
    done = subprocess.run([sys.executable, str(EXAMPLE), "--profile", "tiny"],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["name"] == "tiny"


# ---- The page in a browser ----


def browser(page, *options):
    program = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium"))))
    command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
               *options, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True)


def console(done):
    return re.findall(r":CONSOLE[:(].*", done.stderr)


def test_the_console_of_the_browser_is_seen(tmp_path):
    page = tmp_path / "page.html"
    page.write_text("<script>console.error('heard')</script>")
    assert "heard" in "".join(console(browser(page, "--dump-dom")))


def test_the_page_has_its_tables_and_charts_in_a_browser_and_no_error(output, report):
    done = browser(output[0] / f"{NAME}.html", "--dump-dom")
    assert done.returncode == 0 and console(done) == []
    assert done.stdout.count("<table>") == 6
    assert done.stdout.count("<svg ") == 2 + len(report["scenarios"])
    for row in re.findall(r"<tbody>.*?</tbody>", done.stdout, re.S)[0].split("</tr>")[:-1]:
        assert len(re.findall("<td>", row)) == 11


@pytest.mark.parametrize("width", [360, 1200])
def test_nothing_is_wider_than_the_screen(output, tmp_path, width):
    page = tmp_path / "page.html"
    measure = "<script>document.title = document.documentElement.scrollWidth</script>"
    page.write_text((output[0] / f"{NAME}.html").read_text().replace("</body>", measure + "</body>"))
    done = browser(page, "--dump-dom", f"--window-size={width},800")
    assert int(re.search(r"<title>(\d+)</title>", done.stdout)[1]) <= width
