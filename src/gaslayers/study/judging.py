"""How good the images of a run are at its end."""

from __future__ import annotations

from torch import Tensor, nn

from gaslayers.study.data import load_digits
from gaslayers.study.metrics import Evaluation, evaluate
from gaslayers.study.shared_norm import alone
from gaslayers.study.training import Game


class _Clamped(nn.Module):
    """A generator that is held to images from 0 to 1, as those that it was trained beside.

    Args:
        generator: It ends in a tanh, and had to learn that nothing is below 0.
    """

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator
        self.latent_size = generator.latent_size

    def forward(self, z: Tensor) -> Tensor:
        """(N, latent_size) -> (N, 1, 28, 28)."""
        images: Tensor = self.generator(z)
        return images.clamp_min(0.0)


def judge_samples(game: Game) -> Evaluation:
    """Compare images of a trained generator with the digits in the package, by every metric.

    Where G has a mean of its weights, that is judged. Norms take the statistics of the batch, as in
    training.

    Raises:
        ValueError: The generator makes a pixel that is not finite.
    """
    generator = game.sampled_generator
    is_unit = game.config.image_range == "unit"
    with alone(generator):
        return evaluate(
            _Clamped(generator) if is_unit else generator,
            load_digits(),
            image_range=(0.0, 1.0) if is_unit else (-1.0, 1.0),
            seed=game.config.seed,
        )
