"""The least-squares GAN losses as functions: values, precision, reductions, errors."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import gaslayers.functional as GF

# The field's published values, to five digits after the point.
PUBLISHED = {"rtol": 0.0, "atol": 1e-5}
ROUNDING = {"rtol": 1e-12, "atol": 1e-12}

REAL = torch.tensor([1.3, 0.2, 0.9, 0.6])
FAKE = torch.tensor([0.8, -0.5, 0.1, 0.4])

finite = st.floats(-100, 100)


def sigmoid(score: float) -> float:
    return 1 / (1 + math.exp(-score))


@pytest.mark.parametrize(
    ("options", "discriminator", "generator"),
    [
        ({}, 0.24500, 0.43250),
        ({"scale": 1.0}, 0.49000, 0.86500),
        ({"reduction": "sum", "sigmoid": True}, 0.85513, 0.43513),
    ],
)
def test_losses_equal_the_published_values(
    options: dict, discriminator: float, generator: float
) -> None:
    actual = torch.stack(
        [
            GF.lsgan_discriminator_loss(REAL, FAKE, **options),
            GF.lsgan_generator_loss(FAKE, **options),
        ]
    )
    torch.testing.assert_close(actual, torch.tensor([discriminator, generator]), **PUBLISHED)


@given(
    pairs=st.lists(st.tuples(finite, finite), min_size=1, max_size=6),
    labels=st.tuples(finite, finite, finite),
    scale=st.floats(0.01, 10),
    use_sigmoid=st.booleans(),
)
def test_losses_equal_a_slow_loop(
    pairs: list, labels: tuple[float, float, float], scale: float, use_sigmoid: bool
) -> None:
    a, b, c = labels
    squash = sigmoid if use_sigmoid else float
    real, fake = torch.tensor(pairs, dtype=torch.float64).unbind(1)
    on_both = [(squash(r) - b) ** 2 + (squash(f) - a) ** 2 for r, f in pairs]
    on_fake = [(squash(f) - c) ** 2 for _, f in pairs]
    options = {"scale": scale, "sigmoid": use_sigmoid}
    for losses, compute in (
        (on_both, partial(GF.lsgan_discriminator_loss, real, fake, a=a, b=b, **options)),
        (on_fake, partial(GF.lsgan_generator_loss, fake, c=c, **options)),
    ):
        expected = scale * torch.tensor(losses, dtype=torch.float64)
        torch.testing.assert_close(compute(reduction="none"), expected, **ROUNDING)
        torch.testing.assert_close(compute(reduction="sum"), expected.sum(), **ROUNDING)
        torch.testing.assert_close(compute(), expected.mean(), **ROUNDING)


@given(
    scores=st.lists(st.tuples(finite, finite), min_size=1, max_size=8),
    data=st.data(),
)
def test_losses_do_not_depend_on_the_order_of_the_batch(scores: list, data) -> None:
    shuffled = data.draw(st.permutations(scores))
    for reduction in ("mean", "sum"):
        losses = []
        for pairs in (scores, shuffled):
            real, fake = torch.tensor(pairs, dtype=torch.float64).unbind(1)
            losses.append(
                GF.lsgan_discriminator_loss(real, fake, reduction=reduction)
                + GF.lsgan_generator_loss(fake, reduction=reduction)
            )
        torch.testing.assert_close(*losses, **ROUNDING)


@given(
    height=st.integers(1, 3), width=st.integers(1, 3), reduction=st.sampled_from(["mean", "sum"])
)
def test_scores_of_any_shape_reduce_over_everything(
    height: int, width: int, reduction: str
) -> None:
    real, fake = torch.randn(2, 4, 1, height, width, dtype=torch.float64)
    actual = GF.lsgan_discriminator_loss(real, fake, reduction=reduction)
    expected = GF.lsgan_discriminator_loss(real.flatten(), fake.flatten(), reduction=reduction)
    torch.testing.assert_close(actual, expected, **ROUNDING)
    none = GF.lsgan_discriminator_loss(real, fake, reduction="none")
    assert none.shape == real.shape


def test_loss_is_the_mean_of_squares_and_not_the_square_of_the_mean() -> None:
    scores = torch.tensor([0.0, 2.0])  # their mean is exactly the label
    assert GF.lsgan_generator_loss(scores).item() == pytest.approx(0.5)
    loss = GF.lsgan_discriminator_loss(scores, torch.tensor([-1.0, 1.0]))
    assert loss.item() == pytest.approx(1.0)


@pytest.mark.parametrize("seed", range(3))
def test_best_discriminator_leaves_half_the_pearson_divergence_to_the_generator(seed: int) -> None:
    """The paper's theorem: with b - c = 1 and b - a = 2, 2 C(G) = chi^2(p_d + p_g || 2 p_g)."""
    generator = torch.Generator().manual_seed(seed)
    p_data, p_fake = torch.rand(2, 6, generator=generator, dtype=torch.float64).softmax(dim=1)
    a, b, c = -1.0, 1.0, 0.0
    best = (b * p_data + a * p_fake) / (p_data + p_fake)
    on_real = GF.lsgan_generator_loss(best, c=c, reduction="none")
    cost = (p_data * on_real + p_fake * on_real).sum()
    both = p_data + p_fake
    divergence = ((2 * p_fake - both) ** 2 / both).sum()
    torch.testing.assert_close(2 * cost, divergence, **ROUNDING)


