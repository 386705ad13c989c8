"""Steps with gradient penalties, against real steps that are watched."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from gaslayers import DownBlock, InceptionBlock, peak_memory
from gaslayers.accounting import gan_peak_memory
from tests.accounting.watch import Watch, real_peak, uncollected


def gradient(scores: Tensor, images: Tensor) -> Tensor:
    return torch.autograd.grad(scores.sum(), images, create_graph=True)[0].flatten(1)


def r1(discriminator, real, _fake):
    labels = real[1:] if isinstance(real, tuple) else ()
    images = (real[0] if labels else real).detach().requires_grad_()
    scores = discriminator(images, *labels)
    return gradient(scores, images).square().sum(1).mean()


def wgan_gp(discriminator, real, fake):
    labels = real[1:] if isinstance(real, tuple) else ()
    images = real[0] if labels else real
    share = torch.rand(images.shape[0], 1, 1, 1, dtype=images.dtype, device=images.device)
    mixed = torch.lerp(fake, images, share).requires_grad_()
    scores = discriminator(mixed, *labels)
    return (gradient(scores, mixed).norm(2, 1) - 1).square().mean()


def zero_centred(discriminator, real, fake):
    return 10 * (r1(discriminator, real, fake) + wgan_gp(discriminator, real, fake))


PENALTIES = {"r1": r1, "wgan-gp": wgan_gp, "callable": zero_centred, "none": None}


def d_loss(real: Tensor, fake: Tensor) -> Tensor:
    return (1 - real).relu().mean() + (1 + fake).relu().mean()


def g_loss(fake: Tensor) -> Tensor:
    return -fake.mean()


class Conditional(nn.Module):
    """Scores of images and labels."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.table = DownBlock(3, 8), nn.Embedding(5, 8)

    def forward(self, images, labels):
        return (self.body(images).mean((2, 3)) * self.table(labels)).sum(1)


DISCRIMINATORS = {
    "smooth": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.SiLU(), nn.InstanceNorm2d(8), nn.Conv2d(8, 1, 3)
    ),
    "rectified": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.LeakyReLU(0.2), nn.Flatten(), nn.LazyLinear(1)
    ),
    "lean": lambda: nn.Sequential(DownBlock(3, 8), InceptionBlock(8, 16), nn.Conv2d(16, 1, 3)),
    # Of these nothing is kept where images want no gradient.
    "activations first": lambda: nn.Sequential(nn.Tanh(), nn.Tanh(), nn.Conv2d(3, 1, 3)),
    "conditional": Conditional,
}


def generator() -> nn.Module:
    return nn.Sequential(
        nn.Linear(5, 3 * 64), nn.Unflatten(1, (3, 8, 8)), nn.Upsample(scale_factor=2)
    )


def real_discriminator_peak(networks, data, penalty, factory) -> int:
    """The peak of the second D step."""
    discriminator, maker = copy.deepcopy(networks)
    real, latent = data
    optimizer = factory(discriminator.parameters())
    tensors = real if isinstance(real, tuple) else (real,)

    def step() -> None:
        with torch.no_grad():
            fake = maker(latent)
        real_scores = discriminator(*tensors)
        fake_scores = discriminator(fake, *tensors[1:])
        loss = d_loss(real_scores, fake_scores)
        if penalty is not None:
            loss = loss + penalty(discriminator, real, fake)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    step()
    watch = Watch()
    for network in (discriminator, maker):
        watch.see([*network.parameters(), *network.buffers()])
    watch.see([*tensors, latent])
    states = optimizer.state.values()
    watch.see([entry for state in states for entry in state.values() if isinstance(entry, Tensor)])
    with uncollected(), watch:
        step()
    return watch.peak


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_discriminator_step_with_a_penalty_is_real_to_the_byte(name, penalty) -> None:
    networks = DISCRIMINATORS[name](), generator()
    real = torch.randn(4, 3, 16, 16)
    if name == "conditional":
        real = (real, torch.arange(4))
    elif name == "rectified":
        networks[0](real)
    latent = torch.randn(4, 5)
    factory = partial(torch.optim.Adam, lr=1e-3)
    named = {"none": None, "callable": zero_centred}.get(penalty, penalty)
    report = gan_peak_memory(
        *networks,
        real,
        latent,
        discriminator_loss=d_loss,
        generator_loss=g_loss,
        optimizer=factory,
        generator_optimizer=torch.optim.SGD,  # has no state
        penalty=named,
    )
    expected = real_discriminator_peak(networks, (real, latent), PENALTIES[penalty], factory)
    assert report.discriminator_step.peak == expected


@pytest.mark.parametrize("penalty", ["r1", "wgan-gp"])
@pytest.mark.parametrize("wants_gradient", [False, True])
def test_penalty_in_double_precision_is_real_to_the_byte(penalty, wants_gradient) -> None:
    networks = DISCRIMINATORS["smooth"]().double(), generator().double()
    real = torch.randn(4, 3, 16, 16, dtype=torch.float64, requires_grad=wants_gradient)
    latent = torch.randn(4, 5, dtype=torch.float64)
    report = gan_peak_memory(
        *networks,
        real,
        latent,
        discriminator_loss=d_loss,
        generator_loss=g_loss,
        optimizer=torch.optim.SGD,
        penalty=penalty,
    )
    given = (real, latent)
    expected = real_discriminator_peak(networks, given, PENALTIES[penalty], torch.optim.SGD)
    assert report.discriminator_step.peak == expected


