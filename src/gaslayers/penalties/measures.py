"""What a gradient is measured by: the penalty as a function of it, and its own gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from gaslayers._checks import bad_type, bad_value, check_choice

Measure: TypeAlias = Callable[[Tensor], Tensor]
"""Makes a scalar of the gradient of the scores by the input."""


def _r1(gradient: Tensor) -> Tensor:
    """The mean over samples of the squared norm (Mescheder et al., 2018, equation 9)."""
    return gradient.flatten(1).square().sum(1).mean()


def _wgan_gp(gradient: Tensor) -> Tensor:
    """The mean over samples of the squared distance of the norm from 1 (Gulrajani et al., 2017)."""
    return (gradient.flatten(1).norm(2, 1) - 1).square().mean()


MEASURES: dict[str, Measure] = {"r1": _r1, "wgan-gp": _wgan_gp}


def choose_measure(owner: str, penalty: Any) -> Measure:
    """The measure of a name, or the callable itself."""
    if isinstance(penalty, str):
        check_choice(owner, "penalty", penalty, tuple(MEASURES))
        return MEASURES[penalty]
    if not callable(penalty):
        names = " or ".join(repr(name) for name in MEASURES)
        raise bad_type(owner, "penalty", f"be {names} or a callable", penalty)
    return penalty


def measure(owner: str, function: Measure, gradient: Tensor) -> Tensor:
    """The penalty of a gradient.

    Raises:
        TypeError: The function gives no tensor.
        ValueError: What it gives is no scalar.
    """
    value = function(gradient)
    if not isinstance(value, Tensor):
        raise bad_type(owner, "penalty", "give a scalar tensor", value)
    if value.dim() or not value.is_floating_point():
        raise bad_value(owner, "penalty", "give a floating-point scalar", value)
    return value


def measure_with_slope(owner: str, function: Measure, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """The penalty of a gradient, and the gradient of that.

    Raises:
        ValueError: It does not depend on the gradient, or as for `measure`.
    """
    leaf = gradient.detach().requires_grad_()
    value = measure(owner, function, leaf.clone())  # a copy: it may be changed in place
    slope: Tensor | None = None
    if value.requires_grad:
        (slope,) = torch.autograd.grad(value, leaf, retain_graph=True, allow_unused=True)
    if slope is None:
        rule = "depend on the gradient that it is given"
        raise bad_value(owner, "penalty", rule, value.detach())
    # With the graph of what else it reads; the leaf is nobody's.
    return value if _has_other_leaves(value, leaf) else value.detach(), slope


def _has_other_leaves(value: Tensor, leaf: Tensor) -> bool:
    rest, seen = [value.grad_fn], set()
    while rest:
        node = rest.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if variable is not None and variable is not leaf:
            return True
        rest += [below for below, _ in node.next_functions]
    return False
