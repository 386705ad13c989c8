"""What other tools count of the same networks, and what they leave behind.

    python -m benchmarks.counting --out counting.json

MACs of convolutions and linear layers, and the peak of a training step, by every tool that is
installed, each on a fresh copy of the network in training mode; then what the copy looks like.
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import gaslayers
from benchmarks.provenance import describe_run, is_installed
from gaslayers.models import build_discriminator
from gaslayers.study.records import write_atomically

OURS = "gaslayers"


class _SamePadding(nn.Module):
    """A convolution whose padding is a word, which one tool counts as nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 16, 3, padding="same", bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class _Einsum(nn.Module):
    """A linear layer written as einsum."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(129, 127))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("ni,io->no", x, self.weight)


def _torchvision(name: str) -> nn.Module:
    import torchvision

    torch.manual_seed(0)
    # Googlenet's heads for training are no part of the published count.
    extra = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    return torchvision.models.get_model(name, weights=None, **extra)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "densenet121": (partial(_torchvision, "densenet121"), (2, 3, 224, 224)),
    "googlenet": (partial(_torchvision, "googlenet"), (2, 3, 224, 224)),
    "original, as_coded": (partial(build_discriminator, "original"), (32, 1, 28, 28)),
    "depthwise_inception, as_coded": (
        partial(build_discriminator, "depthwise_inception"),
        (32, 1, 28, 28),
    ),
    "convolution with padding='same'": (_SamePadding, (2, 8, 16, 16)),
    "einsum": (_Einsum, (1, 129)),
}


def _count_ours(network: nn.Module, x: Tensor) -> int:
    return gaslayers.count(network, x).macs


def _count_fvcore(network: nn.Module, x: Tensor) -> int:
    from fvcore.nn import FlopCountAnalysis  # noqa: TID251  # as a peer, not as our engine

    analysis = FlopCountAnalysis(network, x).unsupported_ops_warnings(enabled=False)
    by_operator = analysis.by_operator()
    return int(sum(by_operator[name] for name in ("conv", "linear", "matmul", "einsum")))


def _count_torch(network: nn.Module, x: Tensor) -> int:
    with FlopCounterMode(display=False) as counter:
        network(x)
    return counter.get_total_flops() // 2


def _count_torchinfo(network: nn.Module, x: Tensor) -> int:
    from torchinfo import summary

    return int(summary(network, input_data=x, verbose=0, mode="train").total_mult_adds)


def _count_ptflops(network: nn.Module, x: Tensor) -> int:
    from ptflops import get_model_complexity_info

    macs, _ = get_model_complexity_info(
        network,
        tuple(x.shape[1:]),
        input_constructor=lambda _: x,
        as_strings=False,
        print_per_layer_stat=False,
        verbose=False,
    )
    return int(macs) * len(x)  # it divides by the batch


def _count_thop(network: nn.Module, x: Tensor) -> int:
    from thop import profile

    macs, _ = profile(network, inputs=(x,), verbose=False)
    return int(macs)


def _count_deepspeed(network: nn.Module, x: Tensor) -> int:
    from deepspeed.profiling.flops_profiler import get_model_profile

    _, macs, _ = get_model_profile(network, args=[x], print_profile=False, as_string=False)
    return int(macs)


COUNTERS: dict[str, tuple[str, Callable[[nn.Module, Tensor], int]]] = {
    OURS: ("gaslayers", _count_ours),
    "fvcore": ("fvcore", _count_fvcore),
    "torch.utils.flop_counter": ("torch", _count_torch),
    "torchinfo": ("torchinfo", _count_torchinfo),
    "ptflops": ("ptflops", _count_ptflops),
    "thop": ("thop", _count_thop),
    "DeepSpeed": ("deepspeed", _count_deepspeed),
}


def _peak_ours(network: nn.Module, x: Tensor) -> int:
    return gaslayers.peak_memory(network, x, optimizer=torch.optim.Adam).peak


def _peak_torchinfo(network: nn.Module, x: Tensor) -> int:
    from torchinfo import summary

    found = summary(network, input_data=x, verbose=0, mode="train")
    return int(found.total_input + found.total_output_bytes + found.total_param_bytes)


def _peak_kitsune(network: nn.Module, x: Tensor) -> int:
    from kitsune.predict import predict_memory

    return int(
        predict_memory(network, tuple(x.shape[1:]), batch_size=len(x), optimizer="adam").total_bytes
    )


PEAKS: dict[str, tuple[str, Callable[[nn.Module, Tensor], int]]] = {
    OURS: ("gaslayers", _peak_ours),
    "torchinfo": ("torchinfo", _peak_torchinfo),
    "torch-kitsune": ("kitsune", _peak_kitsune),
}


def _state_of(network: nn.Module) -> dict[str, Any]:
    """What a tool might change."""
    parts = dict(network.named_modules())
    return {
        "state dict": {name: tensor.clone() for name, tensor in network.state_dict().items()},
        "modes": {name: part.training for name, part in parts.items()},
        "hooks": {
            name: (len(part._forward_hooks), len(part._forward_pre_hooks))
            for name, part in parts.items()
        },
        "attributes": {name: sorted(vars(part)) for name, part in parts.items()},
        "random state": torch.get_rng_state(),
    }


def _differs(before: Any, after: Any) -> bool:
    if isinstance(before, dict):
        return before.keys() != after.keys() or any(_differs(before[k], after[k]) for k in before)
    if isinstance(before, Tensor):
        return not torch.equal(before, after)
    return bool(before != after)


def _ask(
    package: str, tool: Callable[[nn.Module, Tensor], int], network: nn.Module, x: Tensor
) -> dict[str, Any]:
    """One tool's answer, and what it left changed behind it."""
    if not is_installed(package):
        return {"missing": package}
    own = copy.deepcopy(network).train()
    before = _state_of(own)
    try:
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            answer: dict[str, Any] = {"value": tool(own, x)}
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError) as error:
        answer = {"failed": f"{type(error).__name__}: {error}".splitlines()[0][:100]}
        heard = []
    after = _state_of(own)
    answer["changed"] = [name for name in before if _differs(before[name], after[name])]
    answer["warnings"] = len(heard)
    return answer


