"""Penalties by double backward, as users write them, and what a step of one leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gaslayers.penalties import gradient_penalty

REFUSALS = ("modified by an inplace operation", "_backward is not implemented")

ROUNDED_ZERO = 1e-9
"""Where all gradients are below, as behind two norms in a row, they are zeros that were rounded."""

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}
"""As a share of the largest number of all gradients of a step."""


def r1(gradient: Tensor) -> Tensor:
    return (gradient**2).sum(tuple(range(1, gradient.dim()))).mean()


def wgan_gp(gradient: Tensor) -> Tensor:
    return ((gradient.reshape(len(gradient), -1).norm(dim=1) - 1) ** 2).mean()


def one_sided(gradient: Tensor) -> Tensor:
    return (gradient.flatten(1).norm(2, 1) - 0.1).clamp(min=0).square().mean()


def largest(gradient: Tensor) -> Tensor:
    return gradient.abs().amax()


PENALTIES: dict[str, tuple[Any, Callable[[Tensor], Tensor]]] = {
    "r1": ("r1", r1),
    "wgan-gp": ("wgan-gp", wgan_gp),
    "one-sided": (one_sided, one_sided),
    "largest": (largest, largest),
}
"""By name: what the library is told, and the oracle."""


def scores_of(made: Any, score: Callable[[Any], Any] | None) -> list[Tensor]:
    chosen = made if score is None else score(made)
    return list(chosen) if isinstance(chosen, list | tuple) else [chosen]


def by_double_backward(
    discriminator: Callable[..., Any],
    x: Tensor,
    function: Callable[[Tensor], Tensor] = r1,
    *,
    inputs: tuple[Any, ...] = (),
    score: Callable[[Any], Any] | None = None,
) -> Tensor:
    x = x.detach().requires_grad_()
    sums = [y.sum() for y in scores_of(discriminator(x, *inputs), score)]
    (gradient,) = torch.autograd.grad(sums, x, create_graph=True)
    return function(gradient)


def outcome(network: nn.Module, value: Tensor) -> dict[str, Any]:
    """The value, all gradients, and what moved."""
    if value.requires_grad:
        value.backward()
    found: dict[str, Any] = {"value": value.detach()}
    found |= {f"grad of {name}": p.grad for name, p in network.named_parameters()}
    found |= {name: buffer.clone() for name, buffer in network.named_buffers()}
    return found | {"random numbers": torch.get_rng_state()}


def assert_close(found: dict[str, Any], expected: dict[str, Any], dtype: torch.dtype) -> None:
    """Gradients to rounding, None and zeros where the other has them; all else to the bit."""
    assert found.keys() == expected.keys()
    grads = [g for name, g in expected.items() if name.startswith("grad of") and g is not None]
    most = max([ROUNDED_ZERO, *(g.abs().max().item() for g in grads)])
    for name, value in expected.items():
        if value is None or found[name] is None:
            assert found[name] is value, name
        elif name.startswith("grad of") or name == "value":
            scale = most if name != "value" else max(value.abs().item(), ROUNDED_ZERO)
            assert found[name].dtype == value.dtype, name
            torch.testing.assert_close(
                found[name], value, rtol=0, atol=TOLERANCE[dtype] * scale, equal_nan=True, msg=name
            )
        else:
            torch.testing.assert_close(found[name], value, rtol=0, atol=0, equal_nan=True, msg=name)


def compare(
    make: Callable[[], nn.Module],
    x: Tensor,
    *,
    penalty: str = "r1",
    method: str = "auto",
    inputs: tuple[Any, ...] = (),
    score: Callable[[Any], Any] | None = None,
    make_reference: Callable[[], nn.Module] | None = None,
) -> None:
    """Both ways from the same seed, on networks that are equal."""
    told, function = PENALTIES[penalty]

    def plain(network: nn.Module) -> Tensor:
        return by_double_backward(network, x, function, inputs=inputs, score=score)

    def ours(network: nn.Module) -> Tensor:
        options: Any = {"inputs": inputs, "score": score, "method": method}
        return gradient_penalty(network, x, penalty=told, **options)

    expected, found = _end((make_reference or make)(), plain), _end(make(), ours)
    if isinstance(expected, str) or isinstance(found, str):
        assert found == expected
        return
    assert_close(found, expected, x.dtype)


def _end(network: nn.Module, way: Callable[[nn.Module], Tensor]) -> dict[str, Any] | str:
    torch.manual_seed(3)
    try:
        return outcome(network, way(network))
    except RuntimeError as error:
        known = [reason for reason in REFUSALS if reason in str(error)]
        if not known:
            raise
        return known[0]
