"""The fixtures of tests/integration."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "integration"))
from elsewhere import integration  # noqa: E402

start_daemon, no_sanitizer_reports = integration.start_daemon, integration.no_sanitizer_reports
pytest_configure = integration.pytest_configure

from monitor_support import start_monitored  # noqa: E402, F401
