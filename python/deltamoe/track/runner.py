"""Times mlx-lm's own loops on one model: prefill and decode, patched and stock."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx_lm
from mlx.utils import tree_flatten
from mlx_lm.generate import BatchGenerator, generate_step, generation_stream, wired_limit
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import hf_repo_to_path

import deltamoe
from deltamoe.errors import DeltamoeError
from deltamoe.synthetic import corpus
from deltamoe.track.record import PATCHED, Cell

__all__ = ["ModelRunner"]

SAMPLE_SECONDS = 0.25  # a shorter run is repeated within a sample
PREFILL_STEP = 2048  # mlx-lm's own
HASHED_BYTES = 2**20  # of either end of a file of weights

Caches = list[list[Any]]  # of each sequence, of each layer


class ModelRunner:
    """Measures a model's tokens per second as a person gets them: by ``generate_step``, or ``BatchGenerator``."""

    def __init__(self, model: str) -> None:
        """Load a model.

        Args:
            model: a directory, or a Hugging Face repository.
        """
        self._model, tokenizer, *_ = mlx_lm.load(model)
        self._ids: list[int] = tokenizer.encode(corpus())
        self._begun: dict[tuple[int, int], Caches] = {}
        path = Path(model) if Path(model).exists() else hf_repo_to_path(model)
        self.facts = {
            "model": path.resolve().name if Path(model).exists() else model,
            "model_hash": _hash_of_model(path),
            "dtype": _dtype(self._model),
        }

    def measure(self, cell: Cell, side: str) -> float:
        """One sample.

        Returns:
            Tokens per second, of all sequences of the batch together.
        """
        tokens, seconds, begin = 0, 0.0, time.perf_counter()
        while True:
            if cell.kind == "prefill":
                moments = self._run(side, self._prompts(cell.batch, cell.prompt), None, 0)
                seconds += moments[1] - moments[0]  # to the first token, as mlx-lm counts
                tokens += cell.batch * cell.prompt
            else:
                caches = self._caches(cell.batch, cell.depth)
                moments = self._run(side, self._prompts(cell.batch, 1, cell.depth), caches, cell.tokens)
                seconds += moments[-1] - moments[1]  # the first token comes with the prompt
                tokens += cell.batch * cell.tokens
            if time.perf_counter() - begin > SAMPLE_SECONDS:
                break
        if seconds <= 0:
            raise DeltamoeError(f"{cell.name}: the clock did not advance; ask for more tokens")
        return tokens / seconds

    def _prompts(self, batch: int, tokens: int, begin: int = 0) -> list[list[int]]:
        """As many tokens of English text for each sequence, from different places of it."""
        count = len(self._ids)
        starts = [sequence * count // batch + begin for sequence in range(batch)]
        return [[self._ids[(start + i) % count] for i in range(tokens)] for start in starts]

    def _caches(self, batch: int, depth: int) -> Caches | None:
        """Caches of sequences of this many tokens, made once, by the kernels, and the same for both sides."""
        if depth == 0:
            return None
        if (batch, depth) not in self._begun:
            caches = [make_prompt_cache(self._model) for _ in range(batch)]
            with deltamoe.patched():
                for prompt, cache in zip(self._prompts(batch, depth), caches, strict=True):
                    for begin in range(0, depth, PREFILL_STEP):
                        self._model(mx.array([prompt[begin : begin + PREFILL_STEP]]), cache=cache)
                        mx.eval([layer.state for layer in cache])
            self._begun[batch, depth] = caches
        return copy.deepcopy(self._begun[batch, depth])

    def _run(self, side: str, prompts: list[list[int]], caches: Caches | None, tokens: int) -> list[float]:
        """Generate; the moments, by a monotonic clock, of the start and of each token; one more than asked for."""
        patched = deltamoe.patched() if side == PATCHED else contextlib.nullcontext()
        run = self._batch if len(prompts) > 1 else self._single
        with patched, wired_limit(self._model, [generation_stream]):  # type: ignore[list-item] # as mlx-lm does
            # One token, untimed: the first call after patching looks at every module, which a person pays for once.
            mx.eval(self._model(mx.array([prompts[0][:1]]), cache=make_prompt_cache(self._model)))
            moments = [time.perf_counter()]
            moments += [time.perf_counter() for _ in run(prompts, caches, tokens)]
            mx.synchronize(generation_stream)  # mlx-lm may have begun one token more
        return moments

    def _single(self, prompts: list[list[int]], caches: Caches | None, tokens: int) -> Iterator[None]:
        cache = make_prompt_cache(self._model) if caches is None else caches[0]
        for _ in generate_step(mx.array(prompts[0]), self._model, max_tokens=tokens + 1, prompt_cache=cache):
            yield

    def _batch(self, prompts: list[list[int]], caches: Caches | None, tokens: int) -> Iterator[None]:
        size = len(prompts)
        generator = BatchGenerator(
            self._model, max_tokens=tokens + 1, completion_batch_size=size, prefill_batch_size=size
        )
        with contextlib.closing(generator):
            generator.insert(prompts, caches=caches)
            while generator.next_generated():
                yield


def _dtype(model: Any) -> str:
    """Of the parameters that are not quantised, by most elements."""
    sizes: dict[str, int] = {}
    for _, value in tree_flatten(model.parameters()):
        if mx.issubdtype(value.dtype, mx.floating):
            name = str(value.dtype).removeprefix("mlx.core.")
            sizes[name] = sizes.get(name, 0) + value.size
    return max(sizes, key=sizes.__getitem__)


def _hash_of_model(path: Path) -> str:
    """Of the configuration and of name, size and both ends of each file of weights: 16 hexadecimal digits."""
    found = hashlib.sha256((path / "config.json").read_bytes())
    for file in sorted(path.glob("*.safetensors")):
        size = file.stat().st_size
        found.update(f"{file.name}\0{size}\0".encode())
        with file.open("rb") as data:
            found.update(data.read(HASHED_BYTES))
            data.seek(max(0, size - HASHED_BYTES))
            found.update(data.read())
    return found.hexdigest()[:16]
