"""How a unit's kernel lies on its input: what is padded, and the sides that come out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from gaslayers._checks import bad_value, check_int, check_pair

_LARGEST_SIDE = 2**31 - 1  # what convolutions count up to, on a GPU and in oneDNN


class Geometry(NamedTuple):
    """A square kernel and its zeros.

    Args:
        padding: Zeros at each end that the convolution puts, for height and width or a pair.
        extra_padding: Zeros put at the bottom and right beforehand.
        first: Height and width at which the kernel fits the padded input once; 0 or less where it
            fits padding alone.
        stride: Step of the kernel.
    """

    padding: int | tuple[int, int]
    extra_padding: int
    first: tuple[int, int]
    stride: int

    def least_sides(self, count: int = 1) -> tuple[int, int]:
        """The smallest height and width of an input that gives so many rows and columns."""
        more = (count - 1) * self.stride
        return max(1, self.first[0] + more), max(1, self.first[1] + more)

    def output_sides(self, owner: str, height: int, width: int) -> tuple[int, int]:
        """Height and width of the output for those of an input, which are checked."""
        least = self.least_sides()
        rows = check_int(owner, "height", height, minimum=least[0])
        columns = check_int(owner, "width", width, minimum=least[1])
        return (rows - self.first[0]) // self.stride + 1, (
            columns - self.first[1]
        ) // self.stride + 1


def check_geometry(
    owner: str, *, kernel_size: int, dilation: int, stride: int, padding: Any
) -> Geometry:
    """The geometry of these arguments, all checked but for the first three.

    Args:
        owner: The class whose arguments they are.
        kernel_size: Side of the kernel.
        dilation: Spacing of its cells.
        stride: Its step.
        padding: An int, a pair, or None: what keeps the size at stride 1.
    """
    check_int(owner, "stride", stride, maximum=_LARGEST_SIDE)
    reach = dilation * (kernel_size - 1)
    if reach > _LARGEST_SIDE:
        rule = f"keep dilation * (kernel_size - 1) <= {_LARGEST_SIDE}"
        raise bad_value(owner, "dilation", rule, dilation)
    if padding is None:
        return Geometry(reach // 2, reach % 2, (1, 1), stride)
    rows, columns = check_pair(owner, "padding", padding, minimum=0)
    if max(rows, columns) > reach:
        rule = f"be <= dilation * (kernel_size - 1) (={reach})"
        remedy = "With more, outputs read zeros alone."
        raise bad_value(owner, "padding", rule, padding, remedy)
    given = rows if rows == columns else (rows, columns)
    return Geometry(given, 0, (reach + 1 - 2 * rows, reach + 1 - 2 * columns), stride)


def check_kernels(owner: str, *, kernel_sizes: Sequence[int], dilation: int, stride: int) -> None:
    """Raise unless a block's branches have geometries, as in `check_geometry`."""
    for kernel_size in kernel_sizes:
        check_geometry(
            owner, kernel_size=kernel_size, dilation=dilation, stride=stride, padding=None
        )


def check_groups(owner: str, groups: int, **channels: int) -> None:
    """Raise unless the groups divide the numbers of channels, given by their arguments' names."""
    for name, count in channels.items():
        if count % groups:
            raise bad_value(owner, name, f"be divisible by groups (={groups})", count)
