"""Asking a daemon for its metrics and its status page, as plain HTTP over its unix socket or TCP."""

import contextlib
import http.client
import json
import re
import socket

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

ANSWER_SECONDS = 600  # more than any daemon that runs takes


class Monitor(http.client.HTTPConnection):
    """A connection to where the metrics are: a path, or HOST:PORT."""

    def __init__(self, address):
        super().__init__("localhost", timeout=ANSWER_SECONDS)
        self.address = address

    def connect(self):
        if "/" in self.address:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(self.timeout)
            self.sock.connect(self.address)
        else:
            host, port = self.address.rsplit(":", 1)
            self.sock = socket.create_connection((host.strip("[]"), int(port)), self.timeout)


def ask(address, path, method="GET", **headers):
    """The answer, read whole: .status, .headers and .text."""
    with contextlib.closing(Monitor(address)) as monitor:
        monitor.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = monitor.getresponse()
        answer.text = answer.read().decode()
        return answer


class Samples(dict):
    """Metrics by name and labels: samples["kvquantd_fetch_hits_total", "tier", "disk"]."""

    def __missing__(self, key):
        return 0


def metrics(address):
    families = text_string_to_metric_families(ask(address, "/metrics").text)
    return Samples({(sample.name, *(word for pair in sorted(sample.labels.items()) for word in pair)) if sample.labels
                    else sample.name: sample.value for family in families for sample in family.samples})


def status(address):
    return json.loads(ask(address, "/status.json").text)


def raw(address, sent):
    """All that comes back for these bytes until the daemon closes, or nothing if it says nothing."""
    monitor = Monitor(address)
    monitor.connect()
    with monitor.sock as connected:
        with contextlib.suppress(OSError):  # it may close before all is sent
            connected.sendall(sent)
            connected.shutdown(socket.SHUT_WR)
        received = b""
        with contextlib.suppress(ConnectionError):
            while piece := connected.recv(1 << 16):
                received += piece
        return received


@pytest.fixture
def start_monitored(start_daemon, tmp_path):
    """A daemon with metrics on a unix socket; .metrics says where."""

    def start(metrics=None, text="", **options):
        address = metrics or str(tmp_path / "metrics.sock")
        path = tmp_path / "monitored.conf"
        path.write_text(f"metrics = {address}\n{text}")
        daemon = start_daemon(arguments=["--config", path], **options)
        daemon.metrics = re.search(r"status page are on (\S+)", daemon.log.read_text())[1]
        return daemon

    return start


@pytest.fixture
def monitored(start_monitored):
    return start_monitored()
