"""What the least-squares losses read and reduce: scores, of one scale or several, and labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gaslayers._checks import bad_type, bad_value, check_bool, check_choice, check_float

_REDUCTIONS = ("mean", "sum", "none")


def check_options(
    owner: str,
    *,
    reduction: str,
    scale: float,
    sigmoid: bool,
    scale_weights: Sequence[float] | None,
    **labels: float | Tensor,
) -> None:
    """Raise for a label, reduction, scale, switch or weight that no LSGAN loss takes."""
    for name, value in labels.items():
        _check_label(owner, name, value)
    check_choice(owner, "reduction", reduction, _REDUCTIONS)
    check_float(owner, "scale", scale, above=0.0)
    check_bool(owner, "sigmoid", sigmoid)
    _check_scale_weights(owner, scale_weights)
    if reduction == "none" and scale_weights is not None:
        rule = "be None with reduction='none', which leaves the scales apart"
        raise bad_value(owner, "scale_weights", rule, scale_weights)


def _check_label(owner: str, argument: str, label: Any) -> None:
    """Raise unless ``label`` is a finite number or a floating-point tensor.

    The values of a tensor are not read: that would wait for its device at every step.
    """
    if isinstance(label, Tensor):
        _check_tensor(owner, argument, label)
    else:
        check_float(owner, argument, label)


def _check_scale_weights(owner: str, weights: Any) -> None:
    """Raise unless ``weights`` is None or a list or tuple of numbers that can be averaged with."""
    argument = "scale_weights"
    if weights is None:
        return
    if not isinstance(weights, list | tuple):
        raise bad_type(owner, argument, "be a list or tuple of numbers or None", weights)
    for weight in weights:
        check_float(owner, argument, weight, minimum=0.0)
    if not any(weights):
        raise bad_value(owner, argument, "hold a weight above 0", weights)


def read_scales(owner: str, argument: str, scores: Any) -> list[Tensor]:
    """Return the scores of each scale, in at least float32.

    Squares of half-precision scores near 390 overflow.
    """
    if isinstance(scores, Tensor):
        scales = [scores]
    elif isinstance(scores, list | tuple):
        scales = list(scores)
    else:
        rule = "be a tensor, or a list or tuple with a tensor for each scale"
        raise bad_type(owner, argument, rule, type(scores).__name__)
    if not scales:
        raise bad_value(owner, argument, "hold the scores of at least one scale", scores)
    for scale in scales:
        if not isinstance(scale, Tensor):
            rule, remedy = "hold a tensor for each scale", ""
            if isinstance(scale, list | tuple):
                remedy = "Pick the scores, as [features[-1] for features in scales]."
            raise bad_type(owner, argument, rule, f"a {type(scale).__name__} in it", remedy)
        _check_tensor(owner, argument, scale)
        if scale.device != scales[0].device:
            rule = f"be on one device, as the first scale is on {scales[0].device}"
            raise bad_value(owner, argument, rule, str(scale.device))
    return [scale.float() if scale.dtype.itemsize < 4 else scale for scale in scales]


def _check_tensor(owner: str, argument: str, tensor: Tensor) -> None:
    is_packed = str(tensor.dtype).endswith("_x2")  # two numbers share a byte
    if not tensor.is_floating_point() or is_packed:
        raise bad_type(owner, argument, "be a floating-point tensor", tensor.dtype)
    if tensor.layout != torch.strided or tensor.is_nested:
        raise bad_type(owner, argument, "be a dense tensor", tensor)


def read_pair(owner: str, real: Any, fake: Any) -> tuple[list[Tensor], list[Tensor]]:
    """Return the scores of real and of generated data of each scale, in at least float32."""
    real_scales = read_scales(owner, "real_scores", real)
    fake_scales = read_scales(owner, "fake_scores", fake)
    if isinstance(real, Tensor) is not isinstance(fake, Tensor):
        rule = "be a tensor or hold one for each scale as real_scores does"
        raise bad_type(owner, "fake_scores", rule, type(fake).__name__)
    if len(real_scales) != len(fake_scales):
        rule = f"hold as many scales as real_scores, {len(real_scales)}"
        raise bad_value(owner, "fake_scores", rule, len(fake_scales))
    for on_real, on_fake in zip(real_scales, fake_scales, strict=True):
        if on_real.device != on_fake.device:
            rule = f"be on the device of real_scores, {on_real.device}"
            raise bad_value(owner, "fake_scores", rule, str(on_fake.device))
    return real_scales, fake_scales


def squared_distance(
    owner: str, scores: Tensor, argument: str, label: float | Tensor, *, sigmoid: bool
) -> Tensor:
    """Square how far each score is from its label.

    Args:
        owner: Who asks, for error messages.
        scores: Of one scale.
        argument: The label's name.
        label: A number, a tensor of one element, or one with the scores' dimensions, each of the
            scores' size or 1.
        sigmoid: Pass the scores through a sigmoid first.
    """
    target = (
        _fit(owner, argument, label, scores)
        if isinstance(label, Tensor)
        else float(label)  # PyTorch refuses an int beyond 64 bits
    )
    return ((scores.sigmoid() if sigmoid else scores) - target).square()


def _fit(owner: str, argument: str, label: Tensor, scores: Tensor) -> Tensor:
    """Bring a label to the scores' device and dtype; never let it broadcast the scores."""
    if label.is_meta and not scores.is_meta:
        raise bad_value(owner, argument, "hold values", label)
    label = label.to(scores)
    if label.numel() == 1:
        return label.reshape(())
    # (N,) would go along the last axis of (N, 1), to a loss over all pairs, or of (N, 1, H, N).
    sizes = zip(label.shape, scores.shape, strict=False)
    if label.dim() != scores.dim() or any(size not in (1, whole) for size, whole in sizes):
        rule = f"have one element, or the dimensions of the scores {tuple(scores.shape)} or 1 there"
        remedy = "One label a sample is of shape (N, 1, ...)."
        raise bad_value(owner, argument, rule, tuple(label.shape), remedy)
    return label


