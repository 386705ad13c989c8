"""What blocks of branches side by side share: how their branches run, and what they cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from gaslayers._checks import check_feature_map, is_traced
from gaslayers.blocks._block import Block
from gaslayers.blocks._closed_forms import layer_macs, layer_params
from gaslayers.blocks.conv_norm_act import ConvNormAct
from gaslayers.blocks.depthwise_conv_norm_act import DepthwiseConvNormAct
from gaslayers.lean.execution import Execution
from gaslayers.lean.fused.chain.row import Row, reasons_against_chains, side_by_side
from gaslayers.lean.fused.frozen.convolutions import are_frozen, run_frozen
from gaslayers.lean.fused.inception.composition import Composition
from gaslayers.lean.fused.parts.units import Unit, take_apart


def _units_of(branch: nn.Module) -> tuple[list[Unit], str | None]:
    """The units of a branch in a row, and what speaks against taking them apart."""
    units: list[Unit] = []
    for part in branch._modules.values():
        # A subclass may compute something else.
        if type(part) is ConvNormAct:
            units.append(take_apart(part))
        elif type(part) is DepthwiseConvNormAct and part.memory_efficient:
            units += map(take_apart, (part.depthwise, part.pointwise))
        else:
            return [], f"the branch's {type(part).__name__} is not to be taken apart"
    return units, None


class BranchedBlock(Block):
    """Branches of convolution units, each on the block's input; their outputs are concatenated."""

    branches: nn.ModuleList
    _layer_argument: ClassVar[str]
    """The constructor's argument that is named where a layer has no closed form."""

    def _read_rows(self) -> list[Row]:
        """The branches, each with what a chain of its units needs to know."""
        found = [_units_of(branch) for branch in self.branches]
        containers = [
            module
            for branch, (_, foreign) in zip(self.branches, found, strict=True)
            if foreign is None
            for module in (branch, *branch.children())
        ]
        every = [units for units, _ in found]
        reasons = reasons_against_chains(containers, every, self.memory_efficient)
        return [
            Row(
                units,
                run_plain=branch,
                reason=reason or foreign,
                recompute=self.memory_efficient == "recompute",
                is_branch=len(found) > 1,
                input_is_kept=any(row[0].is_trained for row in every if row),
            )
            for branch, (units, foreign), reason in zip(self.branches, found, reasons, strict=True)
        ]

    def _compose(self, _branches: Sequence[Sequence[Unit]]) -> Composition | None:
        """How the convolutions of these branches run as fewer ones; None: they do not."""
        return None

    def _compose_rows(self, rows: Sequence[Row]) -> Composition | None:
        known = all(row.reason is None for row in rows)
        return self._compose([row.units for row in rows]) if known else None

    @property
    def execution(self) -> Execution:
        """The path that the next forward takes, and why."""
        rows = self._read_rows()
        composition = self._compose_rows(rows)
        if composition is None:
            return side_by_side(row.execution for row in rows)
        choice = composition.choice
        alone = [
            row.execution
            for row, composed in zip(rows, choice.composed, strict=True)
            if not (composed or choice.joined)
        ]
        return side_by_side([composition.execution, *alone])

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        check_feature_map(type(self).__name__, x, self.in_channels)
        if is_traced(x):
            return torch.cat([branch(x) for branch in self.branches], dim=1)
        rows = self._read_rows()
        composition = self._compose_rows(rows)
        if composition is not None and composition.suits(x):
            return composition.run(x, [row.run for row in rows])
        if all(row.reason is None for row in rows):
            units = [row.units for row in rows]
            if are_frozen(units, x):
                return run_frozen(units, x)
        # One N x branch_width x ceil(H / stride) x ceil(W / stride) a branch.
        return torch.cat([row.run(x) for row in rows], dim=1)

    def _layers(self) -> Iterator[nn.Module]:
        return (layer for branch in self.branches for layer in branch.children())

    def _expected_macs(self, height: int, width: int) -> int:
        owner, argument = type(self).__name__, self._layer_argument
        return sum(layer_macs(owner, argument, layer, height, width) for layer in self._layers())

    def expected_params(self) -> int:
        """Trainable parameters of all branches.

        Raises:
            ValueError: A factory built a layer whose parameters no formula knows.
        """
        owner, argument = type(self).__name__, self._layer_argument
        return sum(layer_params(owner, argument, layer) for layer in self._layers())
