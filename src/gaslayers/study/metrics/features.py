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


def read_images(owner: str, argument: str, images: Any) -> Tensor:
    """Return (N, C, H, W) images; bytes and `Digits` become floats in [0, 1].

    Raises:
        TypeError: It is no tensor of images.
        ValueError: It has another shape.
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
    return images


@torch.no_grad()
def extract_features(
    owner: str, argument: str, images: Tensor, extractor: Extractor, *, batch_size: int = 500
) -> Tensor:
    """(N, C, H, W) -> (N, d) in float64, batch by batch.

    Args:
        owner: Who asks, for error messages.
        argument: The images' name there.
        images: The images; a module gets them on its own device.
        extractor: What makes features of a batch.
        batch_size: Images at a time.

    Raises:
        TypeError: The extractor returns no tensor.
        ValueError: The extractor is in training mode, or its features have another shape or are
            not finite.
    """
    device = images.device
    if isinstance(extractor, nn.Module):
        if extractor.training:
            remedy = "In training mode, features of an image depend on its batch: call .eval()."
            raise bad_value(owner, "features", "be in eval mode", extractor, remedy)
        device = next((tensor.device for tensor in extractor.state_dict().values()), device)
    parts = []
    for batch in torch.split(images, batch_size):
        part = extractor(batch.to(device))
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
    """Return (N, d) features in float64.

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
    return features.detach().double()


def check_pair(
    owner: str, generated: Any, real: Any, *, least: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return the features of generated and of real images in float64.

    Args:
        owner: Who asks, for error messages.
        generated: (N, d) features.
        real: (M, d) features.
        least: The fewest samples; None: more than there are features.

    Raises:
        TypeError: One is no floating-point tensor.
        ValueError: One does not pass `check_features`, or they differ in their number of features.
    """
    checked = []
    for argument, features in (("generated", generated), ("real", real)):
        needed = least
        if needed is None:
            needed = (
                features.shape[-1] + 1 if isinstance(features, Tensor) and features.dim() else 1
            )
        checked.append(check_features(owner, argument, features, least=needed))
    on_generated, on_real = checked
    if on_generated.shape[1] != on_real.shape[1]:
        rule = f"have as many features as `real`, {on_real.shape[1]}"
        raise bad_value(owner, "generated", rule, on_generated.shape[1])
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
