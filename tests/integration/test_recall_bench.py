"""make recall-bench: a run as its smoke test makes it, and what its methods are made of."""

import csv
import json
import os
import pathlib
import subprocess
import sys
import xml.etree.ElementTree

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
QUALITY = ROOT / "tests" / "quality"
BUILD = pathlib.Path(os.environ.get("KVQ_BUILD", ROOT / "build"))
DAEMON = os.environ.get("KVQUANTD", BUILD / "kvquantd")
sys.path.append(str(QUALITY))
import key_summaries  # noqa: E402
from recall_attention import SINKS, Budget, exponents_of, softmax, weighted  # noqa: E402
from recall_methods import Method  # noqa: E402

METHODS = {"recency only", "least and largest, 16 tokens", "key summaries", "mean keys of 4 tokens, uncoded",
           "key summaries, query of the step before", "oracle, 4 tokens", "oracle, 64 tokens"}


class Report:
    def __init__(self, folder):
        command = [sys.executable, QUALITY / "recall.py", "--quick", "--output", folder, "--work",
                   ROOT / "build" / "run", "--daemon", DAEMON]
        # Two threads that wait for each other take several times as long where others compute.
        self.printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600,
                                      env={**os.environ, "OPENBLAS_NUM_THREADS": "1"}).stdout
        self.files = {kind: (folder / f"recall.{kind}").read_text()
                      for kind in ("md", "json", "csv", "svg")}
        self.figures = json.loads(self.files["json"])
        self.kld = {row["method"]: row["kld_mean"] for row in self.figures["budgets"]}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return Report(tmp_path_factory.mktemp("recall"))


def test_what_is_printed_is_what_is_written(report):
    assert report.printed == report.files["md"]


def test_every_method_has_a_row_a_line_of_csv_and_a_point_of_the_plot(report):
    assert METHODS <= set(report.kld)
    lines = list(csv.DictReader(report.files["csv"].splitlines()))
    assert [line["method"] for line in lines] == list(report.kld)
    titles = [node.text for node in xml.etree.ElementTree.fromstring(report.files["svg"]).iter()
              if node.tag.endswith("}title")]
    assert [title.split(": ")[0] for title in titles] == list(report.kld)


def test_summaries_of_keys_and_the_oracle_lose_less_than_recency(report):
    for method in "key summaries", "oracle, 4 tokens":
        assert report.kld[method] < report.kld["recency only"]


def test_recency_closes_nothing_and_the_oracle_all_of_the_distance(report):
    closed = {row["method"]: row["closed"] for row in report.figures["budgets"]}
    assert (closed["recency only"], closed["oracle, 4 tokens"]) == (0, 1)


def test_dropping_and_a_coarse_rest_are_compared_at_equal_bytes(report):
    bits = {row["way"]: row["bits_per_value"] for row in report.figures["levels"]}
    named = "20% at level 2, the rest at 5"
    assert bits[named] == bits[f"as many bytes at level 2, nothing else ({named})"]


def test_each_method_is_asked_for_the_needle(report):
    assert METHODS <= {row["method"] for row in report.figures["needle"]}
    assert all(row["recalled"] == (row["layers"] > 0) for row in report.figures["needle"])


def test_a_budget_counts_sinks_and_the_newest_tokens():
    budget = Budget(4096, 0.1)
    assert (budget.tokens, budget.window) == (409, 256)
    assert SINKS + budget.window + budget.room == budget.tokens
    assert budget.recallable == range(SINKS, 4096 - 256)


class Ordered(Method):
    """Likes later blocks more."""

    def scores(self, layer, queries, exponents):
        return np.arange(100.0)[None].repeat(queries.shape[1], 0)


def test_the_best_blocks_within_what_may_be_recalled_are_recalled():
    budget = Budget(400, 0.2)  # 80 tokens: 4 sinks, the newest 60, 16 to recall
    recalled = Ordered().recall(0, np.zeros((1, 2, 8)), None, budget)
    assert [list(np.flatnonzero(row)) for row in recalled] == [list(range(324, 340))] * 2


def test_shares_of_attention_are_those_of_the_head_that_attends_most():
    keys = np.zeros((8, 1, 4), np.float32)
    keys[4:, 0, 0] = 100
    queries = np.zeros((2, 1, 4), np.float32)
    queries[1, 0, 0] = 1  # the first head attends to all alike, the second to the second block
    shares = key_summaries.estimate(queries, key_summaries.block_means(keys))
    np.testing.assert_allclose(shares, [[0.5, 1]], atol=1e-6)


def test_attention_of_everything_seen_is_attention():
    random = np.random.default_rng(1)
    q, k, v = (random.standard_normal(shape, np.float32) for shape in ((2, 3, 4), (1, 4, 5), (1, 5, 4)))
    out = weighted(softmax(exponents_of(q, k)), v)
    for head in range(2):
        for token in range(3):
            share = np.exp(q[head, token] @ k[0, :, :3 + token])
            np.testing.assert_allclose(out[head, token], share @ v[0, :3 + token] / share.sum(),
                                       rtol=1e-5)
