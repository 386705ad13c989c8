"""What a penalty gives: a scalar that adds to losses, scores of the same pass, errors, memory."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gaslayers import lean_saving
from gaslayers.penalties import (
    dragan_penalty,
    explain_penalty,
    gradient_penalty,
    r1_penalty,
    r2_penalty,
    wgan_gp_penalty,
)
from gaslayers.penalties import penalty as penalty_module
from tests.accounting.watch import Watch, uncollected
from tests.penalties.oracle import by_double_backward, r1, wgan_gp

TIGHT = {"rtol": 1e-12, "atol": 1e-15}


def images(*size: int, seed: int = 5) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def critic(*middle: nn.Module) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 8, 4, 2, 1), nn.LeakyReLU(0.2), *middle, nn.Conv2d(8, 1, 4, 2, 1), nn.Flatten()
    ).double()


def gradients(network: nn.Module, loss: Tensor) -> list[Tensor | None]:
    return list(torch.autograd.grad(loss, [*network.parameters()], allow_unused=True))


@pytest.mark.parametrize("middle", [(), (nn.BatchNorm2d(8),)], ids=["linearised", "smooth"])
def test_a_penalty_adds_to_a_loss_and_scales(middle: tuple[nn.Module, ...]) -> None:
    x = images(4, 3, 8, 8)
    network = critic(*middle)
    found = gradients(network, network(x).mean() + 5 * gradient_penalty(network, x))
    network = critic(*middle)
    expected = gradients(network, network(x).mean() + 5 * by_double_backward(network, x))
    torch.testing.assert_close(found, expected, **TIGHT)


@pytest.mark.parametrize("middle", [(), (nn.BatchNorm2d(8),)], ids=["linearised", "smooth"])
def test_scores_of_the_same_pass_are_those_of_an_ordinary_one(
    middle: tuple[nn.Module, ...],
) -> None:
    x, calls = images(4, 3, 8, 8), []
    network = critic(*middle)
    network.register_forward_hook(lambda *_: calls.append(1))
    value, scores = gradient_penalty(network, x, return_scores=True)
    assert len(calls) == 1
    found = gradients(network, F.softplus(-scores).mean() + 3 * value)
    network = critic(*middle)
    plain_scores = network(x)
    torch.testing.assert_close(scores, plain_scores, rtol=0, atol=0)
    fresh = critic(*middle)
    expected = [
        a if b is None else a + b
        for a, b in zip(
            gradients(network, F.softplus(-plain_scores).mean()),
            gradients(fresh, 3 * by_double_backward(fresh, x)),
            strict=True,
        )
    ]
    torch.testing.assert_close(found, expected, **TIGHT)


def test_each_backward_pass_adds_the_gradient_once_more() -> None:
    network, x = critic(), images(4, 3, 8, 8)
    value = gradient_penalty(network, x)
    value.backward(retain_graph=True)
    once = [p.grad.clone() for p in network.parameters() if p.grad is not None]
    value.backward()
    twice = [p.grad for p in network.parameters() if p.grad is not None]
    torch.testing.assert_close(twice, [2 * grad for grad in once], **TIGHT)
    with pytest.raises(RuntimeError, match="second time"):
        value.backward()


def test_a_gradient_scaler_scales_it() -> None:
    network, x = critic().float(), images(4, 3, 8, 8).float()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    plain = gradients(network, gradient_penalty(network, x))
    scaled = gradients(network, scaler.scale(gradient_penalty(network, x)))
    for a, b in zip(plain, scaled, strict=True):
        if a is not None:
            torch.testing.assert_close(b, a * 2**10, rtol=1e-6, atol=1e-6)


def test_a_derivative_of_higher_order_is_refused_and_not_wrong() -> None:
    network, x = critic(), images(4, 3, 8, 8)
    value = gradient_penalty(network, x)
    with pytest.raises(RuntimeError, match='Pass method="double backward"'):
        torch.autograd.grad(value, [network[0].weight], create_graph=True)
    found, expected = (
        _second(way, critic(), x)
        for way in (
            lambda d, t: gradient_penalty(d, t, method="double backward"),
            by_double_backward,
        )
    )
    torch.testing.assert_close(found, expected, **TIGHT)


def _second(way: Callable[..., Tensor], network: nn.Sequential, x: Tensor) -> Tensor:
    weight = network[0].weight
    (grad,) = torch.autograd.grad(way(network, x), weight, create_graph=True)
    (second,) = torch.autograd.grad(grad.square().sum(), weight)
    return second


def test_derivatives_of_transforms_and_of_forward_mode_are_those_of_double_backward() -> None:
    network, x = critic(), images(4, 3, 8, 8)
    params = {name: p.detach() for name, p in network.named_parameters()}

    def value(params: dict[str, Tensor], way: Callable[..., Tensor]) -> Tensor:
        return way(lambda t: torch.func.functional_call(network, params, (t,)), x)

    try:
        expected = torch.func.grad(value)(params, by_double_backward)
    except RuntimeError:
        expected = None
    if expected is not None:
        torch.testing.assert_close(torch.func.grad(value)(params, gradient_penalty), expected)

    tangents = {name: torch.ones_like(p) for name, p in params.items()}
    with torch.autograd.forward_ad.dual_level():
        duals = {n: torch.autograd.forward_ad.make_dual(p, tangents[n]) for n, p in params.items()}
        found, plain = (
            torch.autograd.forward_ad.unpack_dual(value(duals, way)).tangent
            for way in (gradient_penalty, by_double_backward)
        )
    assert plain is not None
    torch.testing.assert_close(found, plain, **TIGHT)


def test_a_callable_with_weights_of_its_own_gets_their_gradient() -> None:
    network, x = critic(), images(4, 3, 8, 8)
    target = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)

    def around(gradient: Tensor) -> Tensor:
        return (gradient.flatten(1).norm(2, 1) - target).square().mean()

    found = torch.autograd.grad(
        gradient_penalty(network, x, penalty=around), [target, network[0].weight]
    )
    value = by_double_backward(network, x, around)
    expected = torch.autograd.grad(value, [target, network[0].weight])
    torch.testing.assert_close(found, expected, **TIGHT)


def test_functional_forms() -> None:
    network, real, fake = critic(), images(4, 3, 8, 8), images(4, 3, 8, 8, seed=6)
    for way, x in ((r1_penalty, real), (r2_penalty, fake)):
        torch.testing.assert_close(way(network, x), by_double_backward(network, x), **TIGHT)

    state = torch.get_rng_state()
    drawn = torch.Generator().manual_seed(9)
    value = wgan_gp_penalty(network, real, fake, generator=drawn)
    share = torch.rand(4, 1, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    mixed = share * real + (1 - share) * fake
    torch.testing.assert_close(
        value, by_double_backward(network, mixed, wgan_gp), rtol=1e-9, atol=0
    )

    drawn = torch.Generator().manual_seed(9)
    value = dragan_penalty(network, real, spread=0.25, generator=drawn)
    again = torch.Generator().manual_seed(9)
    noise = torch.rand(real.shape, dtype=torch.float64, generator=again) * 0.25 * real.std()
    share = torch.rand(4, 1, 1, 1, dtype=torch.float64, generator=again)
    around = share * real + (1 - share) * (real + noise)
    torch.testing.assert_close(
        value, by_double_backward(network, around, wgan_gp), rtol=1e-9, atol=0
    )
    assert torch.equal(state, torch.get_rng_state())
    dragan_penalty(network, real)
    assert not torch.equal(state, torch.get_rng_state())


ERRORS: dict[str, tuple[type[Exception], str, Callable[[], Any]]] = {
    "unknown penalty": (
        ValueError, "`penalty` must be one of 'r1', 'wgan-gp', got 'r3'",
        lambda: gradient_penalty(critic(), images(2, 3, 8, 8), penalty="r3"),
    ),
    "penalty of a wrong kind": (
        TypeError, "`penalty` must be 'r1' or 'wgan-gp' or a callable, got 3",
        lambda: gradient_penalty(critic(), images(2, 3, 8, 8), penalty=3),  # type: ignore[arg-type]
    ),
    "no scalar": (
        ValueError, "`penalty` must give a floating-point scalar",
        lambda: gradient_penalty(critic(), images(2, 3, 8, 8), penalty=torch.abs),
    ),
    "no tensor": (
        TypeError, "`penalty` must give a scalar tensor, got 0.5",
        lambda: gradient_penalty(critic(), images(2, 3, 8, 8), penalty=lambda g: 0.5),  # type: ignore[arg-type, return-value]
    ),
    "a constant penalty": (
        ValueError, "`penalty` must depend on the gradient",
        lambda: gradient_penalty(
            critic(), images(2, 3, 8, 8), penalty=lambda _: torch.ones((), requires_grad=True)
        ),
    ),
    "integers": (
        TypeError, "`x` must be a floating-point tensor, got a Tensor of shape (2, 3) and "
        "torch.int64",
        lambda: gradient_penalty(critic(), torch.zeros(2, 3, dtype=torch.int64)),
    ),
    "no tensor as x": (
        TypeError, "`x` must be a tensor, got [1.0]", lambda: gradient_penalty(critic(), [1.0]),
    ),
    "no samples": (
        ValueError, "`x` must have an axis of samples",
        lambda: gradient_penalty(critic(), torch.tensor(1.0)),
    ),
    "x is ignored": (
        ValueError, "`discriminator` must give scores that depend on `x`",
        lambda: gradient_penalty(lambda x: torch.ones(2, requires_grad=True) * 2, images(2, 3)),
    ),
    "x is cut off": (
        ValueError, "`discriminator` must give scores that depend on `x`",
        lambda: gradient_penalty(lambda x: x.detach() * 2, images(2, 3)),
    ),
    "several outputs": (
        ValueError, "`discriminator` must give one tensor where there is no `score`",
        lambda: gradient_penalty(lambda x: [x * 2, x * 3], images(2, 3)),
    ),
    "no outputs": (
        TypeError, "`discriminator` must give tensors, got None",
        lambda: gradient_penalty(lambda x: None, images(2, 3)),
    ),
    "integer scores": (
        TypeError, "`score` must give floating-point tensors",
        lambda: gradient_penalty(lambda x: x * 2, images(2, 3), score=lambda y: y.argmax(1)),
    ),
    "score of a wrong kind": (
        TypeError, "`score` must be a callable or None, got -1",
        lambda: gradient_penalty(critic(), images(2, 3), score=-1),  # type: ignore[arg-type]
    ),
    "no discriminator": (
        TypeError, "`discriminator` must be a module or another callable, got None",
        lambda: gradient_penalty(None, images(2, 3)),  # type: ignore[arg-type]
    ),
    "unknown method": (
        ValueError, "`method` must be one of 'auto', 'linearised', 'double backward', got 'fast'",
        lambda: gradient_penalty(critic(), images(2, 3), method="fast"),  # type: ignore[arg-type]
    ),
    "not linear": (
        ValueError, "`method` must be another one: sigmoid has no rule",
        lambda: gradient_penalty(lambda x: x.sigmoid(), images(2, 3), method="linearised"),
    ),
    "shapes": (
        ValueError, "`fake` must be like `real`, of shape (2, 3) and torch.float64",
        lambda: wgan_gp_penalty(critic(), images(2, 3), images(3, 3)),
    ),
    "spread": (
        ValueError, "`spread` must be >= 0.0, got -1",
        lambda: dragan_penalty(critic(), images(2, 3), spread=-1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_bad_arguments_are_named(name: str) -> None:
    kind, message, act = ERRORS[name]
    with pytest.raises(kind, match=re.escape(message)):
        act()


class Doubled(torch.autograd.Function):
    """A function of a user's, which no mode sees."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 2 * x * grad


