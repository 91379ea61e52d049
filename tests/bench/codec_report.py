"""Measures the page codec with every table of kernels that this processor runs, against memcpy.

usage: codec_report.py --build build [--quick] [--kernels avx512,portable] [--json]

Prints the report, or with --json its data, and writes build/report/codec.md, .json and .html. Real
K and V come from build/report/kv (dump_kv.py); without them there is the synthetic part alone.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import codec_tables
import figures
import measure
import render

# Each chooses the best table at most that good: where the processor lacks one, the next comes twice.
CHOICES = ("avx512", "avx2", "x86_64_v3", "portable")
SHAPES = {"synthetic": "8x128", "real": "3x64"}
LARGEST_CACHE = pathlib.Path("/sys/devices/system/cpu/cpu0/cache")


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build"))
    parser.add_argument("--kernels", default=",".join(CHOICES), help="values of KVQ_CPU")
    parser.add_argument("--quick", action="store_true", help="a smoke test, within a minute")
    parser.add_argument("--json", action="store_true", help="print the data, not the tables")
    parser.add_argument("--compiler", default="unknown", help="what built it, for the report")
    return parser.parse_args()


def last_cache_bytes():
    units = {"K": 1 << 10, "M": 1 << 20}
    sizes = [path.read_text().strip() for path in LARGEST_CACHE.glob("index*/size")]
    return max((int(size[:-1]) * units[size[-1]] for size in sizes), default=32 << 20)


class Run:
    """One process of bench_codec after another: one table of kernels each."""

    def __init__(self, options):
        self.program = options.build / "tests/bench/bench_codec"
        self.kv = options.build / "report/kv"
        self.quick, self.quiet = options.quick, options.json
        self.mib = 8 if options.quick else max(128, 4 * last_cache_bytes() >> 20)
        self.core = max(os.sched_getaffinity(0))
        self.lines = []

    def bench(self, choice, data, placement, *more):
        command = [self.program, "--placement", placement, "--mib", self.mib, "--core", self.core,
                   "--shape", SHAPES[data], "--rounds", self.rounds(choice, placement), *more]
        if data == "real" and "--pages" not in more:
            command += ["--pages", self.kv / "smollm2.f16"]
        if not self.quiet:
            print(f"  {choice}: {data}, {placement} {' '.join(more[:2])}", flush=True)
        output = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True,
                                check=True, env={**os.environ, "KVQ_CPU": choice}).stdout
        return [json.loads(line) for line in output.splitlines()]

    def rounds(self, choice, placement):
        if self.quick:
            return 2
        return 21 if placement == "cache" else 5 if choice == "portable" else 9

    def has_real(self):
        return (self.kv / "smollm2.f16").exists()

    def table(self, choice):
        """The lines of one table of kernels; none if it has been measured under another name."""
        lines = self.bench(choice, "synthetic", "cache")
        if lines[0]["kernels"] in {line["kernels"] for line in self.lines}:
            return []
        for data in ["synthetic", "real"] if self.has_real() else ["synthetic"]:
            if data == "real":
                lines += self.bench(choice, data, "cache")
            lines += self.bench(choice, data, "memory")
            lines += self.bench(choice, data, "repeated", "--levels", "exact,fast8,3")
        if self.has_real():
            lines += self.bench(choice, "real", "memory", "--levels", "exact,3", "--dtype", "bf16",
                                "--pages", str(self.kv / "smollm2.bf16"))
        return lines


def measured(options):
    run, machine = Run(options), measure.machine(options.compiler)
    if not run.has_real():
        print("no K and V of a model: only synthetic values are measured "
              "(`make bench-codec` dumps them where the model's packages install)", file=sys.stderr)
    for choice in options.kernels.split(","):
        run.lines += run.table(choice)
    return {"bench": "codec", "quick": options.quick, "mib": run.mib, "machine": machine,
            "lines": run.lines}


def write(folder, data):
    """Writes the three files; returns the Markdown."""
    made = codec_tables.tables_of(data)
    warnings = figures.warnings(data["machine"], data["lines"])
    title = "KVQuant's page codec, measured"
    title += " (quick: a smoke test, not figures)" if data["quick"] else ""
    content = render.markdown(title, warnings, made)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "codec.md").write_text(content)
    (folder / "codec.html").write_text(render.page(title, warnings, made))
    shown = {"warnings": warnings, "tables": [dataclasses.asdict(table) for table in made]}
    (folder / "codec.json").write_text(json.dumps({**data, **shown}, indent=1) + "\n")
    return content


def main():
    options = parse()
    data = measured(options)
    folder = options.build / "report"
    content = write(folder, data)
    print(json.dumps(data) if options.json else f"\n{content}\nin {folder}: codec.md, .json and .html")


if __name__ == "__main__":
    main()
