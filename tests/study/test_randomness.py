from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from gaslayers.study.randomness import (
    STREAMS,
    derive_seed,
    draw_noise,
    make_generator,
    seeded_init,
)


def draw(seed, stream, step):
    return draw_noise(seed, stream, step, batch_size=4, latent_size=100)


def test_streams_steps_and_seeds_draw_different_numbers():
    keys = [(seed, stream, step) for seed in (0, 1) for stream in STREAMS for step in (0, 1, 11)]
    draws = {tuple(draw(*key)[0, :3].tolist()) for key in keys}
    assert len(draws) == len(keys)


def test_seed_stream_and_step_do_not_run_into_each_other():
    assert derive_seed(1, "training z", 11) != derive_seed(11, "training z", 1)


def test_derive_seed_is_that_of_earlier_records():
    # The first 63 bits of SHA-256 of "7/training z/3", as any tool prints it.
    assert derive_seed(7, "training z", 3) == 5530345437820762022
    assert 0 <= derive_seed(0, "init of G") < 2**63


def test_draw_depends_on_nothing_drawn_before():
    first = draw(0, "training z", 5)
    draw(0, "training z", 4)
    torch.rand(3)
    assert_close(draw(0, "training z", 5), first, rtol=0, atol=0)


def test_draws_leave_global_generator_alone():
    before = torch.random.get_rng_state()
    draw(0, "training z", 5)
    make_generator(0, "data order").seed()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_draw_noise_is_standard_normal():
    noise = draw_noise(0, "evaluation z", 0, batch_size=1000, latent_size=100)
    assert noise.shape == (1000, 100)
    # Six standard errors of 100,000 draws.
    assert abs(noise.mean().item()) < 6 * 100_000**-0.5
    assert abs(noise.var().item() - 1) < 6 * (2 / 100_000) ** 0.5


def test_derive_seed_refuses_unknown_stream():
    with pytest.raises(ValueError, match=r"derive_seed: `stream` must be one of .*, got 'z'"):
        derive_seed(0, "z")


def test_seeded_init_draws_the_same_whatever_the_global_state():
    def init(stream="init of G", seed=0):
        torch.rand(2)
        with seeded_init(seed, stream):
            return torch.nn.Linear(3, 3).weight.detach()

    assert torch.equal(init(), init())
    assert not torch.equal(init(), init("init of D"))
    assert not torch.equal(init(), init(seed=1))


def test_seeded_init_restores_global_generator_when_a_layer_fails():
    before = torch.random.get_rng_state()
    with pytest.raises(RuntimeError, match="size"), seeded_init(0, "init of D"):
        torch.rand(3) + torch.rand(4)
    assert torch.equal(torch.random.get_rng_state(), before)
