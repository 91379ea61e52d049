"""The manual page kvq(1) and the completion say what --help says, and what they say works."""

import os
import pathlib
import pty
import re
import select
import shlex
import shutil
import subprocess
import time

import numpy as np
import pytest
from conftest import program
from tls_support import TlsDaemon
from wire import Connection, Geometry

COMMANDS = re.compile(r"^  ((?:[a-z]+ ?)+) ", re.MULTILINE)
OPTIONS = re.compile(r"^  (--[a-z-]+)", re.MULTILINE)
NEEDED = "needs {}, which is not installed"


@pytest.fixture
def commands(kvq):
    return [words.strip() for words in COMMANDS.findall(kvq("--help").stdout)]


@pytest.fixture
def page(kvq, tmp_path):
    (tmp_path / "kvq.1").write_text(kvq("--man").stdout)
    return tmp_path / "kvq.1"


def text_of(page):
    """The page as troff's plain characters."""
    text = page.read_text().replace("\\-", "-").replace("\\&", "").replace("\\e", "\\")
    return re.sub(r"\\f[BIR]", "", text)


@pytest.mark.skipif(not shutil.which("groff"), reason=NEEDED.format("groff"))
def test_groff_has_nothing_to_warn_of(page):
    result = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-z", page], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.skipif(not shutil.which("mandoc"), reason=NEEDED.format("mandoc"))
def test_mandoc_has_nothing_to_warn_of(page):
    result = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", page], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "")


def test_every_command_and_option_of_help_stands_in_the_page(kvq, commands, page):
    assert len(commands) >= 10
    text = text_of(page)
    for command in commands:
        section = re.search(rf'^\.SS "kvq {command}\b.*?(?=^\.S[HS] )', text, re.MULTILINE | re.DOTALL)
        assert section, command
        common = text[: text.index(".SH COMMANDS")]
        for option in OPTIONS.findall(kvq(*command.split(), "--help").stdout):
            assert f"\n{option}" in section.group() or f"\n{option}" in common, (command, option)


def test_the_build_has_written_page_and_completion(kvq):
    build = pathlib.Path(os.environ.get("KVQ_BUILD") or pathlib.Path(program("KVQ", "kvq")).parent)
    assert (build / "man/kvq.1").read_text() == kvq("--man").stdout
    assert (build / "completion/kvq").read_text() == kvq("--completion").stdout


def examples(page):
    section = text_of(page).split(".SH EXAMPLES\n")[1].split(".SH ")[0]
    return re.findall(r"^kvq .*$", section, re.MULTILINE)


