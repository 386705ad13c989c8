"""The hypothesis strategy of feature maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from hypothesis import strategies as st
from torch import Tensor

from gaslayers._checks import check_choice, check_int

MEMORY_FORMATS = ("contiguous", "channels_last", "strided")


def _lay_out(x: Tensor, memory_format: str) -> Tensor:
    if memory_format == "channels_last":
        return x.contiguous(memory_format=torch.channels_last)
    if memory_format == "strided":
        return torch.stack([x, x], dim=-1)[..., 0]
    return x


@st.composite
def _feature_maps(
    draw: st.DrawFn,
    channels: st.SearchStrategy[int],
    batch_sizes: st.SearchStrategy[int],
    sides: st.SearchStrategy[int],
    dtypes: Sequence[torch.dtype],
    memory_formats: Sequence[str],
) -> Tensor:
    shape = (draw(batch_sizes), draw(channels), draw(sides), draw(sides))
    dtype = draw(st.sampled_from(dtypes))
    memory_format = draw(st.sampled_from(memory_formats))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    return _lay_out(torch.randn(shape, generator=generator, dtype=dtype), memory_format)


def feature_maps(
    channels: int | None = None,
    *,
    max_batch_size: int = 3,
    min_side: int = 1,
    max_side: int = 8,
    dtypes: Sequence[torch.dtype] = (torch.float32, torch.float64),
    memory_formats: Sequence[str] = MEMORY_FORMATS,
) -> st.SearchStrategy[Tensor]:
    """Feature maps of normal noise, (N, channels, H, W) with H and W drawn apart.

    The numbers follow from a drawn seed, so that a failing example shrinks in shape and layout
    rather than number by number, and prints as what hypothesis needs to repeat it.

    Args:
        channels: Channels of every map; None: 1 to 8.
        max_batch_size: The most maps in a batch.
        min_side: The least height and width; 2 where a block pools.
        max_side: The largest height and width.
        dtypes: What the numbers may be.
        memory_formats: Among ``"contiguous"``, ``"channels_last"`` and ``"strided"`` (a view
            with a gap after each number, contiguous in no memory format).

    Raises:
        TypeError: A size that is no int.
        ValueError: A size below 1, sides in the wrong order, an unknown memory format.

    Example:
        >>> from hypothesis import given, settings
        >>> from gaslayers import InceptionBlock
        >>> block = InceptionBlock(3, 5)
        >>> @settings(max_examples=5, database=None)
        ... @given(feature_maps(3, dtypes=[torch.float32]))
        ... def keeps_height_and_width(x):
        ...     assert block(x).shape == (len(x), 5, *x.shape[2:])
        >>> keeps_height_and_width()
    """
    owner = "feature_maps"
    if channels is not None:
        check_int(owner, "channels", channels)
    check_int(owner, "max_batch_size", max_batch_size)
    check_int(owner, "min_side", min_side)
    check_int(owner, "max_side", max_side, minimum=min_side)
    for memory_format in memory_formats:
        check_choice(owner, "memory_formats", memory_format, MEMORY_FORMATS)
    return _feature_maps(
        st.integers(1, 8) if channels is None else st.just(channels),
        st.integers(1, max_batch_size),
        st.integers(min_side, max_side),
        dtypes,
        memory_formats,
    )
