"""Operators that are linear as they are: views, moves, means, resampling."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gaslayers.lean.rules.pure import named
from gaslayers.penalties.call import NO_TANGENT, Call, Twin, zeros_like
from gaslayers.penalties.table import twin_of

_HOMES = (torch, Tensor, F, torch._C._nn)

_LINEAR = (
    "view", "view_as", "reshape", "reshape_as", "flatten", "unflatten", "ravel", "permute",
    "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "t", "adjoint", "squeeze",
    "unsqueeze", "expand", "expand_as", "broadcast_to", "repeat", "repeat_interleave", "tile",
    "contiguous", "clone", "narrow", "select", "chunk", "split", "tensor_split", "unbind", "flip",
    "fliplr", "flipud", "roll", "rot90", "diagonal", "tril", "triu", "cumsum", "sum", "mean",
    "neg", "negative", "positive", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle",
    "unfold", "fold", "to", "float", "double", "half", "bfloat16", "type", "type_as",
    "interpolate", "upsample", "index_select", "gather", "take_along_dim", "masked_select",
    "requires_grad_",
)  # fmt: skip

_IN_PLACE = ("neg", "negative", "squeeze", "unsqueeze", "t", "transpose", "swapaxes", "cumsum")


@twin_of(*named(_LINEAR, *_HOMES), Tensor.__getitem__, Tensor.__neg__)
def _linear(call: Call) -> Twin | None:
    call.run()
    if _reads_shape_alone(call) and not call.depends(call.args[0]):
        return NO_TANGENT
    if call.depends(*call.args[1:]) and not _reads_shape_alone(call):
        return None
    # Means of areas are adaptive pooling.
    return call.again(sends_zeros=call.kwargs.get("mode") == "area")


def _reads_shape_alone(call: Call) -> bool:
    """Whether the second argument is there for its shape or dtype."""
    return call.func in (Tensor.view_as, Tensor.reshape_as, Tensor.expand_as, Tensor.type_as)


def _changed(twin: Callable[..., Any], call: Call) -> Twin | None:
    call.run()
    return call.again(twin)


for _name in _IN_PLACE:
    _twin = getattr(torch, _name, None) or getattr(Tensor, _name)
    twin_of(*named([f"{_name}_"], *_HOMES))(functools.partial(_changed, _twin))


# Of a mean autograd's second derivative hands zeros to what was averaged.
@twin_of(*named([f"{kind}avg_pool{n}d" for kind in ("", "adaptive_") for n in (1, 2, 3)], *_HOMES))
def _pooled_mean(call: Call) -> Twin | None:
    call.run()
    return call.again(sends_zeros=True)


for _property in ("T", "mT"):
    twin_of(getattr(Tensor, _property).__get__)(_linear)


@twin_of(torch.cat, torch.concat, torch.concatenate, torch.stack)
def _joined(call: Call) -> Twin | None:
    call.run()
    parts = call.argument(0, "tensors")
    filled = [part if call.depends(part) else zeros_like(part) for part in parts]
    kwargs = {name: value for name, value in call.kwargs.items() if name != "tensors"}
    return call.again(args=(filled, *call.args[1:]), kwargs=kwargs)


@twin_of(F.pad)
def _padded(call: Call) -> Twin | None:
    call.run()
    mode = call.argument(2, "mode", "constant")
    x, amounts = call.argument(0, "input"), call.argument(1, "pad")
    # The second derivatives by autograd of these two hand zeros to what was padded.
    sends_zeros = mode in ("reflect", "replicate")
    return call.again(F.pad, (x, amounts, mode), {}, sends_zeros=sends_zeros)


@twin_of(torch.masked_fill, Tensor.masked_fill, Tensor.masked_fill_)
def _masked(call: Call) -> Twin | None:
    call.run()
    x, mask, value = (call.argument(i, name) for i, name in enumerate(("input", "mask", "value")))
    return None if call.depends(value) else call.again(torch.masked_fill, (x, mask, 0.0), {})


@twin_of(torch.where, Tensor.where)
def _chosen(call: Call) -> Twin | None:
    call.run()
    if not isinstance(call.result, Tensor):  # places where a condition holds
        return None
    if call.func is torch.where:
        condition, x, y = (
            call.argument(i, n) for i, n in enumerate(("condition", "input", "other"))
        )
    else:
        x, condition, y = (
            call.argument(i, n) for i, n in enumerate(("input", "condition", "other"))
        )
    x, y = (value if call.depends(value) else 0.0 for value in (x, y))
    # The other one may be the larger.
    shape = call.result.shape
    return call.again(functools.partial(_where, shape), (condition, x, y), {})


def _where(shape: torch.Size, condition: Tensor, x: Any, y: Any) -> Tensor:
    return torch.where(condition, x, y).expand(shape)
