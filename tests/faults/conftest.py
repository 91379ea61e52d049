"""The fixtures of tests/integration; and how long to go on: `make torture` sets KVQ_TORTURE."""

import importlib.util
import os
import pathlib
import sys

INTEGRATION = pathlib.Path(__file__).parents[1] / "integration"
TORTURE = bool(os.environ.get("KVQ_TORTURE"))


def load_integration_conftest():
    sys.path.insert(0, str(INTEGRATION))
    spec = importlib.util.spec_from_file_location("integration_conftest", INTEGRATION / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["integration_conftest"] = module
    spec.loader.exec_module(module)
    return module


integration = load_integration_conftest()
daemon, start_daemon, no_sanitizer_reports = (
    integration.daemon, integration.start_daemon, integration.no_sanitizer_reports)
pytest_configure = integration.pytest_configure
