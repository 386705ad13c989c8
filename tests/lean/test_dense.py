"""The lean path of DenseBlock against its plain twin, and against torchvision's."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint
from torchvision.models.densenet import _DenseBlock

from gaslayers import DenseBlock, DepthwiseConvNormAct, DepthwiseInceptionBlock, InceptionBlock
from gaslayers.lean.modules import register_known
from gaslayers.testing import feature_maps
from tests.lean.twins import (
    assert_close_twins,
    assert_equal_but_for_moving_statistics,
    lean_in,
    module_bytes,
    step,
    twin_of,
)

LEAN = "one buffer"
# Where another kernel or another order of sums runs, as shares of the largest value.
TOLERANCES = {torch.float32: 1e-6, torch.float64: 1e-12}
LEAKY = partial(nn.LeakyReLU, 0.2)
JOINED = "inception, even kernel"
"""The kind whose branches run as one convolution, which adds up in another order."""


@register_known
class Halving(nn.Module):
    """A norm that multiplies each channel by a constant, and says so."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("scale", torch.linspace(0.4, 0.6, channels))

    def channel_scale(self) -> Tensor:
        return self.scale

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale.view(1, -1, 1, 1)


class OffsetNorm(nn.BatchNorm2d):
    """A batch norm whose weight is a buffer."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-3)
        weight = self.weight.data
        del self.weight
        self.register_buffer("weight", weight)


KINDS: dict[str, dict[str, Any]] = {
    "3x3": {},
    "1x1 with bias": {"layer": partial(nn.Conv2d, kernel_size=1)},
    "5x5 dilated, grouped": {
        "layer": partial(nn.Conv2d, kernel_size=3, padding=2, dilation=2, groups=2)
    },
    "bottleneck": {"bottleneck_factor": 2},
    "inception": {"layer": InceptionBlock},
    JOINED: {"layer": partial(InceptionBlock, bottleneck=False, kernel_sizes=(2, 3))},
    "inception, wider inside": {
        "layer": partial(InceptionBlock, bottleneck_channels=(3, 3), kernel_sizes=(3, 1))
    },
    "depthwise inception": {"layer": DepthwiseInceptionBlock},
    "depthwise inception, norm inside": {
        "layer": partial(
            DepthwiseInceptionBlock, inner_norm_layer=nn.BatchNorm2d, inner_activation_layer=LEAKY
        )
    },
}
SEPARABLE = partial(
    DepthwiseConvNormAct,
    bias=True,
    norm_layer=nn.BatchNorm2d,
    inner_norm_layer=nn.BatchNorm2d,
    inner_activation_layer=nn.ReLU,
)
# Branches that end with a norm or an activation.
KINDS |= {
    "inception, norm after": {"layer": partial(InceptionBlock, norm_layer=nn.BatchNorm2d)},
    "inception, activation after": {
        "layer": partial(InceptionBlock, bottleneck=False, activation_layer=nn.ReLU)
    },
    "depthwise inception, norm after activation": {
        "layer": partial(
            DepthwiseInceptionBlock,
            separable_layer=partial(SEPARABLE, activation_layer=LEAKY, order="act_norm"),
        )
    },
    "depthwise inception, activation after norm": {
        "layer": partial(
            DepthwiseInceptionBlock, separable_layer=partial(SEPARABLE, activation_layer=nn.ReLU)
        )
    },
}
NORMS: dict[str, Any] = {
    "batch norm": nn.BatchNorm2d,
    "cumulative": partial(nn.BatchNorm2d, momentum=None, eps=0.1),
    "without parameters": partial(nn.BatchNorm2d, affine=False),
    "without running statistics": partial(nn.BatchNorm2d, track_running_stats=False),
    "offset only": OffsetNorm,
    "constant": Halving,
    "none": None,
}
ACTIVATIONS: dict[str, Any] = {
    "relu": nn.ReLU,
    "leaky": LEAKY,
    "in place": partial(nn.ReLU, inplace=True),
    "none": None,
}


def build(kind: str = "3x3", in_channels: int = 4, growth_rate: int = 4, **options: Any) -> Any:
    """A block of two layers unless told, with numbers that no channel shares."""
    torch.manual_seed(0)
    block = DenseBlock(
        in_channels,
        growth_rate,
        **{"num_layers": 2, "norm_layer": nn.BatchNorm2d} | KINDS[kind] | options,
    )
    for parameter in block.parameters():
        nn.init.normal_(parameter, 0.3, 0.5)
    return block


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Equal up to rounding, as a share of each tensor's largest value."""
    assert found.keys() == expected.keys()
    sizes = {name: tensor.abs().max().item() for name, tensor in expected.items()}
    for name, tensor in found.items():
        # In front of a norm the gradient of a bias is zero, and what is found is rounding.
        size = max(sizes[name], 1e-3 * max(sizes.values()))
        tolerance = TOLERANCES[expected["output"].dtype] * size
        torch.testing.assert_close(tensor, expected[name], rtol=0.0, atol=tolerance)


