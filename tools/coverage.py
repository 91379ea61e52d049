"""Says how many lines of some folders were run, by what gcov has of a build: files with less than 90 % by name.

usage: coverage.py BUILD FOLDER...      FOLDER: proto/wire
The whole list is left in BUILD/coverage.txt.
"""

import collections
import json
import pathlib
import subprocess
import sys

ENOUGH = 0.9


def lines_of(build, folders):
    """For each file the numbers of its lines that could run, and how often each did."""
    runs = collections.defaultdict(collections.Counter)
    for notes in sorted(build.rglob("*.gcno")):
        done = subprocess.run(["gcov", "--json-format", "--stdout", notes], capture_output=True, text=True)
        for document in done.stdout.splitlines():
            for file in json.loads(document)["files"]:
                if not file["file"].startswith(folders) or file["file"].endswith(".h"):
                    continue
                for line in file["lines"]:
                    runs[file["file"]][line["line_number"]] += line["count"]
    return runs


def main():
    build, folders = pathlib.Path(sys.argv[1]), tuple(f"{folder}/" for folder in sys.argv[2:])
    runs = lines_of(build, folders)
    shares = {file: (sum(count > 0 for count in lines.values()), len(lines)) for file, lines in runs.items()}
    with open(build / "coverage.txt", "w") as out:
        for file, (run, all_of_it) in sorted(shares.items()):
            missed = [number for number, count in sorted(runs[file].items()) if not count]
            print(f"{run / all_of_it:6.1%}  {file}  not run: {missed}", file=out)
            if run < ENOUGH * all_of_it:
                print(f"{run / all_of_it:6.1%}  {file}")
    for folder in folders:
        run, all_of_it = (sum(numbers) for numbers in zip(*(
            share for file, share in shares.items() if file.startswith(folder))))
        print(f"{folder}: {run} of {all_of_it} lines, {run / all_of_it:.1%}")
    return 0 if shares else 1


if __name__ == "__main__":
    sys.exit(main())
