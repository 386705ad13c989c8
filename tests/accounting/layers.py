"""The usual layers of discriminators and generators, each as a factory beside its input's shape."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

MAP, VOLUME, SEQUENCE, ROWS = (4, 8, 12, 12), (2, 4, 6, 6, 6), (4, 8, 20), (6, 10)


class Applied(nn.Module):
    """A function of the input and of layers."""

    def __init__(self, function, *layers: nn.Module) -> None:
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(layers)

    def forward(self, x):
        return self.function(x, *self.layers)


def statistics_of_batch(x):
    """The map of deviations that progressive GANs append."""
    groups = x.reshape(2, -1, *x.shape[1:])
    deviation = (groups - groups.mean(0)).square().mean(0).add(1e-8).sqrt().mean((1, 2, 3))
    return torch.cat([x, deviation.reshape(-1, 1, 1, 1).repeat(2, 1, *x.shape[2:])], 1)


def discrimination(x, linear):
    """Minibatch discrimination of improved GANs."""
    kernels = linear(x).view(len(x), 4, 3)
    return (-(kernels[None] - kernels[:, None]).abs().sum(-1)).exp().sum(0)


def warped(x):
    theta = torch.eye(2, 3).expand(len(x), 2, 3)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


def modulated(x, conv):
    """The grouped convolution of StyleGAN2, whose kernels are the samples' own."""
    style = x.mean((2, 3)).view(len(x), 1, 8, 1, 1)
    kernels = (conv.weight[None] * style).flatten(0, 1)
    return F.conv2d(x.reshape(1, -1, *x.shape[2:]), kernels, groups=len(x))


def edited(x):
    y = x * 1
    y[:, 0] = 0
    return y


def attended(x):
    queries = x.flatten(2).transpose(1, 2)
    return F.scaled_dot_product_attention(queries, queries, queries)


def between(layer):
    """A layer between two convolutions, as it is trained."""
    return lambda: nn.Sequential(nn.Conv2d(8, 8, 3), layer(), nn.Conv2d(8, 8, 3))


def apply(function, *layers):
    return lambda: Applied(function, *(layer() for layer in layers))


