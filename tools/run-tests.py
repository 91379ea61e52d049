"""Runs every test, shows what failed, and closes with `N passed, N failed`.

usage: run-tests.py --build FOLDER [--sanitize NAMES] [--under COMMAND] [--seconds N] [TEST...]
a test: tests/unit/test_x.c, or anything pytest takes

Tests find in the environment: KVQUANTD, KVQ, KVQ_BUILD and KVQ_EXAMPLES, the programs under test;
KVQ_SANITIZE, the sanitizers these were built with ("" for none), since a sanitizer has memory of its
own; KVQ_SANITIZER_REPORTS, the folder that takes the sanitizers' reports. A report is a failure, even
of a program whose exit status nobody looked at.
"""

import argparse
import concurrent.futures
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

UNIT_SECONDS_MAX = 600
CHECK_SECONDS_MAX = 60  # one test of a suite that says nothing else
PYTEST_SECONDS_MAX = 2400  # a folder
AT_ONCE = 3  # on two cores: tests wait for a third of their time
PYTEST_FOLDERS = ("tests/integration", "tests/faults", "client/python/tests", "client/python/examples")
SLOWNESS = 20  # of a sanitizer or an emulator, at most
SUPPRESSIONS = pathlib.Path(__file__).resolve().with_name("tsan-suppressions.txt")
# A use after return is found only on asking; a finding names the line that led to it.
SANITIZER_OPTIONS = {
    "ASAN_OPTIONS": "detect_stack_use_after_return=1:strict_string_checks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": f"second_deadlock_stack=1:suppressions={SUPPRESSIONS}",
}
CHECK_SUMMARY = re.compile(r"^\d+%: Checks: (\d+), Failures: (\d+), Errors: (\d+)$", re.MULTILINE)


class Counts:
    def __init__(self, passed=0, failed=0, skipped=0):
        self.passed, self.failed, self.skipped = passed, failed, skipped

    def __add__(self, other):
        return Counts(*(a + b for a, b in zip(self.numbers(), other.numbers())))

    def numbers(self):
        return self.passed, self.failed, self.skipped

    def __str__(self):
        line = f"{self.passed} passed, {self.failed} failed"
        return line + (f", {self.skipped} skipped" if self.skipped else "")


def counts_of_check(output, returncode):
    """A suite that ends badly without saying so (a crash, a leak, an early exit) is a failure too."""
    found = [[int(n) for n in numbers] for numbers in CHECK_SUMMARY.findall(output)]
    failed = sum(failures + errors for _, failures, errors in found)
    passed = sum(checks for checks, _, _ in found) - failed
    if not failed and (returncode or not passed):
        failed = 1
    return Counts(passed, failed)


def run_unit(program, under, environment, seconds_max):
    """What came of it, and what there is to say of that."""
    start = time.monotonic()
    try:
        done = subprocess.run([*under, program], env=environment, text=True, errors="replace",
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=seconds_max)
        output, returncode = done.stdout, done.returncode
    except subprocess.TimeoutExpired as expired:
        output = (expired.stdout or b"").decode(errors="replace")
        output, returncode = f"{output}\nnot done after {seconds_max} s", 1
    counts = counts_of_check(output, returncode)
    verdict = "FAILED" if counts.failed else "ok"
    told = f"{verdict:6} {program.name:32} {counts}  {time.monotonic() - start:.1f} s"
    if counts.failed:
        told = f"{output.rstrip()}\n(exit status {returncode})\n{told}"
    return counts, told


def run_units(programs, *how):
    """Some at once, told of in the order given."""
    total = Counts()
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        for counts, told in pool.map(lambda program: run_unit(program, *how), programs):
            print(told, flush=True)
            total += counts
    return total


def counts_of_pytest(report, returncode):
    """A run that ends without a report, or badly with a clean one, is a failure too."""
    suites = []
    if report.stat().st_size:
        suites = list(xml.etree.ElementTree.parse(report).getroot().iter("testsuite"))
    total = {name: sum(int(suite.get(name)) for suite in suites)
             for name in ("tests", "failures", "errors", "skipped")}
    failed = total["failures"] + total["errors"]
    if not failed and returncode not in (0, 5):  # 5: no tests in this folder
        failed = 1
    passed = max(0, total["tests"] - failed - total["skipped"])
    return Counts(passed, failed, total["skipped"])


