"""tests/integration/conftest.py as a module, for the conftest.py of other folders: it has another name."""

import importlib.util
import pathlib
import sys


def load():
    name, path = "integration_conftest", pathlib.Path(__file__).with_name("conftest.py")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


integration = load()
