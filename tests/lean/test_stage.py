"""The lean paths of DownBlock against its plain twin."""

from __future__ import annotations

import copy
import pickle
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from gaslayers import ConvNormAct, DownBlock, InceptionBlock
from gaslayers.lean.native import availability
from gaslayers.testing import feature_maps
from tests.lean.twins import assert_equal_twins, code_bytes, lean_in, module_bytes, twin_of

LEAKY = partial(nn.LeakyReLU, 0.2)
ACTIVATIONS = [nn.ReLU, LEAKY, None]
NORMS = [None, nn.BatchNorm2d, partial(nn.BatchNorm2d, momentum=None, eps=0.1)]
POOLS = [
    nn.MaxPool2d,
    partial(nn.MaxPool2d, ceil_mode=True),
    lambda size: nn.MaxPool2d(size + 1, ceil_mode=True),
    nn.AvgPool2d,
    partial(nn.AvgPool2d, ceil_mode=True),
]


@lean_in(0.95)
@given(
    x=feature_maps(3, max_batch_size=9, min_side=3),
    out_channels=st.integers(1, 4),
    norm_layer=st.sampled_from(NORMS),
    activation_layer=st.sampled_from(ACTIVATIONS),
    pool_layer=st.sampled_from(POOLS),
    memory_efficient=st.sampled_from([True, "recompute"]),
    training=st.booleans(),
    frozen=st.sampled_from(["nothing", "body", "norm", "all"]),
    input_grad=st.booleans(),
)
def test_stage_equals_its_plain_twin_bit_for_bit(
    x: Tensor,
    out_channels: int,
    norm_layer,
    activation_layer,
    pool_layer,
    memory_efficient,
    training: bool,
    frozen: str,
    input_grad: bool,
) -> None:
    stage = DownBlock(
        3,
        out_channels,
        norm_layer=norm_layer,
        activation_layer=activation_layer,
        pool_layer=pool_layer,
        memory_efficient=memory_efficient,
    ).to(x.dtype)
    stage.train(training)
    if frozen != "nothing":
        {"body": stage.body, "norm": stage.norm, "all": stage}[frozen].requires_grad_(False)
    # Where nothing asks for a gradient, nothing is kept, and plain runs.
    assert_equal_twins(stage, x, input_grad=input_grad or frozen == "all")


