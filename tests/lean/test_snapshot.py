"""A block that was read once, and then changed between two forward passes."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from gaslayers import DenseBlock, InceptionBlock, TransitionBlock
from gaslayers.blocks import _dense_plan
from gaslayers.lean import snapshot
from tests.lean.twins import step, twin_of

INCEPTION = partial(InceptionBlock, norm_layer=nn.BatchNorm2d, activation_layer=nn.LeakyReLU)
BLOCKS = {
    "3x3": partial(DenseBlock, 4, 3, num_layers=2),
    "bottleneck": partial(DenseBlock, 4, 3, num_layers=2, bottleneck_factor=2),
    "inception": partial(DenseBlock, 4, 3, num_layers=2, layer=INCEPTION),
    "transition": partial(TransitionBlock, 4),
}


def _all(module: nn.Module, kind: type[nn.Module]) -> Any:
    return [part for part in module.modules() if isinstance(part, kind)]


def _last(module: nn.Module, kind: type[nn.Module]) -> Any:
    return _all(module, kind)[-1]


def _fewer_outputs(module: nn.Module) -> None:
    weight = _last(module, nn.Conv2d).weight
    weight.data = weight.detach()[:-1].clone()  # the same parameter


def _assign(module: nn.Module) -> None:
    halved = {name: value / 2 for name, value in module.state_dict().items()}
    module.load_state_dict(halved, assign=True)


def _replace_activation(module: nn.Module) -> None:
    for part in module.modules():
        if isinstance(part._modules.get("activation"), nn.ReLU):
            part.activation = nn.Tanh()


def _share_statistics(module: nn.Module) -> None:
    norm = _last(module, nn.BatchNorm2d)
    norm.running_mean = torch.ones_like(norm.running_mean)


CHANGES: dict[str, Callable[[nn.Module], object]] = {
    "nothing": lambda module: None,
    "eps": lambda module: setattr(_last(module, nn.BatchNorm2d), "eps", 0.3),
    "momentum": lambda module: setattr(_last(module, nn.BatchNorm2d), "momentum", 0.7),
    "evaluation": lambda module: module.eval(),
    "evaluation of one norm": lambda module: _last(module, nn.BatchNorm2d).eval(),
    "another activation": _replace_activation,
    "a new weight": lambda module: setattr(
        _last(module, nn.Conv2d), "weight", nn.Parameter(2 * _last(module, nn.Conv2d).weight)
    ),
    "a weight of fewer outputs": _fewer_outputs,
    "a weight that is computed": lambda module: parametrizations.weight_norm(
        _last(module, nn.Conv2d)
    ),
    "a state that is assigned": _assign,
    "other statistics": _share_statistics,
    "padding": lambda module: setattr(_last(module, nn.Conv2d), "padding", (2, 2)),
    "a wider weight": lambda module: setattr(
        _last(module, nn.Conv2d).weight, "data", torch.ones(3, 1, 3, 3)
    ),
    "a dtype": lambda module: module.double(),
    "frozen": lambda module: module.requires_grad_(requires_grad=False),
    "a forward of its own": lambda module: setattr(
        _last(module, nn.Conv2d), "forward", lambda x: torch.zeros_like(x)
    ),
    "a hook": lambda module: _last(module, nn.Conv2d).register_forward_hook(lambda *a: 2 * a[2]),
    "plain": lambda module: setattr(module, "memory_efficient", False),
    "recompute": lambda module: setattr(module, "memory_efficient", "recompute"),
}


def _outcome(module: nn.Module) -> dict[str, Tensor] | str:
    dtype = next(module.parameters()).dtype
    x = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(2)).to(dtype)
    try:
        return step(module, x, input_grad=True)
    except (RuntimeError, ValueError, TypeError) as error:
        return type(error).__name__


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", BLOCKS)
def test_a_change_between_two_passes_counts_as_in_plain(name: str, change: str) -> None:
    torch.manual_seed(0)
    block = BLOCKS[name]()
    twin = twin_of(block)
    for module in (block, twin):
        for _ in range(2):
            module.zero_grad()
            _outcome(module)
        CHANGES[change](module)
        module.zero_grad()
    expected, found = _outcome(twin), _outcome(block)
    if isinstance(expected, str) or isinstance(found, str):
        assert found == expected
        return
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-6, msg=key)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """The layers that were read, one for each time."""
    seen: list[nn.Module] = []
    read = _dense_plan._LayerReader.layer

    def count(self: Any, norm: nn.Module, *others: Any) -> Any:
        seen.append(norm)
        return read(self, norm, *others)

    monkeypatch.setattr(_dense_plan._LayerReader, "layer", count)
    return seen


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_is_read_once(name: str, reads: list[nn.Module]) -> None:
    block = BLOCKS[name]()
    for _ in range(3):
        step(block, torch.randn(2, 4, 6, 6), input_grad=True)
        assert block.execution.is_lean
    assert len(reads) == (1 if name == "transition" else 2)
    step(block.eval(), torch.randn(2, 4, 6, 6), input_grad=True)
    assert len(reads) == (2 if name == "transition" else 4)


def test_tensors_of_a_functional_call_are_not_remembered() -> None:
    block = DenseBlock(4, 3, num_layers=1)
    computed = {name: 2 * value for name, value in block.named_parameters()}
    kept = [weakref.ref(value) for value in computed.values()]
    torch.func.functional_call(block, computed, (torch.randn(2, 4, 5, 5),))
    del computed
    gc.collect()
    assert not any(reference() is not None for reference in kept)


def test_a_block_that_is_gone_is_forgotten() -> None:
    block = DenseBlock(4, 3, num_layers=1)
    block(torch.randn(2, 4, 5, 5))
    assert block in snapshot._remembered
    reference = weakref.ref(block)
    del block
    gc.collect()
    assert reference() is None


def _kept_bytes(block: nn.Module, x: Tensor) -> int:
    """What autograd keeps of a pass, told by hooks of its own."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = block(x)
    assert output.requires_grad
    return sum(kept.values())


@pytest.mark.parametrize("name", ["bottleneck", "inception"])
def test_keeping_less_after_a_pass_keeps_less(name: str) -> None:
    # Outputs do not tell: both ways give the same.
    x = torch.rand(4, 4, 16, 16)
    block = BLOCKS[name]().train()
    before = _kept_bytes(block, x)
    block.memory_efficient = "recompute"
    after = _kept_bytes(block, x)
    assert after == _kept_bytes(BLOCKS[name](memory_efficient="recompute").train(), x) < before
    block.memory_efficient = True
    assert _kept_bytes(block, x) == before
