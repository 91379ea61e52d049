"""Client of kvquantd, which keeps the KV caches of language models compressed.

    import kvquantd

    with kvquantd.connect() as client:
        geometry = kvquantd.Geometry(layers=32, heads=8, head_dim=128)
        session = client.open("chat-1", model="sha256:...", geometry=geometry, level=3)
        session.append(k, v)               # [layers, tokens, heads, head_dim] each
        k, v = session.fetch(tokens=range(0, 512))

Values are numpy arrays, torch tensors or buffers, read and written where they are. A client is one
connection; threads that share it take turns.
"""

from ._blocks import Blocks
from ._breaker import Breaker
from ._calls import Attachment, Deleted
from ._client import Client, connect
from ._errors import (
    Busy,
    Cancelled,
    CannotConnect,
    ConnectionLost,
    Deadline,
    DiskFailed,
    Error,
    Exists,
    Full,
    Invalid,
    Miss,
    ModelMismatch,
    PermissionDenied,
    QuotaExceeded,
    ReadOnly,
    ShuttingDown,
    TailMoved,
    Unauthenticated,
    Unsupported,
    VersionChanged,
    WrongFirst,
)
from ._geometry import Geometry, Rope
from ._policy import Policy
from ._recall import Hit, Recalled
from ._recall_keys import RecalledKeys, RecalledLayer
from ._session import Session
from ._token_ids import Match, Salt
from ._transfer import Fetched

__version__ = "0.1.0"

__all__ = [
    "Attachment",
    "Blocks",
    "Breaker",
    "Busy",
    "Cancelled",
    "CannotConnect",
    "Client",
    "ConnectionLost",
    "Deadline",
    "Deleted",
    "DiskFailed",
    "Error",
    "Exists",
    "Fetched",
    "Full",
    "Geometry",
    "Hit",
    "Invalid",
    "Match",
    "Miss",
    "ModelMismatch",
    "PermissionDenied",
    "QuotaExceeded",
    "Policy",
    "ReadOnly",
    "Recalled",
    "RecalledKeys",
    "RecalledLayer",
    "Rope",
    "Salt",
    "Session",
    "ShuttingDown",
    "TailMoved",
    "Unauthenticated",
    "Unsupported",
    "VersionChanged",
    "WrongFirst",
    "connect",
]
