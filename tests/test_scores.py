"""The losses of several scales, of batches of two sizes, and with labels that are tensors."""

from __future__ import annotations

import itertools
import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import gaslayers.functional as GF
from gaslayers import LSGANDiscriminatorLoss, LSGANGeneratorLoss

ROUNDING = {"rtol": 1e-12, "atol": 1e-12}

seeds = st.integers(0, 2**31)
sizes = st.lists(st.integers(1, 3), min_size=1, max_size=3)


def draw_scores(shape: list[int], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def label_of(label: float | Tensor, shape: tuple[int, ...], place: tuple[int, ...]) -> float:
    """The label at one place among the scores, found without broadcasting."""
    if not isinstance(label, Tensor):
        return label
    if label.numel() == 1:
        return label.item()
    assert len(label.shape) == len(shape)
    return label[tuple(0 if s == 1 else i for s, i in zip(label.shape, place, strict=True))].item()


def slow_squares(scores: Tensor, label: float | Tensor, *, sigmoid: bool) -> list[float]:
    places = itertools.product(*map(range, scores.shape))
    squares = []
    for place in places:
        score = scores[place].item()
        score = 1 / (1 + math.exp(-score)) if sigmoid else score
        squares.append((score - label_of(label, tuple(scores.shape), place)) ** 2)
    return squares


def slow_reduce(values: list[float], reduction: str) -> float:
    return sum(values) / (len(values) if reduction == "mean" else 1)


def slow_average(losses: list[float], weights: list[float] | None) -> float:
    weights = [1.0] * len(losses) if weights is None else weights
    return sum(w * x for w, x in zip(weights, losses, strict=True)) / sum(weights)


@given(
    shapes=st.lists(st.tuples(sizes, st.integers(1, 4)), min_size=1, max_size=3),
    weights=st.lists(st.floats(0.01, 10), min_size=3, max_size=3),
    is_weighted=st.booleans(),
    reduction=st.sampled_from(["mean", "sum"]),
    sigmoid=st.booleans(),
    kind=st.sampled_from([list, tuple]),
    seed=seeds,
)
def test_losses_of_scales_and_of_two_batch_sizes_equal_a_slow_loop(
    shapes, weights, is_weighted, reduction, sigmoid, kind, seed
) -> None:
    real = [draw_scores(shape, seed + i) for i, (shape, _) in enumerate(shapes)]
    fake = [draw_scores([n, *shape[1:]], seed - i - 1) for i, (shape, n) in enumerate(shapes)]
    weights = weights[: len(shapes)] if is_weighted else None
    options = {"reduction": reduction, "sigmoid": sigmoid, "scale": 0.7, "scale_weights": weights}
    reduce, squares = (
        partial(slow_reduce, reduction=reduction),
        partial(slow_squares, sigmoid=sigmoid),
    )
    on_fake = [reduce(squares(scores, 0.3)) for scores in fake]
    on_real = [reduce(squares(scores, 0.9)) for scores in real]
    on_both = [r + f for r, f in zip(on_real, on_fake, strict=True)]
    d = GF.lsgan_discriminator_loss(kind(real), kind(fake), a=0.3, b=0.9, **options)
    g = GF.lsgan_generator_loss(kind(fake), c=0.3, **options)
    expected = [0.7 * slow_average(losses, weights) for losses in (on_both, on_fake)]
    torch.testing.assert_close([d.item(), g.item()], expected, **ROUNDING)


@given(
    shape=sizes, masks=st.tuples(*[st.lists(st.booleans(), min_size=3, max_size=3)] * 2), seed=seeds
)
def test_losses_with_tensor_labels_equal_a_slow_loop(shape, masks, seed) -> None:
    real, fake = draw_scores(shape, seed), draw_scores(shape, seed + 1)
    b, a = (
        draw_scores([1 if one else n for one, n in zip(mask, shape, strict=False)], seed + 2 + i)
        for i, mask in enumerate(masks)
    )
    on_real, on_fake = slow_squares(real, b, sigmoid=False), slow_squares(fake, a, sigmoid=False)
    both = [r + f for r, f in zip(on_real, on_fake, strict=True)]
    d = partial(GF.lsgan_discriminator_loss, real, fake, a=a, b=b, scale=1.0)
    assert d().item() == pytest.approx(sum(both) / len(both), rel=1e-12)
    torch.testing.assert_close(d(reduction="none").flatten().tolist(), both, **ROUNDING)
    g = GF.lsgan_generator_loss(fake, c=a, scale=1.0, reduction="sum")
    assert g.item() == pytest.approx(sum(on_fake), rel=1e-12)


def test_one_scale_in_a_list_is_the_scale_itself() -> None:
    real, fake = torch.randn(4, 1), torch.randn(4, 1)
    for reduction in ("mean", "sum"):
        listed = GF.lsgan_discriminator_loss([real], (fake,), reduction=reduction)
        assert listed.equal(GF.lsgan_discriminator_loss(real, fake, reduction=reduction))
        weighted = GF.lsgan_generator_loss(fake, scale_weights=[3], reduction=reduction)
        assert weighted.equal(GF.lsgan_generator_loss(fake, reduction=reduction))


def test_unreduced_losses_of_scales_are_a_tuple_with_the_losses_of_each() -> None:
    real, fake = ([torch.randn(2, 1, n, n) for n in (4, 2)] for _ in range(2))
    losses = GF.lsgan_discriminator_loss(real, fake, reduction="none")
    assert isinstance(losses, tuple)
    for loss, r, f in zip(losses, real, fake, strict=True):
        assert loss.equal(GF.lsgan_discriminator_loss(r, f, reduction="none"))
    assert [x.shape for x in GF.lsgan_generator_loss(fake, reduction="none")] == [
        x.shape for x in fake
    ]


def test_weights_are_relative_and_may_leave_a_scale_out() -> None:
    scales = [torch.zeros(2, 1), torch.ones(3, 1)]
    alike = [
        GF.lsgan_generator_loss(scales, scale_weights=weights).item()
        for weights in ((1, 3), (0.25, 0.75), (5e307, 1.5e308))  # the sum of the last overflows
    ]
    assert alike == pytest.approx([0.125] * 3)
    assert GF.lsgan_generator_loss(scales, scale_weights=[0, 1]).item() == 0.0


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_gradients_of_scales_and_labels_equal_finite_differences(reduction: str) -> None:
    real, fake = ([torch.randn(n, 1, s, s).double().requires_grad_() for n, s in sizes]
                  for sizes in (((2, 2), (2, 1)), ((3, 2), (1, 1))))  # fmt: skip
    soft = torch.rand(2, 1, 1, 1, dtype=torch.float64, requires_grad=True)

    def compute(soft, *scales):
        return GF.lsgan_discriminator_loss(
            scales[:2], scales[2:], b=soft, reduction=reduction, scale_weights=(1, 2)
        )

    assert torch.autograd.gradcheck(compute, (soft, *real, *fake))
    assert torch.autograd.gradgradcheck(compute, (soft, *real, *fake))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_scales_are_squared_in_float32_whatever_the_label_is(dtype) -> None:
    scales = [torch.full((n, 1), 390.0, dtype=dtype) for n in (1000, 500)]
    label = torch.zeros(1, 1, dtype=dtype)
    loss = GF.lsgan_generator_loss(scales, c=label, scale=1.0)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(scales[0][0].item() ** 2)
    assert GF.lsgan_generator_loss(torch.zeros(2, 1), c=label.double()).dtype == torch.float32


def test_losses_of_scales_compile_in_one_graph() -> None:
    scales = [torch.randn(2, 1), torch.randn(3, 1)]
    loss = LSGANDiscriminatorLoss(b=torch.tensor([[0.9]]), scale_weights=(1, 2))
    compiled = torch.compile(loss, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(scales, scales), loss(scales, scales), rtol=0, atol=0)


LABELLED = [
    (LSGANDiscriminatorLoss, {"a": torch.tensor([[0.1], [0.2]]), "b": torch.tensor(0.9)}),
    (LSGANGeneratorLoss, {"c": torch.tensor([[0.8], [0.7]])}),
]


@pytest.mark.parametrize(("kind", "labels"), LABELLED)
def test_tensor_labels_move_with_the_module_and_are_in_no_state_dict(kind, labels) -> None:
    loss = kind(**labels)
    assert loss.state_dict() == {}
    loss.load_state_dict({})
    for name, label in labels.items():
        assert getattr(loss.to("meta"), name).is_meta
        assert getattr(kind(**labels).double(), name).dtype == torch.float64
        assert f"{name}=<labels of shape {tuple(label.shape)}>" in repr(kind(**labels))


def test_tensor_labels_of_a_module_are_shared_and_get_no_gradient() -> None:
    label = nn.Parameter(torch.ones(2, 1))
    loss = LSGANGeneratorLoss(label)
    assert list(loss.parameters()) == []
    label.data.zero_()
    assert loss(torch.zeros(2, 1, requires_grad=True)).item() == 0.0


REAL = torch.zeros(4, 1)


@pytest.mark.parametrize(
    ("real", "fake", "error", "message"),
    [
        ([REAL], REAL, TypeError, "`fake_scores` must be a tensor or hold one .*, got 'Tensor'"),
        (REAL, (REAL,), TypeError, "`fake_scores` must be a tensor or hold one .*, got 'tuple'"),
        ([REAL, REAL], [REAL], ValueError, "`fake_scores` must hold as many .* 2, got 1"),
        ([], [], ValueError, r"`real_scores` must hold the scores of at least one scale, got \[\]"),
        ([[REAL]], [[REAL]], TypeError, "`real_scores` must hold .* got 'a list in it'. Pick the"),
        ([REAL, None], [REAL], TypeError, "`real_scores` must hold .* got 'a NoneType in it'"),
        ({"x": REAL}, REAL, TypeError, "`real_scores` must be a tensor, or a list .* got 'dict'"),
        (REAL, REAL.to("meta"), ValueError, "`fake_scores` must be on the device of .* got 'meta'"),
        ([REAL, REAL.to("meta")], [REAL] * 2, ValueError, "`real_scores` must be on one device"),
        (REAL.to_sparse(), REAL, TypeError, "`real_scores` must be a dense tensor, got a Ten"),
    ],
)  # fmt: skip
def test_scores_that_do_not_go_together_are_refused(real, fake, error, message) -> None:
    with pytest.raises(error, match=f"lsgan_discriminator_loss: {message}"):
        GF.lsgan_discriminator_loss(real, fake)


@pytest.mark.parametrize(("real", "fake"), [((4,), (4, 1)), ((4, 1), (4,)), ((4, 1), (4, 1, 1, 1))])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_scores_of_other_numbers_of_dimensions_are_refused(real, fake, reduction) -> None:
    message = r"`fake_scores` must have the shape of real_scores \(.*\), got \(.*\)\. Sizes may"
    with pytest.raises(ValueError, match=message):
        GF.lsgan_discriminator_loss(torch.zeros(real), torch.zeros(fake), reduction=reduction)


def test_losses_of_two_batch_sizes_cannot_be_left_unreduced() -> None:
    message = r"real_scores \(4, 1\), got \(1, 1\)\. With reduction='none' the losses of both"
    with pytest.raises(ValueError, match=message):
        GF.lsgan_discriminator_loss(REAL, REAL[:1], reduction="none")


def test_mean_of_an_empty_batch_beside_a_full_one_is_refused_by_its_name() -> None:
    for real, fake, name in ((REAL[:0], REAL, "real"), (REAL, REAL[:0], "fake")):
        with pytest.raises(ValueError, match=rf"`{name}_scores` must not be empty, got \(0, 1\)"):
            GF.lsgan_discriminator_loss(real, fake)
        loss = GF.lsgan_discriminator_loss(real, fake, reduction="sum")
        assert loss.item() == (0.0 if name == "real" else 2.0)


@pytest.mark.parametrize(
    ("scores", "label"),
    [((4, 1), (4,)), ((4, 1, 2, 4), (4,)), ((4, 1), (4, 4)), ((4, 1), (3, 1)), ((4,), (4, 1))],
)
def test_labels_that_would_broadcast_the_scores_or_mean_two_things_are_refused(
    scores, label
) -> None:
    message = r"lsgan_generator_loss: `c` must have one element, or .* got \(.*\)\. One label"
    with pytest.raises(ValueError, match=message):
        GF.lsgan_generator_loss(torch.zeros(scores), c=torch.zeros(label))


@pytest.mark.parametrize("kind", [LSGANDiscriminatorLoss, LSGANGeneratorLoss])
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"scale_weights": 1.0}, TypeError, "`scale_weights` must be a list or tuple"),
        ({"scale_weights": "12"}, TypeError, "`scale_weights` must be a list or tuple"),
        ({"scale_weights": REAL}, TypeError, "`scale_weights` must be a list or tuple"),
        ({"scale_weights": [1, True]}, TypeError, "`scale_weights` must be a number, got True"),
        ({"scale_weights": [1, -1]}, ValueError, "`scale_weights` must be >= 0.0, got -1"),
        ({"scale_weights": [1, math.inf]}, ValueError, "`scale_weights` must be finite, got inf"),
        ({"scale_weights": [0, 0.0]}, ValueError, "`scale_weights` must hold a weight above 0"),
        ({"scale_weights": []}, ValueError, "`scale_weights` must hold a weight above 0"),
        ({"scale_weights": [1], "reduction": "none"}, ValueError, "`scale_weights` must be None"),
    ],
)
def test_wrong_weights_are_refused_when_the_loss_is_built(kind, options, error, message) -> None:
    with pytest.raises(error, match=f"{kind.__name__}: {message}"):
        kind(**options)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_labels_of_other_dtypes_are_refused(dtype) -> None:
    with pytest.raises(TypeError, match=f"`c` must be a floating-point tensor, got {dtype}"):
        LSGANGeneratorLoss(torch.ones(2, 1, dtype=dtype))


def test_labels_without_values_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`c` must hold values, got a Tensor of shape \(4, 1\)"):
        GF.lsgan_generator_loss(REAL, c=REAL.to("meta"))


def test_weights_must_be_one_for_each_scale() -> None:
    loss = LSGANGeneratorLoss(scale_weights=(1, 2))
    with pytest.raises(ValueError, match=r"`scale_weights` must hold .* are 3, got \(1, 2\)"):
        loss([REAL] * 3)
    with pytest.raises(ValueError, match=r"`scale_weights` must hold .* are 1, got \(1, 2\)"):
        loss(REAL)
