"""Maximum pooling: a tangent is taken from where the maximum was found."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gaslayers.lean.engine.form import Form
from gaslayers.lean.engine.whole import Whole
from gaslayers.lean.rules.pool import Places
from gaslayers.lean.rules.pure import named
from gaslayers.penalties.call import Call, Twin
from gaslayers.penalties.table import twin_of


def _maximum(axes: int, call: Call) -> Twin | None:
    x, made = call.argument(0, "input"), call.run()
    pooled = made if isinstance(made, Tensor) else made[0]
    places = [form for form in call.forms if _holds_places(form)]
    if len(places) != 1:
        return None
    take = _take if pooled is made else _take_one
    taken = functools.partial(take, places[0], axes, pooled.shape)
    return call.of(taken, x, sends_zeros=True)


def _holds_places(form: Form) -> bool:
    if isinstance(form, Places):
        return True
    return isinstance(form, Whole) and form.restore().dtype == torch.int64


for _axes in (1, 2, 3):
    for _kind in ("", "adaptive_"):
        _names = [f"{_kind}max_pool{_axes}d", f"{_kind}max_pool{_axes}d_with_indices"]
        twin_of(*named(_names, F, torch, torch._C._nn))(functools.partial(_maximum, _axes))


def _take(places: Form, axes: int, shape: torch.Size, tangent: Tensor) -> Tensor:
    taken: Tensor = _Taken.apply(tangent, places, axes, shape)
    return taken


def _take_one(places: Form, axes: int, shape: torch.Size, tangent: Tensor) -> tuple[Any, None]:
    """Beside indices, which have no tangent."""
    return _take(places, axes, shape, tangent), None


class _Taken(torch.autograd.Function):
    """The numbers at some places of each image."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, places: Form, axes: int, shape: torch.Size) -> Tensor:
        ctx.given = places, axes, shape, x.shape
        indices = places.restore().reshape(shape)
        return x.flatten(-axes).gather(-1, indices.flatten(-axes)).view(shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        return _Put.apply(grad, *ctx.given), None, None, None


class _Put(torch.autograd.Function):
    """The adjoint: numbers put at their places, those at one place added."""

    @staticmethod
    def forward(
        ctx: Any, grad: Tensor, places: Form, axes: int, shape: torch.Size, image: torch.Size
    ) -> Tensor:
        ctx.given = places, axes, shape
        indices = places.restore().reshape(shape)
        made = torch.zeros(image, dtype=grad.dtype, device=grad.device)
        made.flatten(-axes).scatter_add_(-1, indices.flatten(-axes), grad.flatten(-axes))
        return made

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        return _Taken.apply(grad, *ctx.given), None, None, None, None
