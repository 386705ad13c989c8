"""The imports of the code against the floors and wings of docs/architecture.md.

An import goes to a strictly lower floor, in the importer's own wing or on the ground.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src"
OUTSIDE = ("examples", "docs", "benchmarks")


class Unit(NamedTuple):
    """A file or folder directly under gaslayers/: where it stands and what it may need."""

    floor: int
    wing: str  # "ground" is open to all; "all" stands above the wings and sees every one
    needs: frozenset[str]  # packages from outside the standard library


TORCH = frozenset({"torch", "typing_extensions"})  # torch brings typing_extensions along
CORE = TORCH | {"einops"}
STUDY = CORE | {
    "PIL",
    "filelock",
    "jinja2",
    "lightning",
    "lightning_fabric",
    "matplotlib",
    "numpy",
    "pydantic",
    "tomli",
    "pydantic_core",
    "pynvml",
    "ray",
    "rich",
    "safetensors",
    "scipy",
    "torchmetrics",
    "torchvision",
    "typer",
}

ROOF = "gaslayers"
UNITS = {
    "_checks": Unit(0, "ground", TORCH),
    "_typing": Unit(0, "ground", TORCH),
    "_watching": Unit(0, "ground", TORCH),
    "lean": Unit(2, "ground", TORCH),  # blocks run by it, accounting explains it
    "blocks": Unit(3, "blocks", CORE),
    "_scores": Unit(1, "losses", TORCH),
    "functional": Unit(2, "losses", TORCH),
    "losses": Unit(3, "losses", TORCH),
    "accounting": Unit(3, "accounting", CORE),
    "penalties": Unit(3, "penalties", TORCH),
    "testing": Unit(3, "testing", CORE | {"hypothesis"}),
    "models": Unit(4, "blocks", CORE),
    ROOF: Unit(4, "all", TORCH),
    "study": Unit(5, "all", STUDY),
    "cli": Unit(6, "all", STUDY),
}
FVCORE_DOOR = "src/gaslayers/accounting/_fvcore.py"


class Import(NamedTuple):
    line: int
    target: str  # dotted, down to the imported name


def read_imports(tree: ast.AST) -> Iterator[Import]:
    """Every import statement, wherever it stands: lazy and type-checking ones bind as well."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            for alias in node.names:
                yield Import(node.lineno, f"{module}.{alias.name}")


def unit_of(dotted: str) -> str:
    """`gaslayers.blocks.down.DownBlock` -> `blocks`; a name of the roof itself -> the roof."""
    second = dotted.split(".")[1] if "." in dotted else ROOF
    is_module = any((SOURCE / "gaslayers" / part).exists() for part in (second, f"{second}.py"))
    return second if second in UNITS or is_module else ROOF


def may_import(importer: str, imported: str) -> bool:
    if importer == imported:
        return True  # files of one unit; the test on cycles watches over these
    if importer not in UNITS or imported not in UNITS:
        return False
    above, below = UNITS[importer], UNITS[imported]
    return above.floor > below.floor and (
        below.wing == "ground" or above.wing in ("all", below.wing)
    )


def violations_inside(path: str, source: str) -> list[str]:
    """What a file of the package, `src/gaslayers/...`, imports against the table."""
    second = Path(path).with_suffix("").parts[2]
    importer = ROOF if second == "__init__" else second
    if importer not in UNITS:
        return [f"{path}: `{importer}` stands on no floor: give it one in UNITS"]
    found = []
    for line, target in read_imports(ast.parse(source)):
        package = target.partition(".")[0]
        if package == "gaslayers":
            allowed = may_import(importer, unit_of(target))
        elif package == "fvcore":
            allowed = path == FVCORE_DOOR
        else:
            allowed = package in sys.stdlib_module_names or package in UNITS[importer].needs
        if not allowed:
            found.append(f"{path}:{line}: `{importer}` must not import `{target}`")
    return found


def is_private(dotted: str) -> bool:
    return any(part.startswith("_") and not part.endswith("__") for part in dotted.split("."))


