"""Whose clients are: by user, group or token, as the file of `tenants` has it, and what each may do then."""

import grp
import hashlib
import json
import os
import pathlib
import pwd
import re
import stat
import subprocess
import sys

import pytest
from conftest import COMMAND_SECONDS, Command, program
from tenant_support import Tenants, row, token
from test_service_tcp import tcp_address
from wire import IN_MEMORY, ON_DISK, OPEN_EXISTING, OPEN_NEW, PING, Connection, Refused
from wire_support import TINY, assert_ends, refused, stored, wait_until

ME = str(os.getuid())
ROLES = {1: "reader", 2: "worker", 3: "admin"}


def identity(connection):
    return connection.limits.tenant, ROLES[connection.limits.role]


def who(daemon, **options):
    with Connection(daemon.socket, **options) as connection:
        return identity(connection)


def test_without_the_file_every_user_is_an_admin_of_the_default_tenant(daemon):
    assert who(daemon) == ("default", "admin")


@pytest.mark.parametrize("line", [f"user {ME} chat worker", f"user {pwd.getpwuid(os.getuid()).pw_name} chat worker",
                                  "user * chat worker", f"group {os.getgid()} chat worker",
                                  f"group {grp.getgrgid(os.getgid()).gr_name} chat worker",
                                  f"# none\n\n  user 4000000 other admin # nobody\nuser {ME} chat worker",
                                  f"user {ME} chat worker\nuser {ME} other admin"])
def test_a_user_is_whose_the_first_line_of_theirs_says(start_daemon, tmp_path, line):
    assert who(Tenants(start_daemon, tmp_path, line).daemon) == ("chat", "worker")


def test_a_user_in_no_line_is_refused_and_told_what_is_needed(start_daemon, tmp_path):
    tenants = Tenants(start_daemon, tmp_path, "user 4000000 chat worker")
    with refused("unauthenticated") as caught:
        Connection(tenants.daemon.socket)
    assert "token" in caught.value.message
    assert "a client is refused" in tenants.log()


def test_a_token_goes_before_the_user(start_daemon, tmp_path):
    tenants = Tenants(start_daemon, tmp_path, f"user {ME} chat admin\n" + row("a", "other", "reader"))
    assert who(tenants.daemon, token=token("a")) == ("other", "reader")


@pytest.mark.parametrize("wrong", [token("b"), token("a")[:31], token("a") + b"x", hashlib.sha256(token("a")).digest()])
def test_another_token_is_refused_whoever_sends_it(start_daemon, tmp_path, wrong):
    tenants = Tenants(start_daemon, tmp_path, "user * chat admin\n" + row("a", "other", "reader"))
    with refused("unauthenticated"):
        Connection(tenants.daemon.socket, token=wrong)


def test_nothing_is_asked_before_the_daemon_knows_whose_client_it_is(start_daemon, tmp_path):
    tenants = Tenants(start_daemon, tmp_path, row("a", "chat", "worker"))
    with Connection(tenants.daemon.socket, hello=False) as connection:
        connection.request(PING, "PingRequest")
        assert_ends(connection, "protocol")


def test_over_tcp_a_token_is_needed(start_daemon, tmp_path):
    tenants = Tenants(start_daemon, tmp_path, "user * chat admin\n" + row("a", "other", "reader"),
                      "tcp = 127.0.0.1:0\n")
    address = tcp_address(tenants.daemon)
    with refused("unauthenticated"):
        Connection(address)
    with Connection(address, token=token("a")) as connection:
        assert identity(connection) == ("other", "reader")


def test_over_tcp_without_tokens_everybody_is_the_default_tenant(start_daemon, tmp_path):
    tenants = Tenants(start_daemon, tmp_path, "user * chat admin", "tcp = 127.0.0.1:0\ntcp_token = no\n")
    with Connection(tcp_address(tenants.daemon)) as connection:
        assert identity(connection) == ("default", "admin")


def check(tmp_path, text, *arguments):
    (tmp_path / "tenants").write_text(text)
    (tmp_path / "test.conf").write_text(f"tenants = {tmp_path / 'tenants'}\n")
    return subprocess.run([program("KVQUANTD", "kvquantd"), "--check-config", "--config", tmp_path / "test.conf",
                           *arguments], capture_output=True, text=True, timeout=COMMAND_SECONDS)


def test_a_daemon_on_tcp_that_nobody_could_use_does_not_start(tmp_path):
    done = check(tmp_path, "user * chat admin\n", "--tcp", "127.0.0.1:0")
    assert done.returncode == 2 and "kvq token" in done.stderr
    assert check(tmp_path, row("a", "chat", "worker"), "--tcp", "127.0.0.1:0").returncode == 0


