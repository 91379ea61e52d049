"""libkvq over TLS: the same calls with the same results, and plain words for what keeps it from connecting."""

import contextlib
import os
import pathlib
import select
import shutil
import socket
import ssl
import threading
import time

import numpy as np
import pytest
from certificates import Authority, Certificate, openssl
from fake_daemon import PATIENCE_SECONDS, FakeDaemon
from kvquantd._kvq import ffi, lib
from library import Library
from tenant_support import Tenants
from test_client_non_blocking import everything
from test_service_tcp import tcp_address
from tls_support import TlsDaemon
from wire import REPLY, connect, data_frame, encode, frame

DEADLINE_MS = 300
BOTH_FORMS = pytest.mark.parametrize("non_blocking", [False, True])


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """An authority that nobody knows."""
    return Authority(tmp_path_factory.mktemp("stranger"), "another authority")


@pytest.fixture
def tls(start_daemon, tmp_path):
    return TlsDaemon(start_daemon, tmp_path)


def trust(authority, certificate=None):
    """Options of a client that believes the authority and shows this certificate."""
    options = dict(tls_ca=authority.certificate)
    return dict(options, tls_certificate=certificate.certificate, tls_key=certificate.key) if certificate else options


def client(tls, name="worker", **options):
    return Library(options.pop("address", tls.address), **trust(tls.authority, tls.authority.client(name)), **options)


class Relay:
    """A socket before the daemon's, at `address`: passes so many bytes at a time (to the daemon, from it), and
    hangs up once `left` have come from it."""

    def __init__(self, daemon, sizes=(1 << 16, 1 << 16), left=None):
        self.daemon, self.sizes, self.left = daemon, sizes, left
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.connections = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._pass, args=(self.listener.accept()[0],), daemon=True).start()

    def _pass(self, client):
        with contextlib.suppress(OSError), client, connect(self.daemon, PATIENCE_SECONDS) as daemon:
            self.connections.append(client)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ways = {client: (daemon, self.sizes[0]), daemon: (client, self.sizes[1])}
            left = self.left
            while left is None or left > 0:
                for source in select.select(list(ways), [], [])[0]:
                    target, size = ways[source]
                    data = source.recv(size if source is client or left is None else min(size, left))
                    if not data:
                        return
                    target.sendall(data)
                    left = left - len(data) if source is daemon and left is not None else left

    def hang_up(self):
        """All there are; who comes later is served."""
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()
        self.hang_up()


# ---- What works ----


@pytest.fixture
def expected(start_daemon, tmp_path):
    """What all calls give over a unix socket."""
    (tmp_path / "plain").mkdir()
    with Library(Tenants(start_daemon, tmp_path / "plain", "user * chat worker").daemon.socket) as library:
        return everything(library)


@BOTH_FORMS
def test_every_call_gives_what_it_gives_over_a_unix_socket(tls, expected, non_blocking):
    with client(tls, non_blocking=non_blocking) as library:
        assert everything(library) == expected


@BOTH_FORMS
@pytest.mark.parametrize("sizes", [(101, 13), (5, 1 << 16)])
def test_bytes_may_come_a_few_at_a_time(tls, expected, sizes, non_blocking):
    with Relay(tls.address, sizes) as relay, client(tls, address=relay.address, non_blocking=non_blocking) as library:
        assert everything(library) == expected


@BOTH_FORMS
@pytest.mark.parametrize("connections", [1, 4])
def test_a_long_transfer_gives_the_loop_its_turn(tls, connections, non_blocking):
    """No step moves much more than a MiB, though TLS has read on by itself."""
    geometry = dict(layers=8, heads=8, head_dim_k=128, head_dim_v=128, dtype=lib.KVQ_F16)
    memory = bytearray(np.random.default_rng(1).bytes(8 * 1024 * 8 * 128 * 2))
    back = bytearray(len(memory))
    with client(tls, non_blocking=non_blocking, connections=connections) as library:
        state = library.open("s", geometry)[1]
        for function, options, held in (
                ("kvq_append", dict(first=0, tokens=1024), memory), ("kvq_fetch", {}, back)):
            block, before = ffi.from_buffer(held), library.waits
            given = library.options(f"{function}_options", k=dict(block=block), v=dict(block=block), **options)
            arguments = (state, given) if function == "kvq_append" else (state, given, ffi.NULL)
            assert library.call(function, *arguments) == "ok"
            assert library.waits - before >= 16 or not non_blocking
    assert back == memory