def violations_outside(path: str, source: str) -> list[str]:
    """Which private names of the package a script or gallery page uses."""
    tree = ast.parse(source)
    found = [
        f"{path}:{line}: `{target}` is private"
        for line, target in read_imports(tree)
        if target.partition(".")[0] == "gaslayers" and is_private(target)
    ]
    bound = {
        alias.asname or alias.name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name.partition(".")[0] == "gaslayers"
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            dotted = ast.unparse(node)
            if dotted.partition(".")[0] in bound:
                found.append(f"{path}:{node.lineno}: `{dotted}` is private")
    return found


def sources(*folders: str) -> Iterator[tuple[str, str]]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


def test_package_imports_go_down_in_the_own_wing_or_to_the_ground() -> None:
    files = list(sources("src"))
    assert files
    found = [line for path, source in files for line in violations_inside(path, source)]
    assert not found, "\n".join(found)


def test_everything_around_the_package_uses_public_names_only() -> None:
    found = [
        line for path, source in sources(*OUTSIDE) for line in violations_outside(path, source)
    ]
    assert not found, "\n".join(found)


def module_name(path: str) -> str:
    return ".".join(Path(path).with_suffix("").parts[1:]).removesuffix(".__init__")


def test_files_import_each_other_without_a_cycle() -> None:
    trees = {module_name(path): ast.parse(source) for path, source in sources("src")}
    graph = {}
    for module, tree in trees.items():
        targets = [target for _, target in read_imports(tree)]
        modules = [target if target in trees else target.rpartition(".")[0] for target in targets]
        graph[module] = [target for target in modules if target in trees]
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the files


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("src/gaslayers/blocks/down.py", "from gaslayers.models import CASES"),
        ("src/gaslayers/blocks/down.py", "from gaslayers.functional import lsgan_generator_loss"),
        ("src/gaslayers/blocks/down.py", "from gaslayers import InceptionBlock"),
        ("src/gaslayers/blocks/down.py", "from .inception import InceptionBlock"),
        ("src/gaslayers/lean/fused/pool.py", "from gaslayers.blocks.down import DownBlock"),
        ("src/gaslayers/models/cases.py", "import gaslayers.losses"),
        ("src/gaslayers/models/cases.py", "from gaslayers import study"),
        ("src/gaslayers/models/cases.py", "def f():\n    import matplotlib.pyplot as plt"),
        ("src/gaslayers/_checks.py", "from gaslayers._typing import NormLayer"),
        ("src/gaslayers/_checks.py", "import einops"),
        ("src/gaslayers/accounting/count.py", "from fvcore.nn import FlopCountAnalysis"),
        ("src/gaslayers/accounting/_fvcore.py", "import torchvision"),
        ("src/gaslayers/study/train.py", "import gaslayers.cli"),
        ("src/gaslayers/attic.py", "import torch"),
    ],
)
def test_reader_sees_an_import_against_the_table(path: str, source: str) -> None:
    assert len(violations_inside(path, source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("src/gaslayers/__init__.py", "from gaslayers.blocks import DownBlock"),
        ("src/gaslayers/blocks/down.py", "from gaslayers import _checks, _typing"),
        ("src/gaslayers/blocks/down.py", "from gaslayers.lean.fused.pool import pool"),
        ("src/gaslayers/models/cases.py", "from gaslayers.blocks import DownBlock"),
        ("src/gaslayers/accounting/_fvcore.py", "from fvcore.nn import FlopCountAnalysis"),
        ("src/gaslayers/study/train.py", "from gaslayers import DownBlock, __version__"),
        ("src/gaslayers/cli.py", "import json, rich\nfrom gaslayers.study import presets"),
    ],
)
def test_reader_lets_an_import_along_the_table_pass(path: str, source: str) -> None:
    assert violations_inside(path, source) == []


@pytest.mark.parametrize(
    "source",
    [
        "from gaslayers._checks import check_int",
        "from gaslayers import _checks",
        "from gaslayers.blocks.dense import _helper",
        "import gaslayers.accounting._fvcore",
        "import gaslayers\ngaslayers._checks",
        "import gaslayers.functional as GF\nGF._reduce",
    ],
)
def test_reader_sees_a_private_name(source: str) -> None:
    assert len(violations_outside("examples/page.py", source)) == 1


def test_reader_lets_public_and_foreign_names_pass() -> None:
    source = "import gaslayers, torch\ngaslayers.__version__, torch._dynamo, gaslayers.count"
    assert violations_outside("examples/page.py", source) == []