def measure(names: list[str]) -> dict[str, Any]:
    """Ask every tool about every network."""
    nets = {}
    for name in names:
        print(name, flush=True)
        build, shape = NETWORKS[name]
        network, x = build(), torch.randn(shape)
        nets[name] = {
            "shape": shape,
            "macs": {tool: _ask(*entry, network, x) for tool, entry in COUNTERS.items()},
            "peak": {tool: _ask(*entry, network, x) for tool, entry in PEAKS.items()},
        }
    return nets


def to_markdown(result: dict[str, Any]) -> str:
    """A table a network; ratios are to ours, which two engines agree on."""
    lines = []
    for name, net in result["networks"].items():
        shape = " x ".join(map(str, net["shape"]))
        lines += [f"### {name}, {shape}", ""]
        for what, title in (
            ("macs", "MACs of convolutions and linear layers"),
            ("peak", "peak of a training step with Adam, bytes"),
        ):
            ours = net[what][OURS]["value"]
            lines += [f"| tool | {title} | of ours | left changed | warnings |"]
            lines += ["|---|---:|---:|---|---:|"]
            for tool, row in net[what].items():
                if "value" not in row:
                    why = row.get("failed") or "not installed"
                    lines.append(f"| {tool} | - | - | {why} | |")
                    continue
                changed = ", ".join(row["changed"]) or "nothing"
                ratio = f"{row['value'] / ours:.3f}"
                lines.append(
                    f"| {tool} | {row['value']:,} | {ratio} | {changed} | {row['warnings']} |"
                )
            lines.append("")
    lines.append(result["run"]["summary"])
    return "\n".join(lines)


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    only: Annotated[str, typer.Option(help="Networks whose name contains this.")] = "",
    out: Annotated[Path, typer.Option(help="The JSON file.")] = Path("counting.json"),
) -> None:
    """Ask every tool, write JSON and print Markdown."""
    names = [name for name in NETWORKS if only in name]
    result = {"run": describe_run(), "networks": measure(names)}
    write_atomically(out, (json.dumps(result, indent=1) + "\n").encode())
    print(to_markdown(result))


if __name__ == "__main__":
    app()