def reduce_one(owner: str, argument: str, losses: Tensor, reduction: str) -> Tensor:
    """Reduce the losses of one scale, which are those of the scores of this name."""
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    if losses.numel() == 0:
        remedy = "Use reduction='sum' where a batch may be empty."
        raise bad_value(owner, argument, "not be empty", tuple(losses.shape), remedy)
    return losses.mean()


def reduce_both(owner: str, on_real: Tensor, on_fake: Tensor, reduction: str) -> Tensor:
    """Reduce the losses of one scale, each batch by itself where the sizes differ."""
    if on_real.shape == on_fake.shape:
        return reduce_one(owner, "real_scores", on_real + on_fake, reduction)
    shape, rule = tuple(on_fake.shape), f"have the shape of real_scores {tuple(on_real.shape)}"
    if on_real.dim() != on_fake.dim():
        remedy = "Sizes may differ, as of two batches; the number of dimensions may not."
        raise bad_value(owner, "fake_scores", rule, shape, remedy)
    if reduction == "none":
        remedy = "With reduction='none' the losses of both are added score by score."
        raise bad_value(owner, "fake_scores", rule, shape, remedy)
    return reduce_one(owner, "real_scores", on_real, reduction) + reduce_one(
        owner, "fake_scores", on_fake, reduction
    )


def join_scales(
    owner: str,
    losses: list[Tensor],
    reduction: str,
    scale_weights: Sequence[float] | None,
    *,
    is_one: bool,
) -> Tensor | tuple[Tensor, ...]:
    """Make one loss of those of all scales: their weighted mean, unless nothing is reduced."""
    if reduction == "none":
        return losses[0] if is_one else tuple(losses)
    if scale_weights is None:
        return losses[0] if len(losses) == 1 else sum(losses[1:], losses[0]) / len(losses)
    if len(scale_weights) != len(losses):
        rule = f"hold a weight for each scale, of which there are {len(losses)}"
        raise bad_value(owner, "scale_weights", rule, scale_weights)
    shares = [weight / max(scale_weights) for weight in scale_weights]  # no sum can overflow
    parts = [share / sum(shares) * loss for share, loss in zip(shares, losses, strict=True)]
    return sum(parts[1:], parts[0])