HIDDEN: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "a user's function": lambda d, x: d(x) + Doubled.apply(x).sum((1, 2, 3))[:, None],
    "a user's function within": lambda d, x: d(F.relu(Doubled.apply(F.relu(x)))),
    "a changed view": lambda d, x: d(_changed_view(x)),
    "a changed part": lambda d, x: d(_set_part(x)),
    "a changed base": lambda d, x: d(_changed_base(x)),
    "an argument made of x": lambda d, x: d(x) * Doubled.apply(x).mean(),
    "an operator of aten": lambda d, x: d(torch.ops.aten.mul(x, x)),
    "out of a list": lambda d, x: d(torch.stack(torch._foreach_mul([x, x], [x, x])).mean(0)),
}


def _changed_view(x: Tensor) -> Tensor:
    y = x * 2
    y.view(-1)[::2].mul_(3)
    return y


def _set_part(x: Tensor) -> Tensor:
    y = x * 2
    y[:, 1:] = x[:, :2] * x[:, :2]
    return y


def _changed_base(x: Tensor) -> Tensor:
    y = x * 2
    view = y.view(y.shape)
    y.square_()
    return view


@pytest.mark.parametrize("name", HIDDEN)
def test_what_no_rule_sees_is_never_taken_for_a_constant(name: str) -> None:
    network, x = critic(), images(4, 3, 8, 8)

    def run(t: Tensor) -> Tensor:
        return HIDDEN[name](network, t)

    with pytest.raises(ValueError, match="`method` must be another one"):
        gradient_penalty(run, x, method="linearised")
    assert explain_penalty(run, x).method == "double backward"
    found, expected = (
        gradients(network, way(run, x)) for way in (gradient_penalty, by_double_backward)
    )
    torch.testing.assert_close(found, expected, **TIGHT)