DIGEST = hashlib.sha256(token("a")).hexdigest()


@pytest.mark.parametrize("line, says", [
    ("user nobody-has-this-name chat worker", "no such user"), ("group nobody-has-this-name chat worker", "group"),
    ("user -1 chat worker", "user"), ("user 99999999999999999999 chat worker", "user"),
    ("token abc chat worker", "64"), (f"token {DIGEST.upper()} chat worker", "64"),
    (f"token {DIGEST}0 chat worker", "64"), (f"token {DIGEST} chat", "four words"),
    (f"token {DIGEST} chat worker more", "four words"), (f"token {DIGEST} a/b worker", "tenant's name"),
    (f"token {DIGEST} {'a' * 65} worker", "tenant's name"), (f"token {DIGEST} chat root", "reader, worker or admin"),
    ("certificat x chat worker", "a line is"), ("user", "user"), ("token", "64"), ("certificate", "common name"),
    (f"certificate {'a' * 256} chat worker", "255"), ('certificate "a b chat worker', "quotation mark"),
    ('certificate "" chat worker', "common name")])
def test_a_faulty_line_is_told_with_its_number_and_what_is_allowed(tmp_path, line, says):
    done = check(tmp_path, f"# one\n{line}\n")
    assert done.returncode == 2
    assert f"{tmp_path / 'tenants'}:2: " in done.stderr and says in done.stderr


def test_a_secret_in_the_place_of_its_digest_is_not_repeated(tmp_path):
    secret = "kvq-secret-that-nobody-may-see"
    assert secret not in check(tmp_path, f"token {secret} chat worker\n").stderr


@pytest.mark.parametrize("prepare", [lambda path: path.chmod(0o666), lambda path: path.chmod(0o620),
                                     lambda path: (path.unlink(), path.mkdir()), lambda path: path.unlink()])
def test_a_file_that_others_can_change_or_that_is_none_is_refused(tmp_path, prepare):
    path = tmp_path / "tenants"
    path.write_text("user * chat worker\n")
    prepare(path)
    done = subprocess.run([program("KVQUANTD", "kvquantd"), "--check-config", "--config", "/dev/stdin"],
                          input=f"tenants = {path}\n", capture_output=True, text=True, timeout=COMMAND_SECONDS)
    assert done.returncode == 2 and str(path) in done.stderr


def test_a_name_without_a_slash_is_a_credential_of_the_service_manager(start_daemon, tmp_path):
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "who").write_text("user * chat worker\n")
    (tmp_path / "test.conf").write_text("tenants = who\n")
    daemon = start_daemon(arguments=["--config", tmp_path / "test.conf"],
                          environment={"CREDENTIALS_DIRECTORY": str(folder)})
    assert who(daemon) == ("chat", "worker")


def reload_as(tenants, text, token_of="z"):
    """From now on this file holds, and a token of its own shows when."""
    tenants.write(text + row(token_of, "probe", "reader"))
    tenants.change(tenants.config)

    def holds():
        try:
            return who(tenants.daemon, token=token(token_of)) == ("probe", "reader")
        except Refused:
            return False
    wait_until(holds)


@pytest.mark.parametrize("after", ["user * other worker\n", "user 4000000 chat worker\n"])
def test_who_is_connected_and_no_longer_the_tenants_is_sent_away_at_the_next_frame(start_daemon, tmp_path, after):
    tenants = Tenants(start_daemon, tmp_path, "user * chat worker\n")
    with Connection(tenants.daemon.socket) as connection:
        stored(connection, b"s", TINY, 5)
        reload_as(tenants, after)
        connection.request(PING, "PingRequest")
        assert_ends(connection, "unauthenticated")


def test_a_token_that_is_taken_out_of_the_file_is_worth_nothing_from_then_on(start_daemon, tmp_path):
    tenants = Tenants(start_daemon, tmp_path, row("a", "chat", "worker") + row("b", "chat", "worker"))
    with tenants.connect("a") as taken_out, tenants.connect("b") as kept:
        stored(taken_out, b"s", TINY, 5)
        reload_as(tenants, row("b", "chat", "worker"))
        taken_out.request(PING, "PingRequest")
        assert_ends(taken_out, "unauthenticated")
        assert kept.info(b"s").tokens == 5


def test_an_append_that_is_under_way_is_dropped_with_the_token_that_began_it(start_daemon, tmp_path):
    tenants = Tenants(start_daemon, tmp_path, row("a", "chat", "worker") + row("b", "chat", "worker"))
    with tenants.connect("a") as taken_out, tenants.connect("b") as other:
        session = taken_out.open(b"s", geometry=TINY, mode=OPEN_NEW)
        append = session.begin(5)
        taken_out.ping()  # it is there
        reload_as(tenants, row("b", "chat", "worker"))
        with refused("unauthenticated"):
            session.commit(append)
        assert other.info(b"s").tokens == 0


