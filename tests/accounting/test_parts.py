"""Names of parts that stand at several places."""

from __future__ import annotations

from torch import nn

from gaslayers.accounting._parts import CalledParts, named_parts


def test_every_name_of_a_shared_part_is_listed_and_a_part_within_itself_is_not_followed() -> None:
    shared = nn.ReLU()
    network = nn.Sequential(shared, nn.Sequential(shared))
    network[1].add_module("parent", network)
    network[1].register_module("absent", None)
    assert [name for name, _ in named_parts(network)] == ["", "0", "1", "1.0"]


def test_part_is_called_by_the_name_nearest_to_who_runs_and_else_in_turn() -> None:
    shared = nn.ReLU()
    network = nn.ModuleDict({"a": nn.Sequential(shared), "b": nn.Sequential(shared)})
    parts = CalledParts(network)
    assert [parts.enter(shared, running) for running in ("b", "b", "a", "")] == [
        *("b.0", "b.0", "a.0", "a.0"),  # of both, the one that was called less
    ]
    assert parts.enter(network["a"], "") == "a"
