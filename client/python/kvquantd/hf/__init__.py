"""kvquantd for Hugging Face transformers (4.55 to 5.x): pip install 'kvquantd[hf]'.

    from kvquantd.hf import CompressedDynamicCache

    cache = CompressedDynamicCache(config=model.config)
    model.generate(**inputs, past_key_values=cache)
    print(cache.nbytes, cache.scratch_nbytes)
"""

from ._cache import CompressedDynamicCache
from ._fingerprint import fingerprint
from ._recall import RecallCache
from ._session import Restored, Session

__all__ = ["CompressedDynamicCache", "RecallCache", "Restored", "Session", "fingerprint"]