_ACTIVATIONS = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish),
    *(nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Softsign, nn.Tanhshrink, nn.Hardtanh, nn.Hardswish),
    *(nn.Hardsigmoid, nn.Hardshrink, nn.Softshrink, nn.LogSigmoid, nn.PReLU, nn.RReLU),
    *(nn.Softmax2d, partial(nn.ReLU, inplace=True), partial(nn.LeakyReLU, 0.2, inplace=True)),
    *(partial(nn.GLU, 2), partial(nn.LogSoftmax, 1), nn.Dropout, nn.Dropout2d, nn.AlphaDropout),
)
_NORMS = (
    *(partial(nn.BatchNorm2d, 8), partial(nn.BatchNorm2d, 8, affine=False)),
    *(partial(nn.BatchNorm2d, 8, track_running_stats=False), partial(nn.InstanceNorm2d, 8)),
    *(partial(nn.InstanceNorm2d, 8, affine=True), partial(nn.GroupNorm, 2, 8)),
    *(partial(nn.GroupNorm, 2, 8, affine=False), partial(nn.LayerNorm, 10)),
    *(partial(nn.LayerNorm, [8, 10, 10], bias=False), partial(nn.RMSNorm, 10)),
    partial(nn.LocalResponseNorm, 3),
)
_CONV = partial(nn.Conv2d, 8, 8, 3)
_MAPS = [
    *(_CONV, partial(_CONV, padding="same"), partial(_CONV, groups=8, bias=False)),
    *(partial(nn.Conv2d, 8, 16, 4, 2, 1), partial(nn.Conv2d, 8, 1, 1)),
    *(
        partial(_CONV, padding=1, padding_mode=mode)
        for mode in ("reflect", "circular", "replicate")
    ),
    *(partial(nn.ConvTranspose2d, 8, 4, 4, 2, 1), partial(nn.ConvTranspose2d, 8, 8, 3, groups=2)),
    *(partial(nn.MaxPool2d, 2), partial(nn.MaxPool2d, 3, 2, 1), partial(nn.AvgPool2d, 2)),
    *(partial(nn.AdaptiveAvgPool2d, 1), partial(nn.AdaptiveAvgPool2d, 5)),
    *(partial(nn.AdaptiveMaxPool2d, 3), partial(nn.LPPool2d, 2, 2)),
    *(partial(nn.Unfold, 3), partial(nn.Unfold, 1, stride=2), partial(nn.PixelShuffle, 2)),
    *(partial(nn.PixelUnshuffle, 2), partial(nn.ChannelShuffle, 2), partial(nn.Linear, 12, 5)),
    *(
        partial(nn.Upsample, scale_factor=2, mode=mode)
        for mode in ("nearest", "bilinear", "bicubic")
    ),
    *(partial(layer, 1) for layer in (nn.ReflectionPad2d, nn.ReplicationPad2d, nn.ZeroPad2d)),
    lambda: nn.utils.parametrizations.spectral_norm(_CONV()),
    lambda: nn.utils.parametrizations.weight_norm(_CONV()),
    lambda: nn.Sequential(nn.Unfold(3, stride=3), nn.Fold((12, 12), 3, stride=3)),
]
_FUNCTIONS = {
    "statistics of the batch": apply(statistics_of_batch),
    "warped": apply(warped),
    "modulated convolution": apply(modulated, _CONV),
    "written to": apply(edited),
    "attention of places": apply(attended),
    "area": apply(lambda x: F.interpolate(x, size=5, mode="area")),
    "antialias": apply(lambda x: F.interpolate(x, size=5, mode="bilinear", antialias=True)),
    "chunk and cat": apply(lambda x: torch.cat([part * 2 for part in x.chunk(2, 1)], 1)),
    "index": apply(lambda x: x[:, [0, 2]]),
    "gather": apply(lambda x: x.gather(1, torch.zeros(4, 2, 12, 12, dtype=torch.long))),
    "einsum": apply(lambda x: torch.einsum("nchw,ncij->nhj", x, x)),
    "matrix product": apply(lambda x: x @ x.transpose(2, 3)),
    "where": apply(lambda x: torch.where(x > 0, x, 0.1 * x)),
    "normalise": apply(F.normalize),
    "top": apply(lambda x: x.topk(2, 1)[0]),
    "spectrum": apply(lambda x: torch.fft.rfft2(x.float()).abs()),
    "scatter": apply(lambda x: torch.zeros_like(x).index_add(1, torch.arange(8), x)),
    "noise": apply(lambda x: x + torch.randn_like(x)),
    "permute": apply(lambda x: x.permute(0, 2, 3, 1).contiguous()),
    "variance": apply(lambda x: x.var((2, 3)) + x.std(0).mean()),
}
_VOLUMES = [
    *(partial(nn.Conv3d, 4, 4, 3), partial(nn.ConvTranspose3d, 4, 4, 4, 2)),
    *(partial(nn.BatchNorm3d, 4), partial(nn.InstanceNorm3d, 4), partial(nn.MaxPool3d, 2)),
    *(partial(nn.AvgPool3d, 2), partial(nn.AdaptiveAvgPool3d, 3), partial(nn.AdaptiveMaxPool3d, 3)),
    *(partial(nn.ReflectionPad3d, 1), partial(nn.Upsample, scale_factor=2, mode="trilinear")),
]
_SEQUENCES = [
    *(partial(nn.Conv1d, 8, 4, 3), partial(nn.ConvTranspose1d, 8, 4, 4, 2)),
    *(partial(nn.Conv1d, 8, 8, 4, padding="same"), partial(nn.BatchNorm1d, 8)),
    *(partial(nn.InstanceNorm1d, 8), partial(nn.MaxPool1d, 2), partial(nn.AvgPool1d, 2)),
    *(partial(nn.AdaptiveMaxPool1d, 3), partial(nn.ReflectionPad1d, 2)),
    *(partial(nn.GRU, 20, 12, 2, batch_first=True, bidirectional=True), partial(nn.RNN, 20, 12)),
    partial(nn.TransformerEncoderLayer, 20, 4, 32, batch_first=True),
    apply(lambda x, attention: attention(x, x, x)[0], partial(nn.MultiheadAttention, 20, 4)),
]
_ROWS = [
    *(partial(nn.Linear, 10, 4), partial(nn.GRUCell, 10, 6), partial(nn.LSTMCell, 10, 6)),
    apply(discrimination, partial(nn.Linear, 10, 12)),
    apply(lambda x, layer: layer(x, x), partial(nn.Bilinear, 10, 10, 4)),
    apply(lambda x: torch.cdist(x, x + 1)),
    apply(lambda x: F.pdist(x)),
    apply(lambda x, table: x * table(torch.arange(6)), partial(nn.Embedding, 9, 10)),
    *(
        apply(
            lambda x, bags: x[:2] * bags(torch.arange(6), torch.tensor([0, 4])),
            partial(nn.EmbeddingBag, 9, 10, mode=mode),
        )
        for mode in ("sum", "mean", "max")
    ),
]


def _named(factories, shape):
    for number, factory in enumerate(factories):
        kind = getattr(factory, "func", factory)
        yield f"{kind.__name__} {number}".replace("<lambda>", "function"), factory, shape


LAYERS = {
    name: (factory, shape)
    for name, factory, shape in (
        *_named(_MAPS, MAP),
        *_named(_VOLUMES, VOLUME),
        *_named(_SEQUENCES, SEQUENCE),
        *_named(_ROWS, ROWS),
        *((name, factory, MAP) for name, factory in _FUNCTIONS.items()),
        *((f"between {name}", between(f), MAP) for name, f, _ in _named(_ACTIVATIONS, MAP)),
        *((f"between {name}", between(f), MAP) for name, f, _ in _named(_NORMS, MAP)),
    )
}
"""A name, with the number of the layer among its like, to a factory and a shape."""
