from __future__ import annotations

import pytest
import torch
from torch import nn

from gaslayers.models import LSGANGenerator
from gaslayers.study.data import load_digits
from gaslayers.study.metrics import Evaluation, evaluate, evaluate_stacked, stack_digits
from gaslayers.study.metrics.features import hash_weights
from gaslayers.study.metrics.sampling import draw_images
from gaslayers.study.metrics.scores import BETTER


class Means(nn.Module):
    """Features of images of any size and channels: their mean colour and its spread."""

    def forward(self, images):
        return torch.cat([images.mean((2, 3)), images.std((2, 3))], 1)


@pytest.fixture
def means():
    return Means().eval()


@pytest.mark.parametrize("shape", [(3, 9, 17), (1, 28, 28), (4, 64, 64)])
def test_any_features_and_any_images_are_judged(means, shape):
    real = torch.rand(40, *shape)
    found = evaluate(lambda count: torch.rand(count, *shape), real, features=means)
    assert found.samples == 20
    assert found.features == "Means"
    assert found.classes_seen is None
    assert {name for name, _ in found.scores()} < set(BETTER)
    assert found.frechet_distance.value >= 0.0


def test_evaluation_survives_json_and_prints_every_score(means):
    found = evaluate(torch.rand(20, 3, 8, 8), torch.rand(40, 3, 8, 8), features=means)
    assert Evaluation.model_validate_json(found.model_dump_json()) == found
    lines = str(found).splitlines()
    assert lines[0] == "20 samples, features of Means"
    assert len(lines) == 2 + len(list(found.scores()))


def test_floor_is_real_against_real_and_does_not_depend_on_the_generator(means):
    real = torch.rand(60, 3, 8, 8)
    floors = [
        {name: score.floor for name, score in evaluate(made, real, features=means).scores()}
        for made in (torch.zeros(30, 3, 8, 8), torch.rand(30, 3, 8, 8))
    ]
    assert floors[0] == floors[1]


def test_halves_of_the_real_images_share_no_image(means):
    # Each image has a colour of its own: a floor of 0 would be that of an image on both sides.
    real = torch.linspace(0, 1, 40).view(-1, 1, 1, 1).expand(-1, 1, 4, 4).contiguous()
    features = lambda images: images.mean((2, 3))  # noqa: E731
    assert evaluate(real[:20], real, features=features).nearest_ratio.floor > 0.3


def test_digits_are_judged_by_the_network_of_the_package():
    digits = load_digits()
    found = evaluate(digits.images[:100].unsqueeze(1), digits, samples=100)
    assert found.features == "DigitNetwork"
    assert len(found.features_sha256) == 64
    assert found.classes_seen.value == 10.0
    assert 7.0 <= found.classes_seen.limit <= found.classes_seen.floor
    assert found.total_variation.floor < found.total_variation.limit < 0.6


def test_copies_of_training_images_are_found_among_those(means):
    training, real = torch.rand(50, 3, 8, 8), torch.rand(40, 3, 8, 8)
    found = evaluate(training[:20], real, features=means, training=training)
    assert found.nearest_ratio.value == pytest.approx(0.0, abs=1e-6)
    assert found.nearest_ratio.floor > 0.5
    unseen = evaluate(training[:20], real, features=means)
    assert unseen.nearest_ratio.value > 0.5


@pytest.mark.parametrize("training", [True, False])
def test_generator_is_left_as_it_was(training):
    network = LSGANGenerator(base_channels=4).train(training)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first = draw_images("test", network, 6, image_range=(-1.0, 1.0), batch_size=4)
    assert torch.equal(torch.rand(2), expected)
    assert first.shape == (6, 1, 28, 28)
    assert 0.0 <= first.min() < 0.5 < first.max() <= 1.0
    again = draw_images("test", network, 6, image_range=(-1.0, 1.0), batch_size=4)
    assert torch.equal(first, again)
    assert not torch.equal(
        first, draw_images("test", network, 6, image_range=(-1.0, 1.0), batch_size=4, seed=1)
    )
    assert network.training is training
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_function_draws_from_the_seed_alone():
    draw = lambda seed: draw_images("test", lambda n: torch.rand(n, 1, 2, 2), 5, seed=seed)  # noqa: E731
    assert torch.equal(draw(0), draw(0))
    assert not torch.equal(draw(0), draw(1))


