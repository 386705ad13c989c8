"""Layers that a lean path would compute but not call: what a call does besides is not missed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.overrides import TorchFunctionMode

from gaslayers import (
    ConvNormAct,
    DenseBlock,
    DepthwiseConvNormAct,
    DepthwiseInceptionBlock,
    DownBlock,
    InceptionBlock,
    TransitionBlock,
    saved_bytes,
)
from gaslayers._watching import watches_only
from gaslayers.lean.modules import reason_against_replacing
from gaslayers.models.norms import FrozenNorm2d

BLOCKS: dict[str, Callable[[], Any]] = {
    "frozen convolution": lambda: ConvNormAct(4, 8).requires_grad_(False),
    "unit chain": lambda: DepthwiseConvNormAct(4, 8, norm_layer=nn.BatchNorm2d),
    "composed": lambda: InceptionBlock(2, 16),
    "separable branches": lambda: DepthwiseInceptionBlock(4, 16, norm_layer=nn.BatchNorm2d),
    "dense": lambda: DenseBlock(4, 4, num_layers=2),
    "dense of inception": lambda: DenseBlock(4, 4, num_layers=2, layer=InceptionBlock),
    "transition": lambda: TransitionBlock(4, 8),
    "packed": lambda: DownBlock(4, 8),
    "recomputed": lambda: DownBlock(4, 8, memory_efficient="recompute"),
}


def inner(block: nn.Module, kind: type[nn.Module]) -> list[nn.Module]:
    return [module for module in block.modules() if type(module) is kind]


def run(block: Any) -> None:
    block(torch.randn(2, block.in_channels, 6, 6, requires_grad=True))


@pytest.fixture(params=BLOCKS)
def block(request: pytest.FixtureRequest) -> Any:
    made = BLOCKS[request.param]()
    assert made.execution.is_lean
    return made


@contextmanager
def removed(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


def test_a_hook_for_all_modules_sees_every_layer(block) -> None:
    seen: list[nn.Module] = []
    register = nn.modules.module.register_module_forward_hook
    with removed(register(lambda module, _args, _output: seen.append(module))):
        assert "hook for all modules" in block.execution.reason
        run(block)
    assert set(inner(block, nn.Conv2d)) <= set(seen)
    assert block.execution.is_lean


def test_a_backward_hook_for_all_modules_turns_a_block_plain(block) -> None:
    register = nn.modules.module.register_module_full_backward_hook
    with removed(register(lambda _module, _inputs, _outputs: None)):
        assert not block.execution.is_lean


def test_a_hook_that_only_watches_leaves_a_block_lean(block) -> None:
    register = nn.modules.module.register_module_forward_hook
    with removed(register(watches_only(lambda _module, _args, _output: None))):
        assert block.execution.is_lean


@pytest.mark.parametrize("name", ["forward", "_conv_forward"])
def test_a_method_given_to_an_instance_runs(block, name: str) -> None:
    calls: list[nn.Module] = []
    convolutions = inner(block, nn.Conv2d)

    def watched(module: nn.Module) -> Callable[..., Tensor]:
        own = getattr(module, name)

        def method(*args: Any) -> Tensor:
            calls.append(module)
            return own(*args)

        return method

    for module in convolutions:
        setattr(module, name, watched(module))
    run(block)
    if isinstance(block, DownBlock) and block.memory_efficient is True:
        return  # which calls its convolution anyway
    assert calls == convolutions


def test_a_method_given_to_a_class_runs(block, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[nn.Module] = []
    own = nn.Conv2d.forward

    def forward(module: nn.Conv2d, x: Tensor) -> Tensor:
        calls.append(module)
        return own(module, x)

    monkeypatch.setattr(nn.Conv2d, "forward", forward)
    run(block)
    assert set(inner(block, nn.Conv2d)) <= set(calls)


@pytest.mark.parametrize("norm", [nn.utils.spectral_norm, nn.utils.weight_norm])
@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
def test_norms_of_weights_run_as_in_the_plain_composition(norm) -> None:
    def make(*, memory_efficient: bool) -> nn.Module:
        torch.manual_seed(0)
        block = DenseBlock(4, 4, num_layers=2, memory_efficient=memory_efficient)
        for module in inner(block, nn.Conv2d):
            norm(module)
        return block

    found = []
    for memory_efficient in (True, False):
        block = make(memory_efficient=memory_efficient)
        x = torch.ones(2, 4, 6, 6, requires_grad=True)
        block(x).square().sum().backward()
        found.append([x.grad, *(p.grad for p in block.parameters())])
    torch.testing.assert_close(*found)


def test_pruned_layers_stay_pruned() -> None:
    block = InceptionBlock(2, 16)
    x = torch.randn(2, 2, 6, 6)
    for module in inner(block, nn.Conv2d):
        prune.random_unstructured(module, "weight", amount=0.5)
    assert not block.execution.is_lean
    assert torch.equal(block(x), torch.cat([branch(x) for branch in block.branches], dim=1))


class DoublingInception(InceptionBlock):
    """A subclass that computes something else."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class ShiftedNorm(FrozenNorm2d):
    """A subclass that does more than the scale it states."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 1


class Gain(nn.Module):
    """A norm of somebody's, with a parameter of a name that our own norm gives a method."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channel_scale = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return 3 * x * self.channel_scale.view(1, -1, 1, 1)


