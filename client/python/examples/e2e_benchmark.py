"""A real model generates with and without the compressed KV cache: speed, memory, loss.

    python e2e_benchmark.py [--model NAME_OR_GGUF] [--output-dir FOLDER]

Prints what it found and writes kvquant-e2e-benchmark.md, .json, .html and .txt. With a daemon (that
of --socket, or one of its own, of the program $KVQUANTD or this checkout's) it also times how a
session comes back from it. `make e2e` runs it on SmolLM2-135M. With --profile it prints instead what
a device's cache takes, without a model.
"""

import argparse
import datetime
import os
import pathlib
import platform
import shlex
import shutil
import subprocess
import sys

BUILT = pathlib.Path(__file__, "../../../../build/kvq").resolve()  # of this checkout
SMOLLM2 = "SmolLM2-135M-Instruct"
LEVELS = {"exact", "fast8", *range(6)}
WINDOW = 64  # of tokens that stay as they came while the model generates
SCENARIOS = ["product-explainer", "developer-note", "long"]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=SMOLLM2, metavar="NAME",
                        help="of the hub, a folder, or a GGUF file (default: %(default)s)")
    parser.add_argument("--scenario", action="append", choices=SCENARIOS,
                        help="may be given several times (default: all)")
    parser.add_argument("--level", default="64:2/3,512:3", type=levels, metavar="LEVEL | AGE:LEVEL,...",
                        help="of tokens after which so many have come, 64 if it does not say; 2/3: of K "
                             "and of V (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=256, help="to generate (default: %(default)s)")
    parser.add_argument("--context", type=int, default=4096, metavar="TOKENS",
                        help="of the long scenario (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=2,
                        help="of both caches, in turn (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="of torch (default: what torch takes)")
    parser.add_argument("--socket", help="of a daemon that runs already")
    parser.add_argument("--output-dir", type=pathlib.Path, default=pathlib.Path("."), metavar="FOLDER")
    parser.add_argument("--profile", metavar="NAME", help="tiny, or a file: see `kvq profile`")
    given = parser.parse_args()
    if given.tokens < 2 or given.rounds < 1:
        parser.error("--tokens is at least 2, --rounds at least 1")
    return given


def levels(text):
    """What CompressedDynamicCache takes, of 3, 64:3, or 64:2/3,512:3."""
    found = {}
    for part in text.split(","):
        age, _, named = part.rpartition(":")
        pair = tuple(int(name) if name.isdigit() else name for name in named.split("/"))
        if len(pair) > 2 or not set(pair) <= LEVELS:
            raise argparse.ArgumentTypeError(f"{named!r} is not a level, exact, fast8 or 0 to 5, nor two")
        found[int(age or WINDOW)] = pair[0] if len(pair) == 1 else pair
    return found


def profile(name):
    """What `kvq profile` says."""
    program = os.environ.get("KVQ") or (str(BUILT) if BUILT.exists() else shutil.which("kvq"))
    if not program:
        raise SystemExit("the program kvq is missing: build it (make), or name it in $KVQ")
    return subprocess.run([program, "profile", name, "--json"]).returncode


def run(given):
    if not sys.stderr.isatty():
        os.environ["TQDM_DISABLE"] = "1"  # for those who show their progress unasked
    import torch
    import transformers

    from e2e import measure, models, resume, scenarios

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if given.threads:
        torch.set_num_threads(given.threads)
    coarsest = given.level[max(given.level)]
    level = coarsest[1] if isinstance(coarsest, tuple) else coarsest
    date = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    opened = models.open_model(given.model)
    asked = [scenarios.scenario(name, opened, given.context, given.tokens)
             for name in given.scenario or scenarios.NAMES]
    measured = [measure.measure(opened, one, given.level, given.tokens, given.rounds) for one in asked]
    figures = [scenario for scenario, *_ in measured]
    longest = max(range(len(asked)), key=lambda i: asked[i].ids.shape[1])
    resumed = None
    with resume.daemon(given.socket) as socket:
        # A layer with a window does not have what a session holds.
        if socket and not figures[longest]["compressed"]["uncompressed_layers"]:
            resumed = resume.measure_resume(
                opened, asked[longest], level, *measured[longest][1:], socket)
    return {
        "command": shlex.join(["python", *sys.argv]),
        "date": date,
        "environment": environment(),
        "model": {"name": opened.name, "dtype": opened.dtype,
                  "parameters": opened.model.num_parameters(),
                  "layers": opened.model.config.num_hidden_layers},
        "levels": {str(age): measure.level_name(level) for age, level in given.level.items()},
        "rounds": given.rounds,
        "scenarios": figures,
        "summary": measure.summary(figures),
        "resume": resumed,
    }


def environment():
    import kvquantd
    import torch
    import transformers

    versions = {"Python": platform.python_version(), "torch": torch.__version__,
                "transformers": transformers.__version__, "kvquantd": kvquantd.__version__}
    return {"cpu": cpu(), "threads": torch.get_num_threads(), "system": platform.platform(),
            "versions": versions}


def cpu():
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} processors"


def main():
    given = arguments()
    if given.profile:
        return profile(given.profile)
    report = run(given)
    from e2e import writing

    writing.write(report, given.output_dir)
    print(writing.transcript(report), end="")
    print(f"written: {given.output_dir / writing.NAME}.md, .json, .html, .txt")
    return 0


if __name__ == "__main__":
    sys.exit(main())
