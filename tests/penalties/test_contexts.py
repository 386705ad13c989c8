"""A penalty where trainers have it: norms of weights, precisions, layouts, contexts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from gaslayers import (
    ConvNormAct,
    DenseBlock,
    DepthwiseConvNormAct,
    DownBlock,
    InceptionBlock,
    frozen,
    lean_saving,
    make_lean,
)
from gaslayers.lean.engine import operation
from gaslayers.penalties import explain_penalty, gradient_penalty
from tests.penalties.oracle import assert_close, by_double_backward, compare, outcome, r1

DOUBLE = torch.float64


@pytest.fixture(autouse=True)
def _nothing_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operation, "SMALLEST_BYTES", 64)


def images(*size: int, dtype: torch.dtype = DOUBLE) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(5), dtype=dtype)


def seeded(build: Callable[[], nn.Module], dtype: torch.dtype = DOUBLE) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        torch.manual_seed(1)
        return build().to(dtype)

    return make


def stack(
    wrap: Callable[[nn.Module], nn.Module] = lambda layer: layer, *middle: nn.Module
) -> nn.Module:
    return nn.Sequential(
        wrap(nn.Conv2d(3, 8, 4, 2, 1)),
        nn.LeakyReLU(0.2, inplace=True),
        *middle,
        wrap(nn.Conv2d(8, 8, 3, padding=1)),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        wrap(nn.Linear(8 * 16, 1)),
    )


WRAPS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "plain": lambda layer: layer,
    "spectral": parametrizations.spectral_norm,
    "old spectral": nn.utils.spectral_norm,
    "weight norm": parametrizations.weight_norm,
    "orthogonal": parametrizations.orthogonal,
}


@pytest.mark.parametrize("penalty", ["r1", "wgan-gp"])
@pytest.mark.parametrize("name", WRAPS)
def test_gradients_reach_raw_weights_and_power_iterations_move_once(
    name: str, penalty: str
) -> None:
    make = seeded(lambda: stack(WRAPS[name]))
    compare(make, images(4, 3, 16, 16), penalty=penalty, method="linearised")


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
def test_gradients_reach_raw_weights_of_the_old_weight_norm() -> None:
    make = seeded(lambda: stack(nn.utils.weight_norm))
    compare(make, images(4, 3, 16, 16), method="linearised")


MIDDLES: dict[str, Callable[[], nn.Module]] = {
    "dropout": lambda: nn.Dropout(0.4),
    "dropout in place": lambda: nn.Dropout(0.4, inplace=True),
    "channel dropout": lambda: nn.Dropout2d(0.4),
    "everything dropped": lambda: nn.Dropout(1.0),
    "no dropout": lambda: nn.Dropout(0.0),
    "evaluated norm": lambda: nn.BatchNorm2d(8).eval(),
    "live norm": lambda: nn.BatchNorm2d(8),
    "tracked instance norm": lambda: nn.InstanceNorm2d(8, track_running_stats=True),
    "instance norm and in place": lambda: nn.Sequential(
        nn.InstanceNorm2d(8, affine=True), nn.LeakyReLU(0.2, inplace=True)
    ),
    "live norm and in place": lambda: nn.Sequential(
        nn.BatchNorm2d(8), nn.LeakyReLU(0.2, inplace=True), nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
    ),
    "means of areas": lambda: Call(lambda x: F.interpolate(x, size=(8, 9), mode="area")[..., 1:]),
    "chosen": lambda: Call(lambda x: torch.where(x[:, :1] > 0, x[:1, :1], x.detach()) + x),
    "masked": lambda: Call(lambda x: x.masked_fill(x.detach() > 1, 3.0).masked_fill_(x[0] < 0, 1)),
    "mixed": lambda: Call(lambda x: torch.lerp(x, x.detach(), 0.3).lerp(2 * x.flip(2), 0.1)),
    "stacked": lambda: Call(lambda x: torch.stack([x, x.detach(), -x], 1).unbind(1)[2] - 1 + x),
    "products": lambda: Call(
        lambda x: torch.einsum("nchw,cd->ndhw", x, torch.ones(8, 8, dtype=x.dtype)).div(3).mT.mT
    ),
    "added to a product": lambda: Call(
        lambda x: x + torch.baddbmm(x.new_ones(1), x[:, 0], x.new_ones(4, 8, 8), alpha=0.1)[:, None]
    ),
    "a sum of one": lambda: Call(
        lambda x: (1 - x.sum(1, keepdim=True)) + 2 * x.mean((2, 3))[..., None, None] + x
    ),
    "residual": lambda: Residual(),
    "weights from the input": lambda: Hyper(),
    "unfolded": lambda: Unfolded(),
}


class Call(nn.Module):
    """A function as a layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.interpolate(F.avg_pool2d(F.leaky_relu(self.conv(x)), 2), scale_factor=2)
        x += y
        return torch.cat([x[:, ::2], -x[:, 1::2].mul_(0.5)], 1)