@BOTH_FORMS
def test_what_tls_has_read_already_is_not_waited_for(authority, non_blocking):
    """The reply is in the record that ends a MiB of values, after which a step ends: no poll() tells of it."""
    tokens, values = 128, bytes(1 << 20)

    def script(peer):
        peer.greet()
        request_id = peer.receive()[1]
        reply = frame(REPLY, request_id, encode("FetchReply", version=1, tokens=tokens))
        peer.send(data_frame(request_id, 0, tokens, 0, 0, values) + reply)
        peer.until_closed()

    state, target = ffi.new("struct kvq_session_state *"), ffi.new("char[]", len(values))
    state.session, state.model, state.page_tokens, state.tokens = b"s", b"m", tokens, tokens
    state.geometry = dict(layers=1, heads=16, head_dim_k=128, head_dim_v=0, dtype=lib.KVQ_F32)
    daemon = FakeDaemon(None, script, tls=server_side(authority.server()))
    with Library(daemon.path, non_blocking, deadline_ms=1000 * PATIENCE_SECONDS, **trust(authority)) as library:
        options, start = library.options("kvq_fetch_options", k=dict(block=target)), time.monotonic()
        assert library.call("kvq_fetch", state, options, ffi.NULL) == "ok"
    assert time.monotonic() - start < PATIENCE_SECONDS / 2  # a wait for nothing ends at the deadline
    daemon.close()


def test_whose_client_it_is_its_certificate_says(tls):
    with client(tls, "worker") as worker, client(tls, "other") as other:
        assert ffi.string(lib.kvq_client_tenant(worker.client)) == b"chat"
        assert ffi.string(lib.kvq_client_tenant(other.client)) == b"mail"


def test_what_no_option_says_the_environment_does(tls, monkeypatch):
    for name, file in trust(tls.authority, tls.authority.client()).items():
        monkeypatch.setenv(f"KVQ_{name.upper()}", str(file))
    with Library(tls.address) as library:
        assert library.connected == "ok"
    monkeypatch.setenv("KVQ_TLS_NAME", "example.com")
    with Library(tls.address) as library:
        assert library.connected == "cannot_connect" and "example.com" in library.message
    with Library(tls.address, tls_name="localhost") as library:
        assert library.connected == "ok"


def test_a_unix_socket_is_never_over_tls(tls, tmp_path):
    with Library(tls.daemon.socket, tls_ca=tmp_path / "none", tls_certificate="none") as library:
        assert library.connected == "ok"


def test_files_may_be_the_service_managers_credentials(tls, tmp_path, monkeypatch):
    folder = tmp_path / "credentials"
    folder.mkdir()
    certificate = tls.authority.client()
    shutil.copy(tls.authority.certificate, folder / "ca")
    shutil.copy(certificate.certificate, folder / "worker")
    shutil.copy(certificate.key, folder / "worker-key")
    (folder / "worker-key").chmod(0o440)  # as systemd has them for others than root
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    with Library(tls.address, tls_ca="ca", tls_certificate="worker", tls_key="worker-key") as library:
        assert library.connected == "ok"


def test_a_lost_connection_is_made_anew_by_the_files_as_they_are_then(tls, tmp_path):
    worker, other = tls.authority.client(), tls.authority.client("other")
    mine = Certificate(tmp_path / "mine", tmp_path / "mine.key")
    for source, target in zip(worker, mine):
        shutil.copy(source, target)
    with Relay(tls.address) as relay, Library(relay.address, **trust(tls.authority, mine)) as library:
        for source, target in zip(other, mine):
            shutil.copy(source, target)
        relay.hang_up()
        assert library.ping() == "ok" and ffi.string(lib.kvq_client_tenant(library.client)) == b"mail"
        mine.key.unlink()
        relay.hang_up()
        assert library.ping() == "ok" and ffi.string(lib.kvq_client_tenant(library.client)) == b"mail"


def says_goodbye(told):
    def script(peer):
        peer.greet()
        peer.connection.setblocking(False)
        with contextlib.suppress(ssl.SSLWantReadError):
            peer.connection.unwrap()
        told.set()
        peer.connection.setblocking(True)
        peer.until_closed()
    return script


