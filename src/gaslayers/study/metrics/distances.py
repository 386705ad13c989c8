"""Distances between many points, a few rows at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

_ROWS = 128
"""Rows at a time: 10 MiB of distances to 10,000 points."""
SAME = 1e-12
"""What rounding may make of a squared distance, over the squared norms of the two points."""


class Points:
    """Two sets of points and the squared distances between them, by one matrix product a slice.

    Args:
        points: (N, d), float64.
        others: (M, d), float64.

    Attributes:
        same: (N,), for each point: squared distances from it to points about as far from the
            centre that differ by less are the same but for rounding.
        other_same: (M,), the same for each of the others.
    """

    def __init__(self, points: Tensor, others: Tensor) -> None:
        # Small norms, small rounding. A mean would follow a single point that is far away.
        centre = others.median(0).values
        points, others = points - centre, others - centre
        norms = points.square().sum(1, keepdim=True)
        other_norms = others.square().sum(1, keepdim=True)
        self.same, self.other_same = 2.0 * SAME * norms[:, 0], 2.0 * SAME * other_norms[:, 0]
        # |p - q|^2 = (-2 p, |p|^2, 1) (q, 1, |q|^2)
        self._left = torch.cat([-2.0 * points, norms, torch.ones_like(norms)], 1)
        self._right = torch.cat([others, torch.ones_like(other_norms), other_norms], 1).T

    def rows(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield slices of points with their squared distances to all others, to rounding.

        The next slice overwrites the distances of the last: at most 128 x M.
        """
        count = len(self._left)
        buffer = self._left.new_empty(min(_ROWS, count), self._right.shape[1])
        for start in range(0, count, _ROWS):
            rows = slice(start, min(start + _ROWS, count))
            distances = buffer[: rows.stop - start]
            yield rows, torch.mm(self._left[rows], self._right, out=distances)

    def clean(self, squared: Tensor) -> Tensor:
        """Make those of N squared distances, one a point, 0 that are it but for rounding."""
        return torch.where(squared > self.same, squared, 0.0)


def squared_radii(points: Tensor, k: int) -> Tensor:
    """The squared distance of each point to its ``k``-th nearest neighbour.

    Shape:
        - points: (N, d), float64, N > k.
        - radii: (N,).
    """
    pairs = Points(points, points)
    radii = points.new_empty(len(points))
    for rows, distances in pairs.rows():
        # The nearest is the point itself.
        radii[rows] = distances.topk(k + 1, dim=1, largest=False, sorted=True).values[:, -1]
    return pairs.clean(radii)


def squared_nearest(points: Tensor, others: Tensor, *, member: Tensor | None = None) -> Tensor:
    """The squared distance of each point to the nearest of ``others``.

    Args:
        points: The points.
        others: What they are near to.
        member: Which of the points are among the others themselves; one that is does not count as
            its own neighbour. None: no point is.

    Shape:
        - points: (N, d), float64.
        - others: (M, d), float64.
        - member: (N,), bool.
        - nearest: (N,).
    """
    pairs = Points(points, others)
    nearest = points.new_empty(len(points))
    for rows, distances in pairs.rows():
        if member is None:
            nearest[rows] = distances.amin(1)
        else:
            two = distances.topk(2, dim=1, largest=False, sorted=True).values
            nearest[rows] = torch.where(member[rows], two[:, 1], two[:, 0])
    return pairs.clean(nearest)
