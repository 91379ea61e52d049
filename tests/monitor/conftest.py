"""The fixtures of tests/integration."""

import importlib.util
import pathlib
import sys

INTEGRATION = pathlib.Path(__file__).parents[1] / "integration"


def load_integration_conftest():
    sys.path.insert(0, str(INTEGRATION))
    spec = importlib.util.spec_from_file_location("integration_conftest", INTEGRATION / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["integration_conftest"] = module
    spec.loader.exec_module(module)
    return module


integration = load_integration_conftest()
start_daemon, no_sanitizer_reports = integration.start_daemon, integration.no_sanitizer_reports
pytest_configure = integration.pytest_configure

from monitor_support import start_monitored  # noqa: E402, F401
