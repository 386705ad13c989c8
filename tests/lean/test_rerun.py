"""What a backward pass computes again leaves the caller's tensors alone."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from gaslayers import ConvNormAct, DepthwiseConvNormAct, DownBlock
from gaslayers.lean.rerun import (
    Precision,
    as_called,
    as_saved,
    gradients_of,
    kinds_of,
    stand_ins,
)

MODES = (True, "recompute", False)


def two_convolutions(in_channels: int, out_channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1),
        nn.Conv2d(out_channels, out_channels, 3, padding=1),
    )


def stage(memory_efficient: bool | str, **options: object) -> nn.Module:
    torch.manual_seed(0)
    return DownBlock(3, 3, memory_efficient=memory_efficient, **options).double()


def image() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=generator, requires_grad=True)


@pytest.mark.parametrize("block", [ConvNormAct, two_convolutions])
def test_hooks_on_tensors_act_once(block) -> None:
    found = []
    for mode in MODES:
        module, x = stage(mode, block=block), image()
        for tensor in (x, *module.parameters()):
            tensor.register_hook(lambda grad: 2 * grad)
        module(x).square().sum().backward()
        found.append([x.grad, *(p.grad for p in module.parameters())])
    torch.testing.assert_close(found[0], found[2])
    torch.testing.assert_close(found[1], found[2])


def test_a_gradient_that_is_retained_is_retained_once() -> None:
    found = []
    for mode in MODES:
        inner = image() * 1
        inner.retain_grad()
        stage(mode)(inner).square().sum().backward()
        found.append(inner.grad)
    torch.testing.assert_close(found[1], found[2])


def test_tied_weights_within_a_body_get_their_gradient_once() -> None:
    found = []
    for mode in MODES:
        module = stage(mode, block=two_convolutions)
        module.body[1].weight = module.body[0].weight
        module(image()).square().sum().backward()
        found.append(module.body[0].weight.grad)
    torch.testing.assert_close(found[1], found[2])


@pytest.mark.parametrize("make", [stage, lambda mode: stage(mode, block=two_convolutions)])
def test_a_stage_behind_itself_trains(make) -> None:
    found = []
    for mode in MODES:
        module, x = make(mode), image()
        module(module(x)).square().sum().backward()
        found.append([x.grad, *(p.grad for p in module.parameters())])
    torch.testing.assert_close(found[1], found[2])


@pytest.mark.parametrize("in_backward", [False, True])
@pytest.mark.parametrize("in_forward", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        lambda mode: DownBlock(3, 8, memory_efficient=mode),
        lambda mode: DepthwiseConvNormAct(
            3, 8, norm_layer=nn.BatchNorm2d, activation_layer=nn.ReLU, memory_efficient=mode
        ),
    ],
)
def test_the_forward_passs_autocast_holds(make, *, in_forward: bool, in_backward: bool) -> None:
    found = []
    autocast = partial(torch.autocast, "cpu", dtype=torch.bfloat16)
    for mode in ("recompute", False):
        torch.manual_seed(0)
        module, x = make(mode), image().float().detach().requires_grad_()
        with autocast(enabled=in_forward):
            y = module(x)
        with autocast(enabled=in_backward):
            y.float().square().sum().backward()
        found.append([y, x.grad, *(p.grad for p in module.parameters())])
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-4)


def test_precision_is_that_of_its_making() -> None:
    x = torch.ones(2, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = Precision.of(x)
    full = Precision.of(x)
    with low.restored():
        assert (x @ x).dtype == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16), full.restored():
        assert (x @ x).dtype == torch.float32


def test_stand_ins_give_each_tensor_its_own_gradient() -> None:
    weight = torch.tensor(3.0, requires_grad=True)
    x = weight * 2  # a function of the other
    views = stand_ins([x, weight, None], [True, True, False])
    with torch.enable_grad():
        made = views[0] * views[1]
    assert gradients_of(made, torch.tensor(1.0), views[:2], [True, True]) == [3.0, 6.0]


def test_a_stand_in_of_a_frozen_tensor_has_a_gradient() -> None:
    with torch.enable_grad():
        (view,) = stand_ins([torch.tensor(3.0)], [True])
        assert gradients_of(view * view, torch.tensor(1.0), [view], [True]) == [6.0]


def test_another_dtype_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"expected a tensor of torch\.float32"):
        as_saved([torch.ones(1).half()], kinds_of([torch.ones(1)]))


def test_another_shape_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"expected a tensor of shape \(2,\)"):
        as_saved([torch.ones(1)], kinds_of([torch.ones(2)]))


def test_a_line_with_gaps_comes_without_them() -> None:
    line = torch.ones(4)[::2]
    (found,) = as_saved([line], kinds_of([line]))
    assert found.is_contiguous()


def test_a_module_as_called_has_no_hooks_and_keeps_its_configuration() -> None:
    calls: list[str] = []
    module = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.ReLU())
    module.register_forward_pre_hook(lambda *_: calls.append("outer"))
    module[0].register_forward_hook(lambda *_: calls.append("inner"))
    x = torch.ones(1, 1, 4, 4)
    expected = module(x)
    calls.clear()
    copy = as_called(module)
    module[0].padding = (0, 0)
    module[1] = nn.Sigmoid()
    assert torch.equal(copy(x), expected)
    assert not calls
    assert copy[0].weight is module[0].weight
    module(x)
    assert calls == ["outer", "inner"]
