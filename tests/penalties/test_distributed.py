"""Two processes under DistributedDataParallel train with a penalty as with double backward."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrizations

from gaslayers.penalties import gradient_penalty

WORLD = 2


def _network(*, has_norm: bool) -> nn.Module:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(16) if has_norm else nn.Identity()
    return nn.Sequential(
        nn.Conv2d(2, 8, 4, 2, 1),
        nn.LeakyReLU(0.2, inplace=True),
        parametrizations.spectral_norm(nn.Conv2d(8, 16, 4, 2, 1)),
        norm,
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(16, 1, 4),
    ).double()


def _loss(network: nn.Module, x: Tensor, *, is_ours: bool) -> Tensor:
    if is_ours:
        penalty, scores = gradient_penalty(network, x, return_scores=True)
        return scores.mean() + penalty
    x.requires_grad_()
    scores = network(x)
    (gradient,) = torch.autograd.grad(scores.sum(), x, create_graph=True)
    return scores.mean() + gradient.square().flatten(1).sum(1).mean()


def _train(network: nn.Module, rank: int, *, is_ours: bool) -> list[Tensor]:
    parallel = DistributedDataParallel(network)
    optimizer = torch.optim.SGD(parallel.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(rank)
    for _ in range(3):
        optimizer.zero_grad()
        x = torch.randn(2, 2, 16, 16, generator=generator, dtype=torch.float64)
        _loss(parallel, x, is_ours=is_ours).backward()
        optimizer.step()
    return [tensor.detach().clone() for tensor in network.state_dict().values()]


def _run(rank: int, store: Path) -> None:
    torch.set_num_threads(1)
    rendezvous = f"file://{store}"
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=WORLD)
    states = [
        _train(_network(has_norm=has_norm), rank, is_ours=is_ours)
        for has_norm in (False, True)
        for is_ours in (False, True)
    ]
    torch.save(states, store.with_name(f"states-{rank}.pt"))
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_train_as_with_double_backward(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_run, (tmp_path / "store",), nprocs=WORLD)
    both = [torch.load(tmp_path / f"states-{rank}.pt") for rank in range(WORLD)]
    for plain, ours, plain_normed, ours_normed in both:
        torch.testing.assert_close(ours, plain, rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(ours_normed, plain_normed, rtol=1e-11, atol=1e-12)
    names = list(_network(has_norm=False).state_dict())
    weights = [i for i, name in enumerate(names) if name.endswith(("weight", "original"))]
    (_, first, *_), (_, second, *_) = both
    assert all(torch.equal(first[i], second[i]) for i in weights), "the gradients are not shared"
    assert not torch.equal(both[0][1][0], _network(has_norm=False).state_dict()[names[0]])
