"""`check_block`: a sound block passes, and each check names the fault that it is there for."""

from __future__ import annotations

import re
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gaslayers.testing import CHECKS, ContractError, check_block

# A stranger's block needs neither a base class nor arguments of its own.


class Sound(nn.Module):
    def __init__(self, in_channels: int = 2, out_channels: int = 3) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(out_channels)

    def convolve(self, x: Tensor) -> Tensor:
        if x.dim() != 4 or x.shape[1] != self.in_channels:
            raise ValueError("wrong shape")
        return self.conv(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.convolve(x)).relu()

    def extra_repr(self) -> str:
        return f"{self.in_channels}, out_channels={self.out_channels}"


class WithDropout(Sound):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(super().forward(x), 0.5, self.training)


class WithoutParameters(nn.Module):
    in_channels = out_channels = 2

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 4 or x.shape[1] != 2:
            raise ValueError("wrong shape")
        return F.silu(x)


class SharesWhenCopied(Sound):
    def __deepcopy__(self, memo) -> SharesWhenCopied:
        copy = type(self)()
        copy.conv, copy.norm = self.conv, self.norm
        return copy


class WrongOutChannels(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.out_channels = 4
        self.conv = nn.Conv2d(2, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)

    def extra_repr(self) -> str:
        return ""


class AlwaysFloat32(Sound):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).float()


class WritesIntoItsInput(Sound):
    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return super().forward(x)
        return super().forward(x.relu_())


class OtherWithoutGraph(Sound):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y if torch.is_grad_enabled() else y + 1e-3


class UnusedParameter(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))

    def extra_repr(self) -> str:
        return ""


class InfiniteGradient(Sound):
    def forward(self, x: Tensor) -> Tensor:
        return (super().forward(x) * 0).sqrt()


