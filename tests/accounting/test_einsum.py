"""The multiply-adds of an einsum, by hand and as the second engine sees them run."""

from __future__ import annotations

import pytest
import torch

from gaslayers import count
from gaslayers.accounting._einsum import einsum_macs

CASES = [
    ("ij,jk->ik", [(2, 3), (3, 5)], 30),
    ("ij,jk", [(2, 3), (3, 5)], 30),
    ("nchw,cd->ndhw", [(2, 3, 4, 5), (3, 7)], 2 * 3 * 4 * 5 * 7),
    ("bhqd,bhkd->bhqk", [(2, 3, 4, 5), (2, 3, 6, 5)], 2 * 3 * 4 * 6 * 5),
    ("...ij,...jk->...ik", [(7, 2, 3), (7, 3, 5)], 7 * 30),
    ("...ij,jk->...ik", [(7, 2, 3), (3, 5)], 7 * 30),
    ("...i,...i->...", [(7, 1, 4), (1, 6, 4)], 7 * 6 * 4),
    ("i,j->ij", [(3,), (5,)], 0),  # no sum: elementwise
    ("ij,ij->ij", [(3, 5), (3, 5)], 0),
    ("ij,ij->", [(3, 5), (3, 5)], 15),
    ("ij,kj->i", [(2, 3), (5, 3)], 2 * 3),  # k is summed away first
    ("ij->ji", [(2, 3)], 0),
    ("ii->", [(3, 3)], 0),
    ("bij,bjk->bik", [(1, 2, 3), (7, 3, 5)], 7 * 30),
    ("ij,jk->ik", [(2, 1), (1, 5)], 0),  # the summed axis has one element: elementwise
    ("ij, jk -> ki", [(129, 127), (127, 1)], 129 * 127),
    ("ij,jk->ik", [(128, 129), (129, 131)], 128 * 129 * 131),  # fvcore's own rounds to 4 digits
]


@pytest.mark.parametrize(("equation", "shapes", "macs"), CASES)
def test_einsum_macs_are_those_by_hand_and_those_that_run(make, equation, shapes, macs) -> None:
    assert einsum_macs(equation, shapes) == macs
    module = make(lambda _, *x: torch.einsum(equation, *x))
    assert count(module, tuple(map(torch.zeros, shapes))).macs == macs  # both engines agree


@pytest.mark.parametrize("strategy", ["auto", "off"])
def test_einsum_of_three_follows_the_path_that_torch_takes(make, monkeypatch, strategy) -> None:
    if strategy == "off":
        monkeypatch.setattr(torch.backends.opt_einsum, "enabled", False)
        monkeypatch.setattr(torch.backends.opt_einsum, "strategy", None)
    module = make(lambda _, *x: torch.einsum("ij,jk,kl->il", *x))
    report = count(module, (torch.zeros(8, 9), torch.zeros(9, 7), torch.zeros(7, 1)))
    from_left = 8 * 9 * 7 + 8 * 7 * 1
    from_right = 9 * 7 * 1 + 8 * 9 * 1
    has_path = strategy == "auto" and torch.backends.opt_einsum.is_available()
    assert report.macs == (from_right if has_path else from_left)


CHAIN = [(2, 3), (3, 4), (4, 5), (5, 6)]


@pytest.mark.parametrize(
    ("path", "macs"),
    [
        ([0, 1, 0, 1, 0, 1], 2 * 3 * 4 + 4 * 5 * 6 + 2 * 4 * 6),  # a result goes to the end
        ([2, 3, 1, 2, 0, 1], 4 * 5 * 6 + 3 * 4 * 6 + 2 * 3 * 6),
        ([0, 3, 0, 1, 0, 1], 0 + 3 * 4 * 5 + 2 * 3 * 5 * 6),
    ],
)
def test_einsum_macs_follow_a_path(make, path, macs) -> None:
    equation = "ij,jk,kl,lm->im"
    assert einsum_macs(equation, CHAIN, path) == macs
    # What `torch.einsum` calls once it has a path from opt_einsum, which need not be installed.
    module = make(lambda _, *x: torch._VF.einsum(equation, x, path=path))
    assert count(module, tuple(map(torch.zeros, CHAIN))).macs == macs
