"""The widest discriminator within a budget, against trying every width."""

from __future__ import annotations

import resource

import pytest
import torch

from gaslayers import LSGANDiscriminatorLoss, peak_memory
from gaslayers.models import build_discriminator
from gaslayers.study.discriminator_step import DiscriminatorStep
from gaslayers.study.fitting import fit_base_filters

BATCH = 4


def peak_of(case: str, filters: int, **options) -> int:
    network = build_discriminator(case, base_filters=filters, **options)
    step = DiscriminatorStep(network, LSGANDiscriminatorLoss())
    images = (torch.zeros(BATCH, 1, 28, 28), torch.zeros(BATCH, 1, 28, 28))
    return peak_memory(step, images, optimizer=torch.optim.RMSprop).peak


@pytest.mark.parametrize("case", ["inception_8", "original"])
@pytest.mark.parametrize("memory_efficient", [True, False])
def test_fit_is_the_widest_of_all_widths(case: str, memory_efficient: bool) -> None:
    budget = 900_000
    fit = fit_base_filters(
        case, budget_bytes=budget, batch_size=BATCH, memory_efficient=memory_efficient
    )
    widths = range(2, fit.base_filters + 4, 2)
    peaks = [peak_of(case, width, memory_efficient=memory_efficient) for width in widths]
    assert peaks == sorted(peaks)
    assert (fit.peak_bytes, fit.next_peak_bytes) == tuple(peaks[-2:])
    assert fit.peak_bytes <= budget < fit.next_peak_bytes
    network = build_discriminator(case, base_filters=fit.base_filters)
    assert fit.params == sum(parameter.numel() for parameter in network.parameters())


def test_budget_of_exactly_the_peak_fits() -> None:
    budget = peak_of("inception_8", 6)
    assert fit_base_filters("inception_8", budget_bytes=budget, batch_size=BATCH).base_filters == 6
    smaller = fit_base_filters("inception_8", budget_bytes=budget - 1, batch_size=BATCH)
    assert smaller.base_filters == 4


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"case": "inception"}, ValueError, r"`case` must be one of 'original'"),
        ({"budget_bytes": 1000}, ValueError, r"`budget_bytes` must be at least the [\d,]+ bytes"),
        ({"budget_bytes": 1e6}, TypeError, r"`budget_bytes` must be an int, got 1000000\.0"),
        ({"batch_size": 0}, ValueError, r"`batch_size` must be >= 1, got 0"),
        ({"budget_bytes": 2**51}, ValueError, r"`budget_bytes` must be <= 2\^50, got"),
        ({"batch_size": 2**50}, ValueError, r"`batch_size` must make at most 2\^50 numbers of im"),
        ({"image_size": 15}, ValueError, r"`image_size` must be >= 16, got 15"),
        ({"in_channels": "1"}, TypeError, r"`in_channels` must be an int, got '1'"),
        ({"variant": "old"}, ValueError, r"`variant` must be one of 'as_coded'"),
        ({"memory_efficient": 1}, TypeError, r"`memory_efficient` must be a bool or \"recompute"),
        ({"optimizer": "adam"}, TypeError, r"`optimizer` must be a class of optimisers or None"),
    ],
)
def test_wrong_argument_is_refused(arguments: dict, error: type, message: str) -> None:
    with pytest.raises(error, match="fit_base_filters: " + message):
        fit_base_filters(**{"case": "inception_8", "budget_bytes": 10**6, **arguments})


def test_fit_of_a_large_budget_touches_no_memory_for_weights() -> None:
    def resident() -> int:
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before, budget = resident(), 2**30
    fit = fit_base_filters("inception_8", budget_bytes=budget, batch_size=1)
    assert fit.peak_bytes <= budget < fit.next_peak_bytes
    assert 4 * fit.params > 200 * 2**20
    assert resident() - before < 100 * 2**20
