"""What `make deb` built, and a Debian to install it into. See debian.py."""

import os
import pathlib
import re
import subprocess

import pytest
from debian import Debian, field

BUILD = pathlib.Path(os.environ["KVQ_BUILD"])


@pytest.fixture(scope="session")
def packages():
    """The five, without the symbols for debuggers."""
    found = sorted(path for path in (BUILD / "deb").glob("*.deb") if "-dbgsym_" not in path.name)
    assert len(found) == 5
    return found


@pytest.fixture(scope="session")
def base(packages):
    """A Debian that has what the packages depend on, and none of them, made once for these dependencies."""
    wanted = {one.strip() for package in packages for one in field(package, "Depends").split(",")}
    own = {field(package, "Package") for package in packages}
    satisfied = ", ".join(sorted(one for one in wanted if re.split(r"[ (:]", one)[0] not in own))
    folder = BUILD / "packages/with-dependencies"
    stamp = folder.with_suffix(".made-for")
    if not stamp.exists() or stamp.read_text() != satisfied:
        stamp.unlink(missing_ok=True)
        subprocess.run(["rm", "-rf", "--one-file-system", folder], check=True)
        Debian(BUILD / "packages/debian", folder).apt("satisfy", satisfied)
        stamp.write_text(satisfied)
    return folder


@pytest.fixture(scope="module")
def debian(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("debian") / "root"
    yield Debian(base, folder)
    subprocess.run(["rm", "-rf", "--one-file-system", folder], check=True)
