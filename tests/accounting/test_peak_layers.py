"""The predicted peak of each usual layer and loss, against a real step that is watched."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gaslayers import peak_memory
from tests.accounting.layers import LAYERS
from tests.accounting.watch import real_peak

# What PyTorch has to say about these layers and losses is not what is tested.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{words}:UserWarning")
    for words in ("Using padding='same' with even", "Mismatch dtype between", "reduction. 'mean'")
]


def made(name: str, *, input_gradient: bool, last: bool = False):
    factory, shape = LAYERS[name]
    x = torch.randn(shape)
    layer = factory()
    if last and x.dim() == 4:
        layer, x = (
            layer.to(memory_format=torch.channels_last),
            x.to(memory_format=torch.channels_last),
        )
    return layer, x.requires_grad_(input_gradient)


@pytest.mark.parametrize("name", LAYERS)
def test_peak_of_a_layer_is_real_to_the_byte(name) -> None:
    layer, x = made(name, input_gradient=False)
    assert peak_memory(layer, x).peak == real_peak(layer, (x,))


@pytest.mark.parametrize("name", LAYERS)
def test_peak_of_a_layer_with_an_input_gradient_in_channels_last_is_real(name) -> None:
    layer, x = made(name, input_gradient=True, last=True)
    assert peak_memory(layer, x).peak == real_peak(layer, (x,))


@pytest.mark.parametrize("name", LAYERS)
def test_peak_of_a_layer_under_autocast_is_real(name) -> None:
    layer, x = made(name, input_gradient=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert peak_memory(layer, x).peak == real_peak(layer, (x,))


SCORES = (16, 1, 12, 12)
CLASSES = torch.arange(16) % 4
LOSSES = {
    "mse": F.mse_loss,
    "l1": F.l1_loss,
    "smooth l1": F.smooth_l1_loss,
    "huber": F.huber_loss,
    "bce": lambda y, t, **k: F.binary_cross_entropy(y.sigmoid(), t, **k),
    "weighted bce": lambda y, t, **k: F.binary_cross_entropy(y.sigmoid(), t, weight=t, **k),
    "bce with logits": F.binary_cross_entropy_with_logits,
    "soft margin": F.soft_margin_loss,
    "hinge embedding": lambda y, t, **k: F.hinge_embedding_loss(y, t.sign(), **k),
    "poisson": F.poisson_nll_loss,
    "kl": lambda y, t, **k: F.kl_div(y.log_softmax(1), t, **k),
    "margin": lambda y, t, **k: F.margin_ranking_loss(y, t, torch.ones_like(y), **k),
    "cosine": lambda y, t, **k: F.cosine_embedding_loss(
        y.flatten(1), t.flatten(1), torch.ones(16), **k
    ),
    "triplet": lambda y, t, **k: F.triplet_margin_loss(
        y.flatten(1), t.flatten(1), t.flatten(1) + 1, **k
    ),
    "cross entropy": lambda y, _t, **k: F.cross_entropy(y.flatten(1), CLASSES, **k),
    "smoothed": lambda y, _t, **k: F.cross_entropy(y.flatten(1), CLASSES, label_smoothing=0.1, **k),
    "soft labels": lambda y, t, **k: F.cross_entropy(y.flatten(1), t.flatten(1), **k),
    "multi margin": lambda y, _t, **k: F.multi_margin_loss(y.flatten(1), CLASSES, **k),
    "multilabel": lambda y, t, **k: F.multilabel_soft_margin_loss(y.flatten(1), t.flatten(1), **k),
    "one target for all": lambda y, _t, **k: F.mse_loss(y, torch.ones_like(y), **k),
}
BY_CLASS = ("cross entropy", "smoothed", "multi margin")


@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", LOSSES)
def test_peak_with_a_loss_is_real_to_the_byte(name, reduction, last) -> None:
    # A small network, whose peak is the loss.
    network, x, target = nn.Conv2d(1, 1, 3, padding=1), torch.randn(SCORES), torch.rand(SCORES)
    if last:
        x = x.to(memory_format=torch.channels_last)

    def loss(y: torch.Tensor) -> torch.Tensor:
        return LOSSES[name](y, target, reduction=reduction).mean()

    brought = {"one target for all": []} | {key: [CLASSES] for key in BY_CLASS}
    real = real_peak(network, (x,), loss, others=brought.get(name, [target]))
    assert peak_memory(network, x, loss=loss).peak == real