class _WrongFirst(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 2.1 * x * gradient


class WrongGradient(Sound):
    def forward(self, x: Tensor) -> Tensor:
        return _WrongFirst.apply(super().forward(x))


class WrongGradientInEvalMode(Sound):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y * y if self.training else _WrongFirst.apply(y)


class _WrongSecond(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 2 * x.detach() * gradient


class WrongSecondGradient(Sound):
    def forward(self, x: Tensor) -> Tensor:
        return _WrongSecond.apply(super().forward(x))


class NeedsLiveWeights(Sound):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y if self.conv.weight.requires_grad else y * 2


class ReadsMemoryOrder(Sound):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y if x.is_contiguous() else y * 1.01


class CountsStatisticsTwiceInChannelsLast(Sound):
    def forward(self, x: Tensor) -> Tensor:
        if not x.is_contiguous():
            super().forward(x)
        return super().forward(x)


class ReadsWeightOrder(Sound):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y if self.conv.weight.is_contiguous() else y * 1.01


class _WrongForSlices(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        is_slice = gradient.stride(0) > gradient[0].numel()
        return gradient * 1.01 if is_slice else gradient


class ReadsGradientOrder(Sound):
    def forward(self, x: Tensor) -> Tensor:
        return _WrongForSlices.apply(super().forward(x))


class OtherWhenMemoryEfficient(Sound):
    memory_efficient = True

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y * 1.01 if self.memory_efficient else y


class BatchStatisticsInEvalMode(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3, track_running_stats=False)


class ForgetsStateOnLoading(Sound):
    def _load_from_state_dict(self, state_dict, prefix, *rest) -> None:
        state_dict[f"{prefix}conv.bias"] = self.conv.bias.detach()
        super()._load_from_state_dict(state_dict, prefix, *rest)


class HoldsALambda(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.activation_layer = lambda: nn.ReLU()


class ForgetsAnArgumentInItsRepresentation(Sound):
    def __init__(self, in_channels: int = 2, padding: str = "replicate") -> None:
        super().__init__(in_channels)
        self.conv.padding_mode = padding
        self.conv = nn.Conv2d(in_channels, 3, 3, padding=1, padding_mode=padding)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, padding='zeros'"


class RepresentationOfAnotherWidth(Sound):
    def extra_repr(self) -> str:
        return "2, 4"


class RepresentationThatIsNoSource(Sound):
    def extra_repr(self) -> str:
        return "in_channels: 2"


class LeavesMeta(Sound):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + torch.zeros(1, device="cpu").expand(x.shape[2:])


class OtherShapeOnMeta(Sound):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y[..., 1:] if x.is_meta else y


class BreaksTheGraph(Sound):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y if x.is_meta or float(y.sum().item()) > -1 else y * 2


class TakesAnyInput(Sound):
    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x[:, :2] if x.dim() == 4 else x.view(-1, 2, *x.shape[-2:]))
        return self.norm(y).relu()


class RaisesAnotherError(Sound):
    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)).relu()


FAULTS = [
    (SharesWhenCopied, "deepcopy", "once a deep copy has changed differs"),
    (WrongOutChannels, "output_shape", "(2, out_channels=4, H, W), got (2, 3, 3, 2)"),
    (AlwaysFloat32, "output_shape", "must be torch.float64 for such an input, got torch.float32"),
    (WritesIntoItsInput, "input_unchanged", "the input after the forward pass differs"),
    (OtherWithoutGraph, "no_grad", "the output under no_grad with training=False differs"),
    (UnusedParameter, "parameter_gradients", "`scale` must get a gradient, got none"),
    (InfiniteGradient, "parameter_gradients", "must be finite"),
    (WrongGradient, "gradcheck", "Jacobian mismatch"),
    (WrongGradientInEvalMode, "gradcheck", "Jacobian mismatch"),
    (WrongSecondGradient, "gradgradcheck", "mismatch"),
    (NeedsLiveWeights, "frozen", "the input's gradient when frozen differs"),
    (ReadsMemoryOrder, "layouts", "the output with weights contiguous, input channels_last"),
    (CountsStatisticsTwiceInChannelsLast, "layouts", "the buffer `norm.running_mean` with weights"),
    (ReadsWeightOrder, "layouts", "the output with weights channels_last, input contiguous"),
    (ReadsGradientOrder, "layouts", "the input's gradient with weights"),
    (OtherWhenMemoryEfficient, "layouts", "and memory_efficient=False differs"),
    (BatchStatisticsInEvalMode, "batch_independence", "the output of an image alone differs"),
    (ForgetsStateOnLoading, "state_dict", "the output with a loaded state dict differs"),
    (HoldsALambda, "pickle", "pickle"),
    (ForgetsAnArgumentInItsRepresentation, "repr", "with training=False differs"),
    (RepresentationOfAnotherWidth, "repr", "`RepresentationOfAnotherWidth(2, 4)` has state"),
    (RepresentationThatIsNoSource, "repr", "invalid syntax"),
    (LeavesMeta, "meta", ""),
    (OtherShapeOnMeta, "meta", "the shape on meta"),
    (BreaksTheGraph, "compile", ""),
    (TakesAnyInput, "input_errors", "must raise a ValueError, and was accepted"),
    (RaisesAnotherError, "input_errors", ""),
]


@pytest.mark.parametrize(("block", "check", "detail"), FAULTS)
def test_fault_is_named_by_its_check(block: type, check: str, detail: str) -> None:
    skip = [] if check == "compile" else ["compile"]
    sentence = f"{block.__name__}: contract `{check}` is broken: "
    with pytest.raises(ContractError, match=re.escape(sentence)) as caught:
        check_block(block(), batch_size=2, size=(3, 2), skip=skip)
    assert detail in str(caught.value)


def test_every_check_has_a_fault_that_the_checks_before_it_let_pass() -> None:
    assert {check for _, check, _ in FAULTS} == set(CHECKS)


@pytest.mark.parametrize(
    ("block", "skip"),
    [
        (Sound(), []),
        (Sound, []),
        (partial(Sound, 4, out_channels=1), []),
        (WithDropout, ["compile", "layouts"]),
        (WithoutParameters, []),
        (Sound().requires_grad_(False), []),
    ],
)
def test_sound_block_passes(block, skip: list[str]) -> None:
    check_block(block, skip=skip)


def test_block_and_random_state_are_left_as_they_were() -> None:
    block = Sound()
    block.conv.bias.grad = torch.ones(3)
    before = {name: value.clone() for name, value in block.state_dict().items()}
    random_state = torch.get_rng_state()
    check_block(block, skip=["compile"])
    assert torch.equal(torch.get_rng_state(), random_state)
    assert block.training
    assert torch.equal(block.conv.bias.grad, torch.ones(3))
    assert block.conv.weight.dtype == torch.float32
    for name, value in block.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_namespace_gives_meaning_to_names_of_a_representation() -> None:
    class Local(Sound):
        def extra_repr(self) -> str:
            return "width"

    only_repr = [name for name in CHECKS if name != "repr"]
    with pytest.raises(ContractError, match="`repr` is broken: name 'width' is not defined"):
        check_block(Local(), skip=only_repr)
    check_block(Local(), skip=only_repr, namespace={"width": 2})


def test_size_and_channels_are_the_callers() -> None:
    shapes = set()

    class Spy(nn.Module):
        out_channels = 6

        def forward(self, x: Tensor) -> Tensor:
            shapes.add(tuple(x.shape))
            return x

    only_shape = [name for name in CHECKS if name != "output_shape"]
    check_block(Spy(), in_channels=6, batch_size=2, size=(7, 3), skip=only_shape)
    assert shapes == {(2, 6, 7, 3)}


def test_contract_error_is_an_assertion_error() -> None:
    assert issubclass(ContractError, AssertionError)


def test_interrupt_is_no_broken_contract() -> None:
    class Interrupted(Sound):
        def forward(self, x: Tensor) -> Tensor:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_block(Interrupted())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"block": 3}, TypeError, r"`block` must be a module or a callable that builds one, got 3"),
        ({"block": lambda: 3}, TypeError, r"`block` must build a module, got 3"),
        ({"block": nn.ReLU()}, ValueError, r"`in_channels` must be given for a block without the"),
        ({"in_channels": 0}, ValueError, r"`in_channels` must be >= 1, got 0"),
        ({"batch_size": 1}, ValueError, r"`batch_size` must be >= 2, got 1"),
        ({"size": 5}, TypeError, r"`size` must be a sequence of ints, got 5"),
        ({"size": (5, 4, 3)}, ValueError, r"`size` must be a height and a width, got \(5, 4, 3\)"),
        ({"skip": ["reprs"]}, ValueError, r"`skip` must be one of 'deepcopy', .*, got 'reprs'"),
    ],
)
def test_wrong_argument_is_refused(arguments: dict, error: type, message: str) -> None:
    with pytest.raises(error, match="check_block: " + message):
        check_block(**{"block": Sound(), **arguments})
