"""Times as arguments: seconds or a timedelta."""

from __future__ import annotations

import datetime
import math
from typing import Union

Duration = Union[float, datetime.timedelta]


def milliseconds(duration: Duration, what: str) -> int:
    """Rounded up, so that something is never nothing."""
    seconds = duration.total_seconds() if isinstance(duration, datetime.timedelta) else duration
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{what} is a time in seconds or a timedelta, not {duration}")
    return math.ceil(seconds * 1000)
