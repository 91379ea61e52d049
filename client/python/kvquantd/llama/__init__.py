"""llama.cpp's KV cache in the daemon: `Cache` for llama-cpp-python, and `python -m kvquantd.llama`, which
`kvq llama` runs, for the slots of a llama-server.

    from kvquantd.llama import Cache

    llama = llama_cpp.Llama("model.gguf", n_ctx=4096)
    llama.set_cache(Cache(llama))

K and V in f32, f16 or bf16 go through the codec, at the level that is given; so do q8_0's, whose values are
stored in float16 and given back in blocks of q8_0, unless the level is "exact". Rows of GGML's other types are kept byte for
byte: their values are coded already. A state that is not understood - of a sliding window, a hybrid or
recurrent model, or of several sequences - is kept whole, exactly, and serves only those who come with all of its tokens.
`Cache.report()` says which it was, and what that took.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._cache import Cache

__all__ = ["Cache"]


def __getattr__(name: str) -> Any:
    """Only Cache needs llama-cpp-python; the command does not."""
    if name == "Cache":
        from ._cache import Cache

        return Cache
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