@pytest.mark.parametrize("width", [7, 8, 16, 31, 64, 65, 127, 128, 129, 255, 300, 1000])
@pytest.mark.parametrize("height", [17, 24])  # 24 splits into bands of 2, 3 and 12 rows
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kernel_size", [2, 3, 11, 12, 16])
@pytest.mark.parametrize("activation_layer", [nn.ReLU, LEAKY, None])
def test_positions_are_exact_on_images_of_any_size(
    width: int, height: int, channels: int, kernel_size: int, activation_layer
) -> None:
    stage = _pooling(channels, kernel_size, activation_layer)
    assert stage.execution.path == "packed"
    for layout in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(2, channels, height, width).to(memory_format=layout)
        assert_equal_twins(stage, x)
        # Not dense in any memory format.
        assert_equal_twins(_pooling(channels - channels // 2, kernel_size), x[:, ::2])


def _pooling(channels: int, kernel_size: int, activation_layer=nn.ReLU) -> DownBlock:
    """A stage of nothing but activation and pooling."""
    return DownBlock(
        channels,
        channels,
        block=_Pass,
        norm_layer=None,
        activation_layer=activation_layer,
        pool_layer=lambda _: nn.MaxPool2d(kernel_size, ceil_mode=True),
    )


@pytest.mark.parametrize("size", [8, 28])
def test_output_of_a_stage_may_be_changed_in_place(size: int) -> None:
    stage = _pooling(3, 2)
    x = torch.randn(2, 3, size, size, requires_grad=True)
    changed = stage(x).add_(1.0)
    changed.sum().backward()
    expected = x.grad
    x.grad = None
    twin_of(stage)(x).sum().backward()
    assert torch.equal(x.grad, expected)


class _Pass(nn.Module):
    """A block that hands its input on, with its channels."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels

    def forward(self, x: Tensor) -> Tensor:
        return x * 1.0


@pytest.mark.parametrize("memory_efficient", [True, "recompute"])
@pytest.mark.parametrize("norm_layer", [None, nn.BatchNorm2d])
@pytest.mark.parametrize("pool_layer", [nn.MaxPool2d, nn.AvgPool2d])
@pytest.mark.parametrize("training", [True, False])
def test_first_and_second_derivatives(memory_efficient, norm_layer, pool_layer, training) -> None:
    stage = DownBlock(
        2,
        2,
        norm_layer=norm_layer,
        activation_layer=LEAKY,
        pool_layer=pool_layer,
        memory_efficient=memory_efficient,
    ).double()
    stage.train(training)
    x = torch.randn(2, 2, 2, 3, dtype=torch.float64, requires_grad=True)
    names, parameters = zip(*stage.named_parameters(), strict=True)

    def run(x: Tensor, *values: Tensor) -> Tensor:
        buffers = {name: buffer.clone() for name, buffer in stage.named_buffers()}
        state = dict(zip(names, values, strict=True))
        return torch.func.functional_call(stage, {**state, **buffers}, (x,))

    inputs = (x, *(p.detach().clone().requires_grad_() for p in parameters))
    assert torch.autograd.gradcheck(run, inputs)
    assert torch.autograd.gradgradcheck(run, inputs, fast_mode=True)


@pytest.mark.parametrize("memory_efficient", [True, "recompute"])
@pytest.mark.parametrize("size", [8, 16])  # the larger one is pooled by bands
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradient_penalty_step_equals_plain(memory_efficient, size: int, layout) -> None:
    critic = nn.Sequential(
        DownBlock(1, 4, norm_layer=None, memory_efficient=memory_efficient),
        DownBlock(4, 6, memory_efficient=memory_efficient),
        nn.Flatten(),
        nn.Linear(6 * (size // 4) ** 2, 1),
    )
    critic = critic.double().to(memory_format=layout)
    x = torch.randn(3, 1, size, size, dtype=torch.float64).to(memory_format=layout)

    def penalised_gradients(network: nn.Module) -> list[Tensor]:
        real = x.clone().requires_grad_()
        scores = network(real)
        (slope,) = torch.autograd.grad(scores.sum(), real, create_graph=True)
        penalty = (slope.flatten(1).norm(dim=1) - 1).square().mean()
        return list(torch.autograd.grad(scores.mean() + 10 * penalty, list(network.parameters())))

    expected = penalised_gradients(twin_of(critic))
    for found, wanted in zip(penalised_gradients(critic), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-14)


def test_what_a_stage_keeps_besides_its_input() -> None:
    x = torch.randn(32, 1, 28, 28)
    stage = DownBlock(1, 32, norm_layer=None)
    cells = 32 * 32 * 14 * 14
    assert module_bytes(stage, x) == x.nbytes + code_bytes(cells)
    assert module_bytes(twin_of(stage), x) == x.nbytes + 4 * 32 * 32 * 28 * 28 + 8 * cells


def test_a_frozen_stage_keeps_codes_alone() -> None:
    stage = DownBlock(1, 32, norm_layer=None).requires_grad_(False)
    x = torch.randn(32, 1, 28, 28, requires_grad=True)
    assert module_bytes(stage, x) == code_bytes(32 * 32 * 14 * 14)


def test_a_recomputed_stage_keeps_nothing_of_its_norm() -> None:
    x = torch.randn(8, 4, 8, 8)
    stage = DownBlock(4, 16, memory_efficient="recompute")
    statistics = 2 * 16 * 4
    assert module_bytes(stage, x) == x.nbytes + statistics + code_bytes(8 * 16 * 16)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: setattr(s, "memory_efficient", False), "memory_efficient=False"),
        (lambda s: setattr(s, "activation", nn.Tanh()), "Tanh cannot be undone"),
        (lambda s: setattr(s, "pool", nn.MaxPool2d(3, 2)), "windows overlap"),
        (lambda s: setattr(s, "pool", nn.MaxPool2d(17)), "more than 256 cells"),
        (lambda s: setattr(s, "pool", nn.AdaptiveMaxPool2d(1)), "is no MaxPool2d or AvgPool2d"),
        (lambda s: s.pool.register_forward_hook(print), "a hook sits on an inner MaxPool2d"),
        (lambda s: s.activation.register_full_backward_hook(print), "a hook sits on an inner ReLU"),
    ],
)
def test_stage_runs_plain_and_says_why(change, reason: str) -> None:
    stage = DownBlock(1, 2)
    assert stage.execution.path == "packed"
    change(stage)
    assert stage.execution.path == "plain"
    assert reason in stage.execution.reason


def test_a_hook_on_an_inner_module_is_called_and_sees_what_it_would() -> None:
    stage = DownBlock(1, 2, norm_layer=None)
    seen = []
    stage.activation.register_forward_hook(lambda module, args, output: seen.append(output))
    x = torch.randn(1, 1, 4, 4, requires_grad=True)
    assert torch.equal(stage(x), nn.functional.max_pool2d(seen[0], 2))


@pytest.mark.parametrize(
    ("stage", "reason"),
    [
        (
            DownBlock(1, 2, norm_layer=nn.InstanceNorm2d, memory_efficient="recompute"),
            "InstanceNorm",
        ),
        (
            DownBlock(1, 2, block=_Pass, memory_efficient="recompute"),
            "_Pass is no layer",
        ),
        (
            DownBlock(
                1,
                2,
                block=partial(ConvNormAct, norm_layer=nn.BatchNorm2d),
                memory_efficient="recompute",
            ),
            "BatchNorm2d in the block",
        ),
    ],
)
def test_stage_recomputes_only_what_comes_out_the_same_again(stage, reason: str) -> None:
    assert stage.execution.path == "packed"
    assert reason in stage.execution.reason


@pytest.mark.parametrize(
    ("channels", "layer", "path"),
    [
        ((32, 64), {}, "recomputed"),  # 288 multiply-adds for each of the 4 bytes saved
        ((128, 256), {}, "packed"),  # 1152 for as many
        ((16, 16), {}, "packed"),  # none are saved
        ((128, 512), {"kernel_size": 1}, "recomputed"),
        ((128, 256), {"groups": 8}, "recomputed"),
    ],
)
def test_a_frozen_convolution_runs_again_where_that_saves_enough(channels, layer, path) -> None:
    stage = DownBlock(*channels, block=partial(ConvNormAct, **layer), memory_efficient="recompute")
    assert stage.execution.path == "recomputed"
    stage.requires_grad_(False)
    assert stage.execution.path == path
    assert path == "recomputed" or "dear to run again" in stage.execution.reason
    assert_equal_twins(stage, torch.randn(2, channels[0], 5, 6))


def test_recomputing_an_inception_block_equals_plain() -> None:
    # A block that composes its kernels rounds otherwise; here its plain form is run twice.
    block = partial(InceptionBlock, memory_efficient=False)
    stage = DownBlock(2, 6, block=block, memory_efficient="recompute")
    assert stage.execution.path == "recomputed"
    assert_equal_twins(stage, torch.randn(3, 2, 6, 6))


@pytest.mark.parametrize("memory_efficient", [True, "recompute"])
def test_running_statistics_move_once_a_step(memory_efficient) -> None:
    stage = DownBlock(1, 2, memory_efficient=memory_efficient)
    stage(torch.randn(2, 1, 4, 4)).sum().backward()
    assert stage.norm.num_batches_tracked.item() == 1


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("norm_layer", [None, nn.BatchNorm2d])
def test_stage_compiles_whole(frozen: bool, norm_layer) -> None:
    stage = DownBlock(2, 4, norm_layer=norm_layer, memory_efficient="recompute")
    stage.requires_grad_(not frozen)
    x = torch.randn(2, 2, 6, 6, requires_grad=True)
    compiled = torch.compile(copy.deepcopy(stage), fullgraph=True, backend="aot_eager")
    (found,) = torch.autograd.grad(compiled(x).square().sum(), x)
    (expected,) = torch.autograd.grad(stage(x).square().sum(), x)
    torch.testing.assert_close(found, expected)
    torch._dynamo.reset()


def test_functional_transforms_run_plain() -> None:
    stage = DownBlock(1, 2, norm_layer=None)
    x = torch.randn(3, 1, 4, 4)
    loss = lambda image: stage(image[None]).sum()  # noqa: E731 - one expression
    gradients = torch.func.vmap(torch.func.grad(loss))(x)
    x.requires_grad_()
    stage(x).sum().backward()
    torch.testing.assert_close(gradients, x.grad)


@pytest.mark.parametrize("frozen", [False, True])
def test_autocast_equals_plain(frozen: bool) -> None:
    stage = DownBlock(3, 4).requires_grad_(not frozen)
    with torch.autocast("cpu", torch.bfloat16):
        assert_equal_twins(stage, torch.randn(2, 3, 6, 6))


def test_empty_batch_passes_through() -> None:
    stage = DownBlock(3, 4, norm_layer=None)
    x = torch.randn(0, 3, 6, 6, requires_grad=True)
    stage(x).sum().backward()
    assert x.grad.shape == x.shape


@pytest.mark.parametrize("memory_efficient", [True, "recompute"])
def test_copies_and_pickles_run_as_before(memory_efficient) -> None:
    stage = DownBlock(1, 2, memory_efficient=memory_efficient)
    x = torch.randn(2, 1, 4, 4)
    for other in (copy.deepcopy(stage), pickle.loads(pickle.dumps(stage))):
        assert other.execution == stage.execution
        assert torch.equal(copy.deepcopy(stage)(x), other(x))


def test_twins_have_one_state_dict() -> None:
    lean, plain = DownBlock(1, 2), DownBlock(1, 2, memory_efficient=False)
    assert lean.state_dict().keys() == plain.state_dict().keys()


def test_an_input_changed_in_place_before_backward_is_refused() -> None:
    stage = DownBlock(1, 2, memory_efficient="recompute")
    x = torch.randn(2, 1, 4, 4)
    output = stage(x)
    x.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [6, 28, 150])  # places in the plane, in bands, in the window
@pytest.mark.parametrize("pool_layer", [nn.MaxPool2d, nn.AvgPool2d])
def test_a_batch_of_gradients_equals_one_after_the_other(layout, size, pool_layer) -> None:
    stage = DownBlock(2, 3, norm_layer=None, pool_layer=pool_layer)
    x = torch.randn(1, 2, size, size).contiguous(memory_format=layout).requires_grad_()
    with availability.switched_off():
        y = stage.to(memory_format=layout)(x)
        grads = torch.randn(2, *y.shape)
        (batch,) = torch.autograd.grad(y, x, grads, is_grads_batched=True, retain_graph=True)
        singly = [torch.autograd.grad(y, x, grad, retain_graph=True)[0] for grad in grads]
    torch.testing.assert_close(batch, torch.stack(singly))
