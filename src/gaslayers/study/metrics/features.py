"""Images as the metrics take them, and the features that they are compared by."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gaslayers._checks import bad_type, bad_value
from gaslayers.study.data import Digits

Extractor = Callable[[Tensor], Tensor]
"""Images of shape (N, C, H, W) to features of shape (N, d); a module in eval mode, say."""


UNIT = (0.0, 1.0)
_BEYOND = 1e-3
"""How far outside of [0, 1] a real pixel may be; interpolation rounds."""


def read_images(
    owner: str, argument: str, images: Any, *, image_range: tuple[float, float] = UNIT
) -> Tensor:
    """Return (N, C, H, W) images in float32; bytes and `Digits` become floats in [0, 1].

    Args:
        owner: Who asks, for error messages.
        argument: The images' name there.
        images: The images.
        image_range: The values of black and of white in floats, which are mapped to [0, 1] where
            they are others; bytes have 0 and 255.

    Raises:
        TypeError: It is no tensor of images.
        ValueError: It has another shape, or a pixel is not finite.
    """
    if isinstance(images, Digits):
        images = images.images.unsqueeze(1)
    if not isinstance(images, Tensor):
        raise bad_type(owner, argument, "be a tensor of images or Digits", images)
    if images.dim() != 4:
        remedy = "Give grey images a channel by images.unsqueeze(1)." if images.dim() == 3 else ""
        raise bad_value(owner, argument, "have shape (N, C, H, W)", images, remedy)
    if images.dtype == torch.uint8:
        return images.float() / 255.0
    if not images.is_floating_point():
        raise bad_type(owner, argument, "be of bytes or of a floating-point type", images)
    values = images.detach().float()
    # Before the clamp, which would make white of what is infinite.
    if not bool(values.isfinite().all()):
        broken = int((~values.isfinite()).flatten(1).any(1).sum())
        rule = "have finite pixels"
        raise bad_value(owner, argument, rule, f"{broken} of {len(values)} images with others")
    low, high = image_range
    if (low, high) == UNIT:
        return values
    return values.sub(low).div(high - low).clamp(0.0, 1.0)


def check_unit(owner: str, argument: str, images: Tensor) -> None:
    """Raise unless real images are in [0, 1], which generated ones are mapped to."""
    low, high = (extreme.item() for extreme in images.aminmax()) if len(images) else UNIT
    if low < -_BEYOND or high > 1.0 + _BEYOND:
        rule = "have values in [0, 1] where `image_range` maps generated ones to those"
        remedy = "Leave `image_range` out where both have the range that `features` takes."
        raise bad_value(owner, argument, rule, f"values from {low} to {high}", remedy)


@torch.no_grad()
def extract_features(
    owner: str, argument: str, images: Tensor, extractor: Extractor, *, batch_size: int = 500
) -> Tensor:
    """(N, C, H, W) -> (N, d) in float64, batch by batch.

    Args:
        owner: Who asks, for error messages.
        argument: The images' name there.
        images: The images; a module gets them on its own device and in its own type.
        extractor: What makes features of a batch.
        batch_size: Images at a time.

    Raises:
        TypeError: The extractor returns no tensor.
        ValueError: The extractor is in training mode, or its features have another shape or are
            not finite.
    """
    like = images
    if isinstance(extractor, nn.Module):
        if extractor.training:
            remedy = "In training mode, features of an image depend on its batch: call .eval()."
            raise bad_value(owner, "features", "be in eval mode", extractor, remedy)
        floats = (
            tensor for tensor in extractor.state_dict().values() if tensor.is_floating_point()
        )
        like = next(floats, images)
    parts = []
    for batch in torch.split(images, batch_size):
        # Autocast would round features of one side and of the other in another way.
        with torch.autocast(like.device.type, enabled=False):
            part = extractor(batch.to(like))
        if not isinstance(part, Tensor):
            raise bad_type(owner, "features", "return a tensor", part)
        if part.dim() != 2 or len(part) != len(batch):
            rule = f"return features of shape ({len(batch)}, d) for {len(batch)} images"
            raise bad_value(owner, "features", rule, tuple(part.shape))
        parts.append(part.double().cpu())
    features = torch.cat(parts) if parts else torch.empty(0, 0, dtype=torch.float64)
    check_finite(owner, argument, features)
    return features


def check_features(owner: str, argument: str, features: Any, *, least: int) -> Tensor:
    """Return (N, d) features in float64, on the CPU.

    Raises:
        TypeError: It is no floating-point tensor.
        ValueError: The shape is another one, there are fewer than ``least`` samples, or a feature
            is not finite.
    """
    if not isinstance(features, Tensor) or not features.is_floating_point():
        raise bad_type(owner, argument, "be a floating-point tensor of features", features)
    if features.dim() != 2 or features.shape[1] == 0:
        raise bad_value(owner, argument, "have shape (N, d)", features)
    if len(features) < least:
        raise bad_value(owner, argument, f"hold at least {least} samples", len(features))
    check_finite(owner, argument, features)
    return features.detach().cpu().double()  # some devices have no float64


def check_pair(
    owner: str,
    generated: Any,
    real: Any,
    *,
    least: int | None = None,
    names: tuple[str, str] = ("generated", "real"),
) -> tuple[Tensor, Tensor]:
    """Return the features of generated and of real images in float64, on the CPU.

    Args:
        owner: Who asks, for error messages.
        generated: (N, d) features.
        real: (M, d) features.
        least: The fewest samples; None: more than there are features.
        names: What the owner calls the two.

    Raises:
        TypeError: One is no floating-point tensor.
        ValueError: One does not pass `check_features`, or they differ in their number of features.
    """
    checked = []
    for argument, features in zip(names, (generated, real), strict=True):
        needed = least
        if needed is None:
            needed = (
                features.shape[-1] + 1 if isinstance(features, Tensor) and features.dim() else 1
            )
        checked.append(check_features(owner, argument, features, least=needed))
    on_generated, on_real = checked
    if on_generated.shape[1] != on_real.shape[1]:
        rule = f"have as many features as `{names[1]}`, {on_real.shape[1]}"
        raise bad_value(owner, names[0], rule, on_generated.shape[1])
    return on_generated, on_real


def check_finite(owner: str, argument: str, features: Tensor) -> None:
    """Raise unless all features are finite."""
    finite = features.isfinite()
    if not bool(finite.all()):
        rows = int((~finite).any(1).sum())
        rule = "have finite features"
        raise bad_value(owner, argument, rule, f"{rows} of {len(features)} samples with others")


def hash_weights(extractor: Extractor) -> str | None:
    """SHA-256 of a module's state dict, names, types, shapes and values; None for a function."""
    if not isinstance(extractor, nn.Module):
        return None
    digest = hashlib.sha256()
    for name, tensor in extractor.state_dict().items():
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
