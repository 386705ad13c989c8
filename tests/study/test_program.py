from __future__ import annotations

import pytest
import torch
from torch import nn

from gaslayers.models import cases
from gaslayers.study import networks, program, training
from gaslayers.study.optimizers import TensorFlowRMSprop
from gaslayers.study.program import code_hash


@pytest.fixture(autouse=True)
def _no_cache():
    """What a test changes about the program must be read anew, and forgotten afterwards."""
    code_hash.cache_clear()
    yield
    code_hash.cache_clear()


@pytest.fixture
def fresh_hash(make_config):
    """The hash as another process would compute it."""

    def fresh_hash(**choices):
        code_hash.cache_clear()
        return code_hash(make_config(**choices))

    return fresh_hash


def test_code_hash_is_same_for_equal_configs(fresh_hash):
    assert fresh_hash() == fresh_hash()
    assert len(fresh_hash()) == 64


def test_code_hash_does_not_depend_on_global_generator(fresh_hash):
    first = fresh_hash()
    torch.manual_seed(1234)
    assert fresh_hash() == first


def test_code_hash_leaves_global_generator_alone(fresh_hash):
    before = torch.random.get_rng_state()
    fresh_hash()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_code_hash_does_not_depend_on_what_ran_before(fresh_hash, make_game):
    first = fresh_hash()
    make_game().iterate(0)
    fresh_hash(case="original")
    assert fresh_hash() == first


def test_code_hash_does_not_depend_on_what_memory_held(fresh_hash):
    # The mean of G is a copy, which is made in memory that nothing was written to yet.
    hashes = set()
    for value in (0.0, 1.0):
        waste = [torch.full((size,), value) for size in range(1, 2000)]
        del waste
        hashes.add(fresh_hash(variant="modern", generator_ema=0.9))
    assert len(hashes) == 1


@pytest.mark.parametrize(
    "choice",
    [
        {"case": "inception_16"},
        {"variant": "as_described"},
        {"seed": 1},
        {"batch_size": 5},
        {"generator_steps": 3},
        {"generator_base_channels": 8},
        {"generator_upsampling": "pixel_shuffle"},
        {"generator_variant": "modern"},
        {"optimizer": "rmsprop"},
        {"learning_rate": 1e-3 + 1e-9},
        {"loss_reduction": "mean"},
        {"image_range": "symmetric"},
        {"shuffle": True},
    ],
    ids=lambda choice: "-".join(choice),
)
def test_code_hash_differs_where_the_config_computes_otherwise(fresh_hash, choice):
    assert fresh_hash(**choice) != fresh_hash()


def test_code_hash_is_of_one_iteration_whatever_is_logged(fresh_hash):
    assert fresh_hash(iterations=100, log_every=50, sample_every=7) == fresh_hash()


def change_init(patch):
    def wider(network):
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.normal_(module.weight, std=0.03)

    patch.setitem(cases.SCHEMES, "gas2018", wider)


def change_loss(patch):
    class Loss(training.LSGANGeneratorLoss):
        def forward(self, fake_scores):
            return 1.5 * super().forward(fake_scores)

    patch.setattr(training, "LSGANGeneratorLoss", Loss)


def change_order_of_moves(patch):
    def iterate(self, iteration):
        self.generator_step(iteration, 0)
        self.generator_step(iteration, 1)
        self.discriminator_step(iteration)

    patch.setattr(training.Game, "iterate", iterate)


def change_noise(patch):
    draw = training.draw_noise
    patch.setattr(training, "draw_noise", lambda seed, *rest, **sizes: draw(7, *rest, **sizes))


def change_epsilon(patch):
    init = TensorFlowRMSprop.__init__
    patch.setattr(
        TensorFlowRMSprop,
        "__init__",
        lambda self, params, **settings: init(self, params, eps=1e-9, **settings),
    )


def change_activation(patch):
    patch.setitem(cases.ACTIVATIONS, "relu", nn.LeakyReLU)


@pytest.mark.parametrize(
    "change",
    [
        change_init,
        change_loss,
        change_order_of_moves,
        change_noise,
        change_epsilon,
        change_activation,
    ],
)
def test_code_hash_differs_where_the_program_computes_otherwise(fresh_hash, monkeypatch, change):
    before = fresh_hash()
    with monkeypatch.context() as patch:
        change(patch)
        assert fresh_hash() != before
    assert fresh_hash() == before


def test_code_hash_is_that_of_the_plain_blocks(fresh_hash, monkeypatch):
    # A lean path runs other operators to the same result; here it is one that does nothing.
    before = fresh_hash()
    build = networks.build_discriminator

    def build_lean(case, *, memory_efficient, **choices):
        network = build(case, memory_efficient=memory_efficient, **choices)
        if memory_efficient:
            network.register_forward_pre_hook(lambda _, inputs: inputs[0] + 0)
        return network

    monkeypatch.setattr(networks, "build_discriminator", build_lean)
    assert fresh_hash() == before


def test_code_hash_is_that_of_a_renamed_program(fresh_hash, monkeypatch):
    before = fresh_hash()

    class RenamedGame(training.Game):
        def _descend(self, *arguments):
            super()._descend(*arguments)

    monkeypatch.setattr(program, "Game", RenamedGame)
    assert fresh_hash() == before


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (torch.zeros(2, 3), torch.zeros(3, 2)),
        (torch.zeros(2), torch.zeros(2, dtype=torch.float64)),
        ([torch.zeros(2), 1.0], [torch.zeros(2), 1.5]),
        ({"alpha": 1}, {"beta": 1}),
        (torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)),
    ],
)
def test_description_tells_shapes_dtypes_and_constants(one, other):
    assert program._describe(one) != program._describe(other)


def test_code_hash_does_not_depend_on_threads(fresh_hash):
    before = fresh_hash()
    torch.set_num_threads(2)
    assert fresh_hash() == before
