"""What fuzzed calls are given: right values of each argument, and wrong ones."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

import gaslayers
from gaslayers.models import CASES, VARIANTS


class OwnError(Exception):
    """What a user's factory raises, which nobody is to change."""


def raises(*_sizes: object, **_options: object) -> nn.Module:
    raise OwnError


HUGE = [2**40, 10**15, 2**62, 2**63 - 1, 2**63, 10**30, 10**400]

NUMBERS: list[Any] = [
    *(0, -1, -(2**63), 1.0, 2.5, math.nan, math.inf, -math.inf, 1e308, 5e-324, 1j),
    *(True, False, None, "3", "", b"3", [], (), {}, [1], (2, 3), object(), int, torch.float32),
    *(np.int64(2), np.uint8(1), np.int8(-1), np.float32(0.5), np.float64(2.0), np.True_),
    *(np.array(2), np.array([2]), np.zeros((2, 2)), np.str_("3")),
    *(torch.tensor(2), torch.tensor([1, 2]), torch.tensor(0.5), torch.zeros(2, 3, 4, 4)),
    *(slice(1), range(2), {1, 2}, nn.ReLU(), lambda: 3),
    *HUGE,
]

BUILT: list[Any] = [None, "relu", 3, torch.zeros(2), nn.ReLU, torch.relu, [nn.ReLU()], {}]

FACTORIES: list[Any] = [
    *(None, "relu", 3, True, [], nn.ReLU(), torch.zeros(2), np.zeros(2), object()),
    *(partial(lambda built, *a, **k: built, built) for built in BUILT),
    *(raises, lambda: nn.ReLU(), lambda a, b, c, d, e: nn.ReLU(), lambda *, x: nn.ReLU()),
    *(print, int, dict, len),
]

SEQUENCES: list[Any] = [
    *((), [], [0], [-1, 2], [1.5], [True], [None], ["1"], [[1]], "13", b"13", {1: 2}, {1, 2}),
    *([2**40], [10**30], [np.int64(1)], [np.float32(1)], np.array([1, 3]), torch.tensor([1, 3])),
    *((1,) * 6, range(1, 3), iter([1]), None, 3, [1, [2]], [torch.tensor(1)], [np.array([1])]),
]

WORDS: list[Any] = [
    *("", "norm", "recompute", "RECOMPUTE", "none", None, 0, 1, True, 2.0, b"mean", ["mean"]),
    *(np.str_("mean"), np.True_, np.array([True, False]), torch.tensor(1), object(), {}),
]

PLACES: list[Any] = [
    *("nowhere", "meta", "cpu", -1, 10**30, 1.5, True, [], object(), torch.device("cpu"), ""),
    *(torch.float64, torch.int64, torch.complex64, "float32", np.float32, None, "cuda:99"),
]

NORMS = [None, nn.BatchNorm2d, partial(nn.BatchNorm2d, eps=1e-3), nn.InstanceNorm2d]
ACTIVATIONS = [None, nn.ReLU, partial(nn.LeakyReLU, 0.2), nn.SiLU, nn.PReLU]
LAYERS = [gaslayers.ConvNormAct, gaslayers.InceptionBlock, partial(nn.Conv2d, kernel_size=1)]


@dataclasses.dataclass(frozen=True)
class Kind:
    """How an argument is drawn: right values, and wrong ones."""

    right: list[Any]
    wrong: list[Any]


SIZE = Kind([1, 2, 3, 4, 6], NUMBERS)
FACTORY = {
    "norm_layer": NORMS,
    "inner_norm_layer": NORMS,
    "activation_layer": ACTIVATIONS,
    "inner_activation_layer": ACTIVATIONS,
    "pool_layer": [None, nn.MaxPool2d, nn.AvgPool2d, partial(nn.MaxPool2d, ceil_mode=True)],
    "conv_layer": [nn.Conv2d, partial(nn.Conv2d, padding_mode="replicate")],
    "block": LAYERS,
    "layer": [None, *LAYERS],
    "separable_layer": [None, gaslayers.DepthwiseConvNormAct],
}
KINDS: dict[str, Kind] = {
    **dict.fromkeys(("in_channels", "out_channels", "growth_rate", "num_layers"), SIZE),
    "latent_size": SIZE,
    **{name: Kind(right, FACTORIES) for name, right in FACTORY.items()},
    **dict.fromkeys(("kernel_size", "stride", "dilation"), Kind([1, 2, 3], NUMBERS)),
    **dict.fromkeys(("a", "b", "c"), Kind([0.0, 1.0, -1, np.float32(2)], NUMBERS)),
    **dict.fromkeys(("bottleneck", "sigmoid"), Kind([True, False], WORDS)),
    "groups": Kind([1], [2, 3, *NUMBERS]),
    "padding": Kind([None, 0, 1, (1, 0)], [*SEQUENCES, *NUMBERS]),
    "kernel_sizes": Kind([(1, 3), [3], (1, 2, 5)], SEQUENCES),
    "branch_channels": Kind([None], [[1, 2], (3, 3), *SEQUENCES]),
    "bottleneck_channels": Kind([None], [[1, 2], (3, 3), *SEQUENCES]),
    "bottleneck_factor": Kind([None, 1, 2], NUMBERS),
    "width_multiplier": Kind([1.0, 0.5, 3], NUMBERS),
    "compression": Kind([0.5, 1.0], NUMBERS),
    "drop_rate": Kind([0.0, 0.5], NUMBERS),
    "scale": Kind([0.5, 1], NUMBERS),
    "scale_weights": Kind([None], [(1.0,), [1, 2], (0.0, 0.0), *SEQUENCES, *NUMBERS]),
    "bias": Kind([None, True, False], WORDS),
    "memory_efficient": Kind([True, False, "recompute"], WORDS),
    "order": Kind(["norm_act", "act_norm"], WORDS),
    "reduction": Kind(["mean", "sum", "none"], WORDS),
    "upsampling": Kind(["raw_reshape", "pixel_shuffle"], WORDS),
    "case": Kind(list(CASES), WORDS),
    "variant": Kind(["as_coded", "modern"], [*WORDS, *VARIANTS]),
    "head": Kind(["linear", "sigmoid"], WORDS),
    "switches": Kind([None, *VARIANTS.values()], WORDS),
    "base_filters": Kind([2, 4, None], [1, 3, *NUMBERS]),
    "base_channels": Kind([4, 8], [5, *NUMBERS]),
    "image_size": Kind([16, 17], [1, 8, *NUMBERS]),
    "stages": Kind([[], [nn.ReLU()], [nn.Conv2d(3, 3, 3)]], [*SEQUENCES, *NUMBERS]),
    "device": Kind([None, "cpu", "meta"], PLACES),
    "dtype": Kind([None, torch.float32, torch.float64, torch.bfloat16], PLACES),
}

DTYPES = [
    *(torch.float16, torch.bfloat16, torch.float64, torch.complex64, torch.int8, torch.int64),
    *(torch.uint8, torch.bool),
]
SHAPES = [(), (3,), (3, 8), (3, 8, 8), (2, 3, 8, 8), (0, 3, 8, 8), (2, 3, 0, 8), (2, 3, 1, 1)]
SHAPES += [(1, 3, 1, 1), (2, 4, 8, 8), (2, 3, 8, 8, 8), (1, 1, 16, 16), (2, 0, 8, 8), (2, 3, 2, 1)]
