"""Pooling: means read the shape of their input alone, maxima its shape and their places."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gaslayers.lean.engine.form import Form
from gaslayers.lean.engine.forms import ShapeOnly
from gaslayers.lean.engine.operation import Operation, is_small
from gaslayers.lean.engine.table import rule
from gaslayers.lean.engine.whole import Hooks, Whole
from gaslayers.lean.native.places import Windows, decode, encode
from gaslayers.lean.rules.pure import add_pure, named, run_pure

add_pure("lp_pool1d", "lp_pool2d", "lp_pool3d")

_HOMES = (F, torch, torch._C._nn)


def _shape_only(saved: Tensor) -> Form | None:
    return None if is_small(saved) else ShapeOnly(saved)


@rule(*named([f"{kind}avg_pool{n}d" for kind in ("", "adaptive_") for n in (1, 2, 3)], *_HOMES))
def _mean(op: Operation) -> Any:
    return run_pure(op, _shape_only)


def _add_maximum(names: Sequence[str], axes: int, windows: Callable[..., Windows]) -> None:
    """A rule for pooling over so many axes, whether the indices are asked for or not."""

    def run(op: Operation) -> Any:
        size = op.argument(0, "input").shape[-axes:]

        def keep(saved: Tensor) -> Form | None:
            if is_small(saved):
                return None
            if saved.is_floating_point():
                return ShapeOnly(saved)
            return Places(saved, windows(op, size, saved.shape[-axes:]), op.pass_.outer)

        return op.run(keep)

    every = [name + suffix for name in names for suffix in ("", "_with_indices")]
    rule(*named(every, *_HOMES))(run)


def _windows(op: Operation, size: Sequence[int], made: Sequence[int]) -> Windows:
    axes = len(size)
    kernel = _each(op.argument(1, "kernel_size"), axes)
    stride = _each(op.argument(2, "stride"), axes) or kernel
    padding = _each(op.argument(3, "padding", 0), axes)
    dilation = _each(op.argument(4, "dilation", 1), axes)
    starts = [
        tuple(place * step - before for place in range(count))
        for count, step, before in zip(made, stride, padding, strict=True)
    ]
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    return Windows(tuple(size), tuple(starts), tuple(spans))


def _adaptive_windows(_: Operation, size: Sequence[int], made: Sequence[int]) -> Windows:
    starts = [tuple(i * n // m for i in range(m)) for n, m in zip(size, made, strict=True)]
    spans = [-(-n // m) + 1 for n, m in zip(size, made, strict=True)]
    return Windows(tuple(size), tuple(starts), tuple(spans))


for _axes in (1, 2, 3):
    _add_maximum([f"max_pool{_axes}d"], _axes, _windows)
    _add_maximum([f"adaptive_max_pool{_axes}d"], _axes, _adaptive_windows)


def _each(value: Any, axes: int) -> list[int]:
    """A size along each axis; none where there is no value."""
    if value is None:
        return []
    values = list(value) if isinstance(value, list | tuple) else [value]
    return values * axes if len(values) == 1 else values


class Places(Form):
    """Where maxima were found: for each the place in its window, in a byte where that is enough.

    Args:
        indices: The places in the image, as PyTorch counts them.
        windows: Those of the pooling.
        outer: Hooks around the engine, which take the places.
    """

    __slots__ = ("_codes", "_windows")

    reason = "places in their windows are smaller numbers than places in the image"

    def __init__(self, indices: Tensor, windows: Windows, outer: Hooks | None = None) -> None:
        self._windows = windows
        self._codes = Whole(encode(indices, windows), outer)

    @property
    def parts(self) -> Sequence[Form]:
        """The places."""
        return (self._codes,)

    def restore(self) -> Tensor:
        """The indices."""
        return decode(self._codes.restore(), self._windows)