def test_another_role_holds_at_once_and_costs_no_connection(start_daemon, tmp_path):
    tenants = Tenants(start_daemon, tmp_path, row("a", "chat", "worker"))
    with tenants.connect("a") as connection:
        stored(connection, b"s", TINY, 5)
        reload_as(tenants, row("a", "chat", "reader"))
        with refused("permission_denied"):
            connection.delete(b"s")
        assert connection.info(b"s").tokens == 5


def test_a_faulty_file_changes_nothing_at_a_reload(start_daemon, tmp_path):
    tenants = Tenants(start_daemon, tmp_path, "user * chat worker")
    tenants.write("user * other god")
    tenants.change(tenants.config)
    wait_until(lambda: "tenants stay as they were" in tenants.log())
    assert who(tenants.daemon) == ("chat", "worker")


# --- roles ---


@pytest.fixture
def roles(start_daemon, tmp_path):
    """A daemon with a disk; a connection for each role of one tenant, and a session that they have."""
    text = "".join(row(role, "chat", role) for role in ROLES.values())
    tenants = Tenants(start_daemon, tmp_path, text, f"disk = {tmp_path / 'disk'}\n")
    connections = {role: tenants.connect(role) for role in ROLES.values()}
    stored(connections["worker"], b"s", TINY, 5)
    yield connections
    for connection in connections.values():
        connection.close()


def test_a_refusal_names_the_role_that_is_needed(roles):
    with refused("permission_denied") as caught:
        roles["reader"].delete(b"s")
    assert "worker" in caught.value.message and "reader" in caught.value.message
    with refused("permission_denied") as caught:
        roles["worker"].control(state=2)
    assert "admin" in caught.value.message
    roles["worker"].delete(b"s")
    roles["admin"].control(state=1)


def test_a_reader_opens_what_there_is_and_makes_and_changes_nothing(roles):
    reader = roles["reader"]
    assert reader.open(b"s", geometry=TINY).tokens == 5
    assert reader.open(b"s", mode=OPEN_EXISTING).tokens == 5
    with refused("permission_denied"):
        reader.open(b"new", geometry=TINY)
    with refused("permission_denied"):
        reader.open(b"new", geometry=TINY, mode=OPEN_NEW)
    for durability in IN_MEMORY, ON_DISK:
        with refused("permission_denied"):
            reader.open(b"s", mode=OPEN_EXISTING, durability=durability)
    with refused("miss"):
        reader.open(b"new", mode=OPEN_EXISTING)
    assert reader.list().sessions[0].session == b"s" and len(reader.list().sessions) == 1


# --- clients ---


def make_token(folder, *words):
    kvq = Command("/nowhere")
    done = kvq("token", *words, folder / words[0])
    assert done.returncode == 0, done.stderr
    return folder / words[0], done.stdout


def test_kvq_token_makes_a_secret_that_the_daemon_knows_by_its_line(start_daemon, tmp_path):
    file, line = make_token(tmp_path, "chat", "worker")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    secret = file.read_text().strip()
    assert re.fullmatch("[0-9a-f]{64}", secret)
    assert line == f"token {hashlib.sha256(bytes.fromhex(secret)).hexdigest()} chat worker\n"
    daemon = Tenants(start_daemon, tmp_path, line).daemon
    kvq = Command(daemon.socket)
    said = kvq.json("ping", "--token-file", file)
    assert (said["tenant"], said["role"]) == ("chat", "worker")


def test_kvq_token_without_a_file_prints_the_secret_once(tmp_path):
    kvq = Command("/nowhere")
    first, second = [kvq("token", "chat", "reader").stdout.splitlines() for _ in range(2)]
    assert first[1].split()[2:] == ["chat", "reader"] and first[0] != second[0]
    assert kvq.json("token", "chat", "reader")["line"].startswith("token ")


@pytest.mark.parametrize("words", [["chat"], ["chat", "root"], ["a b", "worker"], ["", "worker"], ["a" * 65, "worker"]])
def test_kvq_token_refuses_what_the_daemon_would(words):
    assert Command("/nowhere")("token", *words).returncode == 2


def test_kvq_token_overwrites_nothing(tmp_path):
    file, _ = make_token(tmp_path, "chat", "worker")
    before = file.read_text()
    done = Command("/nowhere")("token", "chat", "worker", file)
    assert done.returncode == 1 and str(file) in done.stderr and file.read_text() == before


