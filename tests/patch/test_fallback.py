"""What the kernels do not cover runs mlx-lm's own code, with its own result, and the status says why."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten
from mlx_lm.models.cache import ArraysCache, KVCache
from mlx_lm.models.qwen3_next import Qwen3NextMLP
from mlx_lm.models.switch_layers import SwiGLU
from mlx_lm.tuner.utils import linear_to_lora_layers

import deltamoe
from tests.patch.models import KINDS, both, build, layers_of, prefill_and_decode, share, tokens
from tests.patch.test_agreement import assert_agree, assert_dtypes, assert_ours_alone

MOE = "Qwen3NextSparseMoeBlock"


def assert_same(model: nn.Module) -> None:
    assert_agree(*both(lambda: prefill_and_decode(model)))


def reasons(part: str, model: nn.Module) -> list[str]:
    """Why ``part`` runs mlx-lm's code: of the modules, after checking that the calls tell the same."""
    with deltamoe.patched():
        of_modules = share(part, model)[2]
        model(tokens(1, 4))
        of_calls = share(part)[2]
    assert of_modules == of_calls
    return of_calls


class Own(nn.Module):
    """Wraps a child and counts its calls."""

    def __init__(self, child: nn.Module) -> None:
        super().__init__()
        self.child = child
        self.calls = 0

    def __call__(self, *args: Any, **kwargs: Any) -> mx.array:
        self.calls += 1
        return self.child(*args, **kwargs)


@pytest.mark.parametrize("kind", KINDS)
def test_lora(kind: str) -> None:
    model = build(kind)
    linear_to_lora_layers(model, 4, {"rank": 2, "scale": 5.0, "dropout": 0.0})
    for name, module in model.named_modules():
        if "lora_b" in module:
            module.lora_b = mx.random.normal(module.lora_b.shape, scale=0.1, key=mx.random.key(len(name)))
    model.eval()
    assert_same(model)
    assert reasons("Qwen3NextAttention.q_proj", model) == ["LoRALinear is not QuantizedLinear"]
    if kind == "qwen3_5_moe":
        assert reasons(MOE, model) == ["switch_mlp.gate_proj: LoRASwitchLinear is not QuantizedSwitchLinear"]


@pytest.mark.parametrize(
    ("part", "name", "row"),
    [
        ("linear_attn", "in_proj_a", "GatedDeltaNet.in_proj_a"),
        ("linear_attn", "out_proj", "GatedDeltaNet.out_proj"),
        ("linear_attn", "conv1d", "GatedDeltaNet"),
        ("linear_attn", "norm", "GatedDeltaNet"),
        ("self_attn", "k_proj", "Qwen3NextAttention.k_proj"),
        ("self_attn", "q_norm", "Qwen3NextAttention.q_norm"),
        ("mlp", "gate", f"{MOE}.gate"),
        ("mlp", "switch_mlp", MOE),
        ("mlp", "shared_expert", f"{MOE}.shared_expert"),
        ("mlp", "shared_expert_gate", f"{MOE}.shared_expert"),
    ],
)
def test_a_hooked_child_is_called(part: str, name: str, row: str) -> None:
    model = build("qwen3_5_moe")
    parent = layers_of(model, part)[0]
    with deltamoe.patched():
        model(tokens(1, 3))  # the hook comes after the first decision
        parent[name] = hook = Own(parent[name])
        model(tokens(1, 3))
        assert hook.calls == 1
    assert_same(model)
    assert [reason for reason in reasons(row, model) if "Own is not" in reason]


def test_a_hooked_norm_of_a_layer_is_called() -> None:
    model = build("qwen3_5")
    layer = model.layers[0]
    layer.input_layernorm = hook = Own(layer.input_layernorm)
    assert_same(model)
    assert hook.calls == 10
    assert reasons("DecoderLayer.input_layernorm", model) == ["Own is not RMSNorm"]


