"""Two processes under DistributedDataParallel: lean and plain stay one network, bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrizations

from gaslayers import DenseBlock, DepthwiseInceptionBlock, DownBlock, InceptionBlock, make_lean
from gaslayers.models import build_discriminator
from tests.lean.twins import twin_of

WORLD = 2


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        DownBlock(2, 4),
        DownBlock(4, 4, memory_efficient="recompute"),
        DenseBlock(4, 2),
        InceptionBlock(12, 8, bottleneck=False),
        DepthwiseInceptionBlock(8, 8, norm_layer=nn.BatchNorm2d, activation_layer=nn.ReLU),
    )


def _foreign() -> nn.Module:
    """As a user has it, none of our layers in it."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 8, 4, 2, 1),
        nn.LeakyReLU(0.2, inplace=True),
        parametrizations.spectral_norm(nn.Conv2d(8, 16, 4, 2, 1)),
        nn.BatchNorm2d(16),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(16, 1, 4),
    )


def _train(network: nn.Module, rank: int) -> list[Tensor]:
    """Two steps on this process's own images; all parameters and buffers afterwards."""
    parallel = DistributedDataParallel(network)
    optimizer = torch.optim.SGD(parallel.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(rank)
    for _ in range(2):
        optimizer.zero_grad()
        parallel(torch.randn(2, 2, 16, 16, generator=generator)).square().mean().backward()
        optimizer.step()
    return [tensor.detach().clone() for tensor in network.state_dict().values()]


def _compare(rank: int, store: Path) -> None:
    torch.set_num_threads(1)
    rendezvous = f"file://{store}"
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=WORLD)
    lean = _network()
    networks = (twin_of(lean), lean, _foreign(), make_lean(_foreign()))
    states = [_train(network, rank) for network in networks]
    torch.save(states, store.with_name(f"states-{rank}.pt"))
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_train_lean_as_they_train_plain(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_compare, (tmp_path / "store",), nprocs=WORLD)
    both = [torch.load(tmp_path / f"states-{rank}.pt") for rank in range(WORLD)]
    names = list(_network().state_dict())
    for plain, lean, foreign, made_lean in both:
        for name, expected, found in zip(names, plain, lean, strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=0, msg=name)
        for expected, found in zip(foreign, made_lean, strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=0)
    (first, *_), (second, *_) = both
    weights = [i for i, name in enumerate(names) if name.endswith("weight")]
    assert all(torch.equal(first[i], second[i]) for i in weights), "the gradients are not shared"
    assert not torch.equal(first[0], _network().state_dict()[names[0]]), "nothing was trained"


@pytest.mark.parametrize("memory_efficient", [True, "recompute"])
def test_synchronised_batch_norm_is_called_as_a_module(memory_efficient) -> None:
    stage = DownBlock(2, 4, norm_layer=nn.SyncBatchNorm, memory_efficient=memory_efficient)
    # Only the activation and the pooling may run lean: the norm talks to the other processes.
    assert stage.execution.path == "packed"
    x = torch.randn(3, 2, 6, 6, requires_grad=True)
    y, expected = stage.eval()(x), twin_of(stage)(x)
    torch.testing.assert_close(y, expected, rtol=0, atol=0)


@pytest.mark.cuda(devices=WORLD)  # SyncBatchNorm trains on several devices only
def test_synchronised_batch_norm_trains_over_devices(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_compare_synchronised, (tmp_path / "store",), nprocs=WORLD)
    for rank in range(WORLD):
        plain, lean = torch.load(tmp_path / f"states-{rank}.pt", map_location="cpu")
        for expected, found in zip(plain, lean, strict=True):
            torch.testing.assert_close(found, expected)


def _compare_synchronised(rank: int, store: Path) -> None:
    dist.init_process_group("nccl", init_method=f"file://{store}", rank=rank, world_size=WORLD)
    states = []
    for memory_efficient in (False, True):
        torch.manual_seed(0)
        network = build_discriminator(
            "original", variant="modern", memory_efficient=memory_efficient
        )
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network).to(rank)
        parallel = DistributedDataParallel(network, device_ids=[rank])
        generator = torch.Generator().manual_seed(rank)
        x = torch.rand(4, 1, 28, 28, generator=generator).to(rank)
        parallel(x).square().mean().backward()
        states.append([parameter.grad for parameter in network.parameters()])
    torch.save(states, store.with_name(f"states-{rank}.pt"))
    dist.destroy_process_group()
