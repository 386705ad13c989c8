"""`gaslayers cost` and `gaslayers fit` print what the library computes, for whatever is named."""

from __future__ import annotations

import json
import pkgutil
import re

import pytest
import torch
from torch import nn

from gaslayers import InceptionBlock, count, max_batch_size, peak_memory, saved_bytes
from gaslayers.models import build_discriminator
from gaslayers.study.fitting import fit_base_filters
from tests.lean.native.needs import needs_norm_kernels


def read_rows(answer) -> list[dict]:
    assert answer.exit_code == 0, answer.output
    return json.loads(answer.stdout)


def test_cost_of_a_case_is_what_the_library_counts(invoke):
    options = ("--input", "4,1,28,28", "--optimizer", "adam", "--format", "json")
    (row,) = read_rows(invoke("cost", "inception_8", *options, "--budget", "1MiB"))
    lean, plain = (
        build_discriminator("inception_8", memory_efficient=choice) for choice in (True, False)
    )
    x = torch.zeros(4, 1, 28, 28)
    counted = count(lean, x)
    adam = {"optimizer": torch.optim.Adam}
    budget = {"budget_bytes": 2**20, **adam}
    assert row == {
        "name": "inception_8",
        "input_shape": [4, 1, 28, 28],
        "params": 13857,
        "macs": counted.macs,
        "flops": counted.flops,
        "saved_bytes": saved_bytes(lean, x),
        "saved_bytes_plain": saved_bytes(plain, x),
        "peak_bytes": peak_memory(lean, x, **adam).peak,
        "peak_bytes_plain": peak_memory(plain, x, **adam).peak,
        "budget_bytes": 2**20,
        "max_batch_size": max_batch_size(lean, (1, 28, 28), **budget),
        "max_batch_size_plain": max_batch_size(plain, (1, 28, 28), **budget),
    }


def test_cost_of_a_block_with_arguments(invoke):
    options = ("--input", "2,3,8,8", "--optimizer", "none", "--format", "json")
    (row,) = read_rows(invoke("cost", "InceptionBlock(3, 8, kernel_sizes=(1, 5))", *options))
    block, x = InceptionBlock(3, 8, kernel_sizes=(1, 5)), torch.zeros(2, 3, 8, 8)
    assert row["macs"] == count(block, x).macs
    assert row["peak_bytes"] == peak_memory(block, x).peak
    assert row["max_batch_size"] is None


USERS_MODULE = """
from torch import nn
from gaslayers import DownBlock

class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.layer = nn.Linear(3, width)
    def forward(self, x):
        return self.layer(x)

class Conditional(nn.Module):
    def __init__(self):
        super().__init__()
        self.stage = DownBlock(3, 4)
        self.embedding = nn.Embedding(10, 4)
    def forward(self, x, y):
        return (self.stage(x).mean((2, 3)) * self.embedding(y)).sum(1)

class OfOne(Conditional):
    def forward(self, batch):
        return super().forward(batch["image"], batch["label"])

class OwnError(Exception):
    pass

class Failing(Net):
    def __init__(self, where):
        super().__init__()
        self.where = where
        if where == "building":
            raise OwnError("while it\\nwas built")
    def forward(self, x):
        if self.where == "key":
            return {}["colour"]
        raise OwnError("half-way")

ready = Net(2)
number = 3
def wrong():
    return "no module"
"""