@BOTH_FORMS
def test_a_daemon_that_has_said_goodbye_is_asked_for_nothing_more(authority, non_blocking):
    """A deletion is never sent twice: it goes to the new connection, and to that only."""
    told, freed = threading.Event(), ffi.new("uint64_t *")
    serve = lambda peer: (peer.greet(), peer.answer("DeleteReply", freed_bytes=7))  # noqa: E731
    daemon = FakeDaemon(None, says_goodbye(told), serve, tls=server_side(authority.server()))
    with Library(daemon.path, non_blocking, **trust(authority)) as library:
        assert told.wait(PATIENCE_SECONDS)
        assert (library.call("kvq_delete", b"s", freed), freed[0]) == ("ok", 7)
    daemon.close()


def test_clients_of_several_threads_do_not_meet(tls):
    results, options = [], trust(tls.authority, tls.authority.client())

    def work(seed):
        with Library(tls.address, seed % 2 == 1, **options) as library:
            results.append((seed, [library.connected, *(library.ping() for _ in range(50))]))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert sorted(results) == [(seed, ["ok"] * 51) for seed in range(4)]


def test_a_forked_process_may_close_its_copy(tls):
    with client(tls, no_reconnect=True) as library:
        child = os.fork()
        if child == 0:
            lib.kvq_close(library.client)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert library.ping() == "ok"


def test_a_program_built_before_there_was_tls_goes_on_working(daemon):
    """Its options end before the new fields, whatever memory has there."""
    socket, rubbish = ffi.new("char[]", daemon.socket.encode()), ffi.new("char[]", b"/not/a/file")
    options = ffi.new("struct kvq_connect_options *", dict(socket=socket, tls_ca=rubbish, tls_key=rubbish))
    options.size = ffi.offsetof("struct kvq_connect_options", "tls_ca")
    opened = ffi.new("struct kvq_client **")
    assert lib.kvq_connect(options, opened) == 0
    lib.kvq_close(opened[0])


# ---- What keeps it from connecting ----


def server_side(server):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(server.certificate, server.key)
    return made


def refused(address, non_blocking=False, **options):
    """(error, its sentence) of a connect that fails."""
    with Library(address, non_blocking, **options) as library:
        assert library.message.startswith(("cannot connect to " + address, "the TLS ", "a TLS "))
        assert "\n" not in library.message
        return library.connected, library.message


@pytest.fixture
def against(authority):
    """against(server's certificate, options...): what comes of a daemon that shows this certificate."""
    daemons = []

    def connect_to(server, **options):
        daemons.append(FakeDaemon(None, lambda peer: peer.greet(), tls=server_side(server)))
        return refused(daemons[-1].path, **{**trust(authority), **options})

    yield connect_to
    for daemon in daemons:
        daemon.close()


@BOTH_FORMS
def test_a_daemon_whose_certificate_has_expired(authority, against, non_blocking):
    error, message = against(authority.server(days=-1), non_blocking=non_blocking)
    assert error == "cannot_connect" and "its certificate has expired" in message


def test_a_daemon_that_another_authority_vouches_for(stranger, authority, against):
    error, message = against(stranger.server())
    assert error == "cannot_connect" and f"by no CA of {authority.certificate}" in message


def test_a_daemon_of_another_name(authority, against):
    error, message = against(authority.server(alternatives=["DNS:kvquantd.example.com"]))
    assert error == "cannot_connect" and "does not name 127.0.0.1" in message
    error, message = against(authority.server(), tls_name="kvquantd.example.com")
    assert error == "cannot_connect" and "does not name kvquantd.example.com" in message


def test_a_common_name_is_no_name(authority, against):
    error, _ = against(authority.issue("localhost", "serverAuth"), tls_name="localhost")
    assert error == "cannot_connect"


def test_a_worker_cannot_pose_as_the_daemon(authority, against):
    error, message = against(authority.issue("worker", "clientAuth", ["IP:127.0.0.1"]))
    assert error == "cannot_connect" and "does not serve" in message


def test_a_daemon_that_speaks_an_older_tls_only(authority):
    context = server_side(authority.server())
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    daemon = FakeDaemon(None, lambda peer: peer.greet(), tls=context)
    error, message = refused(daemon.path, **trust(authority))
    assert error == "cannot_connect" and "TLS 1.3" in message
    daemon.close()


