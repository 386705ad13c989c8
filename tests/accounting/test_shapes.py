"""Shapes, strides and dtypes of operators on fake tensors, against those of the real kernels."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gaslayers.accounting import _shapes
from gaslayers.accounting._fake import fake_twin
from gaslayers.accounting._sandbox import make_call

Description = tuple[str, list[tuple[object, ...]]]


class Described(TorchDispatchMode):
    """Every operator and what it returned; with fakes, computed as a prediction computes it."""

    def __init__(self, fakes: FakeTensorMode | None) -> None:
        super().__init__()
        self.fakes = fakes
        self.seen: list[Description] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        named = kwargs or {}
        if self.fakes is None:
            out = func(*args, **named)
        else:
            out = _shapes.compute(self.fakes, func, args, named)
        if not str(func).startswith("prim."):
            tensors = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
            self.seen.append((str(func), [(t.shape, t.stride(), t.dtype) for t in tensors]))
        return out


def describe(network: nn.Module, x: Tensor, fakes: FakeTensorMode | None) -> list[Description]:
    with fakes or nullcontext(), Described(fakes) as described:
        network(x).sum().backward()
    return described.seen


def make_input(shape: tuple[int, ...], dtype: torch.dtype, layout: str) -> Tensor:
    x = torch.rand(shape, dtype=dtype)
    if layout == "channels_last":
        return x.to(memory_format=torch.channels_last)
    if layout == "a slice":
        return torch.cat([x, x], dim=1)[:, : shape[1]]
    if layout == "every other":
        return torch.cat([x, x], dim=-1)[..., ::2]
    return x


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "a slice", "every other"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("mode", ["train", "eval", "untracked"])
@pytest.mark.parametrize("wants_x", [True, False])
def test_batch_norm_makes_what_the_kernel_makes(layout, dtype, affine, mode, wants_x) -> None:
    norm = nn.BatchNorm2d(3, affine=affine, track_running_stats=mode != "untracked")
    network = nn.Sequential(norm.to(dtype), nn.ReLU(), nn.Flatten(), nn.Linear(60, 2, dtype=dtype))
    network.train(mode == "train")
    x = make_input((2, 3, 4, 5), dtype, layout).requires_grad_(wants_x)
    expected = describe(network, x, None)
    network.zero_grad(set_to_none=True)
    fakes = FakeTensorMode()
    twin, _ = fake_twin("test", fakes, make_call("test", network, (x,), None), ())
    assert describe(twin.module, twin.args[0], fakes) == expected
