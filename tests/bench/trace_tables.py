"""The tables of a replayed trace, from its lines (trace_report.py), and the same as CSV."""

import csv
import io

from picture import levels
from tables import Table
from trace_replay import CHECKED_WHOLE, PIECE_BLOCKS
from trace_requests import BLOCK_TOKENS
from trace_values import HEAD_DIM, HEADS, LAYERS, PAGE_TOKENS

NAMES = {"raw": "16 bits, LRU", "fast8": "fast8", "3": "level 3", "ageing": "ageing, level 1 to 4"}
FIXED = ["fast8", "3"]
REAL_BLOCK_BYTES = BLOCK_TOKENS * 2 * 32 * 8 * 128 * 2
BLOCK_VALUES = 2 * LAYERS * PAGE_TOKENS * HEADS * HEAD_DIM

SAVED_NOTE = (
    "1x is a pool that holds all that the requests ever store, in 16 bits; at 2x the pool is half as large, "
    "and so on. `real pool` is what that is of a model of 32 layers, 8 heads of 128, and of all of the "
    "trace. Saved: tokens of prompts that were fetched instead of computed; possible is what a pool without "
    "limit saves. Hits: requests that found more than the block with which all begin. KLD: mean over the "
    "tokens fetched, each with the mean KLD that `make quality` gives for the level it was at.")
ORDER_NOTE = (
    "Prefill saved. From left to right: the LRU with 16 bits; an LRU of blocks that take what they took in "
    "the daemon; the daemon, with its own order of eviction and its watermarks. LRUs are computed: they fill "
    "the pool to the last byte and evict block by block.")
CHECKS_NOTE = (
    f"Each block that was fetched is told from any other by its values; of every {CHECKED_WHOLE}th piece of "
    f"{PIECE_BLOCKS} blocks the whole loss is compared with the one reported. Refused: appends. Bits a "
    "value: everything counted for what was held at the end, and README's of a real model.")
TRACE_NOTE = (
    f"A block of {BLOCK_TOKENS} tokens is {PAGE_TOKENS} tokens of {LAYERS} layers of {HEADS} heads of "
    f"{HEAD_DIM} here. Requests come one after the other as fast as they are served: time is not modelled, "
    "and no model runs. Only whole blocks are stored, of prompts; an answer is in the next request's "
    "prompt. An append is waited for until it is coded at its level.")


def percent(value):
    return f"{100 * value:.1f} %"


def over(line):
    return f"{line['overcommitment']}x"


def saved_share(line):
    return line["saved_tokens"] / line["asked_tokens"]


def weighted(line, value):
    """The mean of what value gives for a level, over the tokens that came from the store."""
    by_level = line["tokens_by_level"]
    total = sum(by_level.values())
    return sum(value(level) * tokens for level, tokens in by_level.items()) / total if total else 0


def mean_level(line):
    """Its name where all tokens had the same; the mean of the numbers else."""
    found = list(line["tokens_by_level"])
    if len(found) == 1:
        return found[0]
    return f"{weighted(line, float):.2f}" if found else "exact"


def bits_of(line):
    """Bits a value of what was held at the end, with all that the daemon counts for it."""
    return 8 * line["held_bytes"] / (line["held_blocks"] * BLOCK_VALUES) if line["held_blocks"] else 0


def figures_of(data):
    """A row of numbers for each line: what the table, the CSV and the picture show."""
    return [figures(data["trace"], line) for line in data["lines"]]


def figures(trace, line):
    known = levels()
    pool_bytes = trace["distinct_blocks"] * trace["block_bytes"] / line["overcommitment"]
    real_bytes = trace["distinct_of_all"] * REAL_BLOCK_BYTES / line["overcommitment"]
    return {"overcommitment": line["overcommitment"], "method": line["method"],
            "pool_mib": pool_bytes / (1 << 20), "real_pool_gib": real_bytes / (1 << 30),
            "saved_share": saved_share(line),
            "saved_of_possible": line["saved_tokens"] / trace["possible_tokens"],
            "requests_hit_share": line["requests_hit"] / line["requests"], "mean_level": mean_level(line),
            "mean_kld": weighted(line, lambda level: known[level].kld),
            "held_blocks": line["held_blocks"], "bits_per_value": bits_of(line)}


def size_of(gib):
    return f"{gib / 1024:.1f} TiB" if gib >= 1000 else f"{gib:.0f} GiB"


def saved_table(data):
    rows = [[over(row), size_of(row["real_pool_gib"]), NAMES[row["method"]], percent(row["saved_share"]),
             percent(row["saved_of_possible"]), percent(row["requests_hit_share"]), row["mean_level"],
             f"{row['mean_kld']:.5f}", f"{row['held_blocks']:,}"] for row in figures_of(data)]
    return Table("What a pool saves", SAVED_NOTE,
                 ["over", "real pool", "method", "prefill saved", "of possible", "hits", "mean level",
                  "KLD, nats", "blocks held at the end"], rows)


def order_table(data):
    raw = {line["overcommitment"]: line for line in data["lines"] if line["method"] == "raw"}
    rows = [[over(line), NAMES[line["method"]], percent(saved_share(raw[line["overcommitment"]])),
             percent(line["lru_saved_tokens"] / line["asked_tokens"]), percent(saved_share(line))]
            for line in data["lines"] if "lru_saved_tokens" in line]
    return Table("Order and compression told apart", ORDER_NOTE,
                 ["over", "level", "LRU, 16 bits", "LRU, the level's bits", "daemon"], rows)


def checks_table(data):
    rows = [[over(line), NAMES[line["method"]], str(line["wrong_blocks"]), str(line["beyond_loss"]),
             str(line["refused"]), f"{bits_of(line):.2f}", real_bits(line["method"]),
             f"{line['seconds']:.0f}"] for line in data["lines"] if line["method"] != "raw"]
    return Table("What was checked", CHECKS_NOTE,
                 ["over", "method", "wrong blocks", "beyond the loss told", "refused", "bits/value",
                  "of a real model", "seconds"], rows)


def real_bits(method):
    return f"{levels()[method].bits:.2f}" if method in FIXED else ""


def trace_table(data):
    trace, machine = data["trace"], data["machine"]
    rows = [["trace", trace["name"]],
            ["requests", f"{trace['requests']:,} of {trace['of_requests']:,}"],
            ["blocks asked for", f"{trace['asked_blocks']:,}"],
            ["distinct blocks", f"{trace['distinct_blocks']:,}"],
            ["bytes of a block here", f"{trace['block_bytes']:,}"],
            *([key, str(machine[key])] for key in ("processor", "cores", "time"))]
    return Table("What was replayed", TRACE_NOTE, ["", ""], rows)


def failures(lines):
    """What must not be: a hit that is not what was stored."""
    return [f"{NAMES[line['method']]} at {over(line)}: {line['wrong_blocks']} wrong blocks, "
            f"{line['beyond_loss']} beyond the loss told" for line in lines
            if line["wrong_blocks"] or line["beyond_loss"]]


def tables_of(data):
    return [saved_table(data), order_table(data), checks_table(data), trace_table(data)]


def csv_of(data):
    rows, text = figures_of(data), io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
