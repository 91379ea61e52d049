"""pip install ./client/python: what it is linked to, and what it says where there is nothing."""

import importlib.metadata
import os
import pathlib
import shutil
import subprocess
import sys

import kvquantd
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("KVQ_BUILD", ROOT / "build")).resolve()
SDIST = "import setuptools.build_meta as backend, sys; print(backend.build_sdist(sys.argv[1]))"
PROGRAM = """
import sys, kvquantd
with kvquantd.connect(sys.argv[1]) as client:
    client.ping()
print([line.split()[-1] for line in open("/proc/self/maps") if "libkvq" in line][0])
"""


@pytest.fixture
def checkout(tmp_path):
    """A checkout where nothing was made: the package, and the header beside it."""
    root = tmp_path / "checkout"
    for folder in ("client/python", "client/c"):
        ignored = shutil.ignore_patterns("build", "*.egg-info")
        shutil.copytree(ROOT / folder, root / folder, ignore=ignored)
    return root


@pytest.fixture
def environment(tmp_path):
    """One in which no libkvq is known."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("KVQUANT_")}
    return {**known, "PKG_CONFIG_LIBDIR": str(tmp_path / "nothing"), "PKG_CONFIG_PATH": ""}


def pip_install(package, target, environment):
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation",
               "--no-index", "--target", target, package]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_the_package_has_the_version_of_the_command(kvq):
    version = kvq("--version").stdout.split()[-1]
    assert kvquantd.__version__ == importlib.metadata.version("kvquantd") == version


def test_without_libkvq_pip_says_what_to_do(checkout, environment, tmp_path):
    result = pip_install(checkout / "client/python", tmp_path / "target", environment)
    assert result.returncode != 0
    assert f"run `make` in {checkout}" in result.stderr
    assert "pkg-config" in result.stderr and "KVQUANT_BUILD" in result.stderr


def test_a_named_folder_without_libkvq_is_refused(checkout, environment, tmp_path):
    environment["KVQUANT_BUILD"] = str(tmp_path)
    result = pip_install(checkout / "client/python", tmp_path / "target", environment)
    assert result.returncode != 0
    assert f"KVQUANT_BUILD is {tmp_path}, where there is no libkvq.a" in result.stderr


@pytest.fixture
def system_libkvq(tmp_path, environment):
    """libkvq as a system has it, which pkg-config knows."""
    prefix = tmp_path / "prefix"
    for folder in ("lib/pkgconfig", "include"):
        (prefix / folder).mkdir(parents=True)
    for name in ("libkvq.so", "libkvq.so.0"):
        shutil.copy(BUILD / "libkvq.so", prefix / "lib" / name)
    shutil.copy(ROOT / "client/c/kvq.h", prefix / "include")
    described = (ROOT / "client/c/libkvq.pc.in").read_text()
    for name, value in {"PREFIX": prefix, "LIBDIR": prefix / "lib", "INCLUDEDIR": prefix / "include",
                        "VERSION": kvquantd.__version__}.items():
        described = described.replace(f"@{name}@", str(value))
    (prefix / "lib/pkgconfig/libkvq.pc").write_text(described)
    del environment["PKG_CONFIG_LIBDIR"]  # libkvq.pc names libraries of the system's
    environment["PKG_CONFIG_PATH"] = str(prefix / "lib/pkgconfig")
    return prefix


@pytest.mark.skipif(os.environ.get("KVQ_SANITIZE", "") != "", reason="python cannot load a sanitized libkvq.so")
def test_a_source_distribution_is_linked_to_the_system_s_libkvq(
        checkout, environment, system_libkvq, daemon, tmp_path):
    made = subprocess.run([sys.executable, "-c", SDIST, tmp_path], cwd=checkout / "client/python",
                          env=environment, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    package, target = tmp_path / made.stdout.split()[-1], tmp_path / "target"
    result = pip_install(package, target, environment)
    assert result.returncode == 0, result.stderr
    environment |= {"PYTHONPATH": str(target), "LD_LIBRARY_PATH": str(system_libkvq / "lib")}
    done = subprocess.run([sys.executable, "-c", PROGRAM, daemon.socket], cwd=tmp_path,
                          env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(system_libkvq / "lib/libkvq.so.0")
