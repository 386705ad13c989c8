from __future__ import annotations

import pytest
import torch
from torch import nn

from gaslayers.study import Watch, lightning_callback


@pytest.fixture
def networks():
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 6))
    discriminator = nn.Sequential(nn.Linear(6, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
    return generator, discriminator


def train(networks, watch, iterations=4, *, double_g=False, cast=lambda scores: scores):
    """A least-squares GAN; returns what was read by hand beside the watch."""
    generator, discriminator = networks
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.05) for net in networks]
    read = []
    for step in range(iterations):
        torch.manual_seed(step)
        real_scores = discriminator(torch.randn(8, 6) + 2.0)
        fake_scores = discriminator(generator(torch.randn(8, 4)).detach())
        loss_d = ((real_scores - 1) ** 2 + fake_scores**2).mean() / 2
        if watch is not None:
            watch.discriminator_step(cast(real_scores), cast(fake_scores), loss_d)
        optimizers[0].zero_grad()
        optimizers[1].zero_grad()
        loss_d.backward()
        optimizers[1].step()
        for _ in range(2 if double_g else 1):
            noise = torch.randn(8, 4)
            images = generator(noise)
            images.retain_grad()
            seen = images if watch is None else watch.generated(images)
            scores = discriminator(seen)
            loss_g = ((scores - 1) ** 2).mean() / 2
            optimizers[0].zero_grad()
            loss_g.backward()
            optimizers[0].step()
            if watch is not None:
                watch.generator_step(loss_g)
        ratio = None
        if watch is not None and watch.wants_balance:
            with torch.no_grad():
                after = discriminator(generator(noise))
            watch.balance(scores, after)
            ratio = (after.mean() - scores.mean()) / (real_scores.mean() - scores.mean())
        read.append(
            {
                "discriminator_loss": loss_d.item(),
                "generator_loss": loss_g.item(),
                "real_logit_mean": real_scores.mean().item(),
                "real_logit_std": real_scores.std(correction=0).item(),
                "fake_logit_mean": fake_scores.mean().item(),
                "fake_logit_std": fake_scores.std(correction=0).item(),
                "real_slope": (real_scores.sigmoid() * (1 - real_scores.sigmoid())).mean().item(),
                "fake_slope": (fake_scores.sigmoid() * (1 - fake_scores.sigmoid())).mean().item(),
                "gradient_norm": images.grad.norm().item(),
                "balance_ratio": None if ratio is None else ratio.item(),
            }
        )
    return read


@pytest.mark.parametrize("double_g", [False, True])
@pytest.mark.parametrize("head", ["linear", "sigmoid"])
def test_readings_are_what_the_loop_computed(networks, head, double_g):
    watch = Watch(head=head, balance_every=2)
    expected = train(networks, watch, 5, double_g=double_g)
    assert [reading.iteration for reading in watch.readings] == list(range(5))
    for reading, wanted in zip(watch.readings, expected, strict=True):
        if head == "linear":
            wanted = {name: value for name, value in wanted.items() if "slope" not in name}
        found = dict(reading.values())
        assert found == pytest.approx(
            {name: value for name, value in wanted.items() if value is not None}, rel=1e-5
        )
    assert [reading.balance_ratio is None for reading in watch.readings] == [
        step % 2 == 1 for step in range(5)
    ]


def test_balance_is_among_the_evidence(networks):
    watch = Watch(balance_every=1)
    expected = train(networks, watch, 3)
    middle = sorted(step["balance_ratio"] for step in expected)[1]
    assert f"The balance ratio is {middle:.2g} in the median." in watch.verdict().evidence


def test_training_is_the_same_under_a_watch(networks):
    states = []
    for watch in (None, Watch(head="sigmoid", balance_every=0)):
        torch.manual_seed(0)
        for network in networks:
            for layer in network:
                if isinstance(layer, nn.Linear):
                    layer.reset_parameters()
        train(networks, watch)
        states.append([tensor.clone() for net in networks for tensor in net.parameters()])
    for plain, watched in zip(*states, strict=True):
        assert torch.equal(plain, watched)


def test_one_iteration_in_so_many_is_read(networks):
    watch = Watch(every=3, balance_every=3)
    train(networks, watch, 8)
    assert [reading.iteration for reading in watch.readings] == [0, 3, 6]
    assert all(reading.gradient_norm is not None for reading in watch.readings)
    assert watch.iterations == 8


def test_readings_are_complete_however_often_they_are_asked_for(networks, monkeypatch):
    monkeypatch.setattr("gaslayers.study.watch._AT_ONCE", 3)
    asked, quiet = Watch(balance_every=2), Watch(balance_every=2)
    original = asked.generator_step

    def step(loss):
        assert asked.readings[-1].generator_loss is None  # in the middle of an iteration
        original(loss)

    asked.generator_step = step
    torch.manual_seed(0)
    for watch in (asked, quiet):
        for network in networks:
            for layer in network:
                if isinstance(layer, nn.Linear):
                    torch.manual_seed(1)
                    layer.reset_parameters()
        train(networks, watch, 10)
    assert asked.readings == quiet.readings
    assert len(quiet.readings) == 10