@pytest.mark.parametrize("prepare, says", [(lambda path: path.chmod(0o640), "chmod 600"),
                                           (lambda path: path.write_text("ab\n"), "64 hexadecimal"),
                                           (lambda path: path.write_text(""), "64 hexadecimal"),
                                           (lambda path: path.unlink(), "No such file")])
def test_a_token_file_that_is_none_or_open_to_others_is_not_sent(daemon, tmp_path, prepare, says):
    file, _ = make_token(tmp_path, "chat", "worker")
    prepare(file)
    done = Command(daemon.socket)("ping", "--token-file", file)
    assert done.returncode == 1 and says in done.stderr and str(file) in done.stderr


def python(daemon, code, **environment):
    done = subprocess.run([sys.executable, "-c", "import kvquantd, json\n" + code], capture_output=True, text=True,
                          timeout=COMMAND_SECONDS, env={**os.environ, "KVQ_SOCKET": daemon.socket, **environment})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_python_takes_a_token_a_file_or_the_environments(start_daemon, tmp_path):
    file, line = make_token(tmp_path, "chat", "worker")
    daemon = Tenants(start_daemon, tmp_path, line).daemon
    say = "with kvquantd.connect({}) as client: print(json.dumps([client.tenant, client.role]))"
    for arguments, environment in [(f"token='{file.read_text().strip()}'", {}), (f"token_file='{file}'", {}),
                                   ("", {"KVQ_TOKEN_FILE": str(file)}),
                                   ("token_file='chat'", {"CREDENTIALS_DIRECTORY": str(tmp_path)})]:
        assert python(daemon, say.format(arguments), **environment) == ["chat", "worker"]


def test_python_tells_who_is_not_known_from_who_may_not(start_daemon, tmp_path):
    daemon = Tenants(start_daemon, tmp_path, row("reader", "chat", "reader")).daemon
    code = f"""
def name(act):
    try:
        act()
    except PermissionError as error:
        return type(error).__name__, error.name
client = kvquantd.connect(token="{token("reader").hex()}")
print(json.dumps([name(kvquantd.connect), name(lambda: client.delete("s"))]))"""
    assert python(daemon, code) == [["Unauthenticated", "unauthenticated"], ["PermissionDenied", "permission_denied"]]


def test_kvq_and_python_list_all_tenants_for_an_admin(start_daemon, tmp_path):
    text = row("worker", "chat", "worker") + row("admin", "ops", "admin")
    tenants = Tenants(start_daemon, tmp_path, text)
    for name in "worker", "admin":
        (tmp_path / name).write_text(token(name).hex() + "\n")
        (tmp_path / name).chmod(0o600)
    with tenants.connect("worker") as worker:
        stored(worker, b"s", TINY, 5)
    kvq = Command(tenants.daemon.socket)
    assert [one["tenant"] for one in kvq.json("sessions", "--all-tenants", "--token-file", tmp_path / "admin")] == ["chat"]
    assert "chat" in kvq("sessions", "--all-tenants", "--token-file", tmp_path / "admin").stdout
    assert kvq.json("sessions", "--token-file", tmp_path / "admin") == []
    assert kvq("sessions", "--all-tenants", "--token-file", tmp_path / "worker").returncode == 1
    assert kvq("age", "s", "--level", "3", "--tenant", "chat", "--token-file", tmp_path / "admin").returncode == 0
    code = f"""
with kvquantd.connect(token_file="{tmp_path / 'admin'}") as client:
    print(json.dumps([(one["tenant"], one["level"]) for one in client.sessions(all_tenants=True)]))"""
    assert python(tenants.daemon, code) == [["chat", 3]]


def test_no_secret_is_in_the_log_in_errors_or_among_the_processes(start_daemon, tmp_path):
    """With everything logged, a token that is known, one that is not, and both on the command line's --token-file."""
    known, line = make_token(tmp_path, "chat", "worker")
    unknown, _ = make_token(tmp_path, "other", "worker")
    tenants = Tenants(start_daemon, tmp_path, line, "log_level = debug\n")
    kvq = Command(tenants.daemon.socket)
    said = ""
    for file in known, unknown:
        done = kvq("sessions", "--token-file", file)
        said += done.stdout + done.stderr
    command_line = pathlib.Path(f"/proc/{tenants.daemon.pid}/cmdline").read_bytes().decode()
    environment = pathlib.Path(f"/proc/{tenants.daemon.pid}/environ").read_bytes().decode()
    everything = tenants.log() + said + command_line + environment
    assert "unauthenticated" in tenants.log()
    for file in known, unknown:
        secret = file.read_text().strip()
        for form in secret, secret.upper(), hashlib.sha256(bytes.fromhex(secret)).hexdigest():
            assert form not in everything
