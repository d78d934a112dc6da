"""A whole small model of random weights: llama.cpp, mlx-lm and mlx-lm patched, in turns."""

from __future__ import annotations

import contextlib
import ctypes
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx_lm
import numpy as np
from gguf import GGMLQuantizationType
from mlx_lm.models.cache import make_prompt_cache

import deltamoe
from bench.peers import ggml
from bench.peers.arms import Arm, Timing, measure
from bench.peers.gguf_model import write_gguf
from deltamoe.errors import DeltamoeError
from deltamoe.synthetic import write_model

__all__ = ["Report", "run"]

Array = np.ndarray[Any, Any]
KINDS = ("Q4_1", "Q4_0")
"""The same numbers as MLX's, and what is faster there but rounded anew. Q4_K wants rows of 256, which tiny has not."""
MOST_ERROR = {"deltamoe": 0.1, "mlx-lm": 0.2, "llama.cpp Q4_1": 0.1, "llama.cpp Q4_0": 1.0}
"""Median error of a logit, in standard deviations of them: where two experts are nearly as good a rounding chooses."""
DECODED = 16


@dataclass(frozen=True)
class Report:
    """Seconds of a prefill of the prompt, and of ``DECODED`` tokens after it."""

    geometry: str
    layers: int
    prompt: int
    prefill: tuple[Timing, ...]
    decode: tuple[Timing, ...]


@dataclass(frozen=True)
class _Side:
    name: str
    prefill: Callable[[Array], Array]
    """From nothing; the logits of the last token."""
    token: Callable[[int], Array]


def run(
    geometry: str, layers: int, prompt: int, seconds: float, threads: int, *, stock: bool, step: Callable[[str], object]
) -> Report:
    """Write the model in both formats, compare logits, measure.

    Args:
        stock: whether mlx-lm as it is runs too: with large models it takes minutes on a CPU.

    Raises:
        DeltamoeError: logits that are wrong; no llama-cpp-python.
    """
    with tempfile.TemporaryDirectory(prefix="deltamoe-peers-") as folder, contextlib.ExitStack() as stack:
        step("write the model")
        model = write_model(Path(folder) / "model", geometry, layers)
        ids = np.random.default_rng(0).integers(0, 1000, prompt + DECODED)
        sides = [stack.enter_context(_mlx(model, patched)) for patched in ((True, False) if stock else (True,))]
        for kind in KINDS:
            step(f"write it as GGUF, {kind}")
            file = Path(folder) / f"{kind}.gguf"
            write_gguf(model, file, GGMLQuantizationType[kind])
            sides.append(stack.enter_context(_llama(file, kind, threads, prompt + DECODED)))
        step("logits in float32")
        want = _reference(model, ids[:prompt])
        errors = {}
        for side in sides:
            step(f"logits: {side.name}")
            errors[side.name] = float(np.median(np.abs(side.prefill(ids[:prompt]) - want)) / np.std(want))
        step("prefill")
        prefills = [partial(side.prefill, ids[:prompt]) for side in sides]
        prefill = measure([_arm(s, errors, run) for s, run in zip(sides, prefills, strict=True)], seconds)
        step("decode")
        arms = [_arm(s, errors, partial(_decode, s, ids[prompt:]), run) for s, run in zip(sides, prefills, strict=True)]
        decode = measure(arms, seconds)
        return Report(geometry, layers, prompt, prefill, decode)


def _arm(
    side: _Side, errors: dict[str, float], call: Callable[[], object], before: Callable[[], object] | None = None
) -> Arm:
    return Arm(side.name, [call], errors[side.name], MOST_ERROR[side.name], before=before)


def _decode(side: _Side, ids: Array) -> None:
    """Go on for so many tokens, one by one."""
    for number in ids:
        side.token(int(number))


@contextlib.contextmanager
def _mlx(path: Path, patched: bool) -> Iterator[_Side]:
    """As mlx-lm generates: the cache is evaluated for all tokens but the last, which then has its logits."""
    model = mlx_lm.load(str(path))[0]
    cache: list[Any] = []

    def token(number: int) -> Array:
        return np.array(model(mx.array([[number]]), cache=cache)[0, -1].astype(mx.float32))

    def prefill(ids: Array) -> Array:
        cache[:] = make_prompt_cache(model)
        model(mx.array(ids[None, :-1]), cache=cache)
        mx.eval([entry.state for entry in cache])
        return token(int(ids[-1]))

    with deltamoe.patched(model) if patched else contextlib.nullcontext():  # this model only
        yield _Side("deltamoe" if patched else "mlx-lm", prefill, token)


def _reference(path: Path, ids: Array) -> Array:
    """mlx-lm with every float in float32."""
    model = mlx_lm.load(str(path))[0]
    model.set_dtype(mx.float32)
    return np.array(model(mx.array(ids[None]))[0, -1])


@contextlib.contextmanager
def _llama(file: Path, kind: str, threads: int, context: int) -> Iterator[_Side]:
    llama, _ = _llama_cpp()
    parameters = llama.llama_model_default_params()
    model = llama.llama_model_load_from_file(str(file).encode(), parameters)
    if not model:
        raise DeltamoeError(f"llama.cpp does not load {file.name}: is it the llama-cpp-python of pyproject.toml?")
    settings = llama.llama_context_default_params()
    settings.n_ctx, settings.n_batch, settings.n_ubatch = context, context, context
    settings.n_threads = settings.n_threads_batch = threads
    settings.no_perf = True
    state = llama.llama_init_from_model(model, settings)
    vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))

    def decode(ids: Array) -> Array:
        tokens = (llama.llama_token * len(ids))(*map(int, ids))
        status = llama.llama_decode(state, llama.llama_batch_get_one(tokens, len(ids)))
        if status != 0:
            raise DeltamoeError(f"llama_decode of {len(ids)} tokens ended with status {status}")
        return np.ctypeslib.as_array(llama.llama_get_logits_ith(state, -1), (vocabulary,)).copy()

    def prefill(ids: Array) -> Array:
        llama.llama_memory_clear(llama.llama_get_memory(state), True)
        return decode(ids)

    try:
        yield _Side(f"llama.cpp {kind}", prefill, lambda number: decode(np.array([number])))
    finally:
        llama.llama_free(state)
        llama.llama_model_free(model)


@cache
def _llama_cpp() -> tuple[Any, Any]:
    """The package, silenced, and the callback that silences it, which must live as long."""
    ggml.library_folder()
    import llama_cpp

    silent = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(silent, ctypes.c_void_p())
    return llama_cpp, silent
