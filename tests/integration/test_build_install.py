"""What `make install` leaves: a library that others build against with pkg-config alone."""

import os
import pathlib
import re
import subprocess

import pytest
from conftest import ROOT

BUILD = os.environ.get("KVQ_BUILD") or "build"
PREFIX = "/opt/kvquant"
HEADER = (ROOT / "client/c/kvq.h").read_text()

pytestmark = pytest.mark.skipif(bool(os.environ.get("KVQ_SANITIZE")),
                                reason="a library with a sanitizer in it is not for others to link")


def run(*command, **environment):
    done = subprocess.run(list(map(str, command)), cwd=ROOT, text=True, capture_output=True,
                          env={**os.environ, **environment}, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def make(target, root, *variables):
    return run("make", target, f"BUILD={BUILD}", f"DESTDIR={root}", f"PREFIX={PREFIX}", *variables)


def test_make_alone_makes_all(tmp_path):
    wanted = [run("make", "--dry-run", *goal, f"BUILD={tmp_path}") for goal in ([], ["all"])]
    assert wanted[0] == wanted[1] and "kvquantd" in wanted[0]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    make("install", root)
    return root


@pytest.fixture(scope="module")
def library(root):
    return root / PREFIX[1:] / "lib"


def pkg_config(root, *options):
    """As if root were /."""
    return run("pkg-config", f"--define-variable=libdir={root}{PREFIX}/lib",
               f"--define-variable=includedir={root}{PREFIX}/include", *options, "libkvq",
               PKG_CONFIG_PATH=f"{root}{PREFIX}/lib/pkgconfig").split()


def declared_functions():
    """Names that stand before a parenthesis at the start of a declaration."""
    code = re.sub(r"/\*.*?\*/", "", HEADER, flags=re.DOTALL)
    return set(re.findall(r"^[a-z][\w *]*?\b(kvq_\w+)\(", code, re.MULTILINE))


def exported(shared):
    """{name: version} of what a library defines for others."""
    lines = run("nm", "--dynamic", "--defined-only", "--with-symbol-versions", shared).splitlines()
    names = (line.split()[-1].partition("@@") for line in lines if " A " not in line)
    return {name: version for name, _, version in names}


def test_the_library_shows_the_functions_of_its_header_and_nothing_else(library):
    assert declared_functions() >= {"kvq_connect", "kvq_append_part", "kvq_fetch", "kvq_version"}
    assert set(exported(library / "libkvq.so")) == declared_functions()


def test_every_symbol_is_of_the_first_interface_version(library):
    assert set(exported(library / "libkvq.so").values()) == {"KVQ_0"}


def test_programs_find_the_library_by_its_soname(library):
    assert os.readlink(library / "libkvq.so") == "libkvq.so.0"
    assert re.fullmatch(r"libkvq\.so\.0\.\d+\.\d+", os.readlink(library / "libkvq.so.0"))
    assert "soname: [libkvq.so.0]" in run("readelf", "--dynamic", library / "libkvq.so")


def test_the_pkg_config_file_has_the_librarys_version(root):
    assert pkg_config(root, "--modversion") == [run(f"{root}{PREFIX}/bin/kvq", "--version").split()[1]]


def test_the_pkg_config_file_names_where_it_was_installed(library):
    text = (library / "pkgconfig/libkvq.pc").read_text()
    assert text.startswith(f"prefix={PREFIX}\nlibdir={PREFIX}/lib\nincludedir={PREFIX}/include\n")


@pytest.fixture(scope="module")
def program_text(tmp_path_factory):
    """The example as somebody else's program, who has only what is installed."""
    text = (ROOT / "client/c/examples/append_and_fetch.c").read_text()
    path = tmp_path_factory.mktemp("theirs") / "program.c"
    path.write_text(text.replace('"client/c/kvq.h"', "<kvq.h>"))
    return path


@pytest.mark.parametrize("kind", ["shared", "static"])
def test_the_example_builds_with_pkg_config_alone_and_runs(kind, root, library, program_text, daemon):
    program = pathlib.Path(program_text.parent, kind)
    flags = pkg_config(root, "--cflags", "--libs", *(["--static"] if kind == "static" else []))
    run("cc", *(["-static"] if kind == "static" else []), "-o", program, program_text, *flags)
    needed = run("readelf", "--dynamic", program)
    assert ("libkvq.so.0" in needed) == (kind == "shared")
    run(program, daemon.socket, LD_LIBRARY_PATH=str(library))


def test_a_program_in_c_plus_plus_takes_the_header(root, tmp_path):
    source = tmp_path / "program.cc"
    source.write_text("#include <kvq.h>\nint main() { return kvq_version() == nullptr; }\n")
    if subprocess.run(["sh", "-c", "command -v g++"], capture_output=True).returncode:
        pytest.skip("g++ is missing")
    run("g++", "-Wall", "-Wextra", "-Werror", "-o", tmp_path / "program", source,
        *pkg_config(root, "--cflags", "--libs"))


def files_under(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())


def test_every_part_is_installed(root):
    installed = set(files_under(root))
    assert "etc/kvquant/kvquantd.conf" in installed
    assert {path.removeprefix(f"{PREFIX[1:]}/") for path in installed} >= {
        "bin/kvq", "bin/kvquantd", "include/kvq.h",
        "include/kvq_retriever.h", "lib/libkvq.a", "lib/libkvq.so",
        "lib/libkvq.so.0", "lib/pkgconfig/libkvq.pc", "lib/systemd/system/kvquantd.service",
        "lib/systemd/system/kvquantd.socket", "lib/systemd/user/kvquantd.service",
        "lib/systemd/user/kvquantd.socket", "lib/sysusers.d/kvquantd.conf",
        "lib/tmpfiles.d/kvquantd.conf", "share/bash-completion/completions/kvq",
        "share/man/man1/kvq.1", "share/man/man5/kvquantd.conf.5", "share/man/man8/kvquantd.8"}


def test_uninstall_leaves_the_configuration_and_nothing_else(tmp_path):
    make("install", tmp_path)
    assert len(files_under(tmp_path)) > 8
    make("uninstall", tmp_path)
    assert files_under(tmp_path) == ["etc/kvquant/kvquantd.conf"]


def test_installing_again_keeps_the_configuration(tmp_path):
    make("install", tmp_path)
    configuration = tmp_path / "etc/kvquant/kvquantd.conf"
    configuration.write_text("memory = 1G\n")
    make("install", tmp_path)
    assert configuration.read_text() == "memory = 1G\n"


def test_what_is_installed_names_its_own_paths(tmp_path):
    make("install", tmp_path, "SYSCONFDIR=/opt/etc")
    unit = (tmp_path / PREFIX[1:] / "lib/systemd/system/kvquantd.service").read_text()
    assert f"ExecStart={PREFIX}/bin/kvquantd --config /opt/etc/kvquant/kvquantd.conf" in unit
    assert (tmp_path / "opt/etc/kvquant/kvquantd.conf").exists()