class Hyper(nn.Module):
    """A convolution whose weights are made from the map."""

    def __init__(self) -> None:
        super().__init__()
        self.make = nn.Linear(8, 64)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.make(x.mean((0, 2, 3))).view(8, 8, 1, 1))


class Unfolded(nn.Module):
    """A convolution as a matrix product."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 72))

    def forward(self, x: Tensor) -> Tensor:
        columns = F.unfold(F.pad(x, (1, 1, 1, 1), value=0.5), 3)
        return (self.weight @ columns).view_as(x)


@pytest.mark.parametrize("frozen_share", [None, 2, 1])
@pytest.mark.parametrize("name", MIDDLES)
def test_what_stands_between_convolutions(name: str, frozen_share: int | None) -> None:
    def build() -> nn.Module:
        network = stack(lambda layer: layer, MIDDLES[name]())
        for place, parameter in enumerate(network.parameters()):
            parameter.requires_grad_(frozen_share is None or place % frozen_share == 1)
        return network

    compare(seeded(build), images(4, 3, 16, 16))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_layouts_of_images_and_weights(layout: torch.memory_format) -> None:
    make = seeded(lambda: stack().to(memory_format=layout))
    x = images(4, 3, 16, 16).contiguous(memory_format=layout)
    compare(make, x, method="linearised")
    compare(make, images(4, 3, 17, 16)[:, :, 1:], method="linearised")
    compare(make, images(4, 16, 16, 3).permute(0, 3, 1, 2), method="linearised")


class Waves(nn.Module):
    """Feature maps of waveforms, the scores last, of two scales."""

    def __init__(self) -> None:
        super().__init__()
        self.first = parametrizations.weight_norm(nn.Conv1d(1, 4, 15, 1, 7))
        self.second = parametrizations.weight_norm(nn.Conv1d(4, 8, 9, 2, 4, groups=4))
        self.score = nn.Conv1d(8, 1, 3, 1, 1)

    def forward(self, x: Tensor) -> list[list[Tensor]]:
        return [self._maps(x), self._maps(F.avg_pool1d(F.max_pool1d(x, 3, 1, 1), 4, 2, 2))]

    def _maps(self, x: Tensor) -> list[Tensor]:
        first = F.leaky_relu(self.first(x), 0.1)
        second = F.leaky_relu(self.second(first), 0.1)
        return [first, second, self.score(second)]


@pytest.mark.parametrize(
    "score",
    [
        lambda made: [maps[-1] for maps in made],
        lambda made: made[0][1],
        lambda made: made[1][-1].mean(1) * 3 - made[0][-1][:, 0, :17],
    ],
    ids=["all scores", "a feature map", "computed"],
)
def test_several_outputs_of_one_axis(score: Callable[[Any], Any]) -> None:
    def chosen(made: Any) -> Any:
        found = score(made)
        return found if isinstance(found, list) else found.sum()

    compare(seeded(Waves), images(3, 1, 64), score=chosen, method="linearised")


class Projection(nn.Module):
    """A conditional discriminator (Miyato and Koyama, 2018), with labels added to maps as well."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 8, 4, 2, 1)
        self.shift, self.labels = nn.Embedding(5, 8), nn.Embedding(5, 8)
        self.score = nn.Linear(8, 1)

    def forward(self, x: Tensor, label: Tensor, *, strength: float = 1.0) -> Tensor:
        h = F.relu(self.body(x) + strength * self.shift(label)[:, :, None, None]).sum((2, 3))
        return self.score(h) + (self.labels(label) * h).sum(1, keepdim=True)


