"""Generators answer prompts. Here are a callable and a model on this machine; endpoints have their own module."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol, runtime_checkable

from hf_hardneg.errors import ConfigError, DataError
from hf_hardneg.models.families import check_family, family_of_folder
from hf_hardneg.models.forward import check_device, device_here, loading, resolved_device
from hf_hardneg.models.model_files import check_complete, content_digests, model_folder, module_digests
from hf_hardneg.runtime.arguments import AboveZero, AtLeastOne, Name, check_fields
from hf_hardneg.runtime.process import single_thread_in_child, threads, torch_threads
from hf_hardneg.store.directories import digest_of

BUDGET, ENDPOINT = "budget", "endpoint"
FAILURES = (BUDGET, ENDPOINT)
"""Why there is no reply: the budget is spent; the endpoint refused this prompt, or sent something else than a reply."""


@dataclass(frozen=True)
class Ask:
    """A request to the model.

    Args:
        prompt (`str`): the text that the model gets.
        draw (`int`): number of the draft: the same prompt is asked again under another number.
        form (`str`, defaults to `"negative"`): a name in `SCHEMAS`, which the prompt asks for too.
    """

    prompt: str
    draw: int
    form: str = "negative"

    @functools.cached_property
    def key(self) -> str:
        """Digest of the prompt and the draw."""
        return digest_of({"prompt": self.prompt, "draw": self.draw})

    @property
    def seed(self) -> int:
        """31 bits for the model's sampling, a function of prompt and draw."""
        return int(self.key[:8], 16) >> 1


@dataclass(frozen=True)
class Answer:
    """A reply, or why there is none.

    Args:
        text (`str`): the reply, whatever it is.
        failure (`str`, *optional*): one of `FAILURES`.
    """

    text: str = ""
    failure: str | None = None


@runtime_checkable
class Generator(Protocol):
    """The interface to a model, as `SyntheticNegatives` uses it."""

    @property
    def identity(self) -> Mapping[str, Any] | None:
        """Plain values on which replies depend besides the ask; `None` where they are unknown, so nothing is stored."""

    def generate(self, asks: Sequence[Ask]) -> Iterator[tuple[int, Answer]]:
        """Yield positions in `asks` and their answers, in any order, each as soon as it is there."""


def load_generator(generator: Any) -> Generator:
    """Make a generator of what a user passes.

    Raises:
        ConfigError: that is neither a generator nor callable.
    """
    if isinstance(generator, Generator):
        return generator
    if callable(generator):
        return CallableGenerator(generator)
    raise ConfigError(
        f"generator= got a {type(generator).__name__}; allowed are an EndpointGenerator, a LocalGenerator, or a "
        "callable list[str] -> list[str]."
    )


@dataclass(frozen=True)
class CallableGenerator:
    """Any function from prompts to replies.

    Args:
        function (`Callable[[list[str]], list[str]]`): its attribute `digest`, a string that changes whenever its
            replies do, lets replies be stored; without it every run asks again.
    """

    function: Callable[[list[str]], list[str]]

    @property
    def identity(self) -> Mapping[str, Any] | None:
        """The function's `digest`."""
        digest = getattr(self.function, "digest", None)
        return {"callable": digest} if isinstance(digest, str) else None

    def generate(self, asks: Sequence[Ask]) -> Iterator[tuple[int, Answer]]:
        """Call the function, as `Generator` says.

        Raises:
            DataError: the function did not return one string for each prompt.
        """
        returned: Any = self.function([ask.prompt for ask in asks])
        replies = list(returned) if isinstance(returned, Iterable) else [returned]
        if len(replies) != len(asks) or not all(isinstance(reply, str) for reply in replies):
            raise DataError(
                f"The generator returned {len(replies)} replies to {len(asks)} prompts, of types "
                f"{sorted({type(reply).__name__ for reply in replies})}; it must return one string for each, in order."
            )
        yield from ((place, Answer(reply)) for place, reply in enumerate(replies))


