"""The type hints of the package kvquantd, as a checker of whoever uses it sees them."""

import subprocess
import sys

import pytest

PROGRAM = """
import kvquantd

with kvquantd.connect(deadline=5) as client:
    session = client.open("s", model="m", geometry={"layers": 2, "heads": 2, "head_dim": 64})
    k, v = session.fetch(range(0, 3))
    levels: list[dict[str, object]] = session.fork("t", 3).fetch().levels
    freed: int = client.delete_many(prefix="s").freed_bytes
"""


@pytest.fixture(scope="module")
def check(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mypy")
    command = [sys.executable, "-m", "mypy", "--strict", f"--cache-dir={folder}"]

    def run(*arguments):
        return subprocess.run([*command, *arguments], cwd=folder, capture_output=True, text=True)

    return run


def test_the_package_holds_to_its_hints(check):
    result = check("-p", "kvquantd")
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_program_that_uses_the_package_is_checked_against_them(check):
    result = check("-c", PROGRAM)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("line, words", [
    ("session.fork(3)", "incompatible type"),
    ("session.fetch(tokens=5)", "incompatible type"),
    ("session.truncate()", "Missing positional argument"),
    ("client.status().nothing", "no attribute"),
])
def test_a_wrong_use_is_found(check, line, words):
    result = check("-c", f"{PROGRAM}    {line}\n")
    assert result.returncode == 1
    assert words in result.stdout
