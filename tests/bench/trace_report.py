"""Replays chat requests against daemons with less and less memory, and writes what that saves and loses:
printed, and as trace.md, .json, .csv and .svg in build/report/.

usage: trace_report.py --build build [--trace FILE] [--requests N|all] [--quick]
       trace_report.py --from FILE.json       the report of runs that were made before
       ... --picture FILE.svg                 README's picture, too
The exit status is 1 if anything that was fetched was not what had been stored.
"""

import argparse
import concurrent.futures
import dataclasses
import json
import os
import pathlib
import sys

import measure
import render
import trace_picture
import trace_replay
import trace_requests
import trace_tables
from trace_values import BLOCK_BYTES

TRACE = pathlib.Path(__file__).with_name("traces") / "conversation_trace.jsonl.xz"
OVERCOMMITMENTS = [1, 2, 4, 8, 16, 32]
REQUESTS, QUICK_REQUESTS = 3000, 200
# The daemon's settings, by method; "raw" is the LRU, without a daemon.
METHODS = {"raw": None, "fast8": {"level": "fast8", "floor": "fast8"}, "3": {"level": 3, "floor": 3},
           "ageing": {"level": 1, "floor": 4}}


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build"))
    parser.add_argument("--output", type=pathlib.Path, help="the folder; default: build/report")
    parser.add_argument("--trace", type=pathlib.Path, default=TRACE)
    parser.add_argument("--requests", default=str(REQUESTS), help="about so many of its requests, or all")
    parser.add_argument("--quick", action="store_true", help="a smoke test, in seconds")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="replays at the same time")
    parser.add_argument("--compiler", default="unknown", help="what built it, for the report")
    parser.add_argument("--from", dest="source", type=pathlib.Path)
    parser.add_argument("--picture", type=pathlib.Path)
    return parser.parse_args()


def chosen(every, wanted):
    return every if wanted == "all" else trace_requests.sample(every, int(wanted))


def described(every, requests):
    return {"requests": len(requests), "of_requests": len(every),
            "asked_blocks": sum(len(one.blocks) for one in requests),
            "distinct_blocks": trace_requests.distinct_blocks(requests),
            "distinct_of_all": trace_requests.distinct_blocks(every), "block_bytes": BLOCK_BYTES,
            "possible_tokens": trace_replay.replay_lru(requests, float("inf"))["saved_tokens"]}


def pool_bytes_at(trace, overcommitment):
    """1x: all that is ever stored, in 16 bits."""
    return trace["distinct_blocks"] * BLOCK_BYTES // overcommitment


def run(program, requests, method, pool_bytes):
    settings = METHODS[method]
    if settings is None:
        return {"seconds": 0, **trace_replay.replay_lru(requests, pool_bytes)}
    return trace_replay.replay(program, requests, settings, pool_bytes)


def run_all(arguments, requests, trace):
    """A line a method and overcommitment."""
    wanted = [(over, method) for over in OVERCOMMITMENTS for method in METHODS]
    lines = []
    with concurrent.futures.ProcessPoolExecutor(arguments.jobs) as pool:
        runs = [pool.submit(run, arguments.build / "kvquantd", requests, method, pool_bytes_at(trace, over))
                for over, method in wanted]
        for (over, method), one in zip(wanted, runs):
            lines.append({"method": method, "overcommitment": over, **one.result()})
            print(f"  {method} at {over}x: {lines[-1]['seconds']:.0f} s", flush=True)
    return lines


def add_lru(requests, trace, line):
    """What an LRU saves with blocks of the bytes that a fixed level's had."""
    if line["method"] in trace_tables.FIXED and line["held_blocks"]:
        lru = trace_replay.replay_lru(requests, pool_bytes_at(trace, line["overcommitment"]),
                                      line["held_bytes"] / line["held_blocks"])
        line["lru_saved_tokens"] = lru["saved_tokens"]


def measured(arguments):
    if arguments.source:
        return json.loads(arguments.source.read_text())
    every = trace_requests.read(arguments.trace)
    requests = chosen(every, str(QUICK_REQUESTS) if arguments.quick else arguments.requests)
    trace = {"name": arguments.trace.name, **described(every, requests)}
    machine = measure.machine(arguments.compiler)
    lines = run_all(arguments, requests, trace)
    for line in lines:
        add_lru(requests, trace, line)
    return {"trace": trace, "quick": arguments.quick, "machine": machine, "lines": lines}


def write(folder, data):
    """Writes the four files; returns the Markdown."""
    made = trace_tables.tables_of(data)
    title = "Chat requests replayed" + (" (quick: a smoke test, not figures)" if data["quick"] else "")
    content = render.markdown(title, trace_tables.failures(data["lines"]), made)
    shown = {**data, "tables": [dataclasses.asdict(table) for table in made]}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "trace.md").write_text(content)
    (folder / "trace.json").write_text(json.dumps(shown, indent=1) + "\n")
    (folder / "trace.csv").write_text(trace_tables.csv_of(data))
    (folder / "trace.svg").write_text(trace_picture.draw(data))
    return content


def main():
    arguments = parse()
    data = measured(arguments)
    folder = arguments.output or arguments.build / "report"
    print(f"\n{write(folder, data)}\nin {folder}: trace.md, .json, .csv and .svg")
    if arguments.picture:
        arguments.picture.write_text(trace_picture.draw(data))
    return 1 if trace_tables.failures(data["lines"]) else 0


if __name__ == "__main__":
    sys.exit(main())
