"""Weights that are computed before each use: their raw form is kept anyway."""

from __future__ import annotations

import torch

from gaslayers.lean.engine.table import rule
from gaslayers.lean.rules.pure import run_pure

rule(torch._weight_norm)(run_pure)
