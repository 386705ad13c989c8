"""The predicted tensor peak against a real run that is watched, and against PyTorch's tracker."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.distributed._tools.mem_tracker import MemTracker
from torch.distributed._tools.mod_tracker import ModTracker
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils.checkpoint import checkpoint

from gaslayers import DenseBlock, DownBlock, LSGANDiscriminatorLoss, LSGANGeneratorLoss, peak_memory
from gaslayers._watching import watches_only
from gaslayers.accounting import gan_peak_memory
from gaslayers.models import CASES, LSGANGenerator, build_discriminator
from tests.accounting.watch import Watch, total, uncollected


def make_step(network: nn.Module, x: Tensor, optimizer) -> Callable[[], None]:
    def step() -> None:
        output = network(x)
        loss = total(output)
        loss.backward()
        if optimizer is not None:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        else:
            network.zero_grad(set_to_none=True)
        x.grad = None

    return step


def real_peaks(network: nn.Module, x: Tensor, factory) -> tuple[int, int]:
    """The peaks of the first and the second step of a real run."""
    network = copy.deepcopy(network)
    optimizer = None if factory is None else factory(network.parameters())
    step, peaks = make_step(network, x, optimizer), []
    watch = Watch()
    watch.see([*network.parameters(), *network.buffers(), x])
    with uncollected(), watch:
        for _ in range(2):
            watch.peak = watch.total
            step()
            peaks.append(watch.peak)
    return peaks[0], peaks[1]


def tracked_peak(network: nn.Module, x: Tensor, factory) -> int:
    """The peak of a step that has its optimiser's state, by PyTorch's tracker."""
    network = copy.deepcopy(network)
    optimizer = None if factory is None else factory(network.parameters())
    step = make_step(network, x, optimizer)
    step()
    # Its hooks for all modules turn lean blocks plain, unless they are marked as watchers.
    for hook in (ModTracker._fw_pre_hook, ModTracker._fw_post_hook):
        watches_only(hook)
    tracker = MemTracker()
    tracker.track_external(network, x, *([] if optimizer is None else [optimizer]))
    with uncollected(), tracker:
        step()
    return tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"]


class Checkpointed(nn.Module):
    def __init__(self, *, reentrant: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.body = nn.Sequential(
            nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 8, 1)
        )
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        x = checkpoint(self.body, self.stem(x), use_reentrant=self.reentrant)
        return x.mean((2, 3))


def dcgan_discriminator() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 4, 2, 1, bias=False),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(16, 32, 4, 2, 1, bias=False),
        nn.BatchNorm2d(32),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(32, 1, 8, 1, 0, bias=False),
        nn.Flatten(0),
    )


def dcgan_generator() -> nn.Module:
    return nn.Sequential(
        nn.ConvTranspose2d(20, 32, 8, 1, 0, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(inplace=True),
        nn.ConvTranspose2d(32, 16, 4, 2, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(inplace=True),
        nn.ConvTranspose2d(16, 3, 4, 2, 1, bias=False),
        nn.Tanh(),
    )


def googlenet(*, aux: bool) -> nn.Module:
    return torchvision.models.googlenet(init_weights=False, aux_logits=aux, num_classes=10)


def spectral_net() -> nn.Module:
    return nn.Sequential(
        spectral_norm(nn.Conv2d(3, 8, 3)), nn.LeakyReLU(0.1), spectral_norm(nn.Conv2d(8, 4, 3))
    )


def old_spectral_net() -> nn.Module:
    old_norm = nn.utils.spectral_norm
    return nn.Sequential(old_norm(nn.Conv2d(3, 8, 3)), nn.ReLU(), old_norm(nn.Conv2d(8, 4, 3)))


def attention() -> nn.Module:
    return nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)


IMAGE = (4, 3, 16, 16)
DIGIT = (4, 1, 28, 28)
ADAM, SGD = torch.optim.Adam, partial(torch.optim.SGD, lr=0.1, momentum=0.9)
RMSPROP = torch.optim.RMSprop

SLOW = pytest.mark.slow


def network(name, build, shape, optimizer=ADAM, *, slow=False):
    return pytest.param(build, shape, optimizer, id=name, marks=SLOW if slow else ())


def discriminator(case, variant="modern", lean: bool | str = True, **options):
    kind = {True: "lean", False: "plain"}.get(lean, lean)
    build = partial(build_discriminator, case, variant=variant, memory_efficient=lean)
    return network(f"{case} {variant} {kind}", build, DIGIT, **options)


NETWORKS = [
    *(discriminator(case, slow="inception" in case) for case in CASES),
    *(discriminator(case, lean=False, slow="inception" in case) for case in CASES[:3]),
    *(discriminator(case, "as_coded", slow="inception" in case) for case in CASES[:3]),
    discriminator("original", lean="recompute", optimizer=SGD),
    network("dense lean", partial(DenseBlock, 3, 4, num_layers=3), IMAGE, RMSPROP),
    network("down lean", partial(DownBlock, 3, 8), IMAGE, None),
    network("down plain", partial(DownBlock, 3, 8, memory_efficient=False), IMAGE, None),
    network("checkpointed", partial(Checkpointed, reentrant=False), IMAGE),
    network("checkpointed reentrant", partial(Checkpointed, reentrant=True), IMAGE),
    network("spectral norm", spectral_net, IMAGE),
    network("old spectral norm", old_spectral_net, IMAGE, SGD),
    network("DCGAN discriminator", dcgan_discriminator, (4, 3, 32, 32)),
    network("DCGAN generator", dcgan_generator, (4, 20, 1, 1), RMSPROP),
    network("LSGAN generator", partial(LSGANGenerator, base_channels=16), (4, 100)),
    network("attention", attention, (4, 5, 16), torch.optim.AdamW),
    network("densenet121", torchvision.models.densenet121, (2, 3, 64, 64), slow=True),
    network("googlenet", partial(googlenet, aux=False), (2, 3, 64, 64), slow=True),
    network("googlenet with heads", partial(googlenet, aux=True), (2, 3, 96, 96), SGD, slow=True),
]


@pytest.mark.filterwarnings("ignore:.*spectral_norm.* is deprecated:FutureWarning")
@pytest.mark.parametrize(("build", "shape", "factory"), NETWORKS)
def test_tensor_peak_is_that_of_a_real_run_and_of_pytorchs_tracker(build, shape, factory) -> None:
    network = build()
    x = torch.randn(shape, requires_grad=getattr(network, "reentrant", False))
    report = peak_memory(network, x, optimizer=factory)
    assert (report.first_step.peak, report.peak) == real_peaks(network, x, factory)
    assert report.peak == tracked_peak(network, x, factory)


def d_loss(real: Tensor, fake: Tensor) -> Tensor:
    return (real - 1).square().mean() + fake.square().mean()


def g_loss(fake: Tensor) -> Tensor:
    return (fake - 1).square().mean()


def real_gan_peaks(networks, data, losses, factories) -> list[int]:
    """The peaks of the D step and of the G step in the second iteration of a real run."""
    discriminator, generator = copy.deepcopy(networks)
    real, latent = data
    optimizers = [factories[0](discriminator.parameters()), factories[1](generator.parameters())]

    def discriminator_step() -> None:
        discriminator.requires_grad_(True)
        with torch.no_grad():
            fake = generator(latent)
        real_scores, fake_scores = discriminator(real), discriminator(fake)
        loss = losses[0](real_scores, fake_scores)
        loss.backward()
        optimizers[0].step()
        optimizers[0].zero_grad(set_to_none=True)

    def generator_step() -> None:
        discriminator.requires_grad_(False)
        fake = generator(latent)
        scores = discriminator(fake)
        loss = losses[1](scores)
        loss.backward()
        optimizers[1].step()
        optimizers[1].zero_grad(set_to_none=True)

    watch, peaks = Watch(), []
    for network in (discriminator, generator):
        watch.see([*network.parameters(), *network.buffers()])
    watch.see(data)
    with uncollected(), watch:
        for step in (discriminator_step, generator_step) * 2:
            watch.peak = watch.total
            step()
            peaks.append(watch.peak)
    return peaks[2:]


PAIRS = {
    "DCGAN": (
        (dcgan_discriminator, dcgan_generator), ((4, 3, 32, 32), (4, 20, 1, 1)), (d_loss, g_loss),
    ),
    "LSGAN with lean blocks": (
        (partial(build_discriminator, "inception_8", variant="modern"),
         partial(LSGANGenerator, base_channels=16)),
        (DIGIT, (4, 100)), (LSGANDiscriminatorLoss(), LSGANGeneratorLoss()),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_tensor_peaks_of_a_pair_are_those_of_a_real_iteration_to_the_byte(name) -> None:
    builds, shapes, losses = PAIRS[name]
    networks = tuple(build() for build in builds)
    data = tuple(map(torch.randn, shapes))
    report = gan_peak_memory(
        *networks,
        *data,
        discriminator_loss=losses[0],
        generator_loss=losses[1],
        optimizer=ADAM,
        generator_optimizer=RMSPROP,
    )
    found = [report.discriminator_step.peak, report.generator_step.peak]
    assert found == real_gan_peaks(networks, data, losses, (ADAM, RMSPROP))
    assert report.peak == max(found)
