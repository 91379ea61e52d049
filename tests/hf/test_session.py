"""kvquantd.hf.Session: chats that go on from what the daemon has, as if nothing had been between."""

import contextlib

import kvquantd
import pytest
import tokenizers
import torch
import transformers
from conftest import llama
from failing_daemon import Proxy, frozen
from transformers import DynamicCache

from kvquantd.hf import CompressedDynamicCache, Session, fingerprint

LONG = 60  # seconds: a deadline that is not meant to pass
SHORT = 1
NEW = 20
FILLING = kvquantd.Geometry(layers=2, heads=2, head_dim=64)


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


class Service:
    """What a service shares between its chats."""

    def __init__(self, model, socket):
        self.model, self.clock = model, Clock()
        self.breaker = kvquantd.Breaker(socket, deadline=LONG, failures=2, clock=self.clock)
        self.fingerprint = fingerprint(model)

    def chat(self, name="chat", **given):
        given = {"level": "exact", "breaker": self.breaker, "fingerprint": self.fingerprint} | given
        return Session(name, self.model, **given)

    def answer(self, ids, name="chat", **given):
        """One turn in a process of its own: (the text with its answer, tokens restored, tokens saved)."""
        session = self.chat(name, **given)
        cache, tokens = session.restore(ids)
        assert cache.get_seq_length() == tokens
        text = generated(self.model, ids, cache)
        return text, tokens, session.save(text, cache)


def generated(model, ids, cache=None):
    cache = DynamicCache(config=model.config) if cache is None else cache  # an empty one is false
    return model.generate(ids, past_key_values=cache, attention_mask=torch.ones_like(ids), max_new_tokens=NEW,
                          min_new_tokens=NEW, do_sample=False)