@pytest.fixture
def users_module(tmp_path, monkeypatch):
    (tmp_path / "users_nets.py").write_text(USERS_MODULE)
    (tmp_path / "users_broken.py").write_text("nowhere()")
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize(
    ("target", "params"),
    [
        ("users_nets:Net", 16),
        ("users_nets.Net", 16),
        ("users_nets:Net(5)", 20),
        ("users_nets:Net(width=6)", 24),
        ("users_nets:ready", 8),
    ],
)
def test_cost_of_a_users_module_which_has_no_plain_twin(invoke, users_module, target, params):
    (row,) = read_rows(invoke("cost", target, "--input", "7,3", "--format", "json"))
    assert (row["params"], row["macs"]) == (params, 7 * 3 * (params // 4))
    assert row["saved_bytes_plain"] is None
    assert row["peak_bytes_plain"] is None


def test_cost_prints_a_table_of_several(invoke, users_module):
    answer = invoke("cost", "users_nets:Net", "users_nets:ready", "--input", "7,3")
    lines = answer.stdout.splitlines()
    optimizer = torch.optim.RMSprop  # the default
    peak = peak_memory(nn.Linear(3, 4), torch.zeros(7, 3), optimizer=optimizer).peak
    row = ["users_nets:Net", "7 x 3", "16", "84", "84", "-", f"{peak:,}", "-"]
    assert re.split(r" {2,}", lines[-2]) == row
    assert lines[-1].startswith("users_nets:ready")
    markdown = invoke("cost", "users_nets:Net", "--input", "7,3", "--format", "markdown").stdout
    assert "| `users_nets:Net` | 7 x 3 | 16 | 84 |" in markdown


@pytest.mark.slow
def test_cost_without_a_target_is_of_all_six_cases(invoke):
    rows = read_rows(invoke("cost", "--input", "2,1,28,28", "--format", "json"))
    assert [row["params"] for row in rows] == [388865, 202193, 216705, 21033, 54593, 13857]
    assert all(row["saved_bytes"] < row["saved_bytes_plain"] for row in rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nope", "--input", "1,3"), "'nope' must be a case (original, "),
        (("users_nets:nope", "--input", "1,3"), "has no attribute 'nope'"),
        (("users_nets:number", "--input", "1,3"), "must be a module or build one"),
        (("users_nets:wrong", "--input", "1,3"), "must be a torch.nn.Module or build one, not"),
        (("users_nets:Net(a)", "--input", "1,3"), "may have literals as arguments alone"),
        (("users_nets:Net(1)[0]", "--input", "1,3"), "must be a path with arguments in paren"),
        (("users_nets:Net(1, 2)", "--input", "1,3"), "cannot be built: "),
        (("InceptionBlock(3, 1)", "--input", "1,3"), "cannot be built: InceptionBlock: `out_ch"),
        (("users_nets:Net",), "'users_nets:Net' needs the shape of its input"),
        (("inception_8", "--input", "1,x"), "must be sizes with commas between, as 32,3,64,64"),
        (("inception_8", "--input", "0,1"), "must be sizes of at least 1, got '0,1'"),
        (("inception_8", "--budget", "much"), "must be a size in bytes, as 4GiB or 500MB, got"),
        (("inception_8", "--budget", "0"), "must be at least one byte, got '0'"),
        (("inception_8", "--budget", "1e400"), "must be a size in bytes, as 4GiB or 500MB, got"),
        (("inception_8", "--input", ""), "--input: must be sizes with commas between"),
        (("inception_8", "--input", "9" * 30), "--input: must fit into memory, got '999"),
        (("inception_8", "--input", "2:nope"), "--input: must have a dtype behind the colon, one"),
        (("inception_8", "--input", "x.=2"), "--input: must have a name before = that is new"),
        (("inception_8", "--input", "x y=2"), "--input: must have a name before = that is new"),
        (("inception_8", "--input", "x=2", "--input", "x=2"), "--input: must have a name before"),
        (("inception_8", "--input", "x=2", "--input", "x.y=2"), "--input: must have a name before"),
        (("inception_8", "--memory-format", "nhwc"), "--memory-format"),
        (("--case", "nope"), "--case"),
    ],
)
def test_cost_names_what_is_wrong(invoke, users_module, arguments, message):
    answer = invoke("cost", *arguments)
    assert answer.exit_code == 2
    assert message in " ".join(answer.stderr.replace("│", " ").split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("inception_8", "--input", "2,3,28,28"), "Discriminator: expected input of shape "),
        (("inception_8", "--input", "y=2,1,28,28"), "forward() got an unexpected keyword"),
        (("inception_8", "--input", "2,1,28,28:int64"), ""),
        (("users_nets:Failing('building')", "--input", "1,3"), "OwnError: while it was built"),
        (("users_nets:Failing('key')", "--input", "1,3"), "KeyError: 'colour'"),
        (("users_nets:Failing('forward')", "--input", "1,3"), "OwnError: half-way"),
        (("users_broken:Net", "--input", "1,3"), "NameError: name 'nowhere' is not defined"),
    ],
)
def test_cost_says_in_one_line_what_the_network_raises(invoke, users_module, arguments, message):
    answer = invoke("cost", *arguments)
    assert answer.exit_code == 2
    assert answer.stdout == ""
    assert answer.stderr.count("\n") == 1
    assert answer.stderr.startswith("gaslayers cost: ")
    assert message in answer.stderr


