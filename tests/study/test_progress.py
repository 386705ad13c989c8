from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from gaslayers.study import progress
from gaslayers.study.progress import show_progress
from gaslayers.study.records import CurvePoint

LONG_NAME = "depthwise_inception_dense-as_described-seed0"


def make_point(iteration, discriminator_loss=8.0, generator_loss=4.0):
    return CurvePoint(
        iteration=iteration,
        discriminator_loss=discriminator_loss,
        generator_loss=generator_loss,
        real_logit_mean=0.0,
        real_logit_std=0.0,
        fake_logit_mean=0.0,
        fake_logit_std=0.0,
    )


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=40)


def lines_of(console):
    return console.file.getvalue().splitlines()


def test_progress_is_plain_lines_without_a_terminal(console, clock, make_config):
    config = make_config(iterations=100)
    with show_progress(console) as on_run:
        on_iteration = on_run(config)
        for done in range(1, 101):
            clock.now += 1.0
            on_iteration(done, make_point(done - 1) if config.is_logged(done - 1) else None)
    assert lines_of(console) == [
        f"{config.name} {done}/100  L_D 8.00  L_G 4.00  {100 - done} s left"
        # At once, then every ten seconds where a point was read, then the last.
        for done in (1, 11, 21, 31, 41, 51, 61, 71, 81, 91, 100)
    ]
    assert "\x1b" not in console.file.getvalue()


def test_lines_show_the_last_losses(console, clock, make_config):
    with show_progress(console) as on_run:
        on_run(make_config(iterations=6))(1, make_point(0, 7.125, 0.5))
    assert "L_D 7.12  L_G 0.50" in lines_of(console)[0]


def test_line_is_not_broken_on_a_narrow_console(console, clock, make_config):
    config = make_config(case="depthwise_inception_dense", variant="as_described")
    with show_progress(console) as on_run:
        on_run(config)(1, make_point(0))
    assert len(lines_of(console)) == 1
    assert lines_of(console)[0].startswith(f"{LONG_NAME} 1/6 ")


def test_continued_run_counts_the_time_left_from_where_it_went_on(console, clock, make_config):
    config = make_config(iterations=100)
    with show_progress(console) as on_run:
        on_iteration = on_run(config)
        on_iteration(80, None)  # read from a checkpoint
        clock.now += 20.0
        on_iteration(90, make_point(89))
    assert lines_of(console) == [f"{config.name} 90/100  L_D 8.00  L_G 4.00  20 s left"]


def test_progress_is_a_bar_on_a_terminal(make_config):
    console = Console(file=io.StringIO(), width=140, force_terminal=True)
    config = make_config(iterations=6)
    with show_progress(console) as on_run:
        on_iteration = on_run(config)
        on_iteration(1, make_point(0, 7.5, 3.25))
        on_iteration(2, None)
    written = console.file.getvalue()
    assert config.name in written
    assert "2/6" in written
    assert "L_D 7.50  L_G 3.25" in written
    assert "left" in written


def test_terminal_is_restored_when_a_run_fails(make_config):
    console = Console(file=io.StringIO(), width=140, force_terminal=True)
    hide, show = "\x1b[?25l", "\x1b[?25h"

    def fail():
        with show_progress(console) as on_run:
            on_run(make_config())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    written = console.file.getvalue()
    assert written.count(hide) == 1
    assert written.rindex(show) > written.rindex(hide)
