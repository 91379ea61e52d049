"""tools/run-tests.py counts what went wrong, whoever noticed it."""

import subprocess
import sys

import pytest
from conftest import ROOT

PASSED = 'echo "100%: Checks: 2, Failures: 0, Errors: 0"'
REPORTED = 'echo "data race" >"$KVQ_SANITIZER_REPORTS/report.1"'


@pytest.fixture
def run_all(tmp_path):
    """run_all({name: script}) runs the scripts as unit tests: exit status, all that was printed."""
    (tmp_path / "tests/unit").mkdir(parents=True)

    def run_all(scripts, options=()):
        for name, script in scripts.items():
            program = tmp_path / "tests/unit" / name
            program.write_text("\n".join(["#!/bin/sh", *script, ""]))
            program.chmod(0o755)
        command = [sys.executable, "tools/run-tests.py", "--build", str(tmp_path), *options,
                   *(f"tests/unit/{name}.c" for name in scripts)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout

    return run_all


@pytest.fixture
def run(run_all):
    """run(script) runs it as the one unit test."""
    return lambda *script, options=(): run_all({"test_of_a_shell": script}, options)


def last_line(output):
    return output.splitlines()[-1]


def test_a_suite_that_passes_is_counted(run):
    status, output = run(PASSED)
    assert (status, last_line(output)) == (0, "2 passed, 0 failed")


def test_a_suite_that_passes_and_ends_badly_is_a_failure(run):
    status, output = run(PASSED, "exit 3")
    assert (status, last_line(output)) == (1, "2 passed, 1 failed")


def test_a_suite_that_says_nothing_is_a_failure(run):
    status, output = run("true")
    assert (status, last_line(output)) == (1, "0 passed, 1 failed")


def test_a_sanitizers_report_is_a_failure_of_tests_that_passed(run):
    status, output = run(REPORTED, PASSED)
    assert (status, last_line(output)) == (1, "2 passed, 1 failed")
    assert "data race" in output


def test_tests_can_tell_the_sanitizer_they_run_under(run):
    status, output = run('[ "$KVQ_SANITIZE" = thread ] || exit 1', PASSED,
                         options=("--sanitize", "thread"))
    assert (status, last_line(output)) == (0, "2 passed, 0 failed")


def test_unit_tests_run_under_a_command(run):
    status, output = run('[ "$UNDER" = qemu ] || exit 1', PASSED, options=("--under", "env UNDER=qemu"))
    assert (status, last_line(output)) == (0, "2 passed, 0 failed")


def test_suites_run_at_once_and_are_told_of_in_their_order(run_all, tmp_path):
    status, output = run_all({
        "test_a": [f"until [ -e {tmp_path}/b ]; do sleep 0.01; done", "echo said", "exit 1"],
        "test_b": [f"touch {tmp_path}/b", PASSED]})
    lines = output.splitlines()
    assert status == 1 and lines[0] == "said"
    assert [line.split()[:2] for line in lines[2:4]] == [["FAILED", "test_a"], ["ok", "test_b"]]
    assert lines[4] == "2 passed, 1 failed"
