"""The service as an operator has it: a packaged kvquantd under the systemd that started this machine.

Runs in the guest that tests/systemd/test_guest.py boots, as root, with what Debian has. Each test's result goes out
as a line of JSON.
"""

import json
import os
import pathlib

import pytest
from service import Service

REPORTS = os.environ.get("KVQ_REPORTS")
results = {}


def tell(**line):
    if REPORTS:
        with open(REPORTS, "w") as port:
            port.write(json.dumps(line) + "\n")


def pytest_runtest_logreport(report):
    """What went wrong first is what is told, once the test is over."""
    result = results.setdefault(report.nodeid, {"test": report.nodeid, "outcome": "passed", "text": "", "seconds": 0})
    result["seconds"] += round(report.duration, 1)
    if result["outcome"] == "passed" and report.outcome != "passed":
        result["outcome"] = report.outcome
        result["text"] = report.longrepr[2] if report.skipped else report.longreprtext
    if report.when == "teardown":
        tell(**{**result, "text": result["text"] + (report.capstdout if result["outcome"] == "failed" else "")})


def pytest_collectreport(report):
    if report.failed:
        tell(test=report.nodeid, outcome="failed", text=report.longreprtext, seconds=0)


def pytest_sessionfinish(exitstatus):
    tell(ended=int(exitstatus))


@pytest.fixture
def service(tmp_path):
    """The system service, of which only the sockets wait; what a test changes about it is undone."""
    service = Service(pathlib.Path(tmp_path))
    service.run("systemctl", "stop", *service.UNITS, check=False)
    service.run("systemctl", "reset-failed", *service.UNITS, check=False)
    service.run("systemctl", "start", "kvquantd.socket")
    yield service
    print("\n" + service.journal()) # told of a test that failed
    service.undo()