def test_hooks_on_gradients_of_features_end_the_tape() -> None:
    network, x = critic(), images(4, 3, 8, 8)

    def run(t: Tensor) -> Tensor:
        y = network[0](t)
        y.register_hook(lambda grad: 3 * grad)
        return network[1:](y)

    found, expected = (
        gradients(network, way(run, x)) for way in (gradient_penalty, by_double_backward)
    )
    torch.testing.assert_close(found, expected, **TIGHT)


def test_backward_hooks_of_modules_end_the_tape() -> None:
    x, results = images(4, 3, 8, 8), []
    for way in (gradient_penalty, by_double_backward):
        network = critic()
        network[1].register_full_backward_hook(lambda _, grads, __: (2 * grads[0],))
        results.append(gradients(network, way(network, x)))
    torch.testing.assert_close(*results, **TIGHT)


def test_a_constant_that_is_changed_before_the_tangent_reads_it_is_refused() -> None:
    noise = torch.ones(4, 3, 8, 8, dtype=torch.float64)

    def run(t: Tensor) -> Tensor:
        y = t * noise
        noise.mul_(2)
        return y

    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        by_double_backward(run, images(4, 3, 8, 8))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        gradient_penalty(run, images(4, 3, 8, 8))


def test_the_report_says_where_and_why() -> None:
    network = critic(nn.BatchNorm2d(8), nn.Sequential(nn.Sigmoid(), nn.ReLU()))
    before = network[2].running_mean.clone()
    report = explain_penalty(network, images(4, 3, 8, 8))
    assert [(part.module, part.operator) for part in report.smooth] == [
        ("2", "batch_norm"),
        ("3.0", "sigmoid"),
    ]
    assert report.method == "double backward"
    assert "2 of 7 operators have no linear twin" in str(report)
    assert torch.equal(before, network[2].running_mean)
    assert explain_penalty(network[0], images(4, 3, 8, 8)).smooth == ()


