"""The least-squares GAN losses as modules: conventions, representation, errors."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import nn

import gaslayers.functional as GF
from gaslayers import LSGANDiscriminatorLoss, LSGANGeneratorLoss

# The field's published values, to five digits after the point.
PUBLISHED = {"rtol": 0.0, "atol": 1e-5}

REAL = torch.tensor([1.3, 0.2, 0.9, 0.6])
FAKE = torch.tensor([0.8, -0.5, 0.1, 0.4])

LOSSES = [
    LSGANDiscriminatorLoss(),
    LSGANDiscriminatorLoss(-1, 2.5, reduction="sum", scale=1.0, sigmoid=True),
    LSGANDiscriminatorLoss.from_convention("gas2018"),
    LSGANGeneratorLoss(),
    LSGANGeneratorLoss(0.25, reduction="none", scale=3.0, sigmoid=True),
    LSGANGeneratorLoss.from_convention("pytorch-gan"),
    LSGANGeneratorLoss(scale_weights=[2.5]),
]


def compute(loss: nn.Module) -> torch.Tensor:
    return loss(REAL, FAKE) if isinstance(loss, LSGANDiscriminatorLoss) else loss(FAKE)


@pytest.mark.parametrize(
    ("convention", "discriminator", "generator"),
    [
        ("paper", 0.24500, 0.43250),
        ("mse", 0.49000, 0.86500),
        ("pytorch-gan", 0.24500, 0.86500),
        ("gas2018", 0.85513, 0.43513),
    ],
)
def test_convention_equals_the_published_values(
    convention: str, discriminator: float, generator: float
) -> None:
    losses = [
        compute(kind.from_convention(convention))
        for kind in (LSGANDiscriminatorLoss, LSGANGeneratorLoss)
    ]
    expected = torch.tensor([discriminator, generator])
    torch.testing.assert_close(torch.stack(losses), expected, **PUBLISHED)


def test_gas2018_reads_4_and_8_for_an_undecided_discriminator() -> None:
    undecided = torch.zeros(32, 1)
    assert LSGANGeneratorLoss.from_convention("gas2018")(undecided).item() == 4.0
    assert LSGANDiscriminatorLoss.from_convention("gas2018")(undecided, undecided).item() == 8.0


def test_gas2018_reads_0_and_16_for_a_saturated_discriminator() -> None:
    fooled = torch.full((32, 1), 200.0)
    assert LSGANGeneratorLoss.from_convention("gas2018")(fooled).item() == 0.0
    assert LSGANDiscriminatorLoss.from_convention("gas2018")(fooled, fooled).item() == 16.0


def test_defaults_are_the_papers_convention() -> None:
    for kind in (LSGANDiscriminatorLoss, LSGANGeneratorLoss):
        assert repr(kind()) == repr(kind.from_convention("paper"))


def test_modules_hand_every_option_to_the_functions() -> None:
    options = {"reduction": "none", "scale": 3.0, "sigmoid": True}
    torch.testing.assert_close(
        LSGANDiscriminatorLoss(-0.5, 1.5, **options)(REAL, FAKE),
        GF.lsgan_discriminator_loss(REAL, FAKE, a=-0.5, b=1.5, **options),
        rtol=0,
        atol=0,
    )
    torch.testing.assert_close(
        LSGANGeneratorLoss(0.25, **options)(FAKE),
        GF.lsgan_generator_loss(FAKE, c=0.25, **options),
        rtol=0,
        atol=0,
    )


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_loss_is_rebuilt_by_its_representation_and_by_pickle(loss: nn.Module) -> None:
    rebuilt = eval(repr(loss), {kind.__name__: kind for kind in map(type, LOSSES)})
    for copy in (rebuilt, pickle.loads(pickle.dumps(loss))):
        assert type(copy) is type(loss)
        assert repr(copy) == repr(loss)
        torch.testing.assert_close(compute(copy), compute(loss), rtol=0, atol=0)


def test_representation_names_every_option() -> None:
    assert repr(LSGANGeneratorLoss()) == (
        "LSGANGeneratorLoss(c=1.0, reduction='mean', scale=0.5, sigmoid=False)"
    )


@pytest.mark.parametrize("kind", [LSGANDiscriminatorLoss, LSGANGeneratorLoss])
def test_wrong_option_is_refused_when_the_loss_is_built(kind: type) -> None:
    name = kind.__name__
    with pytest.raises(ValueError, match=rf"{name}: `reduction` must be one of .*, got 'avg'\."):
        kind(reduction="avg")
    with pytest.raises(ValueError, match=rf"{name}: `scale` must be > 0\.0, got 0"):
        kind(scale=0)
    with pytest.raises(TypeError, match=rf"{name}: `sigmoid` must be a bool, got None"):
        kind(sigmoid=None)
    with pytest.raises(TypeError, match=rf"{name}: `[ac]` must be a number, got '0'"):
        kind("0")
    message = (
        rf"{name}: `convention` must be one of 'paper', 'mse', 'pytorch-gan', 'gas2018', "
        r"got 'lsgan'\."
    )
    with pytest.raises(ValueError, match=message):
        kind.from_convention("lsgan")


def test_scores_of_other_shapes_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"must have the shape of real_scores \(4,\), got \(4, 1\)"
    ):
        LSGANDiscriminatorLoss()(REAL, FAKE[:, None])
