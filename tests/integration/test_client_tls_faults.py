"""What holds of lost connections, and of calls given up, holds over TLS: tests of both once more."""

import ssl

import pytest
from certificates import Authority
from fake_daemon import FakeDaemon
from test_client_gives_up import (  # noqa: F401
    test_a_cancelled_connect_is_no_connection, test_a_cancelled_fetch_leaves_memory_alone,
    test_a_fetch_cannot_outlast_its_time_while_values_go_on_coming,
    test_a_fetch_that_takes_too_long_is_a_miss_in_time,
    test_an_append_cancelled_in_the_middle_of_a_frame_ends_that_frame,
    test_more_cancelled_calls_than_can_be_told_apart_cost_the_connection_only)
from test_client_reconnects import (  # noqa: F401
    hung_up, test_a_fetch_is_repeated_wherever_it_breaks, test_an_append_in_parts_begins_on_a_new_connection,
    test_an_append_that_breaks_before_its_commit_is_repeated, test_two_lost_connections_are_the_callers,
    test_what_may_have_been_done_is_not_repeated, test_without_reconnecting_a_lost_connection_stays_lost)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server(authority):
    certificate, key = authority.server()
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(certificate, key)
    return made


@pytest.fixture
def play(monkeypatch, authority, server):
    """As fake_daemon's, over TLS, which the environment tells clients."""
    monkeypatch.setenv("KVQ_TLS_CA", str(authority.certificate))
    daemons = []

    def start(*scripts):
        daemons.append(FakeDaemon(None, *scripts, tls=server))
        return daemons[-1].path

    yield start
    for daemon in daemons:
        daemon.close()
