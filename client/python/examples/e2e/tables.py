"""The figures as tables of text, whose columns say their units."""

import dataclasses

from .known_methods import KNOWN_METHODS

KINDS = ("baseline", "compressed")


@dataclasses.dataclass
class Table:
    title: str
    note: str
    columns: list
    rows: list


def mib(size_bytes):
    return f"{size_bytes / 2**20:.2f} MiB"


def times(ratio):
    return f"{ratio:.2f}x"


def speed_table(scenarios):
    columns = ["scenario", "prompt tokens", "generated tokens", "baseline t/s", "compressed t/s",
               "speedup", "baseline cache", "compressed cache", "saved", "ratio, 16 bits",
               "ratio, own dtype"]
    rows = [[s["name"], f"{s['prompt_tokens']:,}", f"{s['generated_tokens']:,}",
             *(f"{s[kind]['tokens_per_second']:.2f}" for kind in KINDS),
             times(s["speedup"]), mib(s["cache"]["bytes"]), *saved(s["compressed"]["at_rest"])]
            for s in scenarios]
    return Table("Speed and memory", "Tokens a second after the first, medians of runs in turn. The "
                 "compressed cache with every byte, at the end, when its newest tokens are coded too; "
                 "ratios against 16 bits a value and against the model's own dtype.", columns, rows)


def saved(state):
    return [mib(state["bytes"]), mib(state["saved_bytes"]), times(state["ratio_16_bits"]),
            times(state["ratio_model_dtype"])]


def loss_table(scenarios):
    columns = ["scenario", "cache", "bytes", "bits/value", "ratio, 16 bits", "mean KLD", "median KLD",
               "largest KLD", "same top token", "scored tokens"]
    rows = []
    for s in scenarios:
        for title, name in (("in use", "in_use"), ("at rest", "at_rest")):
            state = s["compressed"][name]
            rows.append([s["name"], title, mib(state["bytes"]), f"{state['bits_per_value']:.2f}",
                         times(state["ratio_16_bits"]), *loss_cells(state)])
    return Table("What it costs", "Bytes and loss of the same cache, on the baseline's text. In use: "
                 "with the newest tokens as they came, as while it generates. At rest: all of them "
                 "coded, and each token of the text scored on what that left of those before it. KLD: "
                 "Kullback-Leibler divergence of the next token, in nats.", columns, rows)


def loss_cells(state):
    if "kld_mean" not in state:
        return [""] * 5
    return [*(f"{state[f'kld_{name}']:.5f}" for name in ("mean", "median", "max")),
            f"{state['agreement']:.1%}", str(state["tokens"])]


def process_table(scenarios):
    columns = ["scenario", "baseline first token", "compressed first token", "baseline peak RSS",
               "compressed peak RSS", "scratch", "same of the tokens", "first that differs"]
    rows = [[s["name"], *(f"{s[kind]['first_token_seconds']:.2f} s" for kind in KINDS),
             *(mib(s[kind]["peak_rss_bytes"]) for kind in KINDS),
             mib(s["compressed"]["in_use"]["scratch_bytes"]),
             f"{s['free_running']['same_tokens']} of {s['generated_tokens']}",
             str(s["free_running"]["first_difference"] or "none")] for s in scenarios]
    return Table("The process", "Each generating freely: a token that differs changes all that follow. "
                 "Scratch: what one layer at a time is restored into, beside the cache's bytes.",
                 columns, rows)


def summary_table(summary):
    rows = [["average speedup", times(summary["average_speedup"])],
            ["average cache ratio, 16 bits", times(summary["average_ratio_16_bits"])],
            ["average cache ratio, own dtype", times(summary["average_ratio_model_dtype"])],
            ["average generated tokens", f"{summary['average_generated_tokens']:,.0f}"],
            ["total cache saved", mib(summary["saved_bytes"])]]
    return Table("Summary", "", ["what", "figure"], rows)


def resume_table(resume):
    columns = ["from", "bytes", "read", "read and in the cache", "against the prefill", "mean KLD",
               "same top token"]
    rows = [["prefill", "", "", f"{resume['prefill_seconds']:.3f} s", "1x", "", ""]]
    rows += [[row["name"], mib(row["bytes"]), f"{row['read_seconds']:.4f} s",
              f"{row['seconds']:.4f} s", f"{row['speedup']:.1f}x", f"{row['kld_mean']:.5f}",
              f"{row['agreement']:.1%}"] for row in resume["rows"]]
    rows.append(slot_row(resume["llama_cpp"]))
    return Table("Resume", f"{resume['tokens']:,} tokens of {resume['scenario']}: from the daemon and "
                 "from a file in the page cache, in turn, medians; then the next "
                 f"{resume['rows'][0]['tokens']} tokens of the baseline's text scored.", columns, rows)


def slot_row(slot):
    """llama.cpp's own way, in the time that its own prefill takes."""
    if slot is None:
        return ["llama.cpp's slot restore", *[""] * 2, "not installed", *[""] * 3]
    return ["llama.cpp's slot restore, against its own prefill", mib(slot["bytes"]), "",
            f"{slot['seconds']:.4f} s", f"{slot['speedup']:.1f}x", "", ""]


def known_table():
    return Table("Known methods", "The points of the chart: SmolLM2-135M-Instruct, 1,024 tokens of seven "
                 "texts coded at once, the next 256 scored. `make bench-quality` measures such.",
                 ["method", "bits/value", "mean KLD"],
                 [[name, f"{bits:.2f}", f"{kld:.5f}"] for name, bits, kld in KNOWN_METHODS])


def tables(report):
    scenarios = report["scenarios"]
    found = [speed_table(scenarios), summary_table(report["summary"]), loss_table(scenarios),
             process_table(scenarios)]
    if report["resume"]:
        found.append(resume_table(report["resume"]))
    return [*found, known_table()]