def peak_of(step: Callable[[], Tensor], network: nn.Module, x: Tensor) -> int:
    """Of live storages beyond parameters and their gradients."""
    step().backward()
    parameters = list(network.parameters())
    with uncollected():
        watch = Watch()
        grads = [p.grad for p in parameters if p.grad is not None]
        watch.see([*parameters, *network.buffers(), x, *grads])
        before = watch.total
        with watch:
            step().backward()
    gc.collect()
    return watch.peak - before


@pytest.mark.parametrize("shape", ["pooled", "strided"])
def test_the_peak_is_below_that_of_autograd_and_of_a_step(shape: str) -> None:
    layers: list[nn.Module] = []
    for a, b in ((3, 32), (32, 64), (64, 128)):
        if shape == "pooled":
            layers += [nn.Conv2d(a, b, 3, padding=1), nn.LeakyReLU(0.2), nn.MaxPool2d(2)]
        else:
            layers += [nn.Conv2d(a, b, 4, 2, 1), nn.LeakyReLU(0.2)]
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 16, 1))
    x = torch.randn(16, 3, 32, 32)
    ways = {
        "autograd": lambda: by_double_backward(network, x),
        "step": lambda: network(x).square().mean(),
        "ours": lambda: gradient_penalty(network, x, method="linearised"),
    }
    peaks = {name: peak_of(way, network, x) for name, way in ways.items()}
    assert peaks["ours"] <= {"pooled": 0.42, "strided": 0.58}[shape] * peaks["autograd"]
    assert peaks["ours"] < peaks["step"]


def test_the_graph_of_the_first_pass_is_gone_before_the_second_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, x = (
        critic(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()).float(),
        torch.randn(16, 3, 64, 64),
    )
    living, push, watch = [], penalty_module.push, Watch()

    def watched(*args: Any) -> Any:
        living.append(watch.total - x.nbytes)  # the input itself is there anyway
        return push(*args)

    gradient_penalty(network, x)
    monkeypatch.setattr(penalty_module, "push", watched)
    with uncollected(), watch:
        gradient_penalty(network, x)
    a_map = 16 * 8 * 32 * 32 * 4
    # The gradient's slope, and a bit for each value of two maps.
    assert living[0] <= x.nbytes + 2 * a_map // 32 + 8192


def test_lean_saving_around_keeps_its_own_forms() -> None:
    network, x = critic(), images(4, 3, 8, 8)
    with lean_saving():
        loss = network(x).mean() + gradient_penalty(network, x, method="linearised")
    found = gradients(network, loss)
    expected = gradients(network, network(x).mean() + by_double_backward(network, x, r1))
    torch.testing.assert_close(found, expected, **TIGHT)
