"""A discriminator: stages that shrink the image, then one score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gaslayers._checks import (
    bad_type,
    bad_value,
    check_choice,
    check_feature_map,
    check_int,
    is_traced,
    is_tracing,
)
from gaslayers.blocks._construction import Device, placed

LARGEST_IMAGE = 2**15  # one is run through the stages


def _check_stages(owner: str, stages: Any) -> list[nn.Module]:
    """The stages, all of which are modules."""
    try:
        found: list[Any] = [stages] if isinstance(stages, str) else list(stages)
    except TypeError as error:
        raise bad_type(owner, "stages", "be modules in order", stages) from error
    for stage in found:
        if not isinstance(stage, nn.Module):
            raise bad_type(owner, "stages", "be modules in order", stage)
    return found


class Discriminator(nn.Module):
    """Score images: stages, a linear layer on all that is left, and a head.

    Args:
        stages: Blocks in order, each feeding the next.
        in_channels: Channels of the image.
        image_size: Height and width of the image.
        head: ``"linear"``: the score is the linear layer's output; ``"sigmoid"``: its sigmoid.
        device: Where the network is put, stages included; None: the linear layer on PyTorch's
            default device, the stages where they are.
        dtype: The precision of its parameters and buffers; None: as with ``device``.

    Shape:
        - Input: (N, in_channels, image_size, image_size).
        - Output: (N, 1).

    Raises:
        TypeError: An argument of the wrong kind.
        ValueError: An unknown head, an image that is too small for the stages, an input of another
            shape.

    Note:
        Differs from the paper: LSGAN's discriminator ends linearly; the sigmoid is GAS's (2018).

    Example:
        >>> import torch
        >>> from gaslayers import DownBlock
        >>> network = Discriminator([DownBlock(1, 8)], in_channels=1, image_size=28)
        >>> network(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 1])
    """

    def __init__(
        self,
        stages: Sequence[nn.Module],
        *,
        in_channels: int,
        image_size: int,
        head: str = "linear",
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        stages = _check_stages(owner, stages)
        in_channels = check_int(owner, "in_channels", in_channels)
        image_size = check_int(owner, "image_size", image_size, maximum=LARGEST_IMAGE)
        check_choice(owner, "head", head, ("linear", "sigmoid"))
        self.in_channels = in_channels
        self.image_size = image_size
        self.head = head
        self.stages = nn.Sequential(*stages)
        features = self._count_features()
        with placed(owner, device, dtype) as put:
            self.classifier = nn.Linear(features, 1)
            put(self)

    def _count_features(self) -> int:
        """The features that the stages leave of an image, found by running one through them."""
        size = (1, self.in_channels, self.image_size, self.image_size)
        weight = next(self.stages.parameters(), None)
        training = {part: part.training for part in self.stages.modules()}
        try:
            image = torch.zeros(size) if weight is None else torch.zeros(size).to(weight)
            with torch.no_grad():
                features = self.stages.eval()(image)
        except (RuntimeError, ValueError) as error:
            rule = (
                f"take images of {self.in_channels} channels, {self.image_size} x {self.image_size}"
            )
            owner = type(self).__name__
            raise bad_value(owner, "stages", rule, self.stages, str(error)) from error
        finally:
            for part, mode in training.items():
                part.training = mode
        if not isinstance(features, Tensor):
            raise bad_type(type(self).__name__, "stages", "return a tensor", features)
        return int(features[0].numel())

    def logits(self, x: Tensor) -> Tensor:
        """(N, in_channels, image_size, image_size) -> (N, 1), the scores before the head."""
        check_feature_map(type(self).__name__, x, self.in_channels)
        is_known = not (is_traced(x) or is_tracing())
        if is_known and x.shape[2:] != (self.image_size, self.image_size):
            rule = f"be images of {self.image_size} x {self.image_size}"
            raise bad_value(type(self).__name__, "x", rule, tuple(x.shape))
        return self.classifier(self.stages(x).flatten(1))

    def activate(self, logits: Tensor) -> Tensor:
        """Turn logits into scores: the sigmoid, or nothing with the linear head."""
        return logits.sigmoid() if self.head == "sigmoid" else logits

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, image_size, image_size) -> (N, 1) scores."""
        return self.activate(self.logits(x))