@pytest.mark.parametrize(
    "inputs",
    [
        ("5,3,8,8", "5:int64"),
        ("5,3,8,8", "y=5:long"),
        ("y=5:int64", "x=5,3,8,8"),
        ("batch.image=5,3,8,8:float32", "batch.label=5:int64"),
    ],
)
def test_cost_of_a_network_with_several_inputs(invoke, users_module, inputs):
    target = "users_nets:OfOne" if inputs[0].startswith("batch") else "users_nets:Conditional"
    options = [word for text in inputs for word in ("--input", text)]
    (row,) = read_rows(invoke("cost", target, *options, "--budget", "1MiB", "--format", "json"))
    network = pkgutil.resolve_name("users_nets:Conditional")()
    x = torch.zeros(5, 3, 8, 8), torch.zeros(5, dtype=torch.int64)
    words = {"optimizer": torch.optim.RMSprop}
    assert row["macs"] == count(network, x).macs
    assert row["saved_bytes"] == saved_bytes(network, x)
    assert row["peak_bytes"] == peak_memory(network, x, **words).peak
    assert row["max_batch_size"] == max_batch_size(network, x, budget_bytes=2**20, **words)
    assert sorted(row["input_shape"]) == [[5], [5, 3, 8, 8]]
    table = invoke("cost", target, *options).stdout
    assert "5 x 3 x 8 x 8" in table


def test_cost_takes_cases_by_the_same_word_as_fit_and_study(invoke):
    options = ("--input", "2,1,28,28", "--format", "json")
    rows = read_rows(invoke("cost", "original", "--case", "inception_8", *options))
    assert [row["name"] for row in rows] == ["original", "inception_8"]
    assert rows[1:] == read_rows(invoke("cost", "inception_8", *options))
    for command in ("cost", "fit", "study"):
        assert "--case" in invoke(command, "--help").stdout


def test_cost_in_channels_last_is_of_weights_and_images_that_lie_so(invoke):
    target, options = "InceptionBlock(3, 8)", ("--input", "4,3,8,8", "--format", "json")
    (row,) = read_rows(invoke("cost", target, *options, "--memory-format", "channels_last"))
    layout = {"memory_format": torch.channels_last}
    block, x = InceptionBlock(3, 8).to(**layout), torch.zeros(4, 3, 8, 8).to(**layout)
    assert row["saved_bytes"] == saved_bytes(block, x)
    peak = peak_memory(block, x, optimizer=torch.optim.RMSprop).peak
    assert row["peak_bytes"] == peak


@needs_norm_kernels[0]
@needs_norm_kernels[1]
def test_cost_depends_on_the_memory_format_where_kernels_normalise(invoke):
    options = ("DenseBlock(4, 8)", "--input", "4,4,8,8", "--format", "json")
    (last,) = read_rows(invoke("cost", *options, "--memory-format", "channels_last"))
    (contiguous,) = read_rows(invoke("cost", *options))
    assert last["peak_bytes"] < contiguous["peak_bytes"]


def test_fit_prints_the_widest_that_fits(invoke):
    answer = invoke("fit", "--case", "inception", "--budget", "600kB", "--batch-size", "4")
    found = fit_base_filters("inception_8", budget_bytes=600_000, batch_size=4)
    assert answer.exit_code == 0
    assert answer.stdout.splitlines() == [
        f"inception: {found.base_filters} base filters, {found.params:,} parameters",
        f"peak of a D step: {found.peak_bytes:,} of 600,000 bytes; "
        f"with {found.base_filters + 2} filters {found.next_peak_bytes:,}",
    ]


def test_fit_names_what_is_wrong(invoke):
    answer = invoke("fit", "--case", "nope", "--budget", "1MiB")
    assert answer.exit_code == 2
    assert "must be one of original" in answer.stderr
    answer = invoke("fit", "--case", "inception", "--budget", "1kB")
    assert answer.exit_code == 2
    assert answer.stderr.startswith("gaslayers fit: fit_base_filters: `budget_bytes` must be at le")
    assert answer.stderr.count("\n") == 1