@pytest.mark.parametrize("kind", KINDS)
def test_replaced_weights_are_seen(kind: str) -> None:
    """Each array of a model in turn, after a first call has made up the patch's mind."""
    model = build(kind)
    prompt = tokens(1, 3)
    with deltamoe.patched():
        model(prompt)
        for module in model.modules():
            for name, array in list(module.items()):
                if isinstance(array, mx.array) and array.dtype == mx.float32:
                    module[name] = array * 1.25 + 0.01
        ours = model(prompt)
    assert_agree([model(prompt)], [ours])


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_another_dtype_are_seen(kind: str) -> None:
    """Float32 activations stay so with bfloat16 weights; bfloat16 ones would not with float32 weights."""
    model = build(kind)
    with deltamoe.patched():
        model(tokens(1, 3))
        model.set_dtype(mx.bfloat16)
        model.model.embed_tokens.set_dtype(mx.float32)
        ours = model(tokens(1, 3))
        assert_ours_alone()
    assert_agree([model(tokens(1, 3))], [ours])

    model.model.embed_tokens.set_dtype(mx.bfloat16)
    model.layers[0].input_layernorm.set_dtype(mx.float32)
    with deltamoe.patched():
        assert model(tokens(1, 3)).dtype == mx.float32
        layer = type(model.layers[0]).__name__
        assert share(f"{layer}.input_layernorm")[2] == ["activations are bfloat16, which the weights' dtype promotes"]


def test_mixed_dtypes_of_one_layer() -> None:
    """A float32 projection of a bfloat16 model, which MLX promotes by; and scales that are wider than their biases."""
    model = build("qwen3_5", dtype=mx.bfloat16)
    first, second, _ = layers_of(model, "linear_attn")
    first.in_proj_b.set_dtype(mx.float32)
    second.in_proj_b.scales = second.in_proj_b.scales.astype(mx.float32)
    assert_dtypes(*both(lambda: prefill_and_decode(model)))
    with deltamoe.patched():
        model(tokens(1, 3))
        assert share("GatedDeltaNet") == (1, 2, ["projections of another dtype than their input"])
        assert share("GatedDeltaNet.in_proj_b")[2] == [
            "activations are bfloat16, which the weights' dtype promotes",
            "scales and biases of several dtypes",
        ]


def test_training_mode() -> None:
    model = build("qwen3_5_moe")
    model.train()
    assert_agree(*both(lambda: [model(tokens(1, 4))]))
    for part in (MOE, "GatedDeltaNet", "Qwen3NextAttention", "DecoderLayer", "TextModel"):
        assert reasons(part, model) == ["training mode"]
    with deltamoe.patched():
        model.eval()
        model(tokens(1, 4))
        assert share(MOE) == (4, 0, [])


@pytest.mark.parametrize("training", [True, False])
def test_gradients(training: bool) -> None:
    """MLX puts tracers in the place of weights meanwhile, which the patch must neither miss nor keep."""
    model = build("qwen3_5_moe")
    model.train(training)
    model.freeze()
    for layer in model.layers:
        layer.input_layernorm.unfreeze()

    def run() -> list[mx.array]:
        value, gradients = nn.value_and_grad(model, lambda x: mx.square(model(x)).mean())(tokens(1, 4))
        return [value, *(gradient for _, gradient in tree_flatten(gradients))]

    with deltamoe.patched():
        model(tokens(1, 4))
    stock, ours = both(run)
    assert len(stock) == 1 + len(model.layers)
    assert_agree(stock, ours)
    assert share(MOE)[0] == (0 if training else 4)
    assert_agree(*both(lambda: [model(tokens(1, 4))]))


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"bits": 6}, "6-bit weights"),
        ({"bits": 3}, "3-bit weights"),
        ({"mode": "mxfp4", "group_size": 32}, "quantisation mode mxfp4"),
        ({"mode": "nvfp4", "group_size": 16}, "quantisation mode nvfp4"),
    ],
)
def test_other_quantisations(settings: dict[str, Any], why: str) -> None:
    model = build("qwen3_5_moe", **settings)
    assert_agree(*both(lambda: [model(tokens(1, 4))]))
    assert reasons(MOE, model) == [f"switch_mlp.gate_proj: {why}"]
    assert reasons("TextModel.lm_head", model) == [why]
    assert reasons(f"{MOE}.gate", model) == []  # always affine 8-bit


