"""Compile the kernels when the package is built; a level that fails is left out."""

from __future__ import annotations

import runpy
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class KernelsHook(BuildHookInterface):
    """Puts the compiled libraries beside their sources, and into the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before the wheel is packed, or before an editable install points to the tree."""
        compiling = runpy.run_path(str(Path(self.root, "src/gaslayers/lean/native/compiling.py")))
        build = compiling["compile_libraries"]()
        for level, reason in build.failures.items():
            self.app.display_warning(f"Built without kernels of level {level}: {reason}")
        record = compiling["FOLDER"] / compiling["RECORD"]
        files = [record, *build.libraries.values()]
        build_data["artifacts"] += [f"/{path.relative_to(self.root)}" for path in files]
        if version == "standard" and build.libraries:
            # No extension module: it serves every version of Python on this kind of machine.
            platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["tag"] = f"py3-none-{platform}"
            build_data["pure_python"] = False
