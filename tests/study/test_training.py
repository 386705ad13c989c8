from __future__ import annotations

import copy
import math

import pytest
import torch
from torch.testing import assert_close

from gaslayers.study.randomness import draw_noise
from gaslayers.study.training import Game, NonFiniteLossError

# One float32 loss from two orders of summation.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}
# The same through batch norms, in another memory layout.
LAYOUT_TOLERANCE = {"rtol": 1e-3, "atol": 1e-4}


def state(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def weights(module):
    return {name: tensor.detach().clone() for name, tensor in module.named_parameters()}


def gradients(module):
    return {name: p.grad for name, p in module.named_parameters()}


def assert_same(first, second):
    assert_close(first, second, rtol=0, atol=0)


def noise(config, step, stream="training z", size=None):
    return draw_noise(
        config.seed, stream, step, batch_size=size or config.batch_size, latent_size=100
    )


@pytest.fixture
def game(make_game):
    return make_game()


def watch(module):
    """The inputs and outputs of every call of a module, detached."""
    calls = []
    module.register_forward_hook(
        lambda _, inputs, output: calls.append((*(x.detach() for x in inputs), output.detach()))
    )
    return calls


def test_discriminator_step_moves_discriminator_alone(game):
    generator, discriminator = weights(game.generator), weights(game.discriminator)
    game.discriminator_step(0)
    assert_same(weights(game.generator), generator)
    moved = weights(game.discriminator)
    assert all(not torch.equal(moved[name], discriminator[name]) for name in moved)


def test_discriminator_step_leaves_generator_gradients_alone(game):
    game.discriminator_step(0)
    assert set(gradients(game.generator).values()) == {None}
    game.generator_step(0, 0)
    before = {name: gradient.clone() for name, gradient in gradients(game.generator).items()}
    game.discriminator_step(1)
    assert_same(gradients(game.generator), before)


def test_discriminator_step_builds_no_graph_through_generator(game):
    needed = []
    game.discriminator.register_forward_pre_hook(lambda _, x: needed.append(x[0].requires_grad))
    game.discriminator_step(0)
    assert needed == [False, False]


def test_generator_step_moves_generator_alone(game):
    generator, discriminator = weights(game.generator), weights(game.discriminator)
    game.generator_step(0, 0)
    assert_same(weights(game.discriminator), discriminator)
    moved = weights(game.generator)
    still = {name for name in moved if torch.equal(moved[name], generator[name])}
    # The offset in front of a batch norm, which takes it away again, may stay where it was.
    assert still <= {"project.bias", "conv_quarter.conv.bias", "conv_half.conv.bias"}


def test_generator_step_computes_no_discriminator_gradients(game):
    game.generator_step(0, 0)
    assert set(gradients(game.discriminator).values()) == {None}
    game.discriminator_step(0)
    before = {name: gradient.clone() for name, gradient in gradients(game.discriminator).items()}
    game.generator_step(0, 1)
    assert_same(gradients(game.discriminator), before)


def test_discriminator_learns_again_after_a_generator_step(game):
    game.generator_step(0, 0)
    before = weights(game.discriminator)
    game.discriminator_step(0)
    assert not torch.equal(game.discriminator.classifier.weight, before["classifier.weight"])


def test_steps_start_from_fresh_gradients(game):
    # Of two equal steps without a move in between the second leaves the same gradient, not twice.
    game.discriminator_optimizer.param_groups[0]["lr"] = 0.0
    game.discriminator_step(0)
    first = {name: gradient.clone() for name, gradient in gradients(game.discriminator).items()}
    game.discriminator_step(0)
    assert_same(gradients(game.discriminator), first)


def test_losses_of_known_scores_are_those_of_the_source(game):
    real = torch.tensor([[1.3], [0.2], [0.9], [0.6]])
    fake = torch.tensor([[0.8], [-0.5], [0.1], [0.4]])
    real_scores, fake_scores = map(game.discriminator.activate, (real, fake))

    def sigmoid(x):
        return 1 / (1 + math.exp(-x))

    on_real = sum((sigmoid(x) - 1) ** 2 for x in real.flatten().tolist())
    on_fake = sum(sigmoid(x) ** 2 for x in fake.flatten().tolist())
    on_fooled = sum((sigmoid(x) - 1) ** 2 for x in fake.flatten().tolist())
    discriminator_loss = game.discriminator_loss(real_scores, fake_scores).item()
    generator_loss = game.generator_loss(fake_scores).item()
    assert_close(discriminator_loss, (on_real + on_fake) / 2, **TOLERANCE)
    assert_close(generator_loss, on_fooled / 2, **TOLERANCE)
    assert_close((discriminator_loss, generator_loss), (0.85513, 0.43513), rtol=0, atol=1e-5)


def test_losses_of_a_batch_are_those_by_hand(game):
    with torch.no_grad():  # so that no two images have the same score
        for weight in game.discriminator.parameters():
            weight.mul_(10)
    generator, discriminator = copy.deepcopy((game.generator, game.discriminator))
    on_discriminator, on_generator = watch(game.discriminator_loss), watch(game.generator_loss)
    game.discriminator_step(3)
    real = game.batches.digits.images[12:16].unsqueeze(1) / 255
    with torch.no_grad():
        fake = generator(noise(game.config, 3 * 3))
        real_scores, fake_scores = discriminator(real), discriminator(fake)
    expected = ((real_scores - 1) ** 2).sum() / 2 + (fake_scores**2).sum() / 2
    assert real_scores.std() > 0.01
    assert fake_scores.std() > 0.01
    assert_close(on_discriminator[0], (real_scores, fake_scores, expected), **TOLERANCE)

    generator, discriminator = copy.deepcopy((game.generator, game.discriminator))
    game.generator_step(3, 1)
    with torch.no_grad():
        fake_scores = discriminator(generator(noise(game.config, 3 * 3 + 2)))
    assert_close(on_generator[0], (fake_scores, ((fake_scores - 1) ** 2).sum() / 2), **TOLERANCE)


def test_mean_reduction_divides_by_the_batch(make_game):
    summed, averaged = (make_game(loss_reduction=name) for name in ("sum", "mean"))
    losses = [watch(game.discriminator_loss) for game in (summed, averaged)]
    for game in (summed, averaged):
        game.discriminator_step(0)
    assert_close(losses[0][0][-1], 4 * losses[1][0][-1], **TOLERANCE)


def test_iterate_is_one_discriminator_step_then_generator_steps(make_game):
    game = make_game(generator_steps=3)
    order = []
    for name in ("discriminator_loss", "generator_loss"):
        getattr(game, name).register_forward_pre_hook(lambda *_, name=name: order.append(name))
    game.iterate(0)
    assert order == ["discriminator_loss", *3 * ["generator_loss"]]


def test_every_step_gets_fresh_noise(make_game):
    game = make_game(generator_steps=2)
    calls = watch(game.generator)
    for iteration in range(3):
        game.iterate(iteration)
    drawn = [z for z, _ in calls]
    assert len(drawn) == 9
    for step, z in enumerate(drawn):
        assert_same(z, noise(game.config, step))


def test_equal_seeds_play_equal_games(make_game):
    first, second = make_game(seed=3), make_game(seed=3)
    torch.rand(7)  # whatever the program drew in between
    for game in (first, second):
        game.iterate(0)
    assert_same(state(first.generator), state(second.generator))
    assert_same(state(first.discriminator), state(second.discriminator))


def test_other_seed_starts_from_other_weights(make_game):
    first, second = make_game(seed=3), make_game(seed=4)
    assert not torch.equal(first.generator.project.weight, second.generator.project.weight)
    assert not torch.equal(
        first.discriminator.classifier.weight, second.discriminator.classifier.weight
    )


def test_case_leaves_first_generator_and_noise_alone(make_game):
    # What makes the curves of two cases of one seed comparable.
    first, second = make_game(case="inception_8"), make_game(case="original")
    assert_same(state(first.generator), state(second.generator))


def test_game_leaves_global_generator_alone(make_game):
    before = torch.random.get_rng_state()
    game = make_game(shuffle=True)
    game.iterate(0)
    game.evaluate(0)
    game.sample()
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("case", ["inception_8", "depthwise_inception"])
@pytest.mark.parametrize("read", ["evaluate", "sample"])
def test_reading_leaves_networks_as_they_were(make_game, case, read):
    game = make_game(case=case)
    game.iterate(0)
    before = state(game.generator), state(game.discriminator)
    game.evaluate(0) if read == "evaluate" else game.sample()
    assert_same((state(game.generator), state(game.discriminator)), before)
    assert game.generator.training
    assert game.discriminator.training


def test_reading_does_not_change_the_training(make_game):
    plain, read = (make_game(case="depthwise_inception", shuffle=True) for _ in range(2))
    for iteration in range(2):
        plain.iterate(iteration)
        read.evaluate(iteration)
        read.iterate(iteration)
        read.sample()
        read.evaluate(iteration)
    assert_same(state(read.generator), state(plain.generator))
    assert_same(state(read.discriminator), state(plain.discriminator))


@pytest.mark.parametrize("case", ["inception_8", "depthwise_inception"])
def test_evaluate_reads_what_training_would_see(make_game, case):
    game = make_game(case=case)
    game.iterate(0)
    generator, discriminator = copy.deepcopy((game.generator, game.discriminator))
    point = game.evaluate(5)
    with torch.no_grad():
        real = discriminator.logits(game.batches.evaluation(5))
        fake = discriminator.logits(generator(noise(game.config, 5, "evaluation z")))
    on_real, on_fake = real.sigmoid(), fake.sigmoid()
    images = generator(noise(game.config, 5, "evaluation z")).detach().requires_grad_()
    scores = discriminator.logits(images).sigmoid()
    (gradient,) = torch.autograd.grad(((scores - 1) ** 2).sum() / 2, images)
    expected = {
        "iteration": 5,
        "discriminator_loss": (((on_real - 1) ** 2 + on_fake**2).sum() / 2).item(),
        "generator_loss": (((on_fake - 1) ** 2).sum() / 2).item(),
        "real_logit_mean": real.mean().item(),
        "real_logit_std": real.std().item(),
        "fake_logit_mean": fake.mean().item(),
        "fake_logit_std": fake.std().item(),
        "real_slope": (on_real * (1 - on_real)).mean().item(),
        "fake_slope": (on_fake * (1 - on_fake)).mean().item(),
        "gradient_norm": gradient.square().sum().sqrt().item(),
    }
    assert_close(point.model_dump(), expected, **LAYOUT_TOLERANCE)


def test_sample_shows_the_same_noise_every_time(game):
    first = game.sample()
    assert first.shape == (32, 1, 28, 28)
    assert first.aminmax().min >= 0
    assert first.aminmax().max <= 1
    assert_same(game.sample(), first)
    with torch.no_grad():
        images = copy.deepcopy(game.generator)(noise(game.config, 0, "sample z", 32))
    assert_close(first, (images + 1) / 2, **TOLERANCE)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_iterate_refuses_a_loss_that_is_not_finite(make_game, value):
    game = make_game(variant="as_described")  # a linear head, which passes infinity on
    with torch.no_grad():
        game.discriminator.classifier.bias.fill_(value)
    before = weights(game.generator), weights(game.discriminator)
    with pytest.raises(NonFiniteLossError, match=rf"^the loss is {value}$"):
        game.iterate(0)
    after = weights(game.generator), weights(game.discriminator)
    assert_close(after, before, rtol=0, atol=0, equal_nan=True)


def test_networks_hold_their_weights_channels_last(make_game):
    game = make_game(case="original")
    convolutions = [
        module
        for network in (game.generator, game.discriminator)
        for module in network.modules()
        if isinstance(module, torch.nn.Conv2d)
    ]
    assert len(convolutions) == 7
    for module in convolutions:
        assert module.weight.is_contiguous(memory_format=torch.channels_last)


def test_memory_efficient_game_plays_the_same(make_config, digits, fabric):
    config = make_config(case="depthwise_inception_dense")
    lean, plain = (Game(config, digits, fabric, memory_efficient=flag) for flag in (True, False))
    for game in (lean, plain):
        game.iterate(0)
    assert_close(state(lean.generator), state(plain.generator), **LAYOUT_TOLERANCE)
    assert_close(state(lean.discriminator), state(plain.discriminator), **LAYOUT_TOLERANCE)
