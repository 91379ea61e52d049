"""Where the daemon listens: paths that cannot be, that are taken, or that were left behind."""

import os
import pathlib
import shutil
import socket
import stat
import subprocess
import tempfile
import time

import pytest
from conftest import COMMAND_SECONDS, program
from wire import Connection
from wire_support import SMALL, assert_holds, assert_serves, stored

NOBODY = 65534


def start_that_fails(path, command=None, **options):
    """Runs a daemon that must end by itself; returns its stderr."""
    command = command or program("KVQUANTD", "kvquantd")
    done = subprocess.run([command, "--socket", str(path), "--memory", "64M"], capture_output=True, text=True,
                          timeout=COMMAND_SECONDS, stdin=subprocess.DEVNULL, **options)
    assert done.returncode not in (0, -6, -11), done.stderr
    assert done.stderr.strip()
    return done.stderr


def test_the_socket_is_one_and_nobody_elses_business(daemon):
    mode = os.stat(daemon.socket).st_mode
    assert stat.S_ISSOCK(mode)
    assert not mode & stat.S_IRWXO


def test_a_path_too_long_for_a_socket_is_refused_with_its_name_and_the_limit(tmp_path):
    path = tmp_path / ("n" * 120)
    error = start_that_fails(path)
    assert str(path) in error and "107" in error or "108" in error
    assert not list(tmp_path.iterdir())


def test_the_longest_path_a_socket_may_have_is_taken(start_daemon):
    folder = tempfile.mkdtemp(dir="/tmp")
    deep = pathlib.Path(folder) / ("d" * (107 - len("/kvquantd.sock") - len(folder) - 1))
    daemon = start_daemon(folder=deep)
    assert len(daemon.socket) == 107
    assert_serves(daemon)
    assert daemon.stop() == 0
    shutil.rmtree(folder)


def test_a_socket_of_a_living_daemon_is_left_to_it(daemon):
    with Connection(daemon.socket) as connection:
        session, arrays = stored(connection, b"chat", SMALL, 50)
        error = start_that_fails(daemon.socket)
        assert daemon.socket in error
        assert_holds(session, arrays)
    assert_serves(daemon)


def test_a_socket_left_by_a_dead_daemon_is_taken_over(daemon, start_daemon):
    daemon.kill()
    folder = pathlib.Path(daemon.socket).parent
    assert pathlib.Path(daemon.socket).exists()
    assert_serves(start_daemon(folder=folder))


def test_a_socket_nobody_listens_on_is_taken_over(tmp_path, start_daemon):
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / "kvquantd.sock"))
    left.close()
    assert_serves(start_daemon(folder=tmp_path))


@pytest.mark.parametrize("content", [b"", b"a letter"])
def test_a_file_that_is_no_socket_is_left_alone(tmp_path, content):
    path = tmp_path / "kvquantd.sock"
    path.write_bytes(content)
    assert str(path) in start_that_fails(path)
    assert path.read_bytes() == content


def test_a_symbolic_link_to_a_file_is_left_alone(tmp_path):
    path, file = tmp_path / "kvquantd.sock", tmp_path / "file"
    file.write_bytes(b"a letter")
    path.symlink_to(file)
    start_that_fails(path)
    assert path.is_symlink() and file.read_bytes() == b"a letter"


def test_a_folder_is_no_socket(tmp_path):
    folder = tmp_path / "kvquantd.sock"
    folder.mkdir()
    assert str(folder) in start_that_fails(folder)
    assert folder.is_dir()


def test_a_folder_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "not there" / "kvquantd.sock"
    assert str(path) in start_that_fails(path)


def test_a_folder_that_is_not_writable_is_named():
    """Root may write anywhere: there the daemon runs as nobody, from a copy that nobody can read."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = pathlib.Path(name)
        copy = shutil.copy(program("KVQUANTD", "kvquantd"), folder)
        folder.chmod(0o555)
        options = {"user": NOBODY, "group": NOBODY} if os.getuid() == 0 else {}
        path = folder / "kvquantd.sock"
        error = start_that_fails(path, copy, **options)
        folder.chmod(0o755)
        assert str(path) in error and "ermission denied" in error
        assert not path.exists()


def test_an_error_is_one_line_that_a_person_can_read(tmp_path):
    lines = start_that_fails(tmp_path / "not there" / "kvquantd.sock").strip().splitlines()
    assert len(lines) == 1
    assert "o such file or directory" in lines[0]


def test_a_daemon_whose_socket_file_was_removed_still_ends_cleanly(daemon):
    os.unlink(daemon.socket)
    assert daemon.stop() == 0


def test_a_stopped_daemon_does_not_remove_the_socket_of_its_successor(daemon, start_daemon, tmp_path):
    os.unlink(daemon.socket)
    successor = start_daemon(folder=pathlib.Path(daemon.socket).parent)
    assert daemon.stop() == 0
    time.sleep(0.1)
    assert_serves(successor)
