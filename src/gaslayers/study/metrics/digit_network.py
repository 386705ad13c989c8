"""A small classifier of digits, whose features the metrics compare images by."""

from __future__ import annotations

import copy
import functools
from pathlib import Path

from safetensors.torch import load
from torch import Tensor, nn

from gaslayers._checks import bad_value, check_feature_map
from gaslayers.study.data.verification import ExpectedFile, verify_file

# tools/train_digit_features.py writes this file and compares it with these numbers.
WEIGHTS = ExpectedFile(
    "digit_features.safetensors",
    299_808,
    "b3e81f84d2691b513aa1695bfc6207520bfc15557ba98120fcb8fd9053b80031",
)
WEIGHTS_PATH = Path(__file__).with_name(WEIGHTS.name)

CLASSES = 10
_OWNER = "DigitNetwork"
_ROUNDING = 1e-3
"""How far outside of [0, 1] a pixel may be; interpolation rounds."""


class DigitNetwork(nn.Module):
    """Map digits to 64 features, and features to the logits of ten classes.

    Shape:
        - images: (N, 1, H, W) with values in [0, 1], 0 being the background. Sizes other than
          28 x 28 are resized, bilinearly with antialiasing.
        - features: (N, 64), at least 0.

    Note:
        The weights in the package were trained on the last 50,000 of the 60,000 MNIST training
        digits. The 10,000 digits in the package, with which the metrics compare, are the others;
        the 10,000 test digits were used for nothing but the accuracy that the weights' file names.

    Example:
        >>> import torch
        >>> network = load_digit_network()
        >>> network(torch.rand(2, 1, 28, 28)).shape
        torch.Size([2, 64])
    """

    num_features = 64

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.Sequential(
            *_unit(1, 16),
            nn.MaxPool2d(2),  # N x 16 x 14 x 14
            *_unit(16, 32),
            *_unit(32, 32),
            nn.MaxPool2d(2),  # N x 32 x 7 x 7
            *_unit(32, 64),
            *_unit(64, 64),
            # A filter a channel over the whole map: it knows where, as averaging would not.
            nn.Conv2d(64, 64, 7, groups=64, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.head = nn.Linear(self.num_features, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 1, H, W) -> (N, 64).

        Raises:
            TypeError: ``images`` is no floating-point tensor.
            ValueError: The shape is another one, or a value is not within [0, 1].
        """
        check_feature_map(_OWNER, images, 1)
        low, high = (extreme.item() for extreme in images.aminmax()) if len(images) else (0.0, 1.0)
        # Written so that NaN fails as well.
        if not (low >= -_ROUNDING and high <= 1.0 + _ROUNDING):
            rule = "have values in [0, 1]"
            remedy = "Map the images of a tanh by images.add(1).div(2)."
            raise bad_value(_OWNER, "images", rule, f"values from {low} to {high}", remedy)
        if images.shape[2:] != (28, 28):
            images = nn.functional.interpolate(
                images, (28, 28), mode="bilinear", antialias=True, align_corners=False
            )
        features: Tensor = self.stages(images)
        return features

    def classify(self, features: Tensor) -> Tensor:
        """(N, 64) -> (N, 10), logits."""
        logits: Tensor = self.head(features)
        return logits


def _unit(in_channels: int, out_channels: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


def load_digit_network() -> DigitNetwork:
    """The network with the weights of the package, frozen, on the CPU; a new one for each call.

    The file is compared with its known SHA-256 before it is read, which happens once.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: The file has another content.
    """
    return copy.deepcopy(_load())


@functools.cache
def _load() -> DigitNetwork:
    verify_file(WEIGHTS_PATH, WEIGHTS, owner="load_digit_network", remedy="Reinstall gaslayers.")
    network = DigitNetwork()
    network.load_state_dict(load(WEIGHTS_PATH.read_bytes()))
    return network.eval().requires_grad_(False)
