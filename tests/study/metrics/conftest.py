"""Samples of the embedded digits, described once."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gaslayers.study.data import load_digits
from gaslayers.study.metrics import load_digit_network
from gaslayers.study.metrics.evaluation import Sample, describe, score

COUNT = 600
"""Images on each side of a comparison."""


def pick(sample: Sample, rows) -> Sample:
    """Some of the images of a sample; the spread is left as it is."""
    return replace(sample, features=sample.features[rows], logits=sample.logits[rows])


@pytest.fixture(scope="package", autouse=True)
def _one_thread_for_all():
    """Also while fixtures of a module or of the package are made."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="package")
def images():
    """(1800, 1, 28, 28) real digits in [0, 1]: reference, others, and what is spoilt."""
    return load_digits().images[: 3 * COUNT].unsqueeze(1).float() / 255.0


@pytest.fixture(scope="package")
def labels():
    return load_digits().labels[: 3 * COUNT]


@pytest.fixture(scope="package")
def network():
    return load_digit_network()


@pytest.fixture(scope="package")
def described(images, network):
    return describe("real", images, network)


@pytest.fixture(scope="package")
def judge(described):
    """Score a sample against the reference."""

    def judge(sample, **options):
        reference = pick(described, slice(0, COUNT))
        others = pick(described, slice(COUNT, 2 * COUNT))
        return score(
            sample,
            reference,
            others,
            **{"features": "digits", "features_sha256": None, "subsets": 4, **options},
        )

    return judge