@dataclass(frozen=True, kw_only=True)
class LocalGenerator:
    """A transformers causal language model on this machine, sampled at a temperature.

    Each prompt is run by itself, on CPU in one thread, with noise seeded by the ask: a reply does not depend on what
    else is asked, nor in which process. Special tokens in a prompt are taken apart, so that the texts of a dataset
    cannot end the user's turn.

    Args:
        model (`str`): a local folder or Hub id.
        temperature (`float`, defaults to 0.8), max_tokens (`int`, defaults to 1024): of the replies.
        device (`str`, defaults to `"auto"`): a GPU if there is one.
        trust_remote_code (`bool`, defaults to `False`): whether Python code in the model's folder is run, which is then
            part of the identity. Without, a model that needs its own code is refused.

    Raises:
        ModelError: there is no such model. ConfigError: an argument cannot work.
    """

    model: Name
    temperature: AboveZero = 0.8
    max_tokens: AtLeastOne = 1024
    device: Name = "auto"
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        check_device(self.device)
        _ = self._folder

    @property
    def identity(self) -> Mapping[str, Any]:
        """The content of the model's files, and how it decodes."""
        return {
            "local": digest_of((module_digests if self.trust_remote_code else content_digests)(self._folder)),
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
        }

    def generate(self, asks: Sequence[Ask]) -> Iterator[tuple[int, Answer]]:
        """Sample the replies, as `Generator` says."""
        single_thread_in_child()
        on_cpu = resolved_device(self.device) == "cpu"
        _ = self._loaded
        with torch_threads(threads() if on_cpu else 1) as pool:
            yield from enumerate(pool.map(self._answer, asks))

    def _answer(self, ask: Ask) -> Answer:
        import torch
        from transformers import LogitsProcessorList

        model, tokenizer = self._loaded
        prompt = taken_apart(ask.prompt, tokenizer.all_special_tokens)
        if tokenizer.chat_template:
            turn, options = [{"role": "user", "content": prompt}], {"add_generation_prompt": True, "return_dict": True}
            inputs = tokenizer.apply_chat_template(turn, return_tensors="pt", **options).to(model.device)
        else:
            inputs = tokenizer(prompt, return_tensors="pt").to(model.device)
        noise = _Noise(torch.Generator(device=model.device).manual_seed(ask.seed), self.temperature)
        with torch.inference_mode():
            output = model.generate(
                **inputs,
                do_sample=False,
                max_new_tokens=self.max_tokens,
                logits_processor=LogitsProcessorList([noise]),
                pad_token_id=tokenizer.pad_token_id or tokenizer.eos_token_id,
            )
        return Answer(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))

    @functools.cached_property
    def _folder(self) -> str:
        folder = model_folder(self.model, otherwise="an EndpointGenerator, or a callable")
        check_family(family_of_folder(folder), "model", repr(self.model))
        check_complete(folder, self.model)
        return str(folder)

    @functools.cached_property
    def _loaded(self) -> tuple[Any, Any]:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        device = device_here(self.device, instead="serve the model and use EndpointGenerator")
        trusted = self.trust_remote_code
        otherwise = "a text-generation model of transformers, or serve it and use EndpointGenerator"
        with loading(self._folder, otherwise=otherwise):
            model = AutoModelForCausalLM.from_pretrained(self._folder, trust_remote_code=trusted).to(device).eval()
            return model, AutoTokenizer.from_pretrained(self._folder, trust_remote_code=trusted)

    def __getstate__(self) -> dict[str, Any]:
        return {setting.name: getattr(self, setting.name) for setting in fields(self)}


def taken_apart(prompt: str, special: Sequence[str]) -> str:
    """Put a space into each special token of a prompt, so that it is read as text."""
    for token in special:
        prompt = prompt.replace(token, f"{token[:1]} {token[1:]}")
    return prompt


class _Noise:
    """Turns the greedy choice into a sample: the largest of `logits / temperature - log(-log u)`."""

    def __init__(self, generator: Any, temperature: float) -> None:
        self.generator, self.temperature = generator, temperature

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        import torch

        uniform = torch.rand(scores.shape, generator=self.generator, device=scores.device)
        return scores / self.temperature - torch.log(-torch.log(uniform.clamp(1e-7, 1 - 1e-7)))
