"""The fixtures of tests/integration, for adapters to inference engines."""

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
daemon, start_daemon = integration.daemon, integration.start_daemon
pytest_configure = integration.pytest_configure
