"""Metrics amid other people's programs: global generators, processes, autocast, odd inputs."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from gaslayers.study.metrics import (
    compare_manifolds,
    evaluate,
    frechet_distance,
    kernel_distance,
)
from gaslayers.study.metrics.distances import squared_nearest
from gaslayers.study.metrics.sampling import draw_images
from gaslayers.study.randomness import seeded_everywhere, seeded_init


def draw(count, width, seed, dtype=torch.float64):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def means(images):
    return torch.cat([images.mean((2, 3)), images.std((2, 3))], 1)


class Accelerator:
    """A device's generators as PyTorch offers them, in Python."""

    def __init__(self):
        self.states = [11, 22]

    def is_initialized(self):
        return True

    def get_rng_state_all(self):
        return list(self.states)

    def set_rng_state_all(self, states):
        self.states = list(states)

    def manual_seed_all(self, seed):
        self.states = [seed, seed]


@pytest.fixture
def cuda(monkeypatch):
    device = Accelerator()
    for name in ("is_initialized", "get_rng_state_all", "set_rng_state_all", "manual_seed_all"):
        monkeypatch.setattr(torch.cuda, name, getattr(device, name))
    # What torch.manual_seed does to devices.
    seed_all = torch.manual_seed
    monkeypatch.setattr(
        torch, "manual_seed", lambda seed: (device.manual_seed_all(seed), seed_all(seed))[1]
    )
    return device


def test_generators_of_devices_are_left_as_they_were(cuda):
    kernel_distance(draw(9, 2, 0), draw(9, 2, 1), subsets=2)
    assert cuda.states == [11, 22]
    with seeded_init(3, "init of G"):
        torch.rand(1)
    assert cuda.states == [11, 22]

    def generate(count):
        assert cuda.states == [5, 5]  # a function on a device draws from the seed as well
        return torch.rand(count, 1, 2, 2)

    draw_images("test", generate, 3, seed=5)
    assert cuda.states == [11, 22]


def test_generators_are_put_back_after_an_error(cuda):
    before = torch.get_rng_state()

    def fail():
        with seeded_everywhere(4):
            torch.rand(3)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert cuda.states == [11, 22]
    assert torch.equal(torch.get_rng_state(), before)


def test_seeded_layers_are_those_of_a_seeded_global_generator():
    with seeded_everywhere(7):
        found = torch.rand(3)
    torch.manual_seed(7)
    assert torch.equal(found, torch.rand(3))


@pytest.mark.parametrize("metric", [frechet_distance, kernel_distance])
def test_distances_of_one_process_ask_no_other(metric, monkeypatch):
    expected = metric(draw(20, 3, 0), draw(20, 3, 1))

    def wait(*_args, **_kwargs):
        raise AssertionError("waits for the other processes")

    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", rank=0, world_size=1, store=store)
    try:
        for name in ("barrier", "all_gather"):
            monkeypatch.setattr(torch.distributed, name, wait)
        assert metric(draw(20, 3, 0), draw(20, 3, 1)) == expected
    finally:
        torch.distributed.destroy_process_group()


def test_frechet_distance_does_not_depend_on_where_features_lie():
    near = frechet_distance(draw(100, 4, 0), draw(100, 4, 1))
    far = frechet_distance(draw(100, 4, 0) + 1e7, draw(100, 4, 1) + 1e7)
    assert far == pytest.approx(near, rel=1e-6)


def test_bytes_have_a_range_of_their_own():
    images = torch.randint(0, 256, (6, 1, 4, 4), dtype=torch.uint8)
    found = draw_images("test", images, 6, image_range=(-1.0, 1.0))
    assert torch.equal(found, images.float() / 255.0)


@pytest.mark.parametrize("value", [float("inf"), -float("inf"), float("nan")])
@pytest.mark.parametrize("image_range", [(0.0, 1.0), (-1.0, 1.0)])
@pytest.mark.parametrize("as_function", [True, False])
def test_pixels_that_are_not_finite_are_refused(value, image_range, as_function):
    images = torch.rand(6, 1, 4, 4)
    images[2, 0, 1, 1] = value
    message = "`generator` must have finite pixels, got '1 of 6 images with others'"
    generator = (lambda _: images) if as_function else images
    with pytest.raises(ValueError, match=message):
        draw_images("test", generator, 6, image_range=image_range)


