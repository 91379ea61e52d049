#!/usr/bin/env python3
"""What each level costs and what it does to a real model, through a daemon and back.

For each text the model prefills the first tokens; its K and V, in float16, are stored in the daemon
at each level and fetched back, and the model scores the tokens that follow on what came back and on
its own float16 cache. See README.md beside this file for what the columns mean.
"""

import argparse
import contextlib
import hashlib
import pathlib
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
import time

import kvquantd
import numpy as np
from figures import Sample, decibels, pooled, table, write_csv, write_json

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "client/python/examples"))
from resume import geometry_of, model_name, open_model  # noqa: E402
from smollm2 import Cache  # noqa: E402

PYTHON_LIBRARY = pathlib.Path(sysconfig.get_path("stdlib"))
TEXTS = [
    ROOT / "proto/wire/PROTOCOL.md",
    ROOT / "daemon/store/append.c",
    pathlib.Path("/usr/share/common-licenses/GPL-3"),
    PYTHON_LIBRARY / "email/architecture.rst",
    PYTHON_LIBRARY / "heapq.py",
    PYTHON_LIBRARY / "html/entities.py",
    pathlib.Path("/usr/share/zoneinfo/zone1970.tab"),
]
OWN_CACHE = "16-bit"
LEVELS = ["exact", "fast8", 0, 1, 2, 3, 4, 5]
START_SECONDS = 20
STOP_SECONDS = 20
BLOCK_TOKENS = 32  # of float64 logits at a time
REPORT_TOLERANCE_DB = 0.01


@contextlib.contextmanager
def private_daemon(program):
    """A client of a daemon that runs as long as this."""
    with tempfile.TemporaryDirectory(prefix="kvquant-quality-") as folder:
        socket, log = f"{folder}/kvquantd.sock", pathlib.Path(folder, "kvquantd.log")
        with open(log, "wb") as output:
            process = subprocess.Popen([program, "--socket", socket, "--memory", "256M"],
                                       stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            with connected(socket, process, log) as client:
                yield client
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def connected(socket, process, log):
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            return kvquantd.connect(socket)
        except kvquantd.CannotConnect:
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"kvquantd did not start:\n{log.read_text()}") from None
            time.sleep(0.02)


def name_of(path):
    path = path.resolve()
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def tokens_of(model, path, count):
    try:
        ids = model.tokenizer.encode(path.read_text(errors="ignore")).ids
    except OSError as error:
        raise SystemExit(f"{path}: {error.strerror}") from None
    if len(ids) < count:
        raise SystemExit(f"{path}: {len(ids):,} tokens, {count:,} are needed")
    return ids[:count]


class Continuation:
    """The tokens after a text's first `context`; what the model says of them on its own cache."""

    def __init__(self, model, ids, context):
        self.model = model
        self.scored, self.following = ids[context:-1], np.array(ids[context + 1:])
        self.cache = Cache(model, 1, len(ids))
        model.forward([ids[:context]], self.cache)
        self.k, self.v = self.cache.export(0)
        self.own_logits = self.logits_on(self.k, self.v)

    def logits_on(self, k, v):
        self.cache.store(0, k, v)
        return self.model.logits(self.model.forward([self.scored], self.cache)[0])

    def compare(self, k, v):
        """Divergence, loss and same top token of each scored token, on this K and V."""
        logits, parts = self.logits_on(k, v), []
        for first in range(0, len(logits), BLOCK_TOKENS):
            block = slice(first, first + BLOCK_TOKENS)
            own, other = log_softmax(self.own_logits[block]), log_softmax(logits[block])
            lost = np.take_along_axis(own - other, self.following[block, None], -1)[:, 0]
            parts.append(((np.exp(own) * (own - other)).sum(-1), lost,
                          own.argmax(-1) == other.argmax(-1)))
        return [np.concatenate(part) for part in zip(*parts)]

    def sample(self, text, level, stored_bytes, k, v):
        error, energy = zip(*(squares(*pair) for pair in ((self.k, k), (self.v, v))))
        return Sample(text, level, stored_bytes, k.size + v.size, np.array(error),
                      np.array(energy), *self.compare(k, v))


def log_softmax(logits):
    x = logits.astype(np.float64)
    x -= x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def squares(given, restored):
    """The sums of squared errors and of squares."""
    given, restored = given.astype(np.float64).ravel(), restored.astype(np.float64).ravel()
    difference = given - restored
    return difference @ difference, given @ given


def through(client, model, level, k, v):
    """K and V as they come back, and what the daemon says of them."""
    session = client.open(f"quality-{level}", model=model_name(model), geometry=geometry_of(model),
                          level=level, new=True)
    try:
        session.append(k, v, settle=True)
        return *session.fetch(), session.info()
    finally:
        client.delete(session.name)