@lean_in(0.95)
@settings(max_examples=100)
@given(
    # Channels of a branch or a layer that fill a vector of the kernels, and that do not.
    x=st.sampled_from([4, 8]).flatmap(
        lambda width: feature_maps(
            width,
            max_batch_size=4,
            min_side=2,
            memory_formats=("contiguous", "channels_last"),
        )
    ),
    num_layers=st.integers(1, 3),
    kind=st.sampled_from(sorted(KINDS)),
    norm=st.sampled_from(sorted(NORMS)),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    memory_efficient=st.sampled_from([True, "recompute"]),
    training=st.booleans(),
    input_grad=st.booleans(),
    data=st.data(),
)
def test_block_equals_its_plain_twin(
    x: Tensor, num_layers, kind, norm, activation, memory_efficient, training, input_grad, data
) -> None:
    if norm == "none" and activation == "in place":
        activation = "relu"
    block = build(
        kind,
        *(x.shape[1], x.shape[1]),
        num_layers=num_layers,
        norm_layer=NORMS[norm],
        activation_layer=ACTIVATIONS[activation],
        memory_efficient=memory_efficient,
    ).to(x.dtype)
    block.train(training)
    parameters = list(block.parameters())
    frozen = data.draw(st.lists(st.booleans(), min_size=len(parameters), max_size=len(parameters)))
    for parameter, is_frozen in zip(parameters, frozen, strict=True):
        parameter.requires_grad_(not is_frozen)
    # Where nothing asks for a gradient there is no graph to tell which path ran.
    input_grad = input_grad or all(frozen)
    assert block.execution.path == LEAN
    if kind == JOINED:
        assert_close_twins(block.double(), x.double(), input_grad=input_grad)
    else:
        assert_equal_but_for_moving_statistics(block, x, input_grad=input_grad)


@pytest.mark.parametrize("norm", ["batch norm", "constant"])
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_each_parameter_alone_gets_its_gradient(kind: str, norm: str) -> None:
    block = build(kind, norm_layer=NORMS[norm]).double()
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64)
    for trained in dict(block.named_parameters()):
        alone = copy.deepcopy(block)
        for name, parameter in alone.named_parameters():
            parameter.requires_grad_(name == trained)
        name = f"grad of {trained}"
        expected = step(twin_of(alone), x, input_grad=False)[name]
        found = step(alone, x, input_grad=False)[name]
        # In front of a norm the gradient of a bias is zero, and what is found is rounding.
        tolerance = 1e-12 * max(1.0, expected.abs().max().item()) if kind == JOINED else 0.0
        torch.testing.assert_close(found, expected, rtol=0.0, atol=tolerance, msg=name)


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_single_channels_in_channels_last_memory_equal_plain(dtype: torch.dtype) -> None:
    # One channel is contiguous in both memory formats, and so another kernel sums it.
    x = torch.randn(3, 1, 8, 8, dtype=dtype).contiguous(memory_format=torch.channels_last)
    block = build(in_channels=1, growth_rate=1, num_layers=3).to(dtype)
    twin = twin_of(block)
    assert_close(step(block, x, input_grad=True), step(twin, x, input_grad=True))