def prompt(tokens, seed=3):
    return torch.randint(1, 99, (1, tokens), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def appended(monkeypatch):
    """(first, tokens) of each append."""
    seen, append = [], kvquantd.Session.append

    def noted(self, k, v, first=None, token_ids=None, **given):
        if token_ids is not None:
            seen.append((first, len(token_ids)))
        return append(self, k, v, first, token_ids, **given)

    monkeypatch.setattr(kvquantd.Session, "append", noted)
    return seen


@pytest.fixture
def service(model, daemon):
    service = Service(model, daemon.socket)
    yield service
    service.breaker.close()


# ---- Turns ----


def test_a_chat_goes_on_as_if_it_had_never_been_away(service, model, appended):
    ids = prompt(60)
    for turn, there in enumerate([0, 79, 107]):
        text, restored, saved = service.answer(ids)
        assert torch.equal(text, generated(model, ids))
        assert (restored, saved) == (there, text.shape[1] - 1)
        ids = torch.cat([text, prompt(8, seed=turn)], 1)
    assert appended == [(0, 79), (79, 28), (107, 28)]


def test_a_real_model_goes_on_with_the_very_text(smollm2, daemon):
    model, tokenizer = smollm2
    service = Service(model, daemon.socket)
    asked = [[{"role": "user", "content": "Name three colours."}]]
    ids = tokenizer.apply_chat_template(asked[0], add_generation_prompt=True, return_tensors="pt",
                                        return_dict=True)["input_ids"]
    first, *_ = service.answer(ids)
    more = torch.cat([first, tokenizer("\nAnd what else?", return_tensors="pt")["input_ids"]], 1)
    text, restored, saved = service.answer(more)
    assert (restored, saved) == (first.shape[1] - 1, text.shape[1] - 1)
    assert torch.equal(text, generated(model, more))


def test_the_last_token_of_a_prompt_is_left_to_the_model(service, model):
    text, *_ = service.answer(prompt(60))
    again = text[:, :50]
    answer, restored, saved = service.answer(again)
    assert (restored, saved) == (49, 69)
    assert torch.equal(answer, generated(model, again))


def test_a_changed_history_goes_on_from_what_is_the_same(service, model, appended):
    text, *_ = service.answer(prompt(60))
    changed = torch.cat([text[:, :45], text[:, 45:46] % 98 + 1, prompt(10, seed=8)], 1)
    answer, restored, saved = service.answer(changed)
    assert (restored, saved) == (45, 75)
    assert torch.equal(answer, generated(model, changed))
    assert appended[1:] == [(45, 30)]


def test_a_new_chat_that_begins_as_another_goes_on_from_it(service, model, appended, client):
    text, *_ = service.answer(prompt(60))
    ids = torch.cat([text[:, :70], prompt(10, seed=9)], 1)
    if ids[0, 70] == text[0, 70]:
        ids[0, 70] = ids[0, 70] % 98 + 1
    answer, restored, saved = service.answer(ids, "another")
    assert (restored, saved) == (70, 99)
    assert torch.equal(answer, generated(model, ids))
    assert appended[1:] == [(70, 29)]
    assert {session["session"]: session["tokens"] for session in client.sessions()} == {"chat": 79, "another": 99}


def test_a_few_tokens_of_another_chat_are_not_held_on_to(service):
    text, *_ = service.answer(prompt(60))
    ids = torch.cat([text[:, :20], prompt(30, seed=9)], 1)
    assert service.answer(ids, "another")[1] == 0


def test_an_exact_chat_takes_nothing_of_one_that_is_not(service):
    text, *_ = service.answer(prompt(60), "coarse", level=3)
    assert service.answer(text, "exact")[1] == 0
    assert service.answer(text, "another", level=3)[1] == 79


def test_a_coded_chat_takes_less_and_is_nearly_the_same(service, client):
    ids, cache = prompt(300), DynamicCache()
    text = generated(service.model, ids, cache)
    service.chat(level=3).save(text, cache)
    restored, tokens = service.chat(level=3).restore(text)
    assert tokens == 319
    for ours, theirs in zip(restored.layers, cache.layers):
        assert 0 < (ours.keys - theirs.keys).norm() / theirs.keys.norm() < 0.2
        assert 0 < (ours.values - theirs.values).norm() / theirs.values.norm() < 0.2
    assert client.open("chat").level == 3


def test_saving_once_more_sends_nothing(service, appended):
    ids = prompt(60)
    session, cache = service.chat(), DynamicCache()
    text = generated(service.model, ids, cache)
    assert [session.save(text, cache), session.save(text[0].tolist(), cache)] == [79, 79]
    assert appended == [(0, 79), (79, 0)]


def test_a_compressed_cache_is_filled_and_saved(service):
    def make_cache():
        return CompressedDynamicCache(levels={8: "exact"}, page_tokens=16)

    ids = prompt(60)
    for there in (0, 79):
        text, restored, saved = service.answer(ids, make_cache=make_cache)
        assert (restored, saved) == (there, ids.shape[1] + NEW - 1)
        assert torch.equal(text, generated(service.model, ids, make_cache()))
        ids = torch.cat([text, prompt(5)], 1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_of_16_bits_goes_on_with_the_same_bits(dtype, daemon):
    model, ids = llama().to(dtype), prompt(60)
    service, cache = Service(model, daemon.socket), DynamicCache()
    text = generated(model, ids, cache)
    assert service.chat().save(text, cache) == 79
    restored, tokens = service.chat().restore(text)
    assert tokens == 79
    for ours, theirs in zip(restored.layers, cache.layers):
        assert torch.equal(ours.keys, theirs.keys) and torch.equal(ours.values, theirs.values)


def test_the_policy_is_that_of_the_session_and_of_forks(service, client):
    policy = kvquantd.Policy(ttl=3600)
    text, *_ = service.answer(prompt(60))
    service.answer(text, "another", policy=policy)
    service.answer(prompt(60, seed=5), "new", policy=policy)
    assert [client.open(name).policy().ttl for name in ("chat", "another", "new")] == [0, 3600, 3600]


def test_what_somebody_else_writes_meanwhile_is_not_kept(service, client, monkeypatch):
    """Another worker puts its own chat under the name between our look and our append."""
    ids = prompt(60)
    text, *_ = service.answer(ids)
    begin = Session._begin

    def raced(self, *given):
        session = begin(self, *given)
        monkeypatch.setattr(Session, "_begin", begin)
        session.truncate(40)
        other = torch.randn(3, 39, 2, 16)
        kvquantd.Session.append(session, other, other, 40, [7] * 39, salts=[(40, 39, b"level exact")])
        return session

    more = torch.cat([text, prompt(5)], 1)
    cache, _ = service.chat().restore(more)
    final = generated(service.model, more, cache)
    monkeypatch.setattr(Session, "_begin", raced)
    assert service.chat().save(final, cache) == 0
    assert client.sessions() == []


# ---- Which model ----


def changed(change):
    model = llama()
    with torch.no_grad():
        change(model)
    return model


@pytest.mark.parametrize("change", [
    lambda model: model.model.layers[1].mlp.up_proj.weight[3, 5].add_(1),
    lambda model: model.bfloat16(),
    lambda model: setattr(model.config, "rms_norm_eps", 0.1),
    lambda model: model.lm_head.register_buffer("more", torch.zeros(1)),
])
def test_another_model_has_another_fingerprint(model, change):
    assert fingerprint(changed(change)) != fingerprint(model)


@pytest.mark.parametrize("change", [
    lambda model: setattr(model.config, "use_cache", False),
    lambda model: setattr(model.config, "_name_or_path", "/elsewhere"),
    lambda model: model.train(),
])
def test_what_is_the_same_model_has_the_same_fingerprint(model, change):
    assert fingerprint(changed(change)) == fingerprint(model)


class Adapted(torch.nn.Module):
    """As PEFT has it."""

    disable_adapters = False

    def __init__(self, base, alpha=2.0):
        super().__init__()
        self.base_layer, self.lora_a = base, torch.nn.Parameter(torch.ones(2))
        self.active_adapters, self.merged_adapters, self.scaling = ["default"], [], {"default": alpha}


@pytest.mark.parametrize("change", [
    {"active_adapters": ["another"]}, {"merged_adapters": ["default"]}, {"disable_adapters": True},
    {"scaling": {"default": 1.0}}, {"lora_a": torch.nn.Parameter(torch.zeros(2))},
])
def test_adapters_are_part_of_the_fingerprint(change):
    model = llama()
    without = fingerprint(model)
    model.lm_head = adapted = Adapted(model.lm_head)
    before = fingerprint(model)
    for name, value in change.items():
        setattr(adapted, name, value)
    assert len({without, before, fingerprint(model)}) == 3


def test_the_tokenizer_is_part_of_the_fingerprint(model):
    words = {word: number for number, word in enumerate(["<pad>", "a", "b"])}
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(tokenizers.models.WordLevel(words)), pad_token="<pad>")
    found = fingerprint(model, tokenizer)
    tokenizer("a", padding="max_length", truncation=True, max_length=5)
    assert fingerprint(model, tokenizer) == found != fingerprint(model)
    tokenizer.add_tokens(["<more>"])
    assert fingerprint(model, tokenizer) != found


def test_weights_that_are_not_here_have_no_fingerprint():
    with pytest.raises(ValueError, match="meta"):
        fingerprint(llama().to("meta"))


def test_another_model_finds_nothing_and_takes_the_name_over(service, daemon, client):
    text, *_ = service.answer(prompt(60))
    other = Service(changed(lambda model: model.lm_head.weight.mul_(2)), daemon.socket)
    assert other.answer(text)[1:] == (0, 99)
    assert [session["model"] for session in client.sessions()] == [other.fingerprint]
    assert (other.breaker.failures, service.answer(text)[1]) == (0, 0)


# ---- What is refused ----


def sliding():
    config = transformers.Gemma3TextConfig(
        hidden_size=64, intermediate_size=96, num_hidden_layers=2, vocab_size=99, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, layer_types=["sliding_attention", "full_attention"])
    return transformers.Gemma3ForCausalLM(config)


def encoding():
    return transformers.T5ForConditionalGeneration(transformers.T5Config(
        vocab_size=99, d_model=64, d_kv=16, d_ff=96, num_layers=1, num_heads=4, decoder_start_token_id=0))


@pytest.mark.parametrize("make, why", [(sliding, r"layers \[0\] have a window"), (encoding, "encoder")])
def test_a_model_that_keeps_more_or_less_than_k_and_v_of_all_tokens_is_refused(make, why):
    with pytest.raises(ValueError, match=why):
        Session("chat", make(), fingerprint="x")


def cache_of(*shapes):
    return DynamicCache([(torch.zeros(shape), torch.zeros(shape)) for shape in shapes])


@pytest.mark.parametrize("cache, ids, why", [
    (cache_of((2, 2, 5, 16)), range(6), "2 sequences"),
    (cache_of((1, 2, 5, 16), (1, 2, 5, 32)), range(6), "unlike shape"),
    (cache_of((1, 2, 5, 16)), range(4), "5 tokens, and there are 4 ids"),
    (cache_of((1, 2, 5, 16)), [[1, 2], [3, 4]], "2 sequences"),
])
def test_a_cache_that_is_no_session_is_refused(service, cache, ids, why):
    with pytest.raises(ValueError, match=why):
        service.chat().save(ids, cache)
    assert service.breaker.misses == 0


def test_several_prompts_are_refused(service):
    with pytest.raises(ValueError, match="2 sequences"):
        service.chat().restore(torch.ones(2, 5, dtype=torch.long))


def test_a_prompt_of_one_token_or_none_is_a_miss(service):
    assert [service.chat().restore(ids).tokens for ids in ([5], [])] == [0, 0]


# ---- Failing open ----


def stopped(daemon, proxy):
    daemon.stop()
    yield
    daemon.start()


def stuck(daemon, proxy):
    with frozen(daemon.process.pid):
        yield


def slow(daemon, proxy):
    proxy.slow = True
    yield
    proxy.slow = False


@pytest.mark.parametrize("fail, kept", [(stopped, 0), (stuck, 79), (slow, 79)])
def test_a_daemon_that_does_not_serve_is_a_miss_and_comes_back(model, daemon, tmp_path, fail, kept):
    with Proxy(tmp_path / "proxy.sock", daemon.socket) as proxy:
        service = Service(model, proxy.path)
        text, *_ = service.answer(prompt(60))
        expected = generated(model, text)
        with contextlib.contextmanager(fail)(daemon, proxy):
            service.breaker._deadline = SHORT
            for turn in range(2):  # the first fails twice, once for each of restore() and save()
                answer, restored, saved = service.answer(text)
                assert torch.equal(answer, expected)
                assert (restored, saved) == (0, 0)
                assert (service.breaker.failures, service.breaker.skipped) == (2, 2 * turn)
        service.breaker._deadline = LONG
        service.clock.now += 5
        assert service.answer(text)[1:] == (kept, 99)
        assert service.answer(text)[1:] == (99 - NEW, 99)
        service.breaker.close()


def test_a_full_daemon_still_gives_what_it_has_and_comes_back(service, model, client):
    text, *_ = service.answer(prompt(60))
    client.open("chat").pin(3600)
    client.open("filler", model="m", geometry=FILLING, level="exact").pin(3600)
    for tokens in (4096, 512, 64):
        noise = torch.randint(0, 0x7BFF, (2, tokens, 2, 64), dtype=torch.int16).view(torch.float16)
        with pytest.raises(kvquantd.Full):
            while True:
                client.open("filler").append(noise, noise)
    long = torch.cat([text, prompt(300)], 1)
    for turn in range(3):
        answer, restored, saved = service.answer(long)
        assert torch.equal(answer, generated(model, long))
        assert (restored, saved, service.breaker.skipped) == (79, 0, max(turn - 1, 0))
    client.delete("filler")
    service.clock.now += 5
    assert service.answer(long)[1:] == (79, long.shape[1] + NEW - 1)
