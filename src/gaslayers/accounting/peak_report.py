"""What a training step takes at its peak, as an object that prints, serialises and plots."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, NamedTuple

from gaslayers.accounting import _tables

_LIVES = {
    "parameters": "always",
    "buffers": "always",
    "inputs": "always",
    "gradients": "backward to update",
    "optimizer_state": "from the first update",
    "activations": "forward to backward",
    "temporaries": "between operators",
}


class Moment(NamedTuple):
    """The live bytes after one operator made, or one let go, of memory.

    Args:
        operator: The last operator that ran.
        module: The module that it ran in.
        phase: ``"forward"``, ``"backward"`` or ``"optimizer"``.
        live: Bytes of all storages alive.
    """

    operator: str
    module: str
    phase: str
    live: int


@dataclass(frozen=True, kw_only=True, repr=False)
class StepPeak:
    """The tensor peak of one step.

    Args:
        peak: Bytes of all storages alive at the peak.
        start: Bytes alive when the step began.
        phase: ``"forward"``, ``"backward"`` or ``"optimizer"``: where the peak is.
        at_module: Name of the innermost module running at the peak; "" is the whole, or the loss.
        at_operator: The operator whose result made the peak.
        breakdown: The peak's bytes by what they are; they sum to it.
        timeline: The live bytes through the step.
    """

    peak: int
    start: int
    phase: str
    at_module: str
    at_operator: str
    breakdown: Mapping[str, int]
    timeline: tuple[Moment, ...]

    def __repr__(self) -> str:
        shown = ("peak", "phase", "at_module", "at_operator")
        return f"StepPeak({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)}, ...)"

    def plot(self, ax: Any = None) -> Any:
        """Draw the live bytes through the step, its phases, and the peak.

        Args:
            ax: Matplotlib axes to draw on; None: new ones.

        Returns:
            The axes.

        Raises:
            ImportError: Matplotlib is not installed.
        """
        if ax is None:
            # Not a dependency of counting, so that it is looked up by name and only here.
            ax = importlib.import_module("matplotlib.pyplot").figure().add_subplot()
        mebibytes = [moment.live / 2**20 for moment in self.timeline]
        ax.fill_between(range(len(mebibytes)), mebibytes, step="post", alpha=0.3)
        ax.step(range(len(mebibytes)), mebibytes, where="post", linewidth=1)
        top = max(range(len(mebibytes)), key=mebibytes.__getitem__)
        place = f"{self.peak / 2**20:.2f} MiB, {self.at_module or 'whole'}\n{self.at_operator}"
        ax.plot([top], [mebibytes[top]], "o", color="black")
        ax.annotate(place, (top, mebibytes[top]), xytext=(0, 6), textcoords="offset points")
        for index, moment in enumerate(self.timeline):
            if index and moment.phase != self.timeline[index - 1].phase:
                ax.axvline(index, color="grey", linewidth=0.8, linestyle=":")
                ax.annotate(moment.phase, (index, 0), xytext=(2, 2), textcoords="offset points")
        ax.set(xlabel="changes of live memory", ylabel="live tensors (MiB)", ylim=(0, None))
        ax.margins(x=0, y=0.2)
        return ax


@dataclass(frozen=True, kw_only=True, repr=False)
class PeakReport:
    """What `gaslayers.peak_memory` found: exact bytes, for the inputs as given.

    Args:
        module: Name of the module's class.
        batch_size: First size of the first tensor among the inputs; None: there is none.
        first_step: The first step, which makes the optimiser's state.
        steady_state: The last step, as all later ones are.
        allocator_peak: Bytes that CUDA's caching allocator counts as allocated at the peak of the
            steady state: blocks of 512 bytes, and multi-tensor optimisers where the choice was
            left open.
        allocator_start: The same when the step begins.

    Example:
        >>> import torch
        >>> from gaslayers import peak_memory
        >>> report = peak_memory(torch.nn.Linear(4, 8), torch.zeros(2, 4))
        >>> report.peak, report.phase
        (424, 'backward')
        >>> sum(report.breakdown.values()) == report.peak
        True
    """

    module: str
    batch_size: int | None
    first_step: StepPeak
    steady_state: StepPeak
    allocator_peak: int
    allocator_start: int

    @property
    def peak(self) -> int:
        """Bytes of all storages alive at the peak of the steady state."""
        return self.steady_state.peak

    @property
    def phase(self) -> str:
        """``"forward"``, ``"backward"`` or ``"optimizer"``: where that peak is."""
        return self.steady_state.phase

    @property
    def at_module(self) -> str:
        """Name of the innermost module running at that peak."""
        return self.steady_state.at_module

    @property
    def at_operator(self) -> str:
        """The operator whose result made that peak."""
        return self.steady_state.at_operator

    @property
    def breakdown(self) -> Mapping[str, int]:
        """That peak's bytes by what they are; they sum to it."""
        return self.steady_state.breakdown

    @property
    def timeline(self) -> tuple[Moment, ...]:
        """The live bytes through a step of the steady state."""
        return self.steady_state.timeline

    def plot(self, ax: Any = None) -> Any:
        """Draw the timeline; as `StepPeak.plot`."""
        return self.steady_state.plot(ax)

    def to_dict(self, *, timeline: bool = False) -> dict[str, Any]:
        """The report as plain dicts, lists, strings and integers.

        Args:
            timeline: Include the timelines, which are long.
        """
        data = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("first_step", "steady_state"):
            step = data[name]
            data[name] = asdict(replace(step, timeline=()))  # many copies of tuples, else
            del data[name]["timeline"]
            if timeline:
                data[name]["timeline"] = [moment._asdict() for moment in step.timeline]
        return data

    def to_json(self, *, timeline: bool = False, indent: int | None = 2) -> str:
        """The report as JSON."""
        return json.dumps(self.to_dict(timeline=timeline), indent=indent)

    def to_markdown(self) -> str:
        """The breakdown as a table in Markdown."""
        return _tables.markdown(self._summary(), *self._rows())

    def __str__(self) -> str:
        return _tables.text(self._summary(), *self._rows())

    def __repr__(self) -> str:
        shown = ("module", "batch_size", "peak", "phase", "at_module", "allocator_peak")
        written = ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)
        return f"PeakReport({written}, ...)"

    def _repr_html_(self) -> str:
        return _tables.html(self._summary(), *self._rows())

    def _summary(self) -> list[str]:
        batch = "no batch" if self.batch_size is None else f"batch of {self.batch_size}"
        place = f"in {self.at_module!r}" if self.at_module else "outside of all parts"
        return [
            f"{self.module}, {batch}: a training step takes {self.peak:,} bytes "
            f"({self.peak / 2**20:.2f} MiB) of tensors",
            f"at its peak in the {self.phase} phase, {place}, at {self.at_operator}",
            f"CUDA's allocator: {self.allocator_peak:,} bytes "
            f"({self.allocator_peak / 2**20:.2f} MiB), without workspaces of kernels",
        ]

    def _rows(self) -> tuple[list[str], list[list[str]]]:
        steps = (self.first_step, self.steady_state)
        rows = [
            [kind.replace("_", " "), lives, *(f"{step.breakdown[kind]:,}" for step in steps)]
            for kind, lives in _LIVES.items()
        ]
        rows.append(["(all)", "", *(f"{step.peak:,}" for step in steps)])
        return ["bytes at the peak", "lives", "first step", "steady state"], rows
