"""How good the images of a run are at its end."""

from __future__ import annotations

from torch import Tensor, nn

from gaslayers.study.data import load_digits
from gaslayers.study.metrics import Evaluation, evaluate
from gaslayers.study.shared_norm import alone
from gaslayers.study.training import Game


class _Images(nn.Module):
    """A generator's images as its discriminator sees them, mapped to [0, 1].

    Args:
        generator: It ends in a tanh.
        image_range: Of the real images that it was trained beside. With ``"unit"``, it has to
            learn that nothing is below 0.
    """

    def __init__(self, generator: nn.Module, image_range: str) -> None:
        super().__init__()
        self.generator = generator
        self.image_range = image_range
        self.latent_size = generator.latent_size

    def forward(self, z: Tensor) -> Tensor:
        """(N, latent_size) -> (N, 1, 28, 28)."""
        images: Tensor = self.generator(z)
        if self.image_range == "symmetric":
            images = images.add(1.0).div(2.0)
        return images.clamp(0.0, 1.0)


def judge_samples(game: Game) -> Evaluation:
    """Compare images of a trained generator with the digits in the package, by every metric.

    Where G has a mean of its weights, that is judged. Norms take the statistics of the batch, as in
    training.

    Raises:
        ValueError: The generator makes a pixel that is not finite.
    """
    images = _Images(game.sampled_generator, game.config.image_range)
    with alone(images):
        return evaluate(images, load_digits(), seed=game.config.seed)
