"""The multiply-adds of an einsum, pair by pair as torch contracts them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import prod

ELLIPSIS = "..."


def _labels(term: str, rank: int) -> list[str]:
    """The label of each axis; those of an ellipsis are numbered from its right end."""
    if ELLIPSIS not in term:
        return list(term)
    before, _, after = term.partition(ELLIPSIS)
    hidden = rank - len(before) - len(after)
    return [*before, *(f"...{hidden - i}" for i in range(hidden)), *after]


def _output_labels(equation: str, terms: Sequence[Sequence[str]]) -> set[str]:
    hidden = {label for term in terms for label in term if label.startswith(ELLIPSIS)}
    left, arrow, right = equation.partition("->")
    if arrow:
        return set(right.replace(ELLIPSIS, "")) | (hidden if ELLIPSIS in right else set())
    seen = Counter(left.replace(ELLIPSIS, "").replace(",", ""))
    return hidden | {label for label, times in seen.items() if times == 1}


def einsum_macs(equation: str, shapes: Sequence[Sequence[int]], path: Sequence[int] = ()) -> int:
    """Count the multiply-adds of ``torch.einsum(equation, ...)`` on operands of these shapes.

    A pair that shares a summed label is a batched matrix product, with one MAC for each
    combination of labels; a pair that does not is an elementwise product, without MACs.

    Args:
        equation: As given to `torch.einsum`.
        shapes: The shape of each operand.
        path: Positions of each pair in turn, flat; empty: from the left.

    Example:
        >>> einsum_macs("ij,jk->ik", [(2, 3), (3, 5)])
        30
    """
    equation = equation.replace(" ", "")
    terms = equation.partition("->")[0].split(",")
    axes = [_labels(term, len(shape)) for term, shape in zip(terms, shapes, strict=True)]
    kept = _output_labels(equation, axes)
    # An axis of size 1 broadcasts: it neither sums nor multiplies.
    operands = [
        {label: size for label, size in zip(labels, shape, strict=True) if size != 1}
        for labels, shape in zip(axes, shapes, strict=True)
    ]
    steps = iter(path or [0, 1] * (len(operands) - 1))
    total = 0
    while len(operands) > 1:
        first, second = sorted((next(steps), next(steps)))
        right, left = operands.pop(second), operands.pop(first)
        needed = kept.union(*operands)
        alone = {label for label in left.keys() ^ right.keys() if label not in needed}
        both = {label: size for label, size in (left | right).items() if label not in alone}
        summed = {label for label in left.keys() & right.keys() if label not in needed}
        if summed:
            total += prod(both.values())
        result = {label: size for label, size in both.items() if label not in summed}
        # torch puts a result in front where it goes from the left, behind where it has a path.
        operands.insert(len(operands) if path else 0, result)
    return total