@pytest.mark.parametrize("options", [{}, {"sigmoid": True}, {"reduction": "sum", "scale": 2.0}])
def test_gradients_equal_finite_differences_twice(options: dict) -> None:
    real, fake = torch.randn(2, 3, 2, dtype=torch.float64).requires_grad_().unbind(0)
    discriminator = partial(GF.lsgan_discriminator_loss, a=-1.0, b=0.7, **options)
    generator = partial(GF.lsgan_generator_loss, c=0.3, **options)
    for function, inputs in ((discriminator, (real, fake)), (generator, (fake,))):
        assert torch.autograd.gradcheck(function, inputs)
        assert torch.autograd.gradgradcheck(function, inputs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_scores_are_squared_and_summed_in_float32(dtype: torch.dtype) -> None:
    scores = torch.full((1000,), 390.0, dtype=dtype)  # 390^2 is beyond float16
    label = scores[0].item()
    loss = GF.lsgan_generator_loss(scores, c=0.0)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(label**2 / 2)
    both = GF.lsgan_discriminator_loss(scores, scores, a=0.0, b=0.0, reduction="sum")
    assert both.item() == pytest.approx(1000 * label**2)


def test_half_precision_scores_get_a_gradient_of_their_own_kind() -> None:
    scores = torch.full((4,), 300.0, dtype=torch.float16, requires_grad=True)
    GF.lsgan_generator_loss(scores, c=0.0).backward()
    assert scores.grad.dtype == torch.float16
    torch.testing.assert_close(scores.grad, torch.full((4,), 75.0, dtype=torch.float16))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_full_precision_scores_keep_their_kind(dtype: torch.dtype) -> None:
    scores = torch.zeros(2, dtype=dtype)
    assert GF.lsgan_generator_loss(scores).dtype == dtype
    assert GF.lsgan_discriminator_loss(scores, scores).dtype == dtype


def test_saturated_sigmoid_has_no_gradient() -> None:
    scores = torch.full((4,), 200.0, requires_grad=True)
    GF.lsgan_generator_loss(scores, c=0.0, sigmoid=True).backward()
    assert not scores.grad.any()


def test_empty_batch_sums_to_nothing() -> None:
    empty = torch.zeros(0, 1)
    assert GF.lsgan_discriminator_loss(empty, empty, reduction="sum").item() == 0
    assert GF.lsgan_generator_loss(empty, reduction="none").shape == (0, 1)


def call_discriminator(scores, **options) -> Tensor:
    return GF.lsgan_discriminator_loss(scores, scores, **options)


@pytest.mark.parametrize(
    ("compute", "owner", "argument", "labels"),
    [
        (call_discriminator, "lsgan_discriminator_loss", "real_scores", "ab"),
        (GF.lsgan_generator_loss, "lsgan_generator_loss", "fake_scores", "c"),
    ],
)
class TestErrors:
    @pytest.mark.parametrize("reduction", ["avg", "", None, "MEAN"])
    def test_unknown_reduction(self, compute, owner, argument, labels, reduction) -> None:
        rule = rf"`reduction` must be one of 'mean', 'sum', 'none', got {reduction!r}\."
        with pytest.raises(ValueError, match=f"{owner}: {rule}"):
            compute(torch.zeros(2), reduction=reduction)

    @pytest.mark.parametrize("scale", [0.0, -1.0])
    def test_scale_that_is_not_positive(self, compute, owner, argument, labels, scale) -> None:
        with pytest.raises(ValueError, match=rf"{owner}: `scale` must be > 0\.0, got {scale}"):
            compute(torch.zeros(2), scale=scale)

    @pytest.mark.parametrize("scale", [math.nan, math.inf])
    def test_scale_that_is_not_finite(self, compute, owner, argument, labels, scale) -> None:
        with pytest.raises(ValueError, match=rf"{owner}: `scale` must be finite, got {scale}"):
            compute(torch.zeros(2), scale=scale)

    def test_label_that_is_no_number(self, compute, owner, argument, labels) -> None:
        for label in labels:
            with pytest.raises(TypeError, match=rf"{owner}: `{label}` must be a number, got '1'"):
                compute(torch.zeros(2), **{label: "1"})
            with pytest.raises(TypeError, match=rf"{owner}: `{label}` must be a number, got True"):
                compute(torch.zeros(2), **{label: True})

    def test_sigmoid_that_is_no_switch(self, compute, owner, argument, labels) -> None:
        with pytest.raises(TypeError, match=rf"{owner}: `sigmoid` must be a bool, got 1"):
            compute(torch.zeros(2), sigmoid=1)

    def test_scores_that_are_no_tensor(self, compute, owner, argument, labels) -> None:
        with pytest.raises(TypeError, match=rf"{owner}: `{argument}` must be a tensor.* got 'str'"):
            compute("0.5")
        with pytest.raises(TypeError, match=rf"{owner}: `{argument}` .* got 'a float in it'"):
            compute([0.0, 1.0])

    @pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
    def test_scores_that_are_not_floating(self, compute, owner, argument, labels, dtype) -> None:
        rule = rf"`{argument}` must be a floating-point tensor, got {dtype}"
        with pytest.raises(TypeError, match=f"{owner}: {rule}"):
            compute(torch.zeros(2, dtype=dtype))

    def test_mean_of_nothing(self, compute, owner, argument, labels) -> None:
        message = rf"{owner}: `{argument}` must not be empty, got \(0, 1\)\. Use reduction='sum'"
        with pytest.raises(ValueError, match=message):
            compute(torch.zeros(0, 1))


def test_second_scores_are_checked_as_well() -> None:
    with pytest.raises(TypeError, match=r"`fake_scores` must be a floating-point tensor"):
        GF.lsgan_discriminator_loss(torch.zeros(2), torch.zeros(2, dtype=torch.int64))