@pytest.mark.parametrize(
    "cast",
    [
        lambda scores: [scores[:3], scores[3:].reshape(1, 5)],  # several scales
        lambda scores: scores.reshape(2, 2, 2).transpose(0, 2),  # a map of scores
        lambda scores: scores.double(),
    ],
)
def test_scores_of_any_shape_are_read(networks, cast):
    watch = Watch()
    expected = train(networks, watch, 2, cast=cast)
    for reading, wanted in zip(watch.readings, expected, strict=True):
        assert reading.real_logit_mean == pytest.approx(wanted["real_logit_mean"], rel=1e-5)
        assert reading.fake_logit_std == pytest.approx(wanted["fake_logit_std"], rel=1e-5)


def test_half_precision_scores_do_not_overflow():
    watch = Watch()
    scores = torch.full((64, 1), 6e4, dtype=torch.float16)
    watch.discriminator_step(scores, scores, torch.tensor(1.0))
    assert watch.readings[0].real_logit_mean == pytest.approx(6e4, rel=1e-3)


def test_slope_of_far_logits_is_not_rounded_to_zero():
    watch = Watch(head="sigmoid")
    watch.discriminator_step(torch.full((4,), 40.0), torch.full((4,), -40.0), torch.tensor(0.0))
    (reading,) = watch.readings
    assert reading.real_slope == pytest.approx(4.248e-18, rel=1e-3, abs=0.0)
    assert reading.real_slope == pytest.approx(reading.fake_slope, abs=0.0)


def test_balance_of_equal_scores_is_no_divergence():
    watch = Watch()
    scores = torch.zeros(4)
    watch.discriminator_step(scores, scores, torch.tensor(0.5))
    watch.balance(scores, scores)
    assert watch.readings[0].balance_ratio is None
    assert watch.verdict().name == "healthy"


def test_last_of_several_d_steps_is_read():
    watch = Watch(discriminator_steps=3, balance_every=2)
    wanted = []
    for step in range(12):
        scores = torch.full((4,), float(step))
        watch.discriminator_step(scores, scores - 1.0, scores.mean())
        if step % 3 < 2:
            assert not watch.wants_balance
            continue
        watch.read_gradient(torch.full((4,), float(step)))
        watch.generator_step(torch.tensor(-float(step)))
        wanted.append(watch.wants_balance)
    assert [r.real_logit_mean for r in watch.readings] == [2.0, 5.0, 8.0, 11.0]
    assert [r.generator_loss for r in watch.readings] == [-2.0, -5.0, -8.0, -11.0]
    assert [r.gradient_norm for r in watch.readings] == [4.0, 10.0, 16.0, 22.0]
    assert wanted == [True, False, True, False]
    assert watch.iterations == 4


class Trouble(nn.Module):
    """A GAN in which training fails by the book."""

    def __init__(self):
        super().__init__()
        self.generator = nn.Linear(4, 6)
        self.discriminator = nn.Linear(6, 1)


def test_network_with_a_large_step_saturates_for_real():
    torch.manual_seed(0)
    game = Trouble()
    watch = Watch(head="sigmoid")
    optimizer = torch.optim.SGD(game.discriminator.parameters(), lr=1000.0)
    for _ in range(130):
        real = game.discriminator(torch.rand(8, 6) + 1.0)
        images = watch_images = game.generator(torch.randn(8, 4))
        fake = game.discriminator(images.detach())
        loss = ((real.sigmoid() - 1) ** 2 + fake.sigmoid() ** 2).sum()
        watch.discriminator_step(real, fake, loss)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scores = game.discriminator(watch.generated(watch_images))
        loss = ((scores.sigmoid() - 1) ** 2).sum()
        loss.backward()
        watch.generator_step(loss)
    assert watch.verdict().name == "saturated"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: Watch(head="tanh"),
            ValueError,
            "Watch: `head` must be one of 'linear', 'sigmoid'",
        ),
        (lambda: Watch(every=0), ValueError, "Watch: `every` must be >= 1"),
        (
            lambda: Watch(discriminator_steps=0),
            ValueError,
            "Watch: `discriminator_steps` must be >= 1",
        ),
        (lambda: Watch(balance_every=-1), ValueError, "Watch: `balance_every` must be >= 0"),
        (lambda: Watch(thresholds={}), TypeError, "Watch: `thresholds` must be Thresholds or None"),
        (lambda: Watch().verdict(), ValueError, "diagnose: `readings` must hold a reading"),
        (
            lambda: Watch().discriminator_step(1.0, torch.rand(2), torch.tensor(0.0)),
            TypeError,
            "`real_scores` must be a tensor or a sequence of tensors",
        ),
        (
            lambda: Watch().discriminator_step(torch.rand(2), [], torch.tensor(0.0)),
            ValueError,
            "`fake_scores` must hold a score",
        ),
        (
            lambda: Watch().discriminator_step(torch.rand(2), torch.rand(2), torch.rand(2)),
            ValueError,
            "`loss` must be a scalar",
        ),
        (
            lambda: Watch().discriminator_step(torch.rand(2), torch.rand(2), 0.5),
            TypeError,
            "`loss` must be a tensor, got 0.5",
        ),
        (lambda: Watch().generated(torch.rand(2)), ValueError, "`images` must require a gradient"),
        (lambda: Watch().generated(None), TypeError, "`images` must be a tensor"),
        (lambda: lightning_callback(None), TypeError, "`watch` must be a Watch"),
    ],
)
def test_bad_input_is_said(call, error, message):
    with pytest.raises(error, match=message):
        call()
