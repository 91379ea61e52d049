"""The extension module; everything else stands in pyproject.toml."""

from setuptools import setup

# Built anew each time: setuptools does not see that the library it is linked to has changed.
setup(cffi_modules=["build_extension.py:builder"], options={"build_ext": {"force": True}})