def pytest_of(build, environment):
    """How pytest is started, and its environment: with the sanitized extension where there is one.

    Its runtime has to come first in the process, and Python's own leaks are not looked for; but
    programs that tests start are to have neither: the setting is undone as soon as it has worked.
    """
    package = build / "python"
    if not (package / "preload").exists():
        return [sys.executable, "-m", "pytest"], environment
    undo = ("import os, sys, pytest; "
            "[os.environ.pop(name) for name in ('LD_PRELOAD', 'PYTHONPATH', 'PYTHONMALLOC')]; "
            f"os.environ['ASAN_OPTIONS'] = {environment['ASAN_OPTIONS']!r}; "
            "sys.exit(pytest.main())")
    return [sys.executable, "-c", undo], dict(
        environment, LD_PRELOAD=(package / "preload").read_text().strip(),
        PYTHONPATH=str(package), PYTHONMALLOC="malloc",
        ASAN_OPTIONS=f"{environment['ASAN_OPTIONS']}:detect_leaks=0")


def run_pytest(selection, build, environment, seconds_max):
    """Some files at once, but for sanitized programs: a report is of the one test that runs."""
    program, environment = pytest_of(build, environment)
    if not environment["KVQ_SANITIZE"]:
        program += ["-n", str(AT_ONCE), "--dist", "loadfile", "--no-loadscope-reorder"]
    with tempfile.NamedTemporaryFile(suffix=".xml") as report:
        command = [*program, "-q", "-ra", "--tb=short", "-p", "no:cacheprovider",
                   f"--junitxml={report.name}", "-o", "junit_logging=no", selection]
        try:
            returncode = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL,
                                        timeout=seconds_max).returncode
        except subprocess.TimeoutExpired:
            print(f"{selection}: not done after {seconds_max} s")
            returncode = 1
        return counts_of_pytest(pathlib.Path(report.name), returncode)


def environment_of(build, sanitize, reports):
    environment = dict(os.environ, KVQUANTD=str(build / "kvquantd"), KVQ=str(build / "kvq"),
                       KVQ_EXAMPLES=str(build / "examples"), KVQ_BUILD=str(build),
                       KVQ_SANITIZE=sanitize, KVQ_SANITIZER_REPORTS=reports,
                       CK_DEFAULT_TIMEOUT=str(CHECK_SECONDS_MAX), PYTHONDONTWRITEBYTECODE="1",
                       OPENBLAS_NUM_THREADS="1")  # its threads wait busily where others compute
    environment.pop("KVQ_SOCKET", None)  # no test talks to a daemon that is not its own
    for name, options in SANITIZER_OPTIONS.items():
        given = environment.get(name, "")
        environment[name] = f"{options}:{given}:log_path={reports}/report"
    return environment


def counts_of_reports(reports, counted):
    """What the sanitizers reported while the tests that have failed are none that tell of it."""
    found = sorted(pathlib.Path(reports).iterdir())
    for report in found:
        print(f"{report.read_text(errors='replace').rstrip()}\n")
    return Counts(0, 1 if found and not counted.failed else 0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--sanitize", default="", help="the sanitizers that it was built with")
    parser.add_argument("--under", type=shlex.split, default=[], help="runs the unit tests")
    parser.add_argument("--seconds", type=int, help="that pytest may take")
    parser.add_argument("tests", nargs="*")
    arguments = parser.parse_args()

    build = arguments.build.resolve()
    unit = [t for t in arguments.tests if t.startswith("tests/unit/")]
    pytest = [t for t in arguments.tests if not t.startswith("tests/unit/")]
    if not arguments.tests:
        unit = sorted(pathlib.Path("tests/unit").glob("test_*.c"))
        pytest = [folder for folder in PYTEST_FOLDERS if pathlib.Path(folder).is_dir()]

    total = Counts()
    with tempfile.TemporaryDirectory(prefix="kvq-sanitizers-") as reports:
        environment = environment_of(build, arguments.sanitize, reports)
        slow = arguments.sanitize or arguments.under or os.environ.get("KVQ_TORTURE")
        slowness = SLOWNESS if slow else 1
        if slow:
            environment["CK_TIMEOUT_MULTIPLIER"] = str(slowness)
        programs = [build / pathlib.Path(source).with_suffix("") for source in unit]
        total += run_units(programs, arguments.under, environment, slowness * UNIT_SECONDS_MAX)
        for selection in pytest:
            total += run_pytest(selection, build, environment, arguments.seconds or slowness * PYTEST_SECONDS_MAX)
        total += counts_of_reports(reports, total)
    print(total, flush=True)
    return 1 if total.failed or not total.passed else 0


if __name__ == "__main__":
    sys.exit(main())
