"""The layouts in which a map, a gradient or a module's weights may lie in memory.

What lies beside the numbers in their memory is NaN, so that a block that reads it shows it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

CONTIGUOUS, LAST = torch.contiguous_format, torch.channels_last


def _within(x: Tensor, shape: tuple[int, ...], place: tuple[slice, ...], layout: str) -> Tensor:
    """The numbers of ``x`` at a place of a larger map."""
    memory_format = LAST if layout.endswith("_last") else CONTIGUOUS
    larger = torch.full(shape, torch.nan, dtype=x.dtype, device=x.device)
    larger = larger.contiguous(memory_format=memory_format)
    view = larger[place]
    view.copy_(x)
    return view


def _slice(x: Tensor, layout: str) -> Tensor:
    """Some of the channels, pixels or images of a larger map."""
    count, channels, height, width = x.shape
    every = slice(None)
    shape, place = {
        "channel_slice": ((count, channels + 3, height, width), (every, slice(2, channels + 2))),
        "channel_step": ((count, 2 * channels, height, width), (every, slice(0, None, 2))),
        "crop": (
            (count, channels, height + 2, width + 3),
            (every, every, slice(1, height + 1), slice(2, width + 2)),
        ),
        "batch_slice": ((count + 2, channels, height, width), (slice(1, count + 1),)),
        "batch_step": ((2 * count, channels, height, width), (slice(0, None, 2),)),
        "row_step": ((count, channels, 2 * height, width), (every, every, slice(1, None, 2))),
    }[layout.removesuffix("_last")]
    return _within(x, shape, place, layout)


def _permuted(*order: int) -> Callable[[Tensor, str], Tensor]:
    """A map whose axes lie in another order in memory, the last of ``order`` innermost."""
    back = tuple(order.index(axis) for axis in range(4))

    def lay_out(x: Tensor, _layout: str) -> Tensor:
        return x.permute(order).contiguous().permute(back)

    return lay_out


def _odd_strides(x: Tensor, layout: str) -> Tensor:
    """Strides that no one reads: those of axes of size one."""
    dense = x.contiguous(memory_format=LAST if layout.endswith("_last") else CONTIGUOUS)
    dense = dense.clone(memory_format=torch.preserve_format)
    sizes = zip(dense.stride(), x.shape, strict=True)
    return dense.as_strided(x.shape, [stride if size > 1 else 4099 for stride, size in sizes])


def _gapped(x: Tensor, _layout: str) -> Tensor:
    """A number of another tensor after each: dense in no memory format."""
    return torch.stack([x, torch.full_like(x, torch.nan)], dim=-1)[..., 0]


def _negated(x: Tensor, _layout: str) -> Tensor:
    """Numbers that lie in memory with the other sign, as PyTorch keeps the parts of a conjugate."""
    return torch.complex(torch.full_like(x, torch.nan), -x).conj().imag


def _overlapping(x: Tensor, _layout: str) -> Tensor:
    """Rows that begin one number after the other, as in a map of windows."""
    count, channels, height, width = x.shape
    line = x.new_empty(count, channels, height + width - 1)
    line.copy_(torch.cat([x[..., 0], x[:, :, -1, 1:]], dim=2))
    return line.as_strided(x.shape, (*line.stride()[:2], 1, 1))


MAP_LAYOUTS: dict[str, Callable[[Tensor, str], Tensor]] = {
    "contiguous": lambda x, _: x.contiguous(),
    "channels_last": lambda x, _: x.contiguous(memory_format=LAST),
    "channel_slice": _slice,
    "channel_slice_last": _slice,
    "channel_step": _slice,
    "channel_step_last": _slice,
    "crop": _slice,
    "crop_last": _slice,
    "batch_slice": _slice,
    "batch_slice_last": _slice,
    "batch_step": _slice,
    "batch_step_last": _slice,
    "row_step": _slice,
    "row_step_last": _slice,
    "transposed": _permuted(0, 1, 3, 2),
    "transposed_last": _permuted(0, 3, 2, 1),
    "batch_innermost": _permuted(1, 2, 3, 0),
    "batch_inside_last": _permuted(2, 3, 0, 1),
    "reversed": _permuted(3, 2, 1, 0),
    "odd_strides": _odd_strides,
    "odd_strides_last": _odd_strides,
    "gapped": _gapped,
    "negated": _negated,
    # These repeat numbers, and so hold other numbers than the map that they are made from.
    "expanded_batch": lambda x, _: x[:1].clone().expand_as(x),
    "expanded_channels": lambda x, _: x[:, :1].clone().expand_as(x),
    "expanded_pixels": lambda x, _: x[..., :1, :1].clone().expand_as(x),
    "expanded": lambda x, _: x.flatten()[:1].clone().view(1, 1, 1, 1).expand_as(x),
    "overlapping": _overlapping,
}
"""How a map of shape (N, C, H, W) can lie in memory, by name."""


def lay_out(x: Tensor, layout: str) -> Tensor:
    """A map in another layout, in new memory unless it has that layout already.

    The same numbers, but for the expanded and overlapping layouts, which repeat some of them.
    """
    return MAP_LAYOUTS[layout](x.detach(), layout)


def _in_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=LAST) if tensor.dim() == 4 else tensor


def _load(block: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
    """Load the block's own state, its tensors changed, in place of its tensors."""
    trained = {name for name, value in block.named_parameters() if value.requires_grad}
    # A scalar counts batches, and is added to in place.
    state = {
        name: change(value.detach()) if value.dim() else value.clone()
        for name, value in block.state_dict().items()
    }
    block.load_state_dict(state, assign=True)
    for name, value in block.named_parameters():
        value.requires_grad_(name in trained)


def _convert_half(block: nn.Module) -> None:
    """Every second weight, as where a part of a network was converted or came from elsewhere."""
    for parameter in [p for p in block.parameters() if p.dim() == 4][::2]:
        parameter.data = _in_last(parameter.data)


def _flatten(block: nn.Module) -> None:
    """All parameters in one vector, as optimizers of flat vectors lay them out."""
    parameters = list(block.parameters())
    if parameters:
        vector = torch.cat(
            [p.new_empty(1) for p in parameters[:1]] + [p.flatten() for p in parameters]
        )
        pieces = torch.split(vector.detach()[1:], [p.numel() for p in parameters])
        for parameter, piece in zip(parameters, pieces, strict=True):
            parameter.data = piece.view(parameter.shape)


def _move(block: nn.Module, memory_format: torch.memory_format) -> None:
    block.to(memory_format=memory_format)


def _load_contiguous(block: nn.Module) -> None:
    block.to(memory_format=LAST)
    _load(block, lambda value: value.clone(memory_format=CONTIGUOUS))


def _gap(block: nn.Module) -> None:
    """Gaps in the weights of convolutions; those in a norm's tensors PyTorch itself misreads."""
    for parameter in block.parameters():
        if parameter.dim() == 4:
            parameter.data = _gapped(parameter.data, "")


WEIGHT_LAYOUTS: dict[str, Callable[[nn.Module], None]] = {
    "contiguous": lambda block: _move(block, CONTIGUOUS),
    "channels_last": lambda block: _move(block, LAST),
    "loaded_last": lambda block: _load(block, _in_last),
    "loaded_contiguous": _load_contiguous,
    "some_last": _convert_half,
    "gapped": _gap,
    "flat": _flatten,
}
"""How the tensors of a module can lie in memory, by name; a module is changed in place."""


def lay_out_weights(block: nn.Module, layout: str) -> None:
    """Bring the tensors of a module with contiguous ones into another layout, in place."""
    WEIGHT_LAYOUTS[layout](block)
