"""The largest batch of modules with several inputs, against trying them all."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from gaslayers import DownBlock, max_batch_size, peak_memory
from gaslayers.accounting import cost_of, count, measure_peak, saved_bytes
from gaslayers.accounting._examples import with_batch_of
from gaslayers.accounting._fake import fake_twin
from gaslayers.accounting._sandbox import make_call

ADAM = torch.optim.Adam


class Conditional(nn.Module):
    """A projection discriminator, whose inputs arrive as each test has them."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = DownBlock(3, 8)
        self.embedding = nn.Embedding(10, 8)

    def forward(self, images: Tensor, labels: Tensor, table: Tensor | None = None) -> Tensor:
        scores = self.stage(images).mean((2, 3)) * self.embedding(labels)
        return scores.sum(1) if table is None else (scores @ table).sum(1)


class OfOne(nn.Module):
    """The same with one argument that holds both inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Conditional()

    def forward(self, batch: dict[str, Tensor] | list[Tensor]) -> Tensor:
        return self.inner(**batch) if isinstance(batch, dict) else self.inner(*batch)


def images_and_labels(size: int) -> dict[str, Tensor]:
    return {"images": torch.zeros(size, 3, 8, 8), "labels": torch.zeros(size, dtype=torch.long)}


FORMS = {
    "a tuple": (Conditional, lambda x: tuple(x.values()), None),
    "a list": (OfOne, lambda x: list(x.values()), None),
    "a dict": (OfOne, lambda x: x, None),
    "by name": (Conditional, lambda x: (), lambda x: x),
    "images, labels by name": (
        Conditional,
        lambda x: x["images"],
        lambda x: {"labels": x["labels"]},
    ),
    "with a table": (Conditional, lambda x: (*x.values(), torch.zeros(8, 50)), None),
}


@pytest.mark.parametrize("kind", ["tensor", "allocator"])
@pytest.mark.parametrize("form", FORMS)
def test_largest_batch_of_several_inputs_is_that_of_trying_them_all(form, kind) -> None:
    build, make, name = FORMS[form]
    network = build()

    def call(size: int) -> dict:
        x = images_and_labels(size)
        return {"inputs": make(x), "kwargs": None if name is None else name(x)}

    def peak(size: int) -> int:
        report = peak_memory(network, **call(size), optimizer=ADAM)
        tensors = max(report.peak, report.first_step.peak)
        return tensors if kind == "tensor" else report.allocator_peak

    peaks = [peak(size) for size in range(1, 12)]
    assert peaks == sorted(peaks)
    example = call(3)
    for budget in (peaks[0] - 1, peaks[0], peaks[5] - 1, peaks[5], peaks[9] + 1):
        found = max_batch_size(
            network,
            example["inputs"],
            kwargs=example["kwargs"],
            budget_bytes=budget,
            optimizer=ADAM,
            kind=kind,
        )
        assert found == sum(peak <= budget for peak in peaks)


def strided(x: Tensor) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    return tuple(x.shape), x.stride(), x.untyped_storage().nbytes()


LAYOUTS = {
    "contiguous": lambda n: torch.zeros(n, 4, 6, 5),
    "channels_last": lambda n: torch.zeros(n, 4, 6, 5).to(memory_format=torch.channels_last),
    "a slice of channels": lambda n: torch.zeros(n, 9, 6, 5)[:, 2:6],
    "a crop": lambda n: torch.zeros(n, 4, 9, 9)[:, :, 1:7, 2:7],
    "the batch innermost": lambda n: torch.zeros(6, 4, n).permute(2, 0, 1),
    "vectors": lambda n: torch.zeros(n, dtype=torch.int64),
    "with a gradient": lambda n: torch.zeros(n, 4, dtype=torch.float64, requires_grad=True),
}


# Of a batch of one nobody can tell where in memory its axis belongs.
GROWING = [(x, n) for x in LAYOUTS for n in (1, 2, 3) if (x, n) != ("the batch innermost", 1)]


@pytest.mark.parametrize(("layout", "example"), GROWING)
def test_examples_grow_in_their_own_layout(layout, example) -> None:
    fakes = FakeTensorMode()
    call = make_call("test", nn.Identity(), (LAYOUTS[layout](example),), None)
    twin, _ = fake_twin("test", fakes, call, ())
    for size in (2, 7):
        (x,) = with_batch_of(fakes, twin, example=example, size=size).args
        expected = LAYOUTS[layout](size)
        assert strided(x) == strided(expected)
        assert (x.dtype, x.requires_grad) == (expected.dtype, expected.requires_grad)


def test_what_has_another_first_axis_stays_and_one_tensor_in_two_places_is_one() -> None:
    fakes = FakeTensorMode()
    x, table, number = torch.zeros(3, 2), torch.zeros(5, 3), torch.zeros(())
    call = make_call("test", nn.Identity(), (x, [table, x, number, "word"]), {"again": x})
    twin, _ = fake_twin("test", fakes, call, ())
    grown = with_batch_of(fakes, twin, example=3, size=4)
    first, (same, second, scalar, word) = grown.args
    assert first is second is grown.kwargs["again"]
    assert tuple(first.shape) == (4, 2)
    assert (tuple(same.shape), tuple(scalar.shape), word) == ((5, 3), (), "word")


def test_examples_and_a_shape_give_the_same_answer() -> None:
    block = DownBlock(2, 4)
    words = {"budget_bytes": 10**6, "optimizer": ADAM}
    by_shape = max_batch_size(block, (2, 8, 8), **words)
    assert max_batch_size(block, torch.zeros(4, 2, 8, 8), **words) == by_shape
    assert max_batch_size(block, (torch.zeros(1, 2, 8, 8),), **words) == by_shape


X = torch.zeros(2, 4)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"input_shape": "34"}, TypeError, "`input_shape` must be a sequence of ints, .* got '34'"),
        ({"input_shape": {"x": 3}}, TypeError, "`input_shape` must be a sequence of ints, .* or "),
        ({"input_shape": (2**40, 2**40)}, ValueError, r"`input_shape` must have at most 2\^50"),
        ({"input_shape": (4,), "kwargs": {"x": X}}, TypeError, "`input_shape` must hold tensors"),
        ({"input_shape": torch.zeros(())}, ValueError, "`input_shape` must hold a tensor whose "),
        ({"input_shape": torch.zeros(2, 0)}, ValueError, "`input_shape` must hold no empty tensor"),
        ({"input_shape": X, "dtype": torch.half}, ValueError, "`dtype` must be None beside exam"),
        ({"input_shape": X, "device": "cpu"}, ValueError, "`device` must be None beside exam"),
        ({"dtype": "float32"}, TypeError, "`dtype` must be a torch.dtype, got 'float32'"),
        ({"device": "nowhere"}, ValueError, "`device` must be the name of a device, got 'nowhere'"),
        ({"device": 1.5}, TypeError, "`device` must be a torch.device or the name of one, got 1.5"),
        ({"budget_bytes": 2**51}, ValueError, r"`budget_bytes` must be <= 2\^50, got"),
        ({"kwargs": [X]}, TypeError, "`input_shape` must hold tensors beside kwargs"),
        ({"input_shape": X, "kwargs": [X]}, TypeError, "`kwargs` must be a mapping"),
    ],
)
def test_wrong_examples_are_refused_by_name(arguments, error, message) -> None:
    arguments = {"input_shape": (4,), "budget_bytes": 10**6, **arguments}
    with pytest.raises(error, match=f"max_batch_size: {message}"):
        max_batch_size(nn.Linear(4, 8), **arguments)


def test_measured_step_needs_a_device() -> None:
    with pytest.raises(ValueError, match=r"measure_peak: `device` must be the name of a device"):
        measure_peak(lambda: None, device="nowhere")
    with pytest.raises(TypeError, match=r"measure_peak: `process` must be a bool, got 1"):
        measure_peak(lambda: None, device="cpu", process=1)


@pytest.mark.parametrize("form", FORMS)
def test_cost_of_several_inputs_is_what_each_function_says(form) -> None:
    build, make, name = FORMS[form]
    network, x = build(), images_and_labels(3)
    inputs, kwargs = make(x), None if name is None else name(x)
    cost = cost_of("D", network, inputs, kwargs=kwargs, budget_bytes=10**6)
    assert cost.macs == count(network, inputs, kwargs=kwargs).macs
    assert cost.saved_bytes == saved_bytes(network, inputs, kwargs=kwargs)
    assert cost.peak_bytes == peak_memory(network, inputs, kwargs=kwargs).peak
    assert cost.max_batch_size == max_batch_size(network, inputs, kwargs=kwargs, budget_bytes=10**6)
    assert cost.input_shape[:2] == ((3, 3, 8, 8), (3,))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inputs": 4}, "`inputs` must hold a tensor, got 4"),
        ({"loss": 1}, "`loss` must be a callable or None, got 1"),
        ({"optimizer": "adam"}, "`optimizer` must be a callable or None, got 'adam'"),
        ({"budget_bytes": 1e6}, "`budget_bytes` must be an int, got 1000000.0"),
    ],
)
def test_wrong_arguments_of_a_cost_are_refused_by_name(arguments, message) -> None:
    with pytest.raises(TypeError, match=f"cost_of: {message}"):
        cost_of("D", nn.Linear(4, 4), **{"inputs": X, **arguments})
