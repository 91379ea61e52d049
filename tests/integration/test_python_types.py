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


WRONG = {
    "session.fork(3)": "incompatible type",
    "session.fetch(tokens=5)": "incompatible type",
    "session.fetch(dtype=16)": "incompatible type",
    "session.truncate()": "Missing positional argument",
    "client.status().nothing": "no attribute",
}


@pytest.fixture(scope="module")
def found(check):
    """What is said of each wrong line, all of one program."""
    result = check("-c", PROGRAM + "".join(f"    {line}\n" for line in WRONG))
    assert result.returncode == 1
    first = len(PROGRAM.splitlines()) + 1
    return {line: [said for said in result.stdout.splitlines() if said.startswith(f"<string>:{number}: error")]
            for number, line in enumerate(WRONG, start=first)}


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_use_is_found(found, line):
    assert len(found[line]) == 1 and WRONG[line] in found[line][0]
