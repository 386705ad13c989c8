"""Where a verdict begins."""

from __future__ import annotations

from dataclasses import dataclass, fields

from gaslayers._checks import check_float, check_int


@dataclass(frozen=True)
class Thresholds:
    """The numbers that verdicts depend on.

    Args:
        saturated_slope: Mean s(1 - s) below which a sigmoid head is saturated, on both batches.
        saturated_steps: For how many iterations, up to the last.
        saturated_gradient: Part of its middle value before then that the gradient at G's output is
            below when the head is saturated; a larger one passes by the sigmoid.
        dead_logit: Spread of the scores, and distance of their means, below which D is dead.
        dead_steps: For how many iterations, up to the last.
        overpowering_loss: Part of its start that L_D is below when D overpowers G.
        overpowering_gradient: Part of its start that the gradient at G's output is below then.
        overpowering_steps: For how many iterations, up to the last.
        collapsed_classes: Classes seen, of ten, at which samples have collapsed; a part of them for
            another number of classes.
        collapsed_variation: Total variation of classes above which they have.
        collapsed_coverage: Coverage, over its floor, below which they have.
        total_spread: Spread, over its floor, below which all samples are one.
        total_variation: Total variation of classes above which all samples are of one class; 0.85
            is 95 % of them in one of ten.
        least_precision: Precision, over its floor, below which samples are not of the real kind.

    Raises:
        TypeError: A threshold is no number.
        ValueError: A threshold is not above 0.

    Note:
        Saturation is that of losses of the sigmoid's output, whose gradient has the factor
        s(1 - s). BCE with logits has 1 - s for G: such a run is told apart by its gradients at G's
        output, so give those. A D that overpowers G is told where L_D starts above 0 and both it
        and that gradient fall: least squares, and losses of a sigmoid's output. Under hinge, WGAN
        and BCE with logits the gradient stays, and the verdict says no more than that D separates
        perfectly. Whether D is dead depends on the scale of its scores: for a critic with clipped
        weights, whose scores are small by nature, give a lower ``dead_logit``.
    """

    saturated_slope: float = 1e-3
    saturated_steps: int = 100
    saturated_gradient: float = 0.1
    dead_logit: float = 1e-3
    dead_steps: int = 200
    overpowering_loss: float = 0.01
    overpowering_gradient: float = 1e-4
    overpowering_steps: int = 100
    collapsed_classes: int = 7
    collapsed_variation: float = 0.25
    collapsed_coverage: float = 0.25
    total_spread: float = 0.1
    total_variation: float = 0.85
    least_precision: float = 0.25

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, int):
                check_int("Thresholds", field.name, value)
            else:
                check_float("Thresholds", field.name, value, above=0.0)
