"""The Debian packages, as far as it shows without building them: tests/packages does that."""

import re

from conftest import ROOT

DEBIAN = ROOT / "deploy/debian"


def test_the_changelog_is_of_the_version_that_is_built():
    version = re.search(r"^VERSION := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    assert (DEBIAN / "changelog").read_text().startswith(f"kvquant ({version}) ")


def test_every_package_says_what_is_put_into_it():
    packages = re.findall(r"^Package: (.*)$", (DEBIAN / "control").read_text(), re.MULTILINE)
    assert set(packages) == {path.stem for path in DEBIAN.glob("*.install")}
