"""The real runner on a real, tiny model: what it runs is counted, never how long it takes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from mlx_lm.models.cache import make_prompt_cache

import deltamoe
from deltamoe.patch import registry
from deltamoe.synthetic import write_model
from deltamoe.track import runner as module
from deltamoe.track.record import PATCHED, STOCK, Cell
from deltamoe.track.runner import ModelRunner


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "tiny", "tiny", dtype="float32")


@pytest.fixture(scope="module")
def runner(path: Path) -> ModelRunner:
    return ModelRunner(str(path))


@pytest.fixture
def shapes(runner: ModelRunner, monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[int, ...], int, bool]]:
    """Of each call of the model: the shape of its tokens, how many came before, whether it was patched."""
    seen: list[tuple[tuple[int, ...], int, bool]] = []
    model_class = type(runner._model)
    call = model_class.__call__

    def spy(self: object, inputs: mx.array, cache: list[object] | None = None, **kwargs: object) -> mx.array:
        assert cache is not None
        offset = cache[3].offset  # of the layer with attention  # type: ignore[attr-defined]
        before = int(offset if isinstance(offset, int) else offset.max())
        seen.append((inputs.shape, before, deltamoe.status().patched))
        return call(self, inputs, cache=cache, **kwargs)

    monkeypatch.setattr(model_class, "__call__", spy)
    monkeypatch.setattr(module, "SAMPLE_SECONDS", 0.0)
    return seen


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("side", [PATCHED, STOCK])
def test_prefill_runs_the_prompt(runner: ModelRunner, shapes: list, side: str, batch: int) -> None:
    assert runner.measure(Cell("prefill", prompt=20, batch=batch), side) > 0
    assert shapes.pop(0)[0] == (1, 1)  # untimed
    assert sum(shape[1] for shape, before, _ in shapes if before < 20) == 20
    assert {shape[0] for shape, _, _ in shapes} == {batch}
    assert {active for _, _, active in shapes} == {side == PATCHED}


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("depth", [0, 17])
@pytest.mark.parametrize("side", [PATCHED, STOCK])
def test_decoding_runs_tokens_after_the_depth(
    runner: ModelRunner, shapes: list, side: str, depth: int, batch: int
) -> None:
    cell = Cell("decode", depth=depth, tokens=6, batch=batch)
    runner._caches(batch, depth)  # made once, before
    shapes.clear()
    for _ in range(2):  # the second sample begins where the first one did
        assert runner.measure(cell, side) > 0
        assert shapes.pop(0)[0] == (1, 1)  # untimed
        assert {shape for shape, _, _ in shapes} == {(batch, 1)}
        assert [before for _, before, _ in shapes][:7] == list(range(depth, depth + 7))
        assert {active for _, _, active in shapes} == {side == PATCHED}
        shapes.clear()


def test_deciding_what_runs_is_not_timed(runner: ModelRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each patching looks at every module anew."""
    begun: list[bool] = []
    build = registry._build
    monkeypatch.setattr(registry, "_build", lambda *arguments: begun.append(bool(reads)) or build(*arguments))
    reads: list[None] = []
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: reads.append(None) or float(len(reads))))
    runner._run(PATCHED, runner._prompts(1, 4), None, 1)
    assert begun
    assert not any(begun)


@pytest.mark.parametrize("batch", [1, 3])
def test_as_many_tokens_are_timed_as_are_counted(
    runner: ModelRunner, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    """A clock that ticks once each time it is read makes the rate known: one token of each sequence a tick."""
    ticks = iter(range(10**6))
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    assert runner.measure(Cell("decode", depth=4, tokens=6, batch=batch), PATCHED) == batch
    assert runner.measure(Cell("prefill", prompt=9, batch=batch), PATCHED) == 9 * batch


def test_short_runs_are_repeated_within_a_sample(runner: ModelRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    monkeypatch.setattr(runner, "_run", lambda *arguments: runs.append(arguments) or [0.0, 0.1, 0.2])
    ticks = iter(np.arange(0, 100, 0.1))
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    assert runner.measure(Cell("prefill", prompt=10), PATCHED) == pytest.approx(100)
    assert len(runs) == 3  # 0.1, 0.2, 0.3 s: more than SAMPLE_SECONDS


def test_the_cache_at_a_depth_is_that_of_a_prefill(runner: ModelRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PREFILL_STEP", 8)
    caches = runner._caches(2, 19)
    assert caches is not None
    for prompt, cache in zip(runner._prompts(2, 19), caches, strict=True):
        expected = make_prompt_cache(runner._model)
        runner._model(mx.array([prompt]), cache=expected)
        for ours, theirs in zip(cache, expected, strict=True):
            for (_, one), (_, other) in zip(tree_flatten(ours.state), tree_flatten(theirs.state), strict=True):
                if one is None:
                    assert other is None
                    continue
                np.testing.assert_allclose(np.array(one), np.array(other), atol=1e-4)


def test_sequences_of_a_batch_differ_and_are_the_same_each_time(runner: ModelRunner) -> None:
    prompts = runner._prompts(4, 50)
    assert len({tuple(prompt) for prompt in prompts}) == 4
    assert prompts == runner._prompts(4, 50)
    assert runner._prompts(1, 5, 45)[0] == runner._prompts(1, 50)[0][45:]
    assert len(runner._prompts(1, 10 * len(runner._ids))[0]) == 10 * len(runner._ids)  # longer than the text


def test_facts(runner: ModelRunner, path: Path, tmp_path: Path) -> None:
    assert runner.facts["model"] == "tiny"
    assert runner.facts["dtype"] == "float32"
    other = write_model(tmp_path / "other", "tiny", dtype="float32", seed=1)
    assert module._hash_of_model(other) != runner.facts["model_hash"]
    same = write_model(tmp_path / "same", "tiny", dtype="float32")
    assert module._hash_of_model(same) == runner.facts["model_hash"]