@pytest.mark.parametrize("argument", ["real", "training"])
def test_real_images_have_the_range_that_generated_ones_are_mapped_to(argument):
    sides = {"real": torch.rand(40, 3, 8, 8), "training": torch.rand(40, 3, 8, 8)}
    sides[argument] = sides[argument] * 2.0 - 1.0
    made = torch.rand(20, 3, 8, 8) * 2.0 - 1.0
    message = rf"`{argument}` must have values in \[0, 1\] where `image_range` maps"
    with pytest.raises(ValueError, match=message):
        evaluate(made, image_range=(-1.0, 1.0), features=means, **sides)


def test_images_beyond_the_samples_are_chosen_at_random():
    images = torch.arange(100.0).view(100, 1, 1, 1).expand(-1, 1, 2, 2) / 100.0  # sorted
    first, again, other = (draw_images("test", images, 50, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first.sort(0).values, other.sort(0).values)
    assert 0.35 < first.mean() < 0.65
    assert len(first[:, 0, 0, 0].unique()) == 50


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_images_and_networks_of_any_type_are_judged(dtype):
    class Generator(nn.Module):
        latent_size = 4

        def __init__(self):
            super().__init__()
            self.register_buffer("count", torch.zeros((), dtype=torch.long))
            self.layer = nn.Linear(4, 12, dtype=dtype)

        def forward(self, noise):
            return self.layer(noise).sigmoid().unflatten(1, (3, 2, 2))

    real = torch.rand(40, 3, 2, 2)
    features = nn.Sequential(nn.Flatten(), nn.Linear(12, 3, dtype=torch.float64)).eval()
    assert evaluate(Generator(), real, features=features).samples == 20
    made = torch.rand(20, 3, 2, 2)
    expected = evaluate(made.to(dtype).float(), real, features=means)
    assert evaluate(made.to(dtype), real, features=means) == expected


def test_autocast_does_not_reach_features():
    real, made = torch.rand(40, 3, 2, 2), torch.rand(20, 3, 2, 2)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).eval()
    plain = evaluate(made, real, features=network)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert evaluate(made, real, features=network) == plain


def test_real_images_among_the_training_ones_are_no_copies_of_themselves():
    training = torch.rand(120, 3, 8, 8)
    real = torch.cat([training[:40], training[:1]])  # and one that is there twice
    found = evaluate(training[100:], real, features=means, training=training)
    assert found.nearest_ratio.value == pytest.approx(0.0, abs=1e-6)
    assert found.nearest_ratio.floor > 0.5
    fresh = torch.rand(20, 3, 8, 8)
    known = evaluate(fresh, training[:40], features=means, training=training)
    assert known.nearest_ratio.value == pytest.approx(known.nearest_ratio.floor, abs=0.5)


def test_copies_of_either_half_are_found_without_training_images():
    real = torch.rand(40, 3, 8, 8)
    found = evaluate(lambda count: real[:count], real, features=means)
    assert found.nearest_ratio.value == pytest.approx(0.0, abs=1e-6)
    assert found.nearest_ratio.floor > 0.5


@pytest.mark.parametrize("far", [1e3, 1e6, 1e9])
def test_one_point_far_away_does_not_make_the_others_the_same(far):
    a, b = draw(60, 3, 0), draw(60, 3, 1)
    b[0] = far
    slow = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").amin(1).square()
    torch.testing.assert_close(squared_nearest(a, b), slow, rtol=1e-6, atol=1e-9)
    assert squared_nearest(b, b).max() == 0.0
    found = compare_manifolds(a, b)
    real, made = (
        torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").sort(1).values[:, 5]
        for x in (b, a)
    )
    between = torch.cdist(b, a, compute_mode="donot_use_mm_for_euclid_dist")
    assert found.coverage == (between.amin(1) < real).double().mean().item()
    assert found.recall == (between < made).any(1).double().mean().item()


def test_manifolds_do_not_depend_on_where_features_lie():
    for shift, scale in itertools.product([0.0, 1e4], [1e-3, 1e3]):
        a, b = ((draw(60, 3, seed)) * scale + shift for seed in (0, 1))
        assert compare_manifolds(a, b) == compare_manifolds(draw(60, 3, 0), draw(60, 3, 1))
