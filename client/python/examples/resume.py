"""A real model leaves a conversation and another process resumes it, without a second prefill.

    python resume.py leave  --socket PATH --work FOLDER    reads the essay, stores its KV cache, ends
    python resume.py resume --socket PATH --work FOLDER    fetches it and answers, level by level

FOLDER keeps the unpacked weights and what `leave` notes for the comparison. See `make run`.
"""

import argparse
import json
import pathlib
import sys
import textwrap
import time

import kvquantd
import numpy as np
from smollm2 import Cache, SmolLM2, convert

ESSAY = pathlib.Path(__file__).with_name("essay.txt")
LEVELS = ["exact", "fast8", 1, 3, 4]
LEVEL_SHOWN = 3
NEW_TOKENS = 64
READING = "<|im_start|>user\nHere is an essay.\n\n{essay}<|im_end|>\n"
QUESTION = "What did the three men in Princeton want?"
ASKING = "<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"


def session_name(level):
    return f"demo-{level}" if isinstance(level, str) else f"demo-level-{level}"


def open_model(work):
    folder = work / "smollm2"
    if not folder.exists():
        note("unpacking the model's weights, once")
        convert(folder)
    return SmolLM2(folder)


def model_name(model):
    return f"SmolLM2-135M-Instruct@{model.fingerprint[:16]}"


def geometry_of(model):
    return kvquantd.Geometry(
        layers=model.layers, heads=model.kv_heads, head_dim=model.head_dim, dtype="float16",
        rope=kvquantd.Rope(theta=model.rope_theta, pairing="interleaved", dims=model.head_dim))


def note(text):
    """Shows how far things are, on a terminal only, on a line that the next one replaces."""
    if sys.stdout.isatty():
        print(f"\r\033[K   {text}", end="" if text else "\r\033[K", flush=True)


def question_ids(model):
    return model.tokenizer.encode(ASKING.format(question=QUESTION)).ids


def answer(model, cache, sequences):
    """NEW_TOKENS greedy tokens for each of the cache's sequences: [sequences, NEW_TOKENS]."""
    ids, answers = np.array([question_ids(model)] * sequences), []
    for done in range(NEW_TOKENS):
        ids = model.logits(model.forward(ids, cache)[:, -1]).argmax(-1)[:, None]
        answers.append(ids)
        note(f"answering: {done + 1} of {NEW_TOKENS} tokens")
    note("")
    return np.hstack(answers)


def choices(model, cache, sequences, text):
    """The token that each sequence would put after every prefix of the same text."""
    ids = [question_ids(model) + text[:-1]] * sequences
    return model.logits(model.forward(ids, cache)[:, -len(text):]).argmax(-1)


def store(client, model, level, k, v):
    """Replaces the session of an earlier run. Returns the seconds that the append took."""
    name = session_name(level)
    try:
        client.delete(name)
    except kvquantd.Miss:
        pass
    session = client.open(name, model=model_name(model), geometry=geometry_of(model), level=level)
    start = time.perf_counter()
    session.append(k, v, settle=True)  # returns when all of it is coded at its level
    return time.perf_counter() - start


def leave(client, work):
    model = open_model(work)
    essay = ESSAY.read_text()
    ids = model.tokenizer.encode(READING.format(essay=essay)).ids
    cache = Cache(model, 1, len(ids) + 2 * NEW_TOKENS)
    print(f"1. A process reads an essay of {len(essay.split())} words, stores its KV cache and ends.")
    start = time.perf_counter()
    model.forward([ids], cache, lambda done: note(f"prefill: layer {done} of {model.layers}"))
    prefill_seconds = time.perf_counter() - start
    note("")
    k, v = cache.export(0)
    print(f"   prefill: {len(ids):,} tokens in {prefill_seconds:.2f} s; "
          f"K and V take {mib(k.nbytes + v.nbytes)} in float16")
    for level in LEVELS:
        seconds = store(client, model, level, k, v)
        print(f"   append:  {session_name(level):14} {seconds * 1000:6.0f} ms", flush=True)
    cache.store(0, k, v)  # from here on as float16 holds it, like every other answer
    (work / "left.json").write_text(json.dumps({
        "prefill_seconds": prefill_seconds, "answer": answer(model, cache, 1)[0].tolist()}))


def fetch_all(client, model, prefill_seconds):
    """One cache that holds what each session gave back, with a line shown for each."""
    rows, cache = [], None
    for sequence, level in enumerate(LEVELS):
        session = client.open(session_name(level))
        start = time.perf_counter()
        k, v = session.fetch()
        seconds = time.perf_counter() - start
        if cache is None:
            cache = Cache(model, len(LEVELS), k.shape[1] + 2 * NEW_TOKENS)
        cache.store(sequence, k, v)
        rows.append(row_of(level, session.info(), seconds, prefill_seconds))
        note(f"fetched {session_name(level)}")
    note("")
    return rows, cache


COLUMNS = ["level", "in the pool", "ratio", "bits/value", "dB K", "dB V", "fetch", "prefill",
           f"same of {NEW_TOKENS}", f"next of {NEW_TOKENS}"]
EXPLANATION = """
same: tokens that equal the answer on the uncompressed cache, place by place
next: the same, but each chosen after the uncompressed answer so far, so that one token that
      differs does not change all that follow
"""


def row_of(level, info, seconds, prefill_seconds):
    def decibel(value):
        return "exact" if value is None else f"{value:.1f}"

    return [str(level), mib(info["stored_bytes"]), f"{info['ratio']:.2f}",
            f"{info['bits_per_value']:.2f}", decibel(info["snr_k_db"]), decibel(info["snr_v_db"]),
            f"{seconds:.3f} s", f"{prefill_seconds:.2f} s"]


def resume(client, work):
    left = json.loads((work / "left.json").read_text())
    model = open_model(work)
    print(f"2. A new process fetches each session and answers with {NEW_TOKENS} greedy tokens.")
    rows, cache = fetch_all(client, model, left["prefill_seconds"])
    fetched, reference = cache.tokens, left["answer"]
    answers = answer(model, cache, len(LEVELS))
    cache.tokens = fetched
    nexts = choices(model, cache, len(LEVELS), reference)
    for row, own, following in zip(rows, answers, nexts):
        row += [str(np.sum(ids == reference)) for ids in (own, following)]
    print_table(COLUMNS, rows)
    print(textwrap.indent(EXPLANATION, "   "))
    shown = answers[LEVELS.index(LEVEL_SHOWN)].tolist()
    print_text("Asked", QUESTION)
    print_text(f"Answered from level {LEVEL_SHOWN}", model.tokenizer.decode(shown))


def print_text(title, text):
    print(textwrap.fill(f"{title}: {' '.join(text.split())}", 92, initial_indent="   ",
                        subsequent_indent="   "))


def mib(size_bytes):
    return f"{size_bytes / 2**20:.1f} MiB"


def print_table(columns, rows):
    widths = [max(len(line[i]) for line in [columns, *rows]) for i in range(len(columns))]
    for line in [columns, *rows]:
        cells = [line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:]))]
        print("   " + "  ".join(cells))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("verb", choices=["leave", "resume"])
    parser.add_argument("--socket")
    parser.add_argument("--work", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    with kvquantd.connect(arguments.socket) as client:
        {"leave": leave, "resume": resume}[arguments.verb](client, arguments.work)


if __name__ == "__main__":
    main()
