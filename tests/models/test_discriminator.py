"""The discriminator around its stages: features, head, refused inputs."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from gaslayers import DenseBlock, DownBlock
from gaslayers.models import Discriminator


def small(head: str = "linear") -> Discriminator:
    stages = [DownBlock(3, 4), DenseBlock(4, 2, num_layers=1)]
    return Discriminator(stages, in_channels=3, image_size=9, head=head)


def test_classifier_reads_all_that_the_stages_leave() -> None:
    network = small()
    assert network.classifier.in_features == 6 * 4 * 4
    x = torch.randn(2, 3, 9, 9)
    expected = network.classifier(network.stages(x).flatten(1))
    torch.testing.assert_close(network.logits(x), expected)


def test_counting_the_features_leaves_mode_and_statistics_alone() -> None:
    network = small()
    assert all(module.training for module in network.modules())
    for name, buffer in network.named_buffers():
        if name.endswith(("running_mean", "num_batches_tracked")):
            assert not buffer.any(), name


def test_counting_the_features_keeps_the_mode_of_each_stage() -> None:
    frozen = DownBlock(3, 4)
    frozen.norm.eval()
    modes = [part.training for part in frozen.modules()]
    Discriminator([frozen], in_channels=3, image_size=9)
    assert [part.training for part in frozen.modules()] == modes


def test_features_are_counted_in_the_dtype_of_the_stages() -> None:
    network = Discriminator([DownBlock(3, 4).double()], in_channels=3, image_size=9)
    assert network.classifier.in_features == 4 * 4 * 4


@pytest.mark.parametrize("head", ["linear", "sigmoid"])
def test_head_turns_logits_into_scores(head: str) -> None:
    network = small(head).eval()
    x = torch.randn(2, 3, 9, 9)
    logits = network.logits(x)
    expected = logits.sigmoid() if head == "sigmoid" else logits
    torch.testing.assert_close(network(x), expected, rtol=0, atol=0)
    torch.testing.assert_close(network.activate(logits), expected, rtol=0, atol=0)


def test_tracers_see_through_it_and_record_no_question_of_a_size() -> None:
    network, x = small().eval(), torch.randn(2, 3, 9, 9)
    with warnings.catch_warnings():
        # Deprecated as a whole; a size that a trace fixes is another warning, and an error here.
        warnings.filterwarnings("ignore", message="`torch.jit", category=DeprecationWarning)
        recorded = torch.jit.trace(network, torch.randn(1, 3, 9, 9))
    for traced in (torch.fx.symbolic_trace(network), recorded):
        torch.testing.assert_close(traced(x), network(x))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            (2, 1, 9, 9),
            r"Discriminator: expected input of shape \(N, 3, H, W\), got \(2, 1, 9, 9\)",
        ),
        ((3, 9, 9), r"Discriminator: expected input of shape \(N, 3, H, W\), got \(3, 9, 9\)"),
        ((2, 3, 9, 8), r"Discriminator: `x` must be images of 9 x 9, got \(2, 3, 9, 8\)"),
        ((2, 3, 10, 10), r"Discriminator: `x` must be images of 9 x 9, got \(2, 3, 10, 10\)"),
    ],
)
def test_wrong_input_is_refused(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small()(torch.zeros(shape))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"head": "tanh"}, ValueError, r"`head` must be one of 'linear', 'sigmoid', got 'tanh'"),
        ({"image_size": 0}, ValueError, r"`image_size` must be >= 1, got 0"),
        ({"in_channels": "1"}, TypeError, r"`in_channels` must be an int, got '1'"),
    ],
)
def test_wrong_argument_is_refused(arguments: dict, error: type, message: str) -> None:
    with pytest.raises(error, match="Discriminator: " + message):
        Discriminator([nn.Identity()], **{"in_channels": 1, "image_size": 9, **arguments})