def test_every_example_of_the_page_runs(daemon, page, tmp_path):
    lines = examples(page)
    assert len(lines) >= 10
    np.save(tmp_path / "cache.npy", np.ones((2, 2, 600, 2, 64), np.float16))
    np.save(tmp_path / "ids.npy", np.arange(600))
    (tmp_path / "sampler.bin").write_text("a sampler's state")
    (tmp_path / "kvq").symlink_to(program("KVQ", "kvq"))
    environment = {**os.environ, "KVQ_SOCKET": daemon.socket, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    for line in lines:
        result = subprocess.run(["bash", "-o", "pipefail", "-c", line], cwd=tmp_path, env=environment,
                                capture_output=True, text=True)
        assert (result.returncode, result.stderr) == (0, ""), line
        assert result.stdout, line


# ---- Completion ----

bash_only = pytest.mark.skipif(not shutil.which("bash"), reason=NEEDED.format("bash"))
# bash's own splitting of a line, as readline does it: at blanks, and : and = are words of their own.
DRIVER = r"""
source "$1"
COMP_LINE=$2 COMP_POINT=${#2} COMP_WORDS=("${@:3}") COMP_CWORD=$(($# - 3))
_kvq
printf '%s\n' "${COMPREPLY[@]}"
"""


def words_of(line):
    words = re.findall(r"[:=]+|(?:\\.|[^\s:=])+", line)
    if line[-1] == " ":
        words.append("")
    return words


@pytest.fixture
def complete(kvq, daemon, tmp_path):
    """complete("kvq in") -> what bash would put in place of the last word."""
    script = tmp_path / "completion"
    script.write_text(kvq("--completion").stdout)
    (tmp_path / "kvq").symlink_to(program("KVQ", "kvq"))
    path = f"{tmp_path}:{os.environ['PATH']}"

    def run(line, socket=daemon.socket, cwd=tmp_path):
        result = subprocess.run(
            ["bash", "--norc", "-c", DRIVER, "bash", script, line, *words_of(line)], cwd=cwd,
            env={**os.environ, "KVQ_SOCKET": socket, "PATH": path, "LC_ALL": "C.UTF-8"},
            capture_output=True, text=True)
        assert (result.returncode, result.stderr) == (0, ""), result.stderr
        return sorted(result.stdout.split("\n")[:-1]) if result.stdout != "\n" else []

    return run


@pytest.fixture
def sessions(daemon):
    names = ["chat-1", "chat-2", "two words", "tenant:a", "tenant:b", "größe", "it's"]
    with Connection(daemon.socket) as connection:
        for name in names:
            connection.open(name.encode(), b"m", Geometry(1, 1, 8, 8))
    return names


@bash_only
def test_commands_are_completed(complete, commands):
    first_words = sorted({command.split()[0] for command in commands})
    assert complete("kvq ") == sorted([*first_words, "--help", "--version"])
    assert complete("kvq se") == ["sessions"]
    assert complete("kvq --v") == ["--version"]


@bash_only
def test_options_of_each_command_are_completed(complete, kvq, commands):
    for command in commands:
        options = OPTIONS.findall(kvq(*command.split(), "--help").stdout)
        assert complete(f"kvq {command} --") == sorted([*options, "--help"]), command


@bash_only
def test_values_of_choices_are_completed(complete):
    assert complete("kvq import a f.npy --dtype f") == ["f16", "f32", "fp8_e4m3", "fp8_e5m2"]
    assert complete("kvq import a f.npy --level ") == sorted(["exact", "fast8", *"012345"])
    assert complete("kvq import a f.npy --level=f") == ["fast8"]
    assert complete("kvq import a f.npy --level=") == sorted(["exact", "fast8", *"012345"])
    assert complete("kvq sessions --sort n") == ["name"]


@bash_only
def test_values_that_nobody_can_guess_are_left_alone(complete, sessions):
    for line in ("kvq pin a --for ", "kvq import a f.npy --model ", "kvq import a f.npy --rope ",
                 "kvq fork chat-1 ", "kvq truncate chat-1 ", "kvq info chat-1 "):
        assert complete(line) == [], line


@bash_only
def test_names_of_sessions_are_completed_and_quoted(complete, sessions):
    assert complete("kvq info chat-") == ["chat-1", "chat-2"]
    assert complete("kvq info ") == sorted(["chat-1", "chat-2", r"two\ words", "tenant:a", "tenant:b",
                                            "größe", r"it\'s"])
    assert complete("kvq info two\\ w") == [r"two\ words"]
    assert complete("kvq rm gr") == ["größe"]
    assert complete("kvq age --level 4 chat-") == ["chat-1", "chat-2"]


@bash_only
def test_of_a_name_with_a_colon_only_what_follows_it_is_replied(complete, sessions):
    assert complete("kvq info tenant:") == ["a", "b"]
    assert complete("kvq info tenant:b") == ["b"]


@bash_only
def test_names_come_from_the_socket_that_the_line_names(complete, sessions, daemon):
    assert complete(f"kvq info --socket {daemon.socket} chat-", socket="/none") == ["chat-1", "chat-2"]
    assert complete(f"kvq info --socket={daemon.socket} chat-", socket="/none") == ["chat-1", "chat-2"]
    assert complete(f"kvq --socket {daemon.socket} info chat-", socket="/none") == ["chat-1", "chat-2"]


@bash_only
def test_names_come_by_the_credentials_that_the_line_names(complete, start_daemon, tmp_path):
    tls = TlsDaemon(start_daemon, tmp_path)
    with tls.connect_tls() as connection:
        connection.open(b"chat-1", b"m", Geometry(1, 1, 8, 8))
    certificate, key = tls.authority.client()
    given = f"--socket {tls.address} --tls-ca={tls.authority.certificate} --tls-certificate {certificate}"
    assert complete(f"kvq info {given} --tls-key {key} chat-", socket="/none") == ["chat-1"]
    assert complete(f"kvq info {given} chat-", socket="/none") == []


@bash_only
def test_without_a_daemon_completion_is_silent(complete):
    assert complete("kvq info ", socket="/none/at/all") == []


@bash_only
def test_files_are_completed_where_a_file_is_meant(complete, tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "cache.npy").touch()
    assert complete("kvq import a ca", cwd=folder) == ["cache.npy"]
    assert complete("kvq status --socket ca", cwd=folder) == ["cache.npy"]
    assert complete("kvq profile ", cwd=folder) == ["cache.npy", "tiny"]
    assert complete("kvq profile t", cwd=folder) == ["tiny"]


@bash_only
def test_tab_in_a_real_shell_ends_a_name_with_a_blank_and_a_colon(kvq, daemon, complete, tmp_path):
    with Connection(daemon.socket) as connection:
        connection.open(b"tenant:my session", b"m", Geometry(1, 1, 8, 8))
    environment = {**os.environ, "KVQ_SOCKET": daemon.socket, "PS1": "ready> ", "TERM": "dumb",
                   "PATH": f"{tmp_path}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"}
    try:
        child, terminal = pty.fork()
    except OSError as error:
        pytest.skip(f"no pseudo-terminals here: {error}")
    if child == 0:
        os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], environment)
    try:
        os.write(terminal, f"source {shlex.quote(str(tmp_path / 'completion'))}\n".encode())
        os.write(terminal, b"kvq info --json tenant:m\t\n")
        seen, end = b"", time.monotonic() + 60
        while b'"session"' not in seen and time.monotonic() < end:
            if select.select([terminal], [], [], 0.2)[0]:
                seen += os.read(terminal, 65536)
        assert b'"session": "tenant:my session"' in seen, seen
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        os.close(terminal)
