"""The picture files of one group of runs, each with words for those who cannot see it."""

from __future__ import annotations

import base64
import html
from dataclasses import dataclass, field
from pathlib import Path

from matplotlib import style

from gaslayers.models import CASES
from gaslayers.study.report.animation import animate_samples, frame_iterations
from gaslayers.study.report.captions import VARIANT_WORDS, describe_end
from gaslayers.study.report.curves import draw_losses
from gaslayers.study.report.limits import losses_of
from gaslayers.study.report.original import Loss
from gaslayers.study.report.runs import Group
from gaslayers.study.report.samples import draw_samples, shown_runs
from gaslayers.study.report.sheet import render

LOSSES: tuple[Loss, ...] = ("generator", "discriminator")


@dataclass(frozen=True)
class Picture:
    """A picture of the report.

    Args:
        name: File name.
        content: The file.
        alternative: What it shows, in words.
    """

    name: str
    content: bytes = field(repr=False)
    alternative: str

    @property
    def is_animated(self) -> bool:
        """Whether it moves."""
        return self.name.endswith(".gif")

    def _repr_html_(self) -> str:
        """Show it in a notebook."""
        return f'<img src="{self.data_uri}" alt="{html.escape(self.alternative)}">'

    @property
    def data_uri(self) -> str:
        """The picture as a URI, for a page that can be sent as one file."""
        kind = Path(self.name).suffix.removeprefix(".")
        return f"data:image/{kind};base64,{base64.b64encode(self.content).decode()}"


@style.context("default")  # whatever the caller's own pictures look like
def draw_pictures(group: Group, suffix: str) -> list[Picture]:
    """Draw all pictures of a group of runs; ``suffix`` ends the stem of every file's name."""
    last = group.config.iterations - 1
    pictures = [
        Picture(
            f"{loss}_loss{suffix}.png",
            render(draw_losses(group, loss)),
            describe_losses(group, loss),
        )
        for loss in LOSSES
    ]
    pictures.append(
        Picture(
            f"samples{suffix}.png",
            render(draw_samples(group, last)),
            f"{_describe_grid(group)} after iteration {last}.",
        )
    )
    animation = animate_samples(group)
    if animation is not None:
        frames = frame_iterations(group)
        pictures.append(
            Picture(
                f"training{suffix}.gif",
                animation,
                f"Animation of {len(frames)} frames, iterations {frames[0]} to {frames[-1]}: "
                f"{_describe_grid(group)}.",
            )
        )
    return pictures


def describe_losses(group: Group, loss: Loss) -> str:
    """What a picture of losses shows: where each case's curve ends."""
    ends = []
    for case in CASES:
        runs = group.runs_of(case)
        finals = [losses_of(run, loss)[1][-1] for run in runs if run.curves]
        ended = "".join(f" ({describe_end(run)})" for run in runs if describe_end(run))
        values = ", ".join(f"{final:.3g}" for final in finals) or group.why_empty(case)
        ends.append(f"{case} {values}{ended}")
    words = VARIANT_WORDS[group.config.variant]
    return (
        f"{loss.capitalize()} loss over iterations, a panel for each of the six cases, {words}. "
        f"Last values: {'; '.join(ends)}."
    )


def _describe_grid(group: Group) -> str:
    shown = shown_runs(group)
    missing = [f"{case} ({group.why_empty(case)})" for case in CASES if case not in shown]
    without = f", without {', '.join(missing)}" if missing else ""
    return f"Two rows of three grids of 32 generated digits: {', '.join(shown)}{without}"
