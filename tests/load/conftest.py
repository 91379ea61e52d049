"""The fixtures of tests/integration, and as many files as this process may open."""

import pathlib
import resource
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "integration"))
from elsewhere import integration  # noqa: E402

start_daemon, no_sanitizer_reports = integration.start_daemon, integration.no_sanitizer_reports
pytest_configure = integration.pytest_configure


@pytest.fixture
def files():
    """How many files are left to a test, after the limit was raised as far as it goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard - 200
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