@pytest.mark.parametrize("kind", KINDS)
def test_unquantised(kind: str) -> None:
    model = build(kind, bits=None)
    assert_same(model)
    assert reasons("Qwen3NextAttention.q_proj", model) == ["Linear is not QuantizedLinear"]
    if kind == "qwen3_5_moe":
        assert reasons(MOE, model) == ["switch_mlp.gate_proj: SwitchLinear is not QuantizedSwitchLinear"]
    if kind == "qwen3_5":
        assert reasons("Qwen3NextMLP", model) == ["gate_proj: Linear is not QuantizedLinear"]


def test_mixed_bits() -> None:
    """As of a model whose experts' down_proj has 8 bits, one gate_proj too, and one shared expert has 6."""
    model = build("qwen3_5_moe", bits=None)
    first, second, third, _ = layers_of(model, "mlp")
    special = {
        id(first.switch_mlp.down_proj): 8,
        id(second.switch_mlp.gate_proj): 8,
        id(third.shared_expert.up_proj): 6,
    }
    nn.quantize(
        model,
        class_predicate=lambda _, m: hasattr(m, "to_quantized") and {"group_size": 64, "bits": special.get(id(m), 4)},
    )
    model.eval()
    assert_same(model)
    assert reasons(f"{MOE}.shared_expert", model) == ["up_proj: 6-bit weights"]
    assert share(MOE) == (3, 1, ["switch_mlp.gate_proj and up_proj are quantised differently"])


def test_biases_are_added() -> None:
    model = build("qwen3_5_moe", attention_bias=True)
    attention = layers_of(model, "self_attn")[0]
    for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
        attention[name].bias = mx.random.normal(attention[name].bias.shape, key=mx.random.key(4))
    moe = layers_of(model, "mlp")[0]
    moe.shared_expert.up_proj.bias = mx.ones(128)
    assert_same(model)
    assert reasons("Qwen3NextAttention.q_proj", model) == []
    assert reasons(f"{MOE}.shared_expert", model) == ["up_proj: additive bias"]


def test_other_activations_and_subclasses() -> None:
    class Doubled(SwiGLU):
        def __call__(self, x: mx.array, gate: mx.array) -> mx.array:
            return 2 * super().__call__(x, gate)

    class Halved(Qwen3NextMLP):
        def __call__(self, x: mx.array) -> mx.array:
            return 0.5 * super().__call__(x)

    model = build("qwen3_5_moe")
    first, second, *_ = layers_of(model, "mlp")
    first.switch_mlp.activation = Doubled()
    halved = Halved(128, 128)
    halved.update_modules(dict(second.shared_expert.children()))
    second.shared_expert = halved.eval()
    assert_same(model)
    assert reasons(MOE, model) == ["switch_mlp.activation: Doubled is not SwiGLU"]
    assert reasons(f"{MOE}.shared_expert", model) == ["Halved is not Qwen3NextMLP"]


def test_a_subclass_that_inherits_the_call() -> None:
    class Doubled(nn.QuantizedLinear):
        def __call__(self, x: mx.array) -> mx.array:
            return 2 * super().__call__(x)

    class Mlp(Qwen3NextMLP):
        pass

    model = build("qwen3_5")
    first, second, *_ = layers_of(model, "mlp")
    first.__class__ = Mlp
    second.up_proj.__class__ = Doubled
    assert_same(model)
    assert share("Qwen3NextMLP")[2] == ["Mlp is a subclass", "up_proj: Doubled is not QuantizedLinear"]


@pytest.mark.parametrize("bits", [6, None])
def test_a_tied_embedding_of_another_kind(bits: int | None) -> None:
    model = build("qwen3_5", tie_word_embeddings=True, bits=bits)
    assert_same(model)
    why = "Embedding is not QuantizedEmbedding" if bits is None else "6-bit weights"
    assert reasons("Qwen3_5TextModel.embed_tokens", model) == [why]


