"""Metrics and alert rules, as Prometheus's own tool sees them."""

import pathlib
import shutil
import subprocess

import pytest
from monitor_support import ask
from wire import Connection
from wire_support import SMALL, refused, stored

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PROMTOOL = shutil.which("promtool") or str(ROOT / "build/promtool/usr/bin/promtool")


def promtool(*arguments, text=None):
    done = subprocess.run([PROMTOOL, *map(str, arguments)], input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_it_has_nothing_to_say_of_the_metrics(start_monitored):
    daemon = start_monitored()
    with Connection(daemon.socket) as connection:
        session, _ = stored(connection, b"chat", SMALL, 300, level=3, settle=True)
        session.fetch()
        with refused("miss"):
            connection.info(b"nobody")
    text = ask(daemon.metrics, "/metrics", Accept="text/plain").text
    assert promtool("check", "metrics", text=text) == ""


def test_it_finds_fault_where_there_is_one():
    with pytest.raises(AssertionError, match="counter"):
        promtool("check", "metrics", text="# HELP a_b It.\n# TYPE a_b counter\na_b 1\n")


def test_the_alert_rules_are_rules():
    assert "SUCCESS" in promtool("check", "rules", ROOT / "deploy/alerts.yml")


def test_each_alert_fires_for_what_it_is_about():
    assert "SUCCESS" in promtool("test", "rules", HERE / "alerts_test.yml")
    tests = (HERE / "alerts_test.yml").read_text()
    names = [line.split(": ")[1] for line in (ROOT / "deploy/alerts.yml").read_text().splitlines() if "- alert: " in line]
    assert [name for name in names if name not in tests] == []
