"""What operators allocate as fakes, against what they really allocate."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from gaslayers.accounting._allocation import as_allocated
from gaslayers.accounting._shapes import compute


def described(out) -> list:
    tensors = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
    return [(t.dtype, t.shape, t.stride(), t.untyped_storage().nbytes()) for t in tensors]


class Compared(TorchDispatchMode):
    """Compare type, strides and storage of every operator's real outputs with the fake ones."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        fakes = FakeTensorMode()
        given, named = tree_map_only(
            Tensor, lambda x: fakes.from_tensor(x.detach()), (args, dict(kwargs or {}))
        )
        out = func(*args, **(kwargs or {}))
        with fakes:
            found = as_allocated(func, given, compute(fakes, func, given, named))
        assert described(found) == described(out), func
        return out


def laid_out(x: Tensor, layout: str) -> Tensor:
    """The values in another layout."""
    if layout == "channels_last":
        return x.contiguous(memory_format=torch.channels_last)
    if layout == "crop":
        return F.pad(x, (0, 1, 0, 1))[..., :-1, :-1]
    if layout == "slice":
        return torch.cat([x, x], 1)[:, : x.shape[1]]
    return x.transpose(2, 3).contiguous().transpose(2, 3) if layout == "transposed" else x


LAYOUTS = ["contiguous", "channels_last", "crop", "slice", "transposed"]
HALF = torch.bfloat16
ones = torch.ones(8)
OPERATORS = {
    "mse": lambda x: F.mse_loss(x, x.detach() * 2),
    "mse without reduction": lambda x: F.mse_loss(x, x.detach() * 2, reduction="none"),
    "smooth l1": lambda x: F.smooth_l1_loss(x, x.detach() * 2, reduction="sum"),
    "huber": lambda x: F.huber_loss(x, x.detach() * 2),
    "bce": lambda x: F.binary_cross_entropy(x.sigmoid(), x.detach().sigmoid()),
    "soft margin": lambda x: F.soft_margin_loss(x, x.detach().sign()),
    "unfold": lambda x: F.unfold(x, 3),
    "unfold to less": lambda x: F.unfold(x, 1, stride=2),
    "glu": lambda x: F.glu(x, 1),
    "log sigmoid": F.logsigmoid,
    "log softmax": lambda x: F.log_softmax(x, 1),
    "shuffle": lambda x: F.channel_shuffle(x, 2),
    "reflection": lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"),
    "replication": lambda x: F.pad(x, (1, 1, 1, 1), mode="replicate"),
    "batch norm": lambda x: F.batch_norm(x, None, None, ones, ones, training=True),
    "batch norm in evaluation": lambda x: F.batch_norm(x, ones * 0, ones, ones, ones),
    "batch norm of mixed types": lambda x: F.batch_norm(
        x.to(HALF), ones * 0, ones * 1, ones, ones, training=True
    ),
    "group norm": lambda x: F.group_norm(x, 2, ones, ones),
    "group norm of mixed types": lambda x: F.group_norm(x.to(HALF), 2, ones, ones),
    "group norm of low precision": lambda x: F.group_norm(x.to(HALF), 2, ones.to(HALF)),
    "layer norm of mixed types": lambda x: F.layer_norm(x.to(HALF), [8], ones, ones),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", OPERATORS)
def test_operators_allocate_what_the_real_ones_do_forward_and_backward(name, layout) -> None:
    x = laid_out(torch.randn(2, 8, 6, 8), layout).requires_grad_()
    with Compared():
        out = OPERATORS[name](x)
        (out * out).sum().backward()


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags_of_embeddings_allocate_what_the_real_ones_do(mode) -> None:
    table, indices = torch.randn(9, 4, requires_grad=True), torch.arange(6)
    with Compared():
        F.embedding_bag(indices, table, torch.tensor([0, 2]), mode=mode).sum().backward()