@pytest.mark.parametrize(
    ("kind", "training"),
    [
        ("3x3", False),
        ("bottleneck", True),
        (JOINED, True),
        ("depthwise inception, norm after activation", True),
    ],
)
def test_first_and_second_derivatives(kind: str, training: bool) -> None:
    block = build(kind, 2, 2, activation_layer=LEAKY).double().train(training)
    x = torch.randn(2, 2, 2, 3, dtype=torch.float64, requires_grad=True)
    names, parameters = zip(*block.named_parameters(), strict=True)

    def run(x: Tensor, *values: Tensor) -> Tensor:
        buffers = {name: buffer.clone() for name, buffer in block.named_buffers()}
        state = dict(zip(names, values, strict=True))
        return torch.func.functional_call(block, {**state, **buffers}, (x,))

    inputs = (x, *(p.detach().clone().requires_grad_() for p in parameters))
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, inputs, fast_mode=True)


def penalty_step(critic: nn.Module, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
    """One step of a WGAN-GP critic: its loss, all gradients and all buffers."""
    mixed = (0.3 * real + 0.7 * fake).requires_grad_()
    (slope,) = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
    penalty = (slope.flatten(1).norm(dim=1) - 1).square().mean()
    loss = critic(fake).mean() - critic(real).mean() + 10 * penalty
    loss.backward()
    found = {"output": loss.detach(), **dict(critic.named_buffers())}
    return found | {f"grad of {name}": p.grad for name, p in critic.named_parameters()}


@pytest.mark.parametrize(
    "kind",
    ["3x3", "bottleneck", "inception", "depthwise inception, activation after norm"],
)
@pytest.mark.parametrize("memory_efficient", [True, "recompute"])
def test_gradient_penalty_step_equals_plain(kind: str, memory_efficient) -> None:
    block = build(kind, memory_efficient=memory_efficient)
    critic = nn.Sequential(block, nn.AvgPool2d(4), nn.Flatten(), nn.Linear(12, 1)).double()
    twin = twin_of(critic)
    real, fake = torch.randn(2, 5, 4, 4, 4, dtype=torch.float64)
    assert_close(penalty_step(critic, real, fake), penalty_step(twin, real, fake))


def test_running_statistics_move_once_a_step() -> None:
    block = build("bottleneck")
    x = torch.randn(3, 4, 5, 5, requires_grad=True)
    (slope,) = torch.autograd.grad(block(x).sum(), x, create_graph=True)
    before = {name: buffer.clone() for name, buffer in block.named_buffers()}
    slope.square().sum().backward()
    for name, buffer in block.named_buffers():
        assert torch.equal(buffer, before[name]), name
        if name.endswith("num_batches_tracked"):
            assert buffer == 1


def assert_equal_buffers(block: nn.Module, layout: torch.memory_format) -> None:
    """Fail unless the buffers of a block and its twin agree after several steps."""
    twin = twin_of(block)
    for seed in range(3):
        x = torch.randn(4, 4, 5, 5, generator=torch.Generator().manual_seed(seed))
        for module in (block, twin):
            module(x.contiguous(memory_format=layout))
    assert block.execution.path == LEAN
    for name, buffer in twin.named_buffers():
        torch.testing.assert_close(dict(block.named_buffers())[name], buffer, msg=name)


LAYOUTS = [torch.contiguous_format, torch.channels_last]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("other", LAYOUTS)
def test_output_equals_plain_whatever_format_weights_and_input_have(layout, other) -> None:
    """A convolution may make another format than the input's, in which sums are others."""
    block = build(in_channels=8, growth_rate=8, num_layers=3).to(memory_format=layout)
    x = torch.randn(4, 8, 9, 11).contiguous(memory_format=other)
    assert torch.equal(block(x), twin_of(block)(x))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("momentum", [0.3, None])
def test_a_norm_of_two_layers_counts_and_moves_in_each(momentum, layout) -> None:
    block = build("bottleneck", num_layers=2)
    shared = block.layers[0].conv.norm
    shared.momentum = momentum
    block.layers[1].conv.norm = shared
    assert_equal_buffers(block, layout)
    assert shared.num_batches_tracked == 6


@pytest.mark.parametrize("of_front", [True, False])
def test_running_statistics_need_not_lie_in_a_line(of_front) -> None:
    block = build("bottleneck", num_layers=2)
    norm = block.layers[1].norm if of_front else block.layers[1].conv.norm
    norm.running_mean = torch.zeros(norm.num_features, 3)[:, 1]
    assert_equal_buffers(block, torch.channels_last)


FIGURE = (32, 64, 16, 16)
MIB = 2**20


def test_figure_of_the_buffer_in_bytes() -> None:
    block = DenseBlock(64, 32, num_layers=12)
    x = torch.zeros(FIGURE, requires_grad=True)
    assert module_bytes(block, x) <= 14.01 * MIB
    assert module_bytes(block.requires_grad_(False), x) <= 14.01 * MIB
    plain = DenseBlock(64, 32, num_layers=12, memory_efficient=False)
    assert module_bytes(plain, x) > 170 * MIB


@pytest.mark.parametrize(
    ("memory_efficient", "channels_kept"), [(True, 8 + 6 * 4 + 6 * 16), ("recompute", 8 + 6 * 4)]
)
def test_bottleneck_keeps_less_than_torchvisions(memory_efficient, channels_kept) -> None:
    block = DenseBlock(8, 4, num_layers=6, bottleneck_factor=4, memory_efficient=memory_efficient)
    peer = _DenseBlock(6, 8, bn_size=4, growth_rate=4, drop_rate=0.0, memory_efficient=True)
    x = torch.zeros(4, 8, 8, 8, requires_grad=True)
    kept = module_bytes(block, x)
    channel = 4 * 8 * 8 * 4
    assert channels_kept * channel <= kept < (channels_kept + 4) * channel  # and the statistics
    # What its checkpoints hold comes on top: hooks do not see that.
    assert kept < module_bytes(peer, x)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_norms_of_one_block_move_by_momenta_of_their_own(layout) -> None:
    block = build(num_layers=3)
    for layer, momentum in zip(block.layers, (0.1, 0.25, None), strict=True):
        layer.norm.momentum = momentum
    assert_equal_buffers(block, layout)


class BackwardWork(TorchDispatchMode):
    """Record which gradients convolutions are asked for (input, weight, bias), and count norms."""

    def __init__(self) -> None:
        super().__init__()
        self.masks: list[list[bool]] = []
        self.norms = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution_backward.default:
            self.masks.append(args[-1])
        # By the one in channels last and elsewhere than on a CPU, by the other in the rest.
        is_norm = func is torch.ops.aten.native_batch_norm.default
        if is_norm or (func is torch.ops.aten.addcmul.default and args[1].dim() == 4):
            self.norms += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("trained", "masks"),
    [
        ("x", [[True, False, False]] * 2),
        ("layers.1.conv.weight", [[False, True, False]]),
        ("layers.1.norm.bias", [[True, False, False]]),
        ("layers.0.conv.weight", [[True, False, False], [False, True, False]]),
        ("", []),
    ],
)
def test_no_gradient_is_computed_that_is_not_asked_for(trained: str, masks: list) -> None:
    block = build()
    for name, parameter in block.named_parameters():
        parameter.requires_grad_(name == trained)
    y = block(torch.randn(2, 4, 5, 5, requires_grad=trained == "x"))
    with BackwardWork() as work:
        if y.requires_grad:
            y.sum().backward()
    assert work.masks == masks
    assert work.norms == len(masks)  # layers before the first one with a gradient do not run again


