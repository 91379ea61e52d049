"""Measures and writes a report: printed, and as Markdown, JSON and one HTML page in build/report/.

usage: report.py --build build [--peers] [--quick] [--compiler TEXT]
       report.py --from FILE.json      the report of lines that were measured before
       ... --picture FILE.svg          README's picture of it, too
"""

import argparse
import dataclasses
import json
import pathlib
import sys
import time

import figures
import measure
import peers
import picture
import render
import tables


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build"))
    parser.add_argument("--output", type=pathlib.Path, help="the folder; default: build/report")
    parser.add_argument("--peers", action="store_true", help="against Redis and memcached")
    parser.add_argument("--quick", action="store_true", help="a smoke test, within a minute")
    parser.add_argument("--compiler", default="unknown", help="what built it, for the report")
    parser.add_argument("--from", dest="source", type=pathlib.Path)
    parser.add_argument("--picture", type=pathlib.Path)
    return parser.parse_args()


def measured(arguments):
    """What a report is made of: which bench, the machine, the lines."""
    if arguments.source:
        return json.loads(arguments.source.read_text())
    plan = measure.Plan(arguments.quick)
    run = measure.measure_peers if arguments.peers else measure.measure_all
    machine = measure.machine(arguments.compiler)
    return {"bench": "peers" if arguments.peers else "bench", "quick": arguments.quick,
            "machine": machine, "lines": run(arguments.build, plan)}


def title_of(data):
    title = "KVQuant and its neighbours" if data["bench"] == "peers" else "KVQuant, measured"
    return title + (" (quick: a smoke test, not figures)" if data["quick"] else "")


def write(folder, data):
    """Writes the three files; returns the Markdown."""
    make = peers.peers_tables if data["bench"] == "peers" else tables.bench_tables
    made = make(data["machine"], data["lines"])
    warnings = figures.warnings(data["machine"], data["lines"])
    content = render.markdown(title_of(data), warnings, made)
    shown = {"warnings": warnings, "tables": [dataclasses.asdict(table) for table in made]}
    folder.mkdir(parents=True, exist_ok=True)
    name = data["bench"]
    (folder / f"{name}.md").write_text(content)
    (folder / f"{name}.html").write_text(render.page(title_of(data), warnings, made))
    (folder / f"{name}.json").write_text(json.dumps({**data, **shown}, indent=1) + "\n")
    return content


def main():
    arguments = parse()
    start = time.monotonic()
    data = measured(arguments)
    folder = arguments.output or arguments.build / "report"
    print(f"\n{write(folder, data)}\nin {folder}: {data['bench']}.md, .json and .html "
          f"({time.monotonic() - start:.0f} s)")
    if arguments.picture:
        arguments.picture.write_text(picture.draw(data["machine"], data["lines"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
