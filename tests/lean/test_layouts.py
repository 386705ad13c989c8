"""A share of the matrix of layouts; `python -m tests.lean.layouts` runs the whole."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn

from tests.lean import layout_matrix
from tests.lean.compositions import compose
from tests.lean.layout_matrix import draw, judge, poisoned
from tests.lean.layouts import PLAIN_EVERY, main, report, wrong_in
from tests.lean.subjects import NETWORKS, SUBJECTS

SEED = 1
"""Another one than that of the command, so that the two shares differ."""
CHUNK, CHUNKS = 50, 12


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_lean_equals_the_composition_in_every_layout(chunk: int) -> None:
    numbers = range(CHUNK * chunk, CHUNK * (chunk + 1))
    drawn = {number: draw(number, SEED) for number in numbers}
    wrong = {n: (c, what) for n, c in drawn.items() if (what := wrong_in(c))}
    assert not wrong, "\n".join(report(wrong, Counter(c.subject for c in drawn.values())))


@pytest.mark.parametrize("chunk", range(4))
def test_without_memory_efficient_a_block_is_the_composition_to_the_bit(chunk: int) -> None:
    numbers = range(CHUNK * chunk, CHUNK * (chunk + 1))
    drawn = {number: draw(number, SEED) for number in numbers}
    wrong = {n: (c, what) for n, c in drawn.items() if (what := judge(c, is_plain=True))}
    assert not wrong, "\n".join(report(wrong, Counter(c.subject for c in drawn.values())))


def test_every_block_and_every_layout_is_drawn() -> None:
    drawn = [draw(number) for number in range(4000)]
    assert {c.subject for c in drawn} == {*SUBJECTS, *NETWORKS}
    assert {c.weights for c in drawn} == {*layout_matrix.WEIGHT_LAYOUTS}
    assert {c.input for c in drawn} == {c.grad for c in drawn} == {*layout_matrix.MAP_LAYOUTS}
    assert len(set(drawn)) == len(drawn)


def test_a_number_is_always_the_same_combination() -> None:
    assert draw(7, 3) == draw(7, 3) != draw(7, 4)


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        (lambda y: y * 1.001, "output"),
        (lambda y: y + 0 * y.detach(), None),
        (lambda y: y.detach() + 0.5 * (y - y.detach()), "grad of"),
        (lambda y: torch.where(y > y.median(), torch.nan, y), "is not finite"),
    ],
)
def test_a_composition_that_computes_otherwise_is_noticed(monkeypatch, fault, name) -> None:
    class Faulty(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return fault(self.inner(x))

    number = next(n for n in range(999) if _trains_a_transition(draw(n)))
    assert not judge(draw(number), is_plain=True)
    monkeypatch.setattr(layout_matrix, "compose", lambda block: Faulty(compose(block)))
    wrong = judge(draw(number), is_plain=True)
    assert bool(wrong) == (name is not None)
    assert name is None or any(name in f"{key} {text}" for key, text in wrong.items())


def _trains_a_transition(combination: layout_matrix.Combination) -> bool:
    return combination.subject == "transition" and combination.frozen == "nothing"


def test_memory_that_nobody_wrote_holds_nan_within_and_what_it_did_after() -> None:
    before = torch.utils.deterministic.fill_uninitialized_memory
    with poisoned():
        assert torch.empty(3).isnan().all()
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory == before


def test_the_command_says_what_it_ran(capsys, monkeypatch) -> None:
    threads = torch.get_num_threads()
    monkeypatch.setattr("tests.lean.layouts.judge", lambda *_, **__: {})
    assert main(["--count", str(PLAIN_EVERY), "--seed", "5"]) == 0
    monkeypatch.setattr("tests.lean.layouts.judge", lambda *_, **__: {"output": "differs"})
    assert main(["--only", "3"]) == 1
    torch.set_num_threads(threads)
    printed = capsys.readouterr().out
    assert f"0 of {PLAIN_EVERY} combinations wrong" in printed
    assert "1 of 1 combinations wrong" in printed
    assert draw(3).subject in printed
