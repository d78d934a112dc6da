"""The model directories that ``deltamoe.synthetic`` writes, read back with stock mlx-lm."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from pathlib import Path

import mlx.core as mx
import mlx_lm
import pytest
from mlx.utils import tree_flatten
from mlx_lm.utils import get_total_parameters

from deltamoe import synthetic
from deltamoe.errors import DeltamoeError
from deltamoe.synthetic import GEOMETRIES, skeleton, write_model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "tiny", "tiny")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> str:
    """A geometry of tiny's shape whose weights are drawn as codes, as the big ones' are."""
    monkeypatch.setitem(GEOMETRIES, "small", GEOMETRIES["tiny"])
    return "small"


def weights(path: Path) -> dict[str, mx.array]:
    return {name: x for file in path.glob("model*.safetensors") for name, x in mx.load(str(file)).items()}


@pytest.mark.parametrize(
    ("geometry", "total", "active"), [("35b-a3b", 35, 3), ("122b-a10b", 122, 10), ("397b-a17b", 397, 17)]
)
def test_a_geometry_has_the_parameters_in_its_name(geometry: str, total: int, active: int) -> None:
    shape = GEOMETRIES[geometry]
    count = get_total_parameters(skeleton(geometry)[0])
    expert = 3 * shape.hidden_size * shape.moe_intermediate_size
    idle = shape.num_hidden_layers * (shape.num_experts - shape.num_experts_per_tok) * expert
    embedding = shape.vocab_size * shape.hidden_size  # looked up, not multiplied
    assert count / 1e9 == pytest.approx(total, rel=0.015)
    assert (count - idle - embedding) / 1e9 == pytest.approx(active, abs=1)


def test_stock_mlx_lm_loads_and_generates(tiny: Path) -> None:
    model, tokenizer = mlx_lm.load(str(tiny))
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": "Hello"}], add_generation_prompt=True)
    responses = list(mlx_lm.stream_generate(model, tokenizer, prompt, max_tokens=8))
    assert 1 <= len(responses) <= 8
    logits = model(mx.array([prompt])).astype(mx.float32)
    assert mx.isfinite(logits).all()
    assert 0.5 < mx.std(logits, axis=-1).min().item() < 2


def test_layout_and_config_are_those_of_mlx_lm_convert(tiny: Path) -> None:
    config = json.loads((tiny / "config.json").read_text())
    assert config["model_type"] == "qwen3_5_moe"
    assert config["quantization"] == config["quantization_config"]
    overrides = {name: value for name, value in config["quantization"].items() if isinstance(value, dict)}
    gates = [f"language_model.model.layers.{i}.mlp.{g}" for i in range(4) for g in ("gate", "shared_expert_gate")]
    assert sorted(overrides) == sorted(gates)
    model = mlx_lm.load(str(tiny))[0]
    bits = {name: (m.bits, m.group_size) for name, m in model.named_modules() if "scales" in m}
    assert {name for name, value in bits.items() if value == (8, 64)} == set(gates)
    assert {value for name, value in bits.items() if name not in gates} == {(4, 64)}
    assert {"language_model.model.embed_tokens", "language_model.lm_head"} < bits.keys()


@pytest.mark.parametrize("dtype", synthetic.DTYPES)
def test_dtype_is_that_of_every_float_but_a_log(tmp_path: Path, dtype: str) -> None:
    found = weights(write_model(tmp_path, "tiny", dtype=dtype))
    floats = {name: x.dtype for name, x in found.items() if x.dtype != mx.uint32}
    assert {kind for name, kind in floats.items() if not name.endswith("A_log")} == {getattr(mx, dtype)}
    assert {kind for name, kind in floats.items() if name.endswith("A_log")} == {mx.float32}


def test_drawn_codes_have_the_layout_of_quantised_weights(tmp_path: Path, tiny: Path, small: str) -> None:
    drawn = weights(write_model(tmp_path / "small", small))
    quantised = weights(tiny)
    assert {name: (x.shape, x.dtype) for name, x in drawn.items()} == {
        name: (x.shape, x.dtype) for name, x in quantised.items()
    }
    assert len(list((tmp_path / "small").glob("model-*-of-00005.safetensors"))) == 5
    index = json.loads((tmp_path / "small" / "model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == drawn.keys()
    assert index["metadata"]["total_size"] == sum(x.nbytes for x in drawn.values())


def test_drawn_codes_have_zero_mean_and_variance_of_one_over_fan_in(tmp_path: Path, small: str) -> None:
    model = mlx_lm.load(str(write_model(tmp_path / "small", small)))[0]
    for name, module in model.named_modules():
        if "scales" in module:
            w = mx.dequantize(
                module.weight, module.scales, module.biases, group_size=module.group_size, bits=module.bits
            ).astype(mx.float32)
            expected = 1.0 if "embed_tokens" in name else w.shape[-1] ** -0.5
            assert mx.std(w).item() == pytest.approx(expected, rel=0.25), name
            assert abs(mx.mean(w).item()) < 5 * expected / w.size**0.5 + 0.01 * expected, name
    hidden = model.model(mx.arange(64)[None]).astype(mx.float32)
    assert mx.isfinite(hidden).all()
    assert mx.std(hidden, axis=-1).min().item() > 0.5


@pytest.mark.parametrize("geometry", ["tiny", "small"])
def test_the_seed_decides_the_weights(tmp_path: Path, small: str, geometry: str) -> None:
    first, again, other = (
        weights(write_model(tmp_path / name, geometry, seed=seed)) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert all(mx.array_equal(first[name], again[name]) for name in first)
    assert not any(mx.array_equal(first[name], other[name]) for name in first)


def test_every_id_decodes_and_text_survives_a_round_trip(tiny: Path) -> None:
    tokenizer = mlx_lm.load(str(tiny), lazy=True)[1]
    tokens = tokenizer.convert_ids_to_tokens(list(range(GEOMETRIES["tiny"].vocab_size)))
    assert None not in tokens
    assert len(set(tokens)) == len(tokenizer.get_vocab()) == GEOMETRIES["tiny"].vocab_size
    text = "The for statement: naïve, 漢字 \U0001f600\n\ttabs"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode("The for statement")) < 6
    assert tokenizer.eos_token_ids == {tokenizer.convert_tokens_to_ids("<|im_end|>")}


def test_a_large_vocabulary_is_filled() -> None:
    tokenizer = synthetic._tokenizer(50_000)
    tokens = tokenizer.convert_ids_to_tokens(list(range(50_000)))
    assert None not in tokens
    assert len(set(tokens)) == len(tokenizer) == 50_000


def test_chat_template_thinks_unless_told_not_to(tiny: Path) -> None:
    tokenizer = mlx_lm.load(str(tiny), lazy=True)[1]
    messages = [{"role": "user", "content": "Hi"}]
    start = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n"
    thinking = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    direct = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False, enable_thinking=False)
    assert thinking == start
    assert direct == start + "\n</think>\n\n"


def test_a_model_that_is_there_already_is_kept(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model", "tiny")
    before = (path / "model.safetensors").stat().st_mtime_ns
    write_model(path, "tiny")
    assert (path / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(DeltamoeError, match="holds something else"):
        write_model(path, "tiny", seed=1)
    (path / "config.json").unlink()  # as after an interrupted write
    with pytest.raises(DeltamoeError, match="holds something else"):
        write_model(path, "tiny")


def test_skeleton_costs_no_memory() -> None:
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    model, _ = skeleton("35b-a3b")
    assert sum(x.nbytes for _, x in tree_flatten(model.parameters())) > 19e9
    assert mx.get_peak_memory() - before < 1e8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"geometry": "huge"}, "unknown geometry 'huge'; choose one of tiny, 35b-a3b"),
        ({"dtype": "int8"}, "unknown dtype 'int8'"),
        ({"layers": 3}, "3 layers are too few"),
        ({"layers": 0}, "0 layers are too few"),
        ({"layers": -4}, "-4 layers are too few"),
    ],
)
def test_wrong_arguments(tmp_path: Path, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(DeltamoeError, match=message):
        write_model(**{"path": tmp_path / "model", "geometry": "tiny"} | arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "model").exists()


def test_a_full_disk_is_found_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 10**6))
    with pytest.raises(DeltamoeError, match=r"0\.0 GB free and the model needs 0\.0 GB"):
        write_model(tmp_path, "tiny")
    assert not list(tmp_path.iterdir())
