from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from gaslayers.study.batches import RealBatches
from gaslayers.study.data import Digits

TOTAL = 10


@pytest.fixture
def few_digits():
    """Digit n is a picture of grey 25 n."""
    images = (25 * torch.arange(TOTAL, dtype=torch.uint8)).view(-1, 1, 1).repeat(1, 28, 28)
    return Digits(images, torch.arange(TOTAL), "embedded", "0" * 64)


def which(batch):
    """The digits in a batch of range [0, 1]."""
    return batch[:, 0, 0, 0].mul(255 / 25).round().int().tolist()


@pytest.fixture
def make_batches(few_digits, make_config):
    return lambda **choices: RealBatches(few_digits, make_config(**choices))


def test_batches_follow_the_file_and_wrap_at_its_end(make_batches):
    batches = make_batches(batch_size=4)
    order = [which(batches.training(iteration)) for iteration in range(5)]
    assert order == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 1], [2, 3, 4, 5], [6, 7, 8, 9]]


@pytest.mark.parametrize("shuffle", [False, True])
def test_batch_larger_than_the_data_is_refused(make_batches, shuffle):
    whole = make_batches(batch_size=TOTAL, shuffle=shuffle)
    for iteration in range(2):
        assert sorted(which(whole.training(iteration))) == list(range(TOTAL))
    match = "^RunConfig: `batch_size` must be at most 10, the number of digits, got 11"
    with pytest.raises(ValueError, match=match):
        make_batches(batch_size=TOTAL + 1, shuffle=shuffle)


def test_shuffled_epoch_is_a_permutation(make_batches):
    batches = make_batches(batch_size=5, shuffle=True)
    epochs = [
        which(batches.training(2 * epoch)) + which(batches.training(2 * epoch + 1))
        for epoch in range(3)
    ]
    assert [sorted(epoch) for epoch in epochs] == 3 * [list(range(TOTAL))]
    assert len({tuple(epoch) for epoch in [*epochs, range(TOTAL)]}) == 4


def test_shuffled_epoch_drops_the_remainder(make_batches):
    batches = make_batches(batch_size=4, shuffle=True)
    for epoch in range(3):
        drawn = which(batches.training(2 * epoch)) + which(batches.training(2 * epoch + 1))
        assert len(set(drawn)) == 8


def test_shuffled_batch_depends_on_seed_and_iteration_alone(make_batches):
    batches = make_batches(batch_size=5, shuffle=True)
    forward = [which(batches.training(iteration)) for iteration in range(6)]
    assert which(batches.training(1)) == forward[1]
    assert which(make_batches(batch_size=5, shuffle=True).training(5)) == forward[5]
    other = make_batches(batch_size=5, shuffle=True, seed=1)
    assert [which(other.training(iteration)) for iteration in range(6)] != forward


def test_evaluation_batch_is_random_and_its_own(make_batches):
    batches = make_batches(batch_size=8)
    drawn = [which(batches.evaluation(iteration)) for iteration in range(4)]
    assert len({tuple(batch) for batch in drawn}) == 4
    assert which(make_batches(batch_size=8).evaluation(3)) == drawn[3]
    assert {digit for batch in drawn for digit in batch} <= set(range(TOTAL))


def test_evaluation_does_not_disturb_training(make_batches):
    plain, disturbed = (make_batches(batch_size=5, shuffle=True) for _ in range(2))
    for iteration in range(4):
        disturbed.evaluation(iteration)
        assert_close(disturbed.training(iteration), plain.training(iteration), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("image_range", "low", "high"), [("unit", 0.0, 1.0), ("symmetric", -1.0, 1.0)]
)
def test_pixels_are_scaled_to_the_range(few_digits, make_config, image_range, low, high):
    few_digits.images[0, 0, 0], few_digits.images[0, 0, 1] = 0, 255
    few_digits.images[0, 0, 2] = 51
    batches = RealBatches(few_digits, make_config(image_range=image_range))
    for batch in (batches.training(0), batches.training(TOTAL)):
        assert batch.shape == (4, 1, 28, 28)
        assert batch.dtype == torch.float32
    pixels = batches.training(0)[0, 0, 0]
    assert_close(pixels[:3], torch.tensor([low, high, low + 0.2 * (high - low)]))
    assert batches.evaluation(0).aminmax().min >= low