def check_report(sample, level, info):
    """The daemon's own account must be true: nothing left at a finer level, the loss measured."""
    places = {part["level"] for part in info["levels"]}
    if not places <= {level, "sinks"}:
        raise SystemExit(f"{sample.text}: asked for level {level}, info() speaks of {places}")
    reported = info["snr_k_db"], info["snr_v_db"]
    measured = [decibels(*pair) for pair in zip(sample.energy, sample.error)]
    for said, found in zip(reported, measured):
        agree = said == found if None in (said, found) else abs(said - found) < REPORT_TOLERANCE_DB
        if not agree:
            raise SystemExit(f"{sample.text}, level {level}: info() says {reported} dB of K and V, "
                             f"measured are {measured}")


def check_lossless(sample, what):
    if sample.error.any() or sample.divergence.any() or not sample.same.all():
        raise SystemExit(f"{sample.text}: {what} differs from the model's own cache: "
                         f"KLD {sample.divergence.mean():.3g}, squared error {sample.error}")


def same_bits(given, restored):
    return given.dtype == restored.dtype and given.tobytes() == restored.tobytes()


def measure(client, model, path, context, scored):
    """Samples of one text: the noise floor, then each level."""
    text = name_of(path)
    continuation = Continuation(model, tokens_of(model, path, context + scored + 1), context)
    k, v = continuation.k, continuation.v
    samples = [continuation.sample(text, OWN_CACHE, k.nbytes + v.nbytes, k, v)]
    check_lossless(samples[0], "a second run")
    for level in LEVELS:
        restored_k, restored_v, info = through(client, model, level, k, v)
        sample = continuation.sample(text, str(level), info["stored_bytes"], restored_k,
                                     restored_v)
        check_report(sample, level, info)
        if level == "exact":
            check_lossless(sample, "level exact")
            if not (same_bits(k, restored_k) and same_bits(v, restored_v)):
                raise SystemExit(f"{text}: level exact does not give the bits back")
        samples.append(sample)
    return samples


def describe(model, texts, context, scored):
    """What is measured, for programs."""
    return {
        "model": model_name(model), "layers": model.layers, "heads": model.kv_heads,
        "head_dim": model.head_dim, "dtype": "float16", "context_tokens": context,
        "scored_tokens": scored,
        "texts": [{"text": name_of(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
                  for path in texts],
    }


def print_report(measurement, samples, seconds):
    names = [text["text"] for text in measurement["texts"]]
    print(f"{measurement['model']}, {len(names)} {'text' if len(names) == 1 else 'texts'}: "
          f"{measurement['context_tokens']:,} tokens of each through the daemon, "
          f"the next {measurement['scored_tokens']:,} scored")
    print(textwrap.fill(f"({', '.join(names)})", 100, break_on_hyphens=False), end="\n\n")
    print(table(pooled(samples)))
    head_dim = measurement["head_dim"]
    print(f"""
KLD in nats, perplexity as its change with the standard error: both against the model's own 16-bit
cache, of which the first row is a second run. This is one small model, of 135 M parameters with
4-bit weights and head_dim {head_dim}: others lose other amounts. Measured in {seconds:.0f} s.""")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="*", type=pathlib.Path, default=TEXTS, metavar="TEXT",
                        help="default: texts of this checkout, of Debian and of Python")
    parser.add_argument("--daemon", default=ROOT / "build/kvquantd", metavar="PROGRAM")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "build/run", metavar="FOLDER",
                        help="keeps the model's unpacked weights (default: build/run)")
    parser.add_argument("--context", type=int, default=1024, metavar="TOKENS")
    parser.add_argument("--score", type=int, default=256, metavar="TOKENS")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="all figures")
    parser.add_argument("--csv", type=pathlib.Path, metavar="FILE", help="a line a text and level")
    return parser.parse_args()


def main():
    options, start = arguments(), time.monotonic()
    options.work.mkdir(parents=True, exist_ok=True)
    model, samples = open_model(options.work), []
    for path in options.texts:  # before minutes are spent
        tokens_of(model, path, options.context + options.score + 1)
    measurement = describe(model, options.texts, options.context, options.score)
    with private_daemon(options.daemon) as client:
        for path in options.texts:
            print(f"measuring {name_of(path)}", file=sys.stderr, flush=True)
            samples += measure(client, model, path, options.context, options.score)
    print_report(measurement, samples, time.monotonic() - start)
    if options.json:
        write_json(options.json, measurement, samples)
    if options.csv:
        write_csv(options.csv, samples)


if __name__ == "__main__":
    main()