def test_a_convolution_with_a_bias() -> None:
    model = build("qwen3_5")
    conv = layers_of(model, "linear_attn")[0].conv1d
    conv.bias = mx.random.normal((conv.weight.shape[0],), key=mx.random.key(4))
    assert_same(model)
    assert reasons("GatedDeltaNet", model) == ["conv1d has a bias"]


def test_sharded() -> None:
    model = build("qwen3_5_moe")
    group = mx.distributed.init()
    model.language_model.sharding_group = group
    for part in ("mlp", "linear_attn"):
        for module in layers_of(model, part):
            module.sharding_group = group
    assert_same(model)
    for part in (MOE, "GatedDeltaNet", "TextModel"):
        assert reasons(part, model) == ["sharded"]


@pytest.mark.parametrize(("dims", "why"), [((48, 64), "head dims 48 and 64"), ((32, 288), "head dims 32 and 288")])
def test_head_dims_of_delta_net(dims: tuple[int, int], why: str) -> None:
    model = build("qwen3_5", linear_key_head_dim=dims[0], linear_value_head_dim=dims[1])
    assert_same(model)
    assert reasons("GatedDeltaNet", model) == [why]


def test_head_dim_of_attention() -> None:
    model = build("qwen3_5", head_dim=40)
    assert_agree(*both(lambda: [model(tokens(1, 4))]))
    assert share("Qwen3NextAttention.scaled_dot_product_attention") == (0, 1, ["head dim 40"])


def test_caches_of_another_kind_or_dtype() -> None:
    class Other:
        lengths = None

        def __init__(self) -> None:
            self.entries: list[Any] = [None, None]

        def __getitem__(self, i: int) -> Any:
            return self.entries[i]

        def __setitem__(self, i: int, value: Any) -> None:
            self.entries[i] = value

        def advance(self, n: int) -> None:
            pass

    layer = layers_of(build("qwen3_5"), "linear_attn")[0]
    x = mx.random.normal((1, 4, 128), key=mx.random.key(3))

    def run() -> list[mx.array]:
        cache = Other()
        y = layer(x, None, cache)
        return [y, layer(x[:, :1], None, cache), *cache.entries]

    assert_agree(*both(run))
    assert share("GatedDeltaNet") == (0, 2, ["Other is not ArraysCache"])

    def halves() -> list[mx.array]:
        cache = ArraysCache(2)
        cache[0] = mx.full((1, 3, 384), 0.5, mx.float16)
        y = layer(x, None, cache)
        cache[1] = cache[1].astype(mx.float16)
        return [y, layer(x[:, :1], None, cache)]

    assert_agree(*both(halves))
    assert sorted(share("GatedDeltaNet")[2]) == ["DeltaNet state is not float32", "conv state of another dtype"]


def test_keys_and_values_of_another_dtype() -> None:
    attention = layers_of(build("qwen3_5"), "self_attn")[0]
    x = mx.random.normal((1, 4, 128), key=mx.random.key(3))

    def run() -> list[mx.array]:
        cache = KVCache()
        attention(x, mask="causal", cache=cache)
        cache.keys, cache.values = cache.keys.astype(mx.float16), cache.values.astype(mx.float16)
        return [attention(x[:, :1], cache=cache)]

    assert_agree(*both(run))
    assert share("Qwen3NextAttention.scaled_dot_product_attention")[2] == [
        "queries, keys, values and gate of several dtypes"
    ]


def test_errors_stay_errors() -> None:
    model = build("qwen3_5_moe")
    wrong = mx.zeros((1, 3, 64))
    for module in (*layers_of(model, "mlp")[:1], *layers_of(model, "self_attn"), *layers_of(model, "linear_attn")[:1]):
        with pytest.raises(ValueError, match=r"."):
            module(wrong)
        with deltamoe.patched(), pytest.raises(ValueError, match=r"."):
            module(wrong)
    assert np.isfinite(np.array(model(tokens(1, 2)))).all()