def test_penalty_is_where_the_networks_are() -> None:
    networks = DISCRIMINATORS["smooth"](), generator()
    given = (torch.randn(4, 3, 16, 16), torch.randn(4, 5))
    losses = {"discriminator_loss": d_loss, "generator_loss": g_loss, "penalty": "wgan-gp"}
    expected = gan_peak_memory(*networks, *given, **losses)
    with torch.device("meta"):
        assert gan_peak_memory(*networks, *given, **losses) == expected


def test_penalty_is_of_the_discriminators_step_alone() -> None:
    networks = DISCRIMINATORS["smooth"](), generator()
    given = (torch.randn(4, 3, 16, 16), torch.randn(4, 5))
    losses = {"discriminator_loss": d_loss, "generator_loss": g_loss}
    plain, penalised = (
        gan_peak_memory(*networks, *given, **losses, penalty=p) for p in (None, "r1")
    )
    assert penalised.generator_step == plain.generator_step
    assert penalised.discriminator_step.peak > plain.discriminator_step.peak


def test_bad_penalties_are_refused() -> None:
    given = (nn.Linear(8, 1), nn.Linear(2, 8), torch.ones(4, 8), torch.ones(4, 2))
    losses = {"discriminator_loss": d_loss, "generator_loss": g_loss}
    with pytest.raises(ValueError, match=r"`penalty` must be one of 'r1', 'wgan-gp', got 'r2'"):
        gan_peak_memory(*given, **losses, penalty="r2")
    with pytest.raises(TypeError, match=r"`penalty` must be 'r1', 'wgan-gp', a callable or None"):
        gan_peak_memory(*given, **losses, penalty=10.0)


def failing(_discriminator, _real, _fake):
    raise KeyError("gone")


@pytest.mark.parametrize("penalty", [failing, lambda d, real, _fake: d(real).mean().item()])
def test_failing_penalty_leaves_no_trace(take_picture, penalty) -> None:
    pair = nn.ModuleList([nn.Sequential(nn.Linear(8, 1), nn.Dropout()), nn.BatchNorm1d(8)])
    real, latent = torch.ones(4, 8), torch.ones(4, 8)
    losses = {"discriminator_loss": d_loss, "generator_loss": g_loss}
    gan_peak_memory(*pair, real, latent, **losses)  # imports are not undone
    before = take_picture(pair, (real, latent))
    with pytest.raises((KeyError, ValueError), match=r"gone|reads some"):
        gan_peak_memory(*pair, real, latent, **losses, penalty=penalty)
    assert take_picture(pair, (real, latent)) == before


class Penalised(nn.Module):
    """A module whose own forward pass differentiates."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3), nn.Linear(4, 64)
        self.act = nn.Tanh()

    def forward(self, x):
        x = x.detach().requires_grad_()
        scores = self.act(self.first(x)).mean((1, 2, 3))
        return self.last((gradient(scores, x).norm(2, 1) - 1).square())


def test_forward_pass_that_differentiates_is_real_and_knows_its_places() -> None:
    network, x = Penalised(), torch.randn(4, 3, 16, 16)
    report = peak_memory(network, x)
    assert report.peak == real_peak(network, (x,))
    places = [m.module for m in report.timeline if m.operator == "aten.linalg_vector_norm"]
    assert set(places) == {""}  # the norm is the network's own, not the layer's before it


def both(output: Tensor, x: Tensor) -> Tensor:
    return output.mean() + gradient(output, x).square().sum(1).mean()


def test_loss_that_differentiates_by_the_input_gets_it() -> None:
    network, x = DISCRIMINATORS["smooth"](), torch.randn(4, 3, 16, 16, requires_grad=True)
    expected = real_peak(network, (x,), lambda output: both(output, x))
    assert peak_memory(network, x, loss=both).peak == expected
    closed = peak_memory(network, x, loss=partial(both, x=x))  # one argument is left to give
    assert closed.peak >= expected


class Loss(nn.Module):
    def forward(self, output, inputs):
        assert isinstance(inputs, tuple)
        return output.mean() + gradient(output, inputs[0]).square().mean()


def test_loss_as_a_module_gets_several_inputs_as_a_tuple(make) -> None:
    network = make(lambda self, x, y: self.layer(x) * y, layer=nn.Linear(8, 1))
    x, y = torch.ones(4, 8, requires_grad=True), torch.ones(4, 1)
    assert peak_memory(network, (x, y), loss=Loss()).peak > 0


def test_second_argument_with_a_default_is_left_alone() -> None:
    def loss(output, scale=2.0):
        return output.mean() * scale

    assert peak_memory(nn.Linear(4, 2), torch.ones(3, 4), loss=loss).peak > 0
