"""The fixtures of tests/integration, for adapters to inference engines."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "integration"))
from elsewhere import integration  # noqa: E402

daemon, start_daemon = integration.daemon, integration.start_daemon
pytest_configure = integration.pytest_configure