class StrictNorm(nn.BatchNorm2d):
    """A subclass that refuses other inputs than its base."""

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002  (torch's own name)
        raise ValueError("refused")


@pytest.mark.parametrize(
    "make",
    [
        partial(DenseBlock, layer=DoublingInception),
        partial(DenseBlock, norm_layer=ShiftedNorm),
        partial(TransitionBlock, norm_layer=ShiftedNorm),
        partial(DenseBlock, norm_layer=StrictNorm),
        partial(DenseBlock, norm_layer=Gain),
    ],
)
def test_a_subclass_that_computes_otherwise_runs_plain(make) -> None:
    block = make(4, 4)
    assert not block.execution.is_lean
    reasons = ("no plain Conv2d", "no BatchNorm2d", "no layer that lean paths know", "forward")
    assert any(reason in block.execution.reason for reason in reasons)


def test_recomputing_does_not_take_a_subclass_for_its_base() -> None:
    block = DownBlock(4, 8, block=DoublingInception, memory_efficient="recompute")
    assert block.execution.path == "packed"


def test_a_mode_that_overrides_functions_sees_every_convolution(block) -> None:
    class Watch(TorchFunctionMode):
        count = 0

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):
            self.count += func is F.conv2d
            return func(*args, **(kwargs or {}))

    with Watch() as mode:
        assert not block.execution.is_lean
        run(block)
    assert mode.count == len(inner(block, nn.Conv2d))


def test_a_default_device_leaves_a_block_lean(block) -> None:
    with torch.device("cpu"):
        assert block.execution.is_lean


def test_a_tensor_of_a_class_of_its_own_stays_of_its_class(block) -> None:
    class Tagged(torch.Tensor):
        pass

    x = torch.randn(2, block.in_channels, 6, 6).as_subclass(Tagged).requires_grad_()
    assert isinstance(block(x), Tagged)


def test_a_known_layer_needs_no_call() -> None:
    assert (
        reason_against_replacing([nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), FrozenNorm2d(1)]) is None
    )


def test_a_layer_that_was_compiled_in_place_is_called() -> None:
    layer = nn.Conv2d(1, 1, 1)
    layer.compile(backend="eager")
    assert reason_against_replacing([layer]) == "an inner Conv2d has been given another forward"


@pytest.mark.parametrize("slope", [0.0, 1.0])
def test_a_leaky_relu_of_slope_0_or_1_is_called(slope: float) -> None:
    stage = DownBlock(4, 8, activation_layer=partial(nn.LeakyReLU, slope))
    assert not stage.execution.is_lean


@pytest.mark.parametrize("name", ["running_mean", "running_var"])
def test_a_norm_without_one_of_its_statistics_is_refused_as_by_pytorch(name: str) -> None:
    for make in (DenseBlock, TransitionBlock, DownBlock):
        block = make(4, 8).eval()
        for module in inner(block, nn.BatchNorm2d):
            setattr(module, name, None)
        with pytest.raises(RuntimeError, match="running_"):
            block(torch.randn(2, 4, 6, 6, requires_grad=True))


@pytest.mark.parametrize("is_frozen", [False, True])
@pytest.mark.parametrize("pool_layer", [nn.MaxPool2d, nn.AvgPool2d])
def test_plain_keeps_what_a_sequential_keeps(pool_layer, *, is_frozen: bool) -> None:
    ours = DownBlock(8, 16, pool_layer=pool_layer, memory_efficient=False)
    conv = nn.Conv2d(8, 16, 3, padding=1)
    theirs = nn.Sequential(conv, nn.BatchNorm2d(16), nn.ReLU(), pool_layer(2))
    x = torch.zeros(2, 8, 8, 8, requires_grad=True)
    for module in (ours, theirs):
        module.requires_grad_(not is_frozen)
    assert saved_bytes(ours, x) == saved_bytes(theirs, x)


def dense_in_place_of_a_convolution(in_channels: int, out_channels: int, *_: int, **__: Any) -> Any:
    return DenseBlock(in_channels, out_channels - in_channels, num_layers=1)


WITH_BLOCKS_INSIDE = [
    partial(DownBlock, block=InceptionBlock),
    partial(DenseBlock, layer=InceptionBlock),
    partial(DenseBlock, layer=DepthwiseInceptionBlock),
    partial(TransitionBlock, layer=DepthwiseInceptionBlock),
    partial(ConvNormAct, conv_layer=dense_in_place_of_a_convolution),
    InceptionBlock,
    DepthwiseInceptionBlock,
]


@pytest.mark.parametrize("make", WITH_BLOCKS_INSIDE)
def test_plain_reaches_the_blocks_inside(make) -> None:
    block = make(4, 8, memory_efficient=False)
    executions = [m.execution for m in block.modules() if hasattr(m, "execution")]
    assert executions
    assert not any(execution.is_lean for execution in executions)


@pytest.mark.parametrize("make", WITH_BLOCKS_INSIDE)
def test_plain_that_is_set_afterwards_reaches_the_blocks_inside(make) -> None:
    block = make(4, 8)
    inside = [m for m in block.modules() if hasattr(m, "memory_efficient")]
    assert len(inside) > 1
    assert all(m.memory_efficient for m in inside)
    block.memory_efficient = False
    assert not any(m.memory_efficient for m in inside)