def test_backward_refuses_an_output_changed_in_place() -> None:
    y = build()(torch.randn(2, 4, 5, 5, requires_grad=True))
    y[:, :1].relu_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_an_input_that_is_changed_after_the_forward_pass_is_refused() -> None:
    block, x = build(), torch.randn(2, 4, 5, 5)
    output = block(x)
    x.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


@pytest.mark.parametrize("training", [True, False])
def test_forward_passes_may_come_before_a_backward_pass(training: bool) -> None:
    block = build().train(training)
    x, other = torch.randn(2, 3, 4, 5, 5)
    expected = step(copy.deepcopy(block), x, input_grad=False)
    y = block(x)
    block.train()(other)  # moves the running statistics, which evaluation reads
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(y.shape, generator=generator)
    for times in (1, 2):
        (y * weights).sum().backward(retain_graph=True)
        for name, parameter in block.named_parameters():
            assert torch.equal(parameter.grad, times * expected[f"grad of {name}"]), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["3x3", "bottleneck", "inception"])
def test_autocast_equals_plain(kind: str, dtype: torch.dtype) -> None:
    x = torch.randn(2, 4, 5, 5).to(dtype)
    results = []
    block = build(kind)
    for module in (block, twin_of(block)):
        with torch.autocast("cpu", torch.bfloat16):
            assert module.execution.is_lean == (module is block)
            results.append(step(module, x, input_grad=True))
    found, expected = results
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert tensor.dtype == expected[name].dtype, name
        torch.testing.assert_close(tensor, expected[name], rtol=1e-6, atol=0.0)


