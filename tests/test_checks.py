"""The checks of arguments: what they refuse, and the sentence they refuse it with."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import torch
from torch import nn

from gaslayers import _checks

BAD_CALLS = [
    (_checks.check_int, (True,), {}, TypeError, "Owner: `size` must be an int, got True."),
    (_checks.check_int, (1.0,), {}, TypeError, "Owner: `size` must be an int, got 1.0."),
    (_checks.check_int, (0,), {}, ValueError, "Owner: `size` must be >= 1, got 0."),
    (
        _checks.check_int,
        (3,),
        {"minimum": 4, "remedy": "Take four."},
        ValueError,
        "Owner: `size` must be >= 4, got 3. Take four.",
    ),
    (_checks.check_int, (np.True_,), {}, TypeError, "Owner: `size` must be an int, got np.True_."),
    (
        _checks.check_int,
        (torch.tensor(3),),
        {},
        TypeError,
        "Owner: `size` must be an int, got tensor(3).",
    ),
    (
        _checks.check_int,
        (np.zeros((2, 3)),),
        {},
        TypeError,
        "Owner: `size` must be an int, got a ndarray of shape (2, 3).",
    ),
    (
        _checks.check_int,
        (2**63,),
        {},
        ValueError,
        "Owner: `size` must be <= 9223372036854775807, got 9223372036854775808.",
    ),
    (
        _checks.check_float,
        (10**400,),
        {},
        ValueError,
        f"Owner: `size` must be finite, got {10**400}.",
    ),
    (
        _checks.check_pair,
        ((1, 2, 3),),
        {},
        ValueError,
        "Owner: `size` must be an int or a pair of ints, got (1, 2, 3).",
    ),
    (
        _checks.check_pair,
        (1.5,),
        {},
        TypeError,
        "Owner: `size` must be an int or a pair of ints, got 1.5.",
    ),
    (
        _checks.check_pair,
        ("12",),
        {},
        TypeError,
        "Owner: `size` must be an int or a pair of ints, got '12'.",
    ),
    (_checks.check_float, (False,), {}, TypeError, "Owner: `size` must be a number, got False."),
    (_checks.check_float, ("1",), {}, TypeError, "Owner: `size` must be a number, got '1'."),
    (_checks.check_float, (math.nan,), {}, ValueError, "Owner: `size` must be finite, got nan."),
    (_checks.check_float, (-math.inf,), {}, ValueError, "Owner: `size` must be finite, got -inf."),
    (_checks.check_float, (0,), {"above": 0.0}, ValueError, "Owner: `size` must be > 0.0, got 0."),
    (
        _checks.check_float,
        (-1,),
        {"minimum": 0.0},
        ValueError,
        "Owner: `size` must be >= 0.0, got -1.",
    ),
    (
        _checks.check_float,
        (1.0,),
        {"below": 1.0},
        ValueError,
        "Owner: `size` must be < 1.0, got 1.0.",
    ),
    (_checks.check_float, (2,), {"maximum": 1}, ValueError, "Owner: `size` must be <= 1, got 2."),
    (_checks.check_bool, (1,), {}, TypeError, "Owner: `size` must be a bool, got 1."),
    (_checks.check_bool, (None,), {}, TypeError, "Owner: `size` must be a bool, got None."),
    (
        _checks.check_bool,
        (0,),
        {"optional": True},
        TypeError,
        "Owner: `size` must be a bool or None, got 0.",
    ),
    (
        _checks.check_choice,
        ("c", ("a", "b")),
        {},
        ValueError,
        "Owner: `size` must be one of 'a', 'b', got 'c'.",
    ),
    (
        _checks.check_choice,
        (["a"], {"a": 1}),
        {},
        ValueError,
        "Owner: `size` must be one of 'a', got ['a'].",
    ),
    (
        _checks.check_int_sequence,
        (3,),
        {},
        TypeError,
        "Owner: `size` must be a sequence of ints, got 3.",
    ),
    (
        _checks.check_int_sequence,
        ("13",),
        {},
        TypeError,
        "Owner: `size` must be a sequence of ints, got '13'.",
    ),
    (
        _checks.check_int_sequence,
        ([],),
        {},
        ValueError,
        "Owner: `size` must hold at least one int, got [].",
    ),
    (
        _checks.check_int_sequence,
        ((1, 2.0),),
        {},
        TypeError,
        "Owner: `size` must be an int, got 2.0.",
    ),
    (_checks.check_int_sequence, ([1, 0],), {}, ValueError, "Owner: `size` must be >= 1, got 0."),
]


@pytest.mark.parametrize(("check", "values", "options", "error", "sentence"), BAD_CALLS)
def test_check_refuses_with_the_one_sentence(check, values, options, error, sentence) -> None:
    with pytest.raises(error) as caught:
        check("Owner", "size", *values, **options)
    assert type(caught.value) is error
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("check", "values", "options"),
    [
        (_checks.check_bool, (True,), {}),
        (_checks.check_bool, (None,), {"optional": True}),
        (_checks.check_choice, ("a", {"a": 1}), {}),
        (_checks.check_factory, (None,), {}),
        (_checks.check_factory, (nn.ReLU,), {"optional": False}),
        (_checks.check_factory, (functools.partial(nn.ReLU, inplace=True),), {}),
        (_checks.check_factory, (lambda: nn.ReLU(),), {}),
    ],
)
def test_check_lets_a_right_value_pass(check, values, options) -> None:
    assert check("Owner", "size", *values, **options) is None


@pytest.mark.parametrize(
    ("check", "value", "options", "expected"),
    [
        (_checks.check_int, 1, {}, 1),
        (_checks.check_int, 0, {"minimum": 0}, 0),
        (_checks.check_int, np.int64(3), {}, 3),
        (_checks.check_int, np.uint8(3), {}, 3),
        (_checks.check_int, 2**63 - 1, {}, 2**63 - 1),
        (_checks.check_float, 3, {}, 3),
        (_checks.check_float, np.float32(0.5), {}, 0.5),
        (_checks.check_float, np.int32(2), {}, 2.0),
        (
            _checks.check_float,
            0.5,
            {"above": 0.0, "minimum": 0.5, "below": 1.0, "maximum": 0.5},
            0.5,
        ),
        (_checks.check_int_sequence, [1], {}, (1,)),
        (_checks.check_int_sequence, (2, np.int64(1)), {}, (2, 1)),
        (_checks.check_pair, 2, {}, (2, 2)),
        (_checks.check_pair, np.int64(2), {}, (2, 2)),
        (_checks.check_pair, [0, 3], {"minimum": 0}, (0, 3)),
    ],
)
def test_check_returns_what_python_counts_with(check, value, options, expected) -> None:
    found = check("Owner", "size", value, **options)
    assert found == expected
    numbers = found if isinstance(found, tuple) else (found,)
    assert {type(number) for number in numbers} <= {int, float}


@pytest.mark.parametrize(
    ("value", "optional", "sentence"),
    [
        (3, True, "Owner: `layer` must be a callable that builds a layer or None, got 3."),
        (None, False, "Owner: `layer` must be a callable that builds a layer, got None."),
        (
            nn.ReLU(),
            True,
            "Owner: `layer` must be a callable that builds a layer or None, got a ReLU.",
        ),
    ],
)
def test_factory_check_says_what_to_pass(value, optional: bool, sentence: str) -> None:
    with pytest.raises(TypeError) as caught:
        _checks.check_factory("Owner", "layer", value, optional=optional)
    assert str(caught.value).startswith(sentence + " Pass the class")


def test_feature_map_check_tells_how_to_batch_a_single_image() -> None:
    with pytest.raises(ValueError, match=r"got \(3, 5, 5\)\. Add the axis of the batch: x\.unsq"):
        _checks.check_feature_map("Owner", torch.zeros(3, 5, 5), 3)


@pytest.mark.parametrize("shape", [(2, 3, 0, 5), (2, 3, 4, 3)])
def test_feature_map_check_names_the_least_sides(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the whole sentence is compared)
        _checks.check_feature_map("Owner", torch.zeros(shape), 3, least=(1, 4))
    assert str(caught.value) == (
        f"Owner: expected input of shape (N, 3, H, W) with H >= 1 and W >= 4, got {shape}."
    )


@pytest.mark.parametrize(
    ("x", "sentence"),
    [
        (None, "Owner: `x` must be a tensor of shape (N, 3, H, W), got None."),
        ([1], "Owner: `x` must be a tensor of shape (N, 3, H, W), got [1]."),
        (
            np.zeros((2, 3, 4, 4)),
            "Owner: `x` must be a tensor of shape (N, 3, H, W), got a ndarray of shape "
            "(2, 3, 4, 4).",
        ),
        (
            torch.zeros(2, 3, 4, 4, dtype=torch.uint8),
            "Owner: `x` must be a floating-point tensor, got a Tensor of shape (2, 3, 4, 4) and "
            "torch.uint8. Convert it, by x.float() for example.",
        ),
    ],
)
def test_feature_map_check_refuses_what_no_layer_computes_with(x, sentence: str) -> None:
    with pytest.raises(TypeError) as caught:
        _checks.check_feature_map("Owner", x, 3)
    assert str(caught.value) == sentence


@pytest.mark.parametrize("shape", [(), (3,), (4, 5, 5), (2, 4, 5, 5), (1, 2, 3, 5, 5)])
def test_feature_map_check_names_both_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the whole sentence is compared)
        _checks.check_feature_map("Owner", torch.zeros(shape), 3)
    assert str(caught.value) == f"Owner: expected input of shape (N, 3, H, W), got {shape}."


def test_feature_map_check_lets_a_right_one_pass() -> None:
    assert _checks.check_feature_map("Owner", torch.zeros(2, 3, 1, 9), 3) is None


def test_errors_without_a_remedy_end_with_the_value() -> None:
    assert str(_checks.bad_type("O", "x", "be y", 1)) == "O: `x` must be y, got 1."
    assert str(_checks.bad_value("O", "x", "be y", "z", "Do so.")) == (
        "O: `x` must be y, got 'z'. Do so."
    )


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (torch.zeros(2, 3), "a Tensor of shape (2, 3) and torch.float32"),
        (torch.tensor(4), "tensor(4)"),
        (nn.Sequential(nn.ReLU()), "a Sequential"),
        ([1, "two"], "[1, 'two']"),
    ],
)
def test_errors_name_large_values_by_their_kind(value: object, got: str) -> None:
    assert str(_checks.bad_value("O", "x", "be y", value)) == f"O: `x` must be y, got {got}."


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: [torch.zeros(9, 9)] * 2, "a list of 2"),
        (lambda: {"x": torch.zeros(9, 9)}, "a dict of 1"),
        (lambda: torch.nested.nested_tensor([torch.zeros(2)]), "a nested Tensor of torch.float32"),
    ],
)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_collections_of_tensors_and_nested_tensors_are_named_by_their_kind(make, words) -> None:
    value = make()
    assert (
        str(_checks.bad_value("f", "x", "be small", value)) == f"f: `x` must be small, got {words}."
    )
