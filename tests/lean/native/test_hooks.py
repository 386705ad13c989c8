"""Saved tensors that come back as something else: right gradients, or PyTorch's refusal."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from gaslayers import ConvNormAct, DenseBlock, DepthwiseInceptionBlock, DownBlock
from gaslayers.blocks import TransitionBlock
from gaslayers.lean.native.kernels import Kernels
from tests.lean.native.maps import LAST
from tests.lean.native.needs import needs_norm_kernels
from tests.lean.twins import twin_of

pytestmark = needs_norm_kernels

_separable = partial(
    ConvNormAct, norm_layer=nn.BatchNorm2d, activation_layer=nn.ReLU, order="act_norm"
)
BLOCKS: dict[str, Callable[[], nn.Module]] = {
    "stage": partial(DownBlock, 8, 16),
    "leaky stage": partial(DownBlock, 8, 16, activation_layer=partial(nn.LeakyReLU, 0.2)),
    "recomputed stage": partial(DownBlock, 8, 16, memory_efficient="recompute"),
    "averaging stage": partial(DownBlock, 8, 16, pool_layer=nn.AvgPool2d),
    "bare stage": partial(DownBlock, 8, 16, norm_layer=None),
    "image stage": partial(DownBlock, 3, 16, norm_layer=None),
    "dense": partial(DenseBlock, 8, 8, num_layers=2),
    "bottleneck": partial(DenseBlock, 8, 8, num_layers=2, bottleneck_factor=2),
    "transition": partial(TransitionBlock, 8, norm_layer=nn.BatchNorm2d),
    "separable": partial(DepthwiseInceptionBlock, 8, 16, separable_layer=_separable),
}
TOLERANCES = {"rtol": 1e-4, "atol": 1e-5}


def _apart(t: Tensor) -> Tensor:
    """Equal values with gaps between them."""
    return torch.stack([t, t], -1)[..., 0]


def _in_reverse(t: Tensor) -> Tensor:
    """Equal values of which the first axis varies fastest."""
    axes = tuple(reversed(range(t.dim())))
    return t.permute(axes).contiguous().permute(axes)


def _one_for_all(t: Tensor) -> Tensor:
    """Equal values, of which equal ones share memory where that can be."""
    is_same = t.dim() > 0 and t.numel() > 0 and bool((t == t[:1]).all())
    return t[:1].clone().expand(t.shape) if is_same else t


def _beside(t: Tensor) -> Tensor:
    """Equal values in the middle of other memory, which no vector is aligned with."""
    memory = torch.full((t.numel() + 7,), 99, dtype=t.dtype)
    there = memory.as_strided(t.shape, torch.empty_like(t).stride(), 3)
    return there.copy_(t)


def _gradients(
    block: nn.Module, x: Tensor, back: Callable[[Tensor], Tensor] | None = None
) -> dict[str, Tensor]:
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    if back is None:
        y = block(x)
    else:
        with torch.autograd.graph.saved_tensors_hooks(lambda t: t, back):
            y = block(x)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y)
    (y * weights).sum().backward()
    return {"x": x.grad, **{name: p.grad for name, p in block.named_parameters()}}


def _make(kind: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    block = BLOCKS[kind]().to(memory_format=LAST)
    channels = 3 if kind == "image stage" else 8
    return block, torch.randn(4, channels, 6, 8).contiguous(memory_format=LAST)


@pytest.fixture
def runs(monkeypatch) -> list[str]:
    """The kernels that ran."""
    names: list[str] = []
    original = Kernels.run

    def spy(self, name, *arguments):
        original(self, name, *arguments)
        names.append(name)

    monkeypatch.setattr(Kernels, "run", spy)
    return names


@pytest.mark.parametrize("back", [_apart, _in_reverse, _one_for_all, _beside])
@pytest.mark.parametrize("kind", BLOCKS)
def test_equal_values_that_lie_otherwise_give_equal_gradients(runs, kind, back) -> None:
    block, x = _make(kind)
    expected = _gradients(twin_of(block), x)
    assert not runs
    found = _gradients(block, x, back)
    assert runs
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, **TOLERANCES, msg=name)


def _shorter(t: Tensor) -> Tensor:
    return t[:-1] if t.dim() > 0 and t.shape[0] > 1 else t


def _longer(t: Tensor) -> Tensor:
    return torch.cat([t, t]) if t.dim() > 0 else t


def _halved(t: Tensor) -> Tensor:
    return t.half() if t.is_floating_point() else t


@pytest.mark.parametrize("back", [_shorter, _longer, _halved])
@pytest.mark.parametrize("kind", BLOCKS)
def test_values_of_another_size_or_kind_are_refused(kind, back) -> None:
    block, x = _make(kind)
    # The last is what oneDNN says of a convolution that PyTorch hands it on some processors.
    with pytest.raises(RuntimeError, match=r"shape|size|elements|[Dd]ata ?type|type|could not cre"):
        _gradients(block, x, back)


@pytest.mark.parametrize("change", [nn.Module.half, nn.Module.double])
@pytest.mark.parametrize("kind", [kind for kind in BLOCKS if "stage" in kind and "b" not in kind])
def test_a_norm_of_another_dtype_in_between_is_refused(kind, change) -> None:
    block, x = _make(kind)
    if not isinstance(block.norm, nn.BatchNorm2d):
        pytest.skip("no norm to change")
    y = block(x)
    change(block.norm)
    with pytest.raises(RuntimeError, match=r"mixed dtype|must match|modified|dtype"):
        y.sum().backward()


@pytest.mark.parametrize("kind", BLOCKS)
def test_each_saved_tensor_alone_cut_short_is_refused_or_not_read(kind) -> None:
    block, x = _make(kind)
    expected = _gradients(twin_of(block), x)
    refused, index, unpacked = 0, 0, 1
    while index < unpacked:
        unpacked = 0

        def cut(t: Tensor, index: int = index) -> Tensor:
            nonlocal unpacked
            unpacked += 1
            return t.flatten()[:1] if unpacked == index + 1 and t.numel() > 1 else t

        try:
            found = _gradients(block, x, cut)
        except RuntimeError:
            refused += 1
        else:
            for name, values in expected.items():
                torch.testing.assert_close(found[name], values, **TOLERANCES, msg=name)
        block.zero_grad()
        index += 1
    assert refused >= 1