def test_weights_are_hashed_by_value():
    torch.manual_seed(0)
    a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    assert hash_weights(a) != hash_weights(b)
    b.load_state_dict(a.state_dict())
    assert hash_weights(a) == hash_weights(b)
    assert hash_weights(torch.flatten) is None


REAL = torch.rand(40, 3, 8, 8)


@pytest.mark.parametrize(
    ("generator", "options", "error", "message"),
    [
        (
            torch.rand(19, 3, 8, 8),
            {},
            ValueError,
            "`generator` must hold at least 20 images, got 19",
        ),
        (torch.rand(20, 3, 8), {}, ValueError, r"have shape \(N, C, H, W\).*unsqueeze"),
        (torch.rand(20, 3, 8, 9), {}, ValueError, r"images of the real ones' shape, \(3, 8, 8\)"),
        (torch.ones(20, 3, 8, 8).long(), {}, TypeError, "be of bytes or of a floating-point type"),
        (lambda count: torch.rand(3, 3, 8, 8), {}, ValueError, "as many images as asked for, 20"),
        (lambda count: None, {}, TypeError, "be a tensor of images"),
        (nn.Conv2d(1, 1, 1), {}, TypeError, "have an int `latent_size`.*lambda count"),
        ("generator", {}, TypeError, "be a module, a function of a number of images, or images"),
        (REAL, {"samples": 21}, ValueError, "at most half of the 40 real images"),
        (REAL, {"samples": 1}, ValueError, "`samples` must be >= 2"),
        (REAL, {"samples": 4}, ValueError, "hold at least 7 samples, got 4"),
        (REAL, {"image_range": (1.0, -1.0)}, ValueError, "rise from black to white"),
        (REAL, {"image_range": 1.0}, TypeError, "be a pair of numbers"),
        (REAL, {"features": Means()}, ValueError, "`features` must be in eval mode"),
        (REAL, {"features": 5}, TypeError, "`features` must be callable"),
        (REAL, {"features": lambda x: 1}, TypeError, "`features` must return a tensor"),
        (REAL, {"features": lambda x: x}, ValueError, r"features of shape \(40, d\)|\(20, d\)"),
        (
            REAL,
            {"features": lambda x: x.flatten(1)[:, :4] / 0.0},
            ValueError,
            "evaluate: `generator` must have finite features",
        ),
        (REAL, {"features": None}, ValueError, r"DigitNetwork: expected input of shape \(N, 1,"),
        (REAL, {"nearest_k": 0}, ValueError, "`nearest_k` must be >= 1"),
        (REAL, {"training": torch.rand(2, 2)}, ValueError, "`training` must have shape"),
    ],
)
def test_evaluate_says_what_is_wrong(means, generator, options, error, message):
    with pytest.raises(error, match=message):
        evaluate(generator, REAL, **{"features": means, **options})


def test_real_images_that_are_all_the_same_are_refused(means):
    with pytest.raises(ValueError, match=r"`real` must hold images that differ, got '20 equal"):
        evaluate(REAL, torch.ones(40, 3, 8, 8) * 0.5, features=lambda x: torch.rand(len(x), 3))


def test_digit_network_refuses_another_range():
    digits = load_digits()
    with pytest.raises(ValueError, match=r"values in \[0, 1\], got 'values from -1.0 to 1.0'.*add"):
        evaluate(lambda n: torch.linspace(-1, 1, 28).expand(n, 1, 28, 28), digits, samples=70)


def test_real_stacks_have_the_modes_of_their_number():
    digits = load_digits()
    found = evaluate_stacked(stack_digits(digits, 300, seed=9), digits, samples=300)
    # 300 draws of 1000 leave 1000 (1 - e^-0.3) = 259 modes, and about as many in the floor.
    for score in (found.modes.value, found.modes.floor):
        assert 235 <= score <= 285
    assert found.modes_strict.value == 0.0
    assert found.features_sha256 is not None


def test_stack_of_one_digit_is_one_mode():
    digits = load_digits()
    four = digits.images[digits.labels == 4][:30].float() / 255.0
    found = evaluate_stacked(four.unsqueeze(1).expand(-1, 3, -1, -1), digits, samples=30)
    assert found.modes.value <= 2.0
    assert found.reverse_kl.value > found.reverse_kl.floor


def test_stacks_want_three_channels():
    with pytest.raises(
        ValueError, match="evaluate_stacked: `generator` must make images of 3 chan"
    ):
        evaluate_stacked(torch.rand(5, 1, 28, 28), load_digits(), samples=5)
