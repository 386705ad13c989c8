"""Several claims at once."""

from __future__ import annotations

from collections.abc import Mapping

from gaslayers._checks import bad_type, bad_value, check_float


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjust the p-values of a family of claims.

    A false claim anywhere in the family is then as rare as in a family of one.

    Args:
        p_values: That of each claim.

    Raises:
        TypeError: It is no mapping to numbers.
        ValueError: It is empty, or a p-value is not within [0, 1].

    Example:
        >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
        {'a': 0.03, 'b': 0.06, 'c': 0.06}

    References:
        Holm, "A simple sequentially rejective multiple test procedure", 1979.
    """
    if not isinstance(p_values, Mapping):
        raise bad_type("holm", "p_values", "be a mapping from claims to p-values", p_values)
    if not p_values:
        raise bad_value("holm", "p_values", "hold at least one", p_values)
    for value in p_values.values():
        check_float("holm", "p_values", value, minimum=0.0, maximum=1.0)
    adjusted, largest = {}, 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}
