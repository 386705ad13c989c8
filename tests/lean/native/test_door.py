"""The one door to the kernels: what it lets through, and that there is no other."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import gaslayers
from gaslayers.lean.native.door import Door, Misfit, line, pixel_stride
from tests.lean.native.maps import LAST, slice_of_wider

PACKAGE = Path(gaslayers.__file__).parent
C = 8
X = torch.randn(2, C, 4, 6).contiguous(memory_format=LAST)


def _asks_for_addresses(tree: ast.AST) -> bool:
    """Whether it takes a tensor's address; that of a storage may name the storage."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in ("data_ptr", "const_data_ptr"):
            owner = ast.unparse(node.value)
            if "storage" not in owner and owner != "s":
                return True
    return False


def _loads_libraries(tree: ast.AST) -> bool:
    names = {"ctypes", "cffi"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and names & {alias.name for alias in node.names}:
            return True
        if isinstance(node, ast.ImportFrom) and node.module in names:
            return True
    return False


@pytest.mark.parametrize(
    ("does", "where"),
    [
        (_asks_for_addresses, ["lean/native/door.py"]),
        (_loads_libraries, ["lean/native/kernels.py"]),
    ],
)
def test_there_is_no_other_door(does, where: list[str]) -> None:
    found = [
        path.relative_to(PACKAGE).as_posix()
        for path in sorted(PACKAGE.rglob("*.py"))
        if does(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert found == where


class Tagged(Tensor):
    """A subclass, which may mean anything."""


def _without_memory(size: int = C) -> Tensor:
    values = torch.zeros(size)
    values.untyped_storage().resize_(0)
    return values


LINES = {
    "another size": lambda: torch.zeros(C + 1),
    "none at all": lambda: torch.zeros(0),
    "another dtype": lambda: torch.zeros(C, dtype=torch.float64),
    "half": lambda: torch.zeros(C, dtype=torch.float16),
    "integers": lambda: torch.zeros(C, dtype=torch.int32),
    "gaps": lambda: torch.zeros(2 * C)[::2],
    "one value for all": lambda: torch.zeros(1).expand(C),
    "a column": lambda: torch.zeros(C, 3)[:, 0],
    "a subclass": lambda: torch.zeros(C).as_subclass(Tagged),
    "no memory at all": lambda: torch.zeros(C, device="meta"),
    "memory given back": _without_memory,
    "negatives of memory": lambda: torch._neg_view(torch.zeros(C)),
    "zeros without memory": lambda: torch._efficientzerotensor((C,)),
    "sparse": lambda: torch.zeros(C).to_sparse(),
    "quantized": lambda: torch.quantize_per_tensor(torch.zeros(C), 1.0, 0, torch.qint8),
}


@pytest.mark.filterwarnings("ignore:.*[Qq]uantiz.*")
@pytest.mark.parametrize("kind", LINES)
def test_lines_that_do_not_fit(kind: str) -> None:
    door = Door(X)
    assert door.lines(torch.zeros(C), None, nn.Parameter(torch.zeros(C)))[1] == 0
    with pytest.raises(Misfit):
        door.lines(LINES[kind]())


@pytest.mark.filterwarnings("ignore:.*[Qq]uantiz.*")
@pytest.mark.parametrize("kind", LINES)
def test_lines_of_a_dtype_that_is_named_and_do_not_fit(kind: str) -> None:
    values = nn.Parameter(torch.zeros(C))
    assert line(values, torch.float32, C) == values.data_ptr()
    with pytest.raises(Misfit):
        line(LINES[kind](), torch.float32, C)


def test_a_line_of_no_values_has_no_address() -> None:
    assert line(torch.zeros(0), torch.float32, 0) == 0
    with pytest.raises(Misfit):
        line(_without_memory(1), torch.float32, 1)


MAPS = {
    "another size": lambda: X[:, :, :3],
    "another batch": lambda: X[:1],
    "other channels": lambda: slice_of_wider(X)[:, 1:],
    "another dtype": X.double,
    "contiguous": X.contiguous,
    "every second row": lambda: torch.cat([X, X], 2)[:, :, ::2].expand(X.shape),
    "a crop": lambda: torch.zeros(2, 9, 9, C).permute(0, 3, 1, 2)[:, :, :4, :6],
    "transposed": lambda: torch.zeros(2, 6, 4, C).permute(0, 3, 2, 1),
    "one pixel for all": lambda: torch.zeros(1, C, 1, 1).expand(X.shape),
    "one value for all": lambda: torch.zeros(()).expand(X.shape),
    "one image for all": lambda: X[:1].expand(X.shape),
    "pixels that overlap": lambda: torch.zeros(999).as_strided(X.shape, (24, 1, 6, 1)),
    "a subclass": lambda: X.as_subclass(Tagged),
    "negatives of memory": lambda: torch._neg_view(X),
    "sparse": X.to_sparse,
}


@pytest.mark.parametrize("kind", MAPS)
def test_maps_that_do_not_fit(kind: str) -> None:
    door = Door(X)
    assert door.map(X) == (X.data_ptr(), C)
    assert door.map(slice_of_wider(X))[1] > C
    with pytest.raises(Misfit):
        door.map(MAPS[kind]())


WHOLE_MAPS = {
    "some channels of a wider map": lambda: slice_of_wider(X),
    "contiguous": X.contiguous,
    "another dtype": X.double,
    "a subclass": lambda: X.as_subclass(Tagged),
    "no memory at all": lambda: X.to("meta"),
    "negatives of memory": lambda: torch._neg_view(X),
    "sparse": X.to_sparse,
}


@pytest.mark.parametrize("kind", WHOLE_MAPS)
def test_maps_that_do_not_fill_their_memory_do_not_fit(kind: str) -> None:
    door = Door(X)
    assert door.dense(X, LAST) == X.data_ptr()
    with pytest.raises(Misfit):
        door.dense(WHOLE_MAPS[kind](), LAST)


CODES = {
    "one too few": lambda: torch.zeros(4, dtype=torch.uint8),
    "one too many": lambda: torch.zeros(6, dtype=torch.uint8),
    "gaps": lambda: torch.zeros(10, dtype=torch.uint8)[::2],
    "one byte for all": lambda: torch.zeros(1, dtype=torch.uint8).expand(5),
    "another dtype": lambda: torch.zeros(5, dtype=torch.int8),
    "a subclass": lambda: torch.zeros(5, dtype=torch.uint8).as_subclass(Tagged),
}


@pytest.mark.parametrize("kind", CODES)
def test_codes_that_do_not_fit(kind: str) -> None:
    door, codes = Door(X), torch.zeros(5, dtype=torch.uint8)
    assert door.codes(codes, 5) == codes.data_ptr()
    with pytest.raises(Misfit):
        door.codes(CODES[kind](), 5)


WEIGHTS = {
    "fewer outputs": lambda: torch.zeros(5, C, 3, 3),
    "fewer inputs": lambda: torch.zeros(6, 1, 3, 3),
    "a smaller kernel": lambda: torch.zeros(6, C, 3, 1),
    "no kernel at all": lambda: torch.zeros(6, C),
    "another dtype": lambda: torch.zeros(6, C, 3, 3, dtype=torch.float64),
    "negatives of memory": lambda: torch._neg_view(torch.zeros(6, C, 3, 3)),
}


@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_that_do_not_fit(kind: str) -> None:
    door, shape = Door(X), (6, C, 3, 3)
    for weight in (torch.zeros(shape), torch.zeros(3, 3, C, 6).permute(3, 2, 0, 1)):
        assert door.kernel(weight, shape) == (weight.data_ptr(), weight.stride())
    with pytest.raises(Misfit):
        door.kernel(WEIGHTS[kind](), shape)


def test_what_a_mode_made_in_place_of_new_memory_does_not_fit() -> None:
    made = torch.zeros(C)
    assert Door(X).made(made, None) == [made.data_ptr(), 0]
    with pytest.raises(Misfit):
        Door(X).made(made.as_subclass(Tagged))


def test_tensors_of_transforms_do_not_fit() -> None:
    seen = []

    def look(values: Tensor) -> Tensor:
        with pytest.raises(Misfit):
            Door(X).lines(values)
        with pytest.raises(Misfit):
            line(values, values.dtype, values.numel())
        seen.append(values)
        return values.sum()

    torch.func.vmap(look)(torch.zeros(2, C))
    torch.func.grad(look)(torch.zeros(C))
    assert len(seen) == 2


def test_fake_tensors_fit_among_themselves_alone() -> None:
    with FakeTensorMode() as fakes:
        fake, values = fakes.from_tensor(X), fakes.from_tensor(torch.zeros(C))
        door = Door(fake)
        assert not door.is_real
        assert (door.map(fake), door.lines(values)) == ((0, C), [0])
        assert line(values, torch.float32, C) == 0
        with pytest.raises(Misfit):
            door.lines(values[1:])
        with pytest.raises(Misfit):
            line(values[1:], torch.float32, C)
        with pytest.raises(Misfit):
            Door(X).lines(values)


def test_fake_tensors_on_another_device_do_not_fit() -> None:
    """Nothing but the device tells them apart, for none of them has an address."""
    with FakeTensorMode() as fakes:
        door = Door(fakes.from_tensor(X))
        elsewhere = torch.zeros(X.shape, device="cuda").contiguous(memory_format=LAST)
        values = torch.zeros(C, device="cuda")
        asks = (
            lambda: door.lines(values),
            lambda: line(values, torch.float32, C),
            lambda: door.map(elsewhere),
            lambda: door.dense(elsewhere, LAST),
        )
        for ask in asks:
            with pytest.raises(Misfit):
                ask()


@pytest.mark.parametrize(
    "x",
    [
        torch.zeros(2, C, 4),
        torch.zeros(2, C, 4, 0),
        torch.zeros(2, 0, 4, 4),
        torch.zeros(0, C, 4, 4),
        torch.zeros(2, C, 4, 4, dtype=torch.bfloat16),
        torch.zeros(2, C, 4, 4, dtype=torch.complex64),
    ],
)
def test_maps_of_no_kernel(x: Tensor) -> None:
    with pytest.raises(Misfit):
        Door(x)


@pytest.mark.parametrize(
    "table",
    [
        torch.zeros(1, C),
        torch.zeros(2, C + 1),
        torch.zeros(2 * C),
        torch.zeros(C, 2).t(),
        torch.zeros(1, C).expand(2, C),
        torch.zeros(2, C, dtype=torch.float64),
        torch.zeros(99).as_strided((2, C), (C - 1, 1)),
    ],
)
def test_tables_that_do_not_fit(table: Tensor) -> None:
    wide = torch.zeros(3, C + 5)[:, :C]
    assert Door(X).rows(wide, 3) == (wide.data_ptr(), 4 * (C + 5))
    with pytest.raises(Misfit):
        Door(X).rows(table, 2)


def test_lines_that_share_memory_are_kept_apart() -> None:
    door, memory = Door(X), torch.zeros(3 * C)
    first, second, across = memory[:C], memory[C : 2 * C], memory[C - 1 : 2 * C - 1]
    place = door.map(X)
    door.keep_lines_apart(door.lines(second, None, first), place)
    for lines in ((first, across), (second, across), (first, first)):
        with pytest.raises(Misfit, match="share memory"):
            door.keep_lines_apart(door.lines(*lines), place)
    inside = X.permute(0, 2, 3, 1).flatten()[5 : 5 + C]
    with pytest.raises(Misfit, match="lie in a map"):
        door.keep_lines_apart(door.lines(inside), place)


def test_maps_that_share_memory_are_kept_apart() -> None:
    wide = torch.zeros(2, 3 * C, 4, 6).contiguous(memory_format=LAST)
    door = Door(X)
    left, right, across = (door.map(wide[:, i : i + C]) for i in (0, C, C - 1))
    door.keep_maps_apart(left, [right, door.map(X), (0, 0)])
    door.keep_maps_apart(right, [left])
    # As many values behind the first one's channels as the second slice, but pixel by pixel.
    narrow = left[0] + C * wide.itemsize, C
    for one, other in (
        *((left, left), (left, across), (across, right), (right, across)),
        *((left, narrow), (narrow, left)),
    ):
        with pytest.raises(Misfit, match="shares memory"):
            door.keep_maps_apart(one, [other])


def test_a_map_of_one_pixel_in_a_direction_has_the_strides_of_the_others() -> None:
    for shape in ((2, C, 4, 1), (2, C, 1, 6), (1, C, 4, 6), (3, C, 1, 1)):
        x = torch.zeros(shape).contiguous(memory_format=LAST)
        assert pixel_stride(x) == C
        assert pixel_stride(slice_of_wider(x)) > C
