"""What `pip install gaslayers` and `import gaslayers` give, before any layer is used."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import gaslayers

ROOT = Path(__file__).resolve().parents[1]

PUBLIC_NAMES = {
    "gaslayers": (
        "ConvNormAct",
        "DenseBlock",
        "DepthwiseConvNormAct",
        "DepthwiseInceptionBlock",
        "DownBlock",
        "InceptionBlock",
        "LSGANDiscriminatorLoss",
        "LSGANGeneratorLoss",
        "TransitionBlock",
        "count",
        "explain_penalty",
        "explain_saving",
        "frozen",
        "gradient_penalty",
        "lean_saving",
        "make_lean",
        "make_plain",
        "max_batch_size",
        "measure_peak",
        "peak_memory",
        "saved_bytes",
    ),
    "gaslayers.functional": ("lsgan_discriminator_loss", "lsgan_generator_loss"),
    "gaslayers.losses": ("LSGANDiscriminatorLoss", "LSGANGeneratorLoss"),
    "gaslayers.models": (
        "CASES",
        "VARIANTS",
        "Discriminator",
        "LSGANGenerator",
        "Switches",
        "build_discriminator",
    ),
    "gaslayers.penalties": (
        "PenaltyReport",
        "SmoothOperator",
        "dragan_penalty",
        "explain_penalty",
        "gradient_penalty",
        "r1_penalty",
        "r2_penalty",
        "wgan_gp_penalty",
    ),
    "gaslayers.testing": (
        "CHECKS",
        "ContractError",
        "block_arguments",
        "check_block",
        "feature_maps",
    ),
}

POLICY = """\
The public names of {module} changed: {difference}.
A public name is a promise. Where one is added or removed on purpose, change PUBLIC_NAMES here and
say so in CHANGELOG.md under "Added" or "Removed"; a removal first spends two minor releases as a
FutureWarning (CONTRIBUTING.md, "Deprecation")."""


def loaded_packages(statement: str) -> set[str]:
    """Top-level packages in a fresh interpreter after ``statement``, warnings being errors."""
    code = f"{statement}; import json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


def test_import_loads_torch_alone_and_warns_of_nothing() -> None:
    more = loaded_packages("import gaslayers") - loaded_packages("import torch")
    assert more - sys.stdlib_module_names == {"gaslayers"}


@pytest.mark.parametrize("module", PUBLIC_NAMES)
def test_public_names_are_the_promised_ones(module: str) -> None:
    promised = set(PUBLIC_NAMES[module])
    offered = set(importlib.import_module(module).__all__)
    changes = [f"+{name}" for name in sorted(offered - promised)]
    changes += [f"-{name}" for name in sorted(promised - offered)]
    assert not changes, POLICY.format(module=module, difference=", ".join(changes))


@pytest.mark.parametrize("module", PUBLIC_NAMES)
def test_public_names_exist_and_are_documented(module: str) -> None:
    imported = importlib.import_module(module)
    values = {name: getattr(imported, name) for name in imported.__all__}
    assert not [name for name, value in values.items() if callable(value) and not value.__doc__]


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"module 'gaslayers' has no attribute 'Inception'"):
        gaslayers.Inception  # noqa: B018  (the look-up is what is tested)


def test_names_looked_up_on_first_use_are_listed_before() -> None:
    code = "import gaslayers, json; print(json.dumps(dir(gaslayers)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert set(gaslayers.__all__) | {"__version__"} <= set(json.loads(done.stdout))


def test_version_is_one_and_the_same_everywhere() -> None:
    version = metadata.version("gaslayers")
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert gaslayers.__version__ == version
    assert re.findall(r"^version: (\S+)$", citation, flags=re.MULTILINE) == [version]
    assert re.search(rf"^## \[?{re.escape(version)}\b", changelog, flags=re.MULTILINE)


def test_types_are_shipped() -> None:
    assert Path(gaslayers.__file__).with_name("py.typed").is_file()