def test_a_daemon_that_is_plain(start_daemon, authority):
    address = tcp_address(start_daemon(arguments=["--tcp", "127.0.0.1:0"]))
    error, message = refused(address, **trust(authority))
    assert error == "cannot_connect" and "does not speak TLS" in message


@BOTH_FORMS
def test_a_daemon_over_tls_by_a_plain_client(tls, non_blocking):
    with Library(tls.address, non_blocking) as library:
        assert library.connected in ("cannot_connect", "connection_lost")
        assert "--tls-ca" in library.message


@BOTH_FORMS
def test_a_client_without_a_certificate(tls, non_blocking):
    error, message = refused(tls.address, non_blocking, **trust(tls.authority))
    assert error == "unauthenticated" and "there is none, and it wants one" in message


def test_a_client_whose_certificate_has_expired(tls):
    error, message = refused(tls.address, **trust(tls.authority, tls.authority.client(days=-1)))
    assert error == "unauthenticated" and "it has expired" in message


def test_a_client_that_another_authority_vouches_for(tls, stranger):
    error, message = refused(tls.address, **trust(tls.authority, stranger.client()))
    assert error == "unauthenticated" and "its CA is not known there" in message


def test_a_client_with_a_servers_certificate(tls):
    error, message = refused(tls.address, **trust(tls.authority, tls.authority.server()))
    assert error == "unauthenticated" and "not made for a client" in message


def test_a_client_of_no_tenant(tls):
    with client(tls, "nobody") as library:
        assert library.connected == "unauthenticated" and "certificate" in library.message


@BOTH_FORMS
@pytest.mark.parametrize("bytes_left", [0, 5, 600])
def test_a_handshake_that_ends_halfway(tls, bytes_left, non_blocking):
    with Relay(tls.address, left=bytes_left) as relay:
        options = trust(tls.authority, tls.authority.client())
        error, message = refused(relay.address, non_blocking, **options)
        assert error == "cannot_connect" and "hung up" in message


@BOTH_FORMS
def test_a_handshake_has_the_calls_deadline(authority, non_blocking):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        options = dict(deadline_ms=DEADLINE_MS, **trust(authority))
        with Library(f"127.0.0.1:{silent.getsockname()[1]}", non_blocking, **options) as library:
            assert library.connected == "deadline"
        assert DEADLINE_MS / 1000 * 0.8 < time.monotonic() - start < PATIENCE_SECONDS / 2


# ---- Files ----


def encrypted(certificate, folder):
    openssl("ec", "-in", certificate.key, "-aes256", "-passout", "pass:secret", "-out", folder / "encrypted")
    (folder / "encrypted").chmod(0o600)
    return folder / "encrypted"


@pytest.mark.parametrize("prepare, says", [
    (lambda files, folder: files.update(tls_ca=folder / "none"), "No such file"),
    (lambda files, folder: files.update(tls_ca=files["tls_key"]), "TLS CA file"),
    (lambda files, folder: files.update(tls_certificate=folder / "none"), "No such file"),
    (lambda files, folder: files.update(tls_certificate=files["tls_key"]), "TLS certificate file"),
    (lambda files, folder: files.update(tls_key=folder / "none"), "No such file"),
    (lambda files, folder: files.update(tls_key=folder), "TLS key file"),
    (lambda files, folder: files.update(tls_key=Authority(folder / "x").client().key), "key values mismatch"),
    (lambda files, folder: pathlib.Path(files["tls_key"]).chmod(0o640), "chmod 600"),
    (lambda files, folder: files.update(tls_name=""), "TLS name is empty"),
    (lambda files, folder: files.pop("tls_key"), "both or not at all"),
    (lambda files, folder: files.pop("tls_certificate"), "both or not at all"),
    (lambda files, folder: files.pop("tls_ca"), "no CA"),
    (lambda files, folder: files.update(tls_key=encrypted(Certificate(None, files["tls_key"]), folder)), "TLS key file"),
])
def test_files_that_do_not_serve_are_told_before_anything_is_sent(tmp_path, prepare, says):
    own = Authority(tmp_path / "own")
    files = trust(own, own.client())
    prepare(files, tmp_path)
    error, message = refused("127.0.0.1:1", **files)
    assert error == "argument" and says in message
