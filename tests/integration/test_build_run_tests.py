"""tools/run-tests.py counts what went wrong, whoever noticed it."""

import subprocess
import sys

import pytest
from conftest import ROOT

PASSED = 'echo "100%: Checks: 2, Failures: 0, Errors: 0"'
REPORTED = 'echo "data race" >"$KVQ_SANITIZER_REPORTS/report.1"'
SOURCE = "tests/unit/test_of_a_shell.c"


@pytest.fixture
def run(tmp_path):
    """run(script) runs it as the one unit test: exit status, all that was printed."""
    program = tmp_path / "tests/unit/test_of_a_shell"
    program.parent.mkdir(parents=True)

    def run(*script, options=()):
        program.write_text("\n".join(["#!/bin/sh", *script, ""]))
        program.chmod(0o755)
        command = [sys.executable, "tools/run-tests.py", "--build", str(tmp_path), *options, SOURCE]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout

    return run


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
