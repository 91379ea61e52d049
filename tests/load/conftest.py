"""The fixtures of tests/integration, and as many files as this process may open."""

import importlib.util
import pathlib
import resource
import sys

import pytest

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


@pytest.fixture
def files():
    """How many files are left to a test, after the limit was raised as far as it goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard - 200
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
