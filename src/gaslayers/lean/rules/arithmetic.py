"""Sums, products and powers, of maps and of constants."""

from __future__ import annotations

from torch import Tensor

from gaslayers.lean.engine.table import rule
from gaslayers.lean.rules.pure import add_in_place, add_pure, run_pure

add_pure(
    "add", "sub", "subtract", "mul", "multiply", "div", "divide", "true_divide", "neg", "negative",
    "square", "sqrt", "rsqrt", "reciprocal", "pow", "exp", "log", "maximum", "minimum",
    "lerp", "addcmul", "addcdiv", "where", "sum", "mean", "var", "std", "amax", "amin", "sign",
)  # fmt: skip
_DUNDERS = ("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "neg", "pow")
rule(*(getattr(Tensor, f"__{name}__") for name in _DUNDERS))(run_pure)
add_in_place(
    {
        Tensor.__iadd__: Tensor.add,
        Tensor.__isub__: Tensor.sub,
        Tensor.__imul__: Tensor.mul,
        Tensor.__itruediv__: Tensor.div,
    }
)
