"""The Debian packages, as far as it shows without building them: tests/packages does that."""

import fnmatch
import pathlib
import re

from conftest import ROOT

DEBIAN = ROOT / "deploy/debian"
MAKEFILE = (ROOT / "Makefile").read_text()
# As debian/rules has them.
FOLDERS = {"PREFIX": "usr", "LIBDIR": "usr/lib/any", "INCLUDEDIR": "usr/include", "MANDIR": "usr/share/man",
           "SYSCONFDIR": "etc", "UNITDIR": "lib/systemd/system", "PLUGINDIR": "usr/lib/kvquant"}


def test_the_changelog_is_of_the_version_that_is_built():
    version = re.search(r"^VERSION := (.*)$", MAKEFILE, re.MULTILINE)[1]
    assert (DEBIAN / "changelog").read_text().startswith(f"kvquant ({version}) ")


def test_every_package_says_what_is_put_into_it():
    packages = re.findall(r"^Package: (.*)$", (DEBIAN / "control").read_text(), re.MULTILINE)
    assert set(packages) == {path.stem for path in DEBIAN.glob("*.install")}


def installed():
    """The paths of what `make install` puts below a package's folder."""
    for row in re.search(r"^define INSTALLED\n(.*?)^endef", MAKEFILE, re.MULTILINE | re.DOTALL)[1].splitlines():
        kind, *words = re.sub(r"\$\((\w+)\)", lambda name: FOLDERS.get(name[1], "any"), row).split()
        yield words[-1] if kind != "file" else f"{words[-1]}/{pathlib.Path(words[-2]).name}"


def test_what_is_installed_is_in_a_package():
    patterns = [pattern for path in DEBIAN.glob("*.install") for pattern in path.read_text().split()]
    paths = list(installed())
    assert len(paths) > 20
    for path in paths:
        assert any(fnmatch.fnmatch(path, pattern) or fnmatch.fnmatch(path, f"{pattern}/*") for pattern in patterns), path
