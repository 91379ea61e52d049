"""The extension that cffi makes of kvq.h, whose types checkers cannot know."""

from typing import Any

ffi: Any
lib: Any
