"""The fixtures of tests/integration; and how long to go on: `make torture` sets KVQ_TORTURE."""

import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "integration"))
from elsewhere import integration  # noqa: E402

TORTURE = bool(os.environ.get("KVQ_TORTURE"))
daemon, start_daemon, no_sanitizer_reports = (
    integration.daemon, integration.start_daemon, integration.no_sanitizer_reports)
pytest_configure = integration.pytest_configure