def test_autocast_leaves_a_later_plain_pass_its_gradients() -> None:
    block = build()
    x = torch.randn(2, 4, 5, 5)
    with torch.autocast("cpu", torch.bfloat16):
        block(x)
        block.memory_efficient = False
        block(x).sum().backward()
    assert all(parameter.grad is not None for parameter in block.parameters())


def different_eps(block: DenseBlock) -> None:
    block.layers[1].norm.eps = 0.5


def hooked(block: DenseBlock) -> None:
    block.layers[0].conv.register_forward_hook(lambda *_: None)


def replaced_forward(block: DenseBlock) -> None:
    block.layers[0].conv.forward = lambda x: x[:, :4] * 1.0


def active_dropout(block: DenseBlock) -> None:
    block.layers[1].dropout = nn.Dropout(0.5)


def unchanged(_block: DenseBlock) -> None:
    pass


@pytest.mark.parametrize(
    ("options", "change", "reason"),
    [
        ({"memory_efficient": False}, unchanged, "memory_efficient=False"),
        ({}, hooked, "a hook sits on an inner Conv2d"),
        ({}, replaced_forward, "Conv2d has been given another forward"),
        ({}, different_eps, "different eps"),
        ({}, active_dropout, "Dropout is active"),
        ({"norm_layer": nn.SyncBatchNorm}, unchanged, "SyncBatchNorm is no BatchNorm2d"),
        ({"norm_layer": partial(nn.GroupNorm, 1)}, unchanged, "GroupNorm is no BatchNorm2d"),
        ({"activation_layer": nn.SiLU}, unchanged, "SiLU cannot be undone"),
        (
            {"norm_layer": None, "activation_layer": partial(nn.ReLU, inplace=True)},
            unchanged,
            "ReLU changes in place what others read",
        ),
        (
            {"layer": partial(nn.Conv2d, kernel_size=3, padding="same")},
            unchanged,
            "Conv2d pads with more than zeros or by name",
        ),
        (
            {"layer": partial(nn.Conv2d, kernel_size=3, padding=1, padding_mode="reflect")},
            unchanged,
            "Conv2d pads with more than zeros or by name",
        ),
        (
            {"layer": partial(nn.ConvTranspose2d, kernel_size=1)},
            unchanged,
            "ConvTranspose2d is no plain Conv2d",
        ),
    ],
)
def test_block_runs_plain_and_says_why(
    options: dict[str, Any], change: Callable[[DenseBlock], None], reason: str
) -> None:
    block = build(**options)
    change(block)
    assert block.execution.path == "plain"
    assert reason in block.execution.reason
    if not isinstance(block.layers[0].norm, nn.SyncBatchNorm):  # needs a process group
        x = torch.randn(2, 4, 5, 5)
        twin = copy.deepcopy(block)
        twin.memory_efficient = False
        torch.manual_seed(1)
        expected = step(twin, x, input_grad=False)
        torch.manual_seed(1)
        found = step(block, x, input_grad=False)
        assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