def test_conditional_inputs() -> None:
    label = torch.tensor([0, 1, 1, 4])
    compare(seeded(Projection), images(4, 3, 8, 8), inputs=(label,), method="linearised")


def test_a_keyword_reaches_the_discriminator() -> None:
    network, x, label = seeded(Projection)(), images(4, 3, 8, 8), torch.tensor([0, 1, 1, 4])
    found = gradient_penalty(network, x, inputs=[label], kwargs={"strength": 3.0})
    expected = by_double_backward(lambda t: network(t, label, strength=3.0), x)
    torch.testing.assert_close(found, expected.detach(), rtol=1e-12, atol=0)


def test_a_gradient_reaches_conditions_that_were_computed_outside() -> None:
    network, x = seeded(Projection)(), images(4, 3, 8, 8)
    outside = torch.randn(8, dtype=DOUBLE, requires_grad=True)

    def conditioned(t: Tensor) -> Tensor:
        return network(t * outside[:3, None, None], torch.zeros(4, dtype=torch.long)) * outside[0]

    (found,) = torch.autograd.grad(gradient_penalty(conditioned, x, method="linearised"), outside)
    (expected,) = torch.autograd.grad(by_double_backward(conditioned, x), outside)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("inside", [False, True])
def test_autocast(dtype: torch.dtype, inside: bool) -> None:
    make = seeded(stack, torch.float32)
    x = images(4, 3, 16, 16, dtype=torch.float32)

    def cast(network: nn.Module) -> Callable[[Tensor], Tensor]:
        def run(t: Tensor) -> Tensor:
            with torch.autocast("cpu", dtype):
                return network(t)

        return run if inside else network

    around = contextlib.nullcontext() if inside else torch.autocast("cpu", dtype)
    results = []
    for way in (by_double_backward, gradient_penalty):
        network = make()
        with around:
            value = way(cast(network), x)
        results.append(outcome(network, value))
    exact = make()
    reference = outcome(exact, by_double_backward(exact, x))
    for name, true in reference.items():
        if not name.startswith("grad of") or true is None or not true.abs().max() > 0:
            continue
        plain, ours = (result[name] for result in results)
        assert ours.dtype == plain.dtype == torch.float32
        noise = (plain - true).abs().max() + torch.finfo(dtype).eps * true.abs().max()
        assert (ours - true).abs().max() <= 4 * noise, name


@pytest.mark.parametrize(
    "surroundings",
    [
        lean_saving,
        lambda: torch.autograd.graph.save_on_cpu(),
        lambda: torch.autograd.graph.saved_tensors_hooks(lambda t: t.clone(), lambda t: t),
    ],
    ids=["lean_saving", "save_on_cpu", "hooks"],
)
def test_within_other_contexts(surroundings: Callable[[], Any]) -> None:
    x = images(4, 3, 16, 16)
    plain = seeded(stack)()
    expected = outcome(plain, by_double_backward(plain, x))
    network = seeded(stack)()
    with surroundings():
        value = gradient_penalty(network, x, method="linearised")
    assert_close(outcome(network, value), expected, DOUBLE)


def test_a_lean_module_is_linearised_too() -> None:
    compare(
        seeded(lambda: make_lean(stack(parametrizations.spectral_norm))),
        images(4, 3, 16, 16),
        method="linearised",
    )


class Checkpointed(nn.Module):
    def __init__(self, *, reentrant: bool) -> None:
        super().__init__()
        self.body, self.reentrant = stack(), reentrant

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.body, x, use_reentrant=self.reentrant)


def test_a_checkpoint_within() -> None:
    compare(seeded(lambda: Checkpointed(reentrant=False)), images(4, 3, 16, 16))


