"""A discriminator: stages that shrink the image, then one score."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gaslayers._checks import bad_value, check_choice, check_feature_map, check_int


class Discriminator(nn.Module):
    """Score images: stages, a linear layer on all that is left, and a head.

    Args:
        stages: Blocks in order, each feeding the next.
        in_channels: Channels of the image.
        image_size: Height and width of the image.
        head: ``"linear"``: the score is the linear layer's output; ``"sigmoid"``: its sigmoid.

    Shape:
        - Input: (N, in_channels, image_size, image_size).
        - Output: (N, 1).

    Raises:
        ValueError: An unknown head, an input of another shape.

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
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        check_int(owner, "in_channels", in_channels)
        check_int(owner, "image_size", image_size)
        check_choice(owner, "head", head, ("linear", "sigmoid"))
        self.in_channels = in_channels
        self.image_size = image_size
        self.head = head
        self.stages = nn.Sequential(*stages)
        self.classifier = nn.Linear(self._count_features(), 1)

    def _count_features(self) -> int:
        """The features that the stages leave of an image, found by running one through them."""
        size = (1, self.in_channels, self.image_size, self.image_size)
        weight = next(self.stages.parameters(), None)
        image = torch.zeros(size) if weight is None else torch.zeros(size).to(weight)
        training = {part: part.training for part in self.stages.modules()}
        with torch.no_grad():
            features = self.stages.eval()(image)
        for part, mode in training.items():
            part.training = mode
        return int(features[0].numel())

    def logits(self, x: Tensor) -> Tensor:
        """(N, in_channels, image_size, image_size) -> (N, 1), the scores before the head."""
        check_feature_map(type(self).__name__, x, self.in_channels)
        if x.shape[2:] != (self.image_size, self.image_size):
            rule = f"be images of {self.image_size} x {self.image_size}"
            raise bad_value(type(self).__name__, "x", rule, tuple(x.shape))
        return self.classifier(self.stages(x).flatten(1))

    def activate(self, logits: Tensor) -> Tensor:
        """Turn logits into scores: the sigmoid, or nothing with the linear head."""
        return logits.sigmoid() if self.head == "sigmoid" else logits

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, image_size, image_size) -> (N, 1) scores."""
        return self.activate(self.logits(x))