def test_a_hook_on_an_inner_module_runs() -> None:
    block, calls = build(), []
    block.layers[1].activation.register_forward_hook(lambda *_: calls.append(1))
    block(torch.randn(2, 4, 5, 5))
    assert calls == [1]


def test_dropout_is_lean_where_it_drops_nothing() -> None:
    block = build(drop_rate=0.5)
    assert block.execution.reason == "Dropout is active"
    assert block.eval().execution.path == LEAN


def test_errors_are_those_of_plain() -> None:
    wrong_size = build(layer=partial(nn.Conv2d, kernel_size=3))
    wrong_width = build(layer=partial(nn.Conv2d, kernel_size=3, padding=(1, 2)))
    assert "changes height or width" in wrong_width.execution.reason
    other_channels = build()
    other_channels.layers[1].conv = nn.Conv2d(5, 4, 3, padding=1)
    assert "Conv2d reads 5 channels where 8 come" in other_channels.execution.reason
    other_width = build()
    other_width.layers[1].norm = nn.BatchNorm2d(5)
    for block, x in (
        (build(), torch.randn(1, 4, 1, 1)),
        (build(), torch.randn(2, 4, 5, 5).half()),
        (build(), torch.randn(2, 4, 5, 5, device="meta")),
        (wrong_size, torch.randn(2, 4, 5, 5)),
        (wrong_width, torch.randn(2, 4, 5, 5)),
        (other_channels, torch.randn(2, 4, 5, 5)),
        (other_width, torch.randn(2, 4, 5, 5)),
    ):
        messages = []
        for module in (block, twin_of(block)):
            with pytest.raises((ValueError, RuntimeError)) as caught:
                module(x)
            assert caught.value.__context__ is None
            messages.append(f"{type(caught.value).__name__}: {caught.value}")
        assert messages[0] == messages[1]


@pytest.mark.parametrize("shape", [(0, 4, 5, 5), (1, 4, 5, 5), (1, 4, 1, 1)])
def test_small_batches_equal_plain(shape: tuple[int, ...]) -> None:
    block, x = build(), torch.randn(shape)
    block.train(shape[2] > 1)
    expected = step(twin_of(block), x, input_grad=True)
    found = step(block, x, input_grad=True)
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert torch.equal(tensor, expected[name]), name


def test_copies_have_the_plain_state_and_its_results() -> None:
    block, x = build("bottleneck"), torch.randn(2, 4, 5, 5)
    twin = twin_of(block)
    assert block.state_dict().keys() == twin.state_dict().keys()
    expected = step(copy.deepcopy(twin), x, input_grad=True)
    restored = build("bottleneck")
    restored.load_state_dict(twin.state_dict())
    for copied in (copy.deepcopy(block), pickle.loads(pickle.dumps(block)), restored):
        assert copied.execution.path == LEAN
        found = step(copied, x, input_grad=True)
        assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


def test_saved_tensors_may_move_or_be_recomputed() -> None:
    block, x = build(), torch.randn(2, 4, 5, 5)
    expected = step(copy.deepcopy(block), x, input_grad=True)
    with torch.autograd.graph.save_on_cpu():
        moved = step(copy.deepcopy(block), x, input_grad=True)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in moved.items())
    image = x.clone().requires_grad_()
    y = checkpoint(block, image, use_reentrant=False)
    generator = torch.Generator().manual_seed(1)
    (y * torch.randn(y.shape, generator=generator)).sum().backward()
    assert torch.equal(image.grad, expected["grad of x"])


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # on the checks of shapes
def test_transforms_tracers_and_the_compiler_see_the_plain_layers() -> None:
    block, x = build().eval(), torch.randn(2, 4, 5, 5)
    expected = block(x)
    compiled = torch.compile(block, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), expected)
    torch.testing.assert_close(torch.vmap(block)(x[:, None])[:, 0], expected)
    traced = torch.jit.trace(block, x)
    torch.testing.assert_close(traced(x), expected)
    assert "aten::cat" in str(traced.inlined_graph)