BLOCKS: dict[str, Callable[..., nn.Module]] = {
    "convolution": partial(ConvNormAct, activation_layer=nn.LeakyReLU),
    "separable": partial(DepthwiseConvNormAct, activation_layer=nn.ReLU),
    "inception": InceptionBlock,
    "stage": partial(DownBlock, norm_layer=None),
    "stage with a norm": DownBlock,
    "dense": partial(DenseBlock, num_layers=2),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_of_the_library(name: str) -> None:
    def make(*, memory_efficient: bool = True) -> nn.Module:
        torch.manual_seed(1)
        block = BLOCKS[name](4, 8, memory_efficient=memory_efficient)
        score = nn.Conv2d(block.out_channels, 1, 3)
        return nn.Sequential(block, nn.LeakyReLU(0.2), score).double()

    has_norm = any(isinstance(part, nn.BatchNorm2d) for part in make().modules())
    x = images(2, 4, 8, 8)
    report = explain_penalty(make(), x)
    assert report.method == ("double backward" if has_norm else "linearised"), report
    compare(make, x, make_reference=lambda: make(memory_efficient=False))


def test_values_at_kinks_get_the_subgradient_of_autograd() -> None:
    def build() -> nn.Module:
        network = nn.Sequential(
            nn.Conv1d(1, 4, 1, bias=False), nn.ReLU(), nn.Conv1d(4, 4, 1, bias=False),
            nn.LeakyReLU(0.3), nn.MaxPool1d(3, 2, 1), nn.Hardtanh(-0.5, 0.5),
            nn.Conv1d(4, 4, 1, bias=False), nn.ReLU6(), nn.PReLU(4), nn.Flatten(), nn.Linear(16, 1),
        )  # fmt: skip
        for parameter in network.parameters():
            parameter.data.mul_(4).round_().div_(4)
        return network

    x = torch.tensor([0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 0.25]).repeat(6, 1, 1).double()
    x[1:3] = 0
    for penalty in ("r1", "wgan-gp"):
        compare(seeded(build), x, penalty=penalty, method="linearised")


def test_a_generators_step_through_a_frozen_discriminator_gets_nothing() -> None:
    network = stack().double()
    with frozen(network):
        value = gradient_penalty(network, images(2, 3, 16, 16))
    assert not value.requires_grad


def test_no_gradient_is_recorded_where_none_is_wanted() -> None:
    network, x = stack().double(), images(2, 3, 16, 16)
    with torch.no_grad():
        value, scores = gradient_penalty(network, x, return_scores=True)
    assert not value.requires_grad
    assert not scores.requires_grad
    torch.testing.assert_close(value, by_double_backward(network, x).detach())


def test_the_input_is_left_as_it_is() -> None:
    network = stack().double()
    x = images(2, 3, 16, 16).requires_grad_()
    gradient_penalty(network, x).backward()
    assert x.grad is None
    y = x * 2
    gradient_penalty(network, y).backward()
    assert x.grad is None


def test_an_exception_leaves_no_mode_behind() -> None:
    def fails(x: Tensor) -> Tensor:
        raise KeyError(str(F.relu(x).shape))

    with pytest.raises(KeyError):
        gradient_penalty(fails, images(2, 3))
    assert torch._C._len_torch_function_stack() == 0
    assert torch._C._autograd._top_saved_tensors_default_hooks(True) is None


def test_r1_of_a_closed_form() -> None:
    """Of a linear score w x the gradient is w everywhere: R1 is |w|^2, with the gradient 2 w."""
    layer = nn.Linear(5, 1).double()
    value = gradient_penalty(layer, images(7, 5), method="linearised")
    value.backward()
    torch.testing.assert_close(value, layer.weight.square().sum(), rtol=1e-14, atol=0)
    torch.testing.assert_close(layer.weight.grad, 2 * layer.weight.detach(), rtol=1e-14, atol=0)
    assert r1(layer.weight.detach().expand(7, 5)) == pytest.approx(value.item())
