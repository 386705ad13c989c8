"""What one operator costs: the counting convention, versioned, and its tables.

- A multiply-add of a convolution, linear layer, matrix product or einsum is one MAC, two FLOPs; a
  bias is the first addend of its sum and costs nothing more.
- A product of complex numbers is four real multiply-adds; complex convolutions are refused.
- A recurrent layer costs the products of all its steps; each step, an element of its hidden state
  costs 13 FLOPs in an LSTM, 10 in a GRU and 2 in a plain one.
- Arithmetic on floating-point tensors costs one FLOP per element written, unless a table says
  otherwise, on complex ones as well; a pool or another reduction costs one per element read.
- Normalisation costs what fvcore says: a batch norm 5 an element in training, 2 in evaluation,
  one less without a weight.
- Moving, comparing, indexing and integer arithmetic cost nothing.
- Activations are the elements that the operators with MACs write.
- The backward pass costs its multiply-adds alone: those of the forward operator once for each
  gradient that is asked for, the bias's left out; what a checkpoint recomputes is not counted.
"""

from __future__ import annotations

CONVENTION = "gaslayers-1"
"""Name and version of the convention; any change of a count changes it."""

# fmt: off
_ONE_PER_OUTPUT = (
    "abs", "add", "ceil", "celu", "clamp", "clamp_max", "clamp_min", "cos", "div", "elu", "erf",
    "exp", "expm1", "floor", "fmod", "gelu", "ger", "hardshrink", "hardsigmoid", "hardswish",
    "hardtanh", "kron", "leaky_relu", "log", "log10", "log1p", "log2", "log_sigmoid",
    "logaddexp", "maximum", "minimum", "mish", "mul", "neg", "outer", "pow", "prelu", "reciprocal",
    "relu", "relu6", "remainder", "round", "rrelu", "rsqrt", "rsub", "selu", "sigmoid", "sign",
    "silu", "sin", "softplus", "softshrink", "sqrt", "square", "sub", "tanh", "trunc",
)
_ONE_PER_INPUT = (
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d",
    "adaptive_max_pool2d", "adaptive_max_pool3d", "amax", "amin", "avg_pool1d", "avg_pool2d",
    "avg_pool3d", "col2im", "cumsum", "max", "max_pool1d", "max_pool2d", "max_pool3d", "mean",
    "min", "nansum", "prod", "sum",
)
FREE = (
    "adjoint",
    "mT",
    "unsafe_chunk",
    "matrix_H",
    "broadcast_tensors",
    "__or__", "__xor__", "alias", "argmax", "argmin", "as_strided", "bernoulli", "bernoulli_",
    "broadcast_to", "channel_shuffle", "clone", "complex", "detach_", "dim", "eye", "imag",
    "real", "resolve_conj", "resolve_neg", "view_as_complex", "view_as_real",
    "embedding", "empty_like",
    "expand_as", "fill", "fill_", "flip", "im2col", "index_put", "index_select", "isfinite",
    "isinf", "isnan", "le", "lift_fresh", "linspace", "logical_and", "logical_not",
    "logical_or", "logical_xor", "lt", "masked_fill_", "masked_select", "meshgrid", "movedim",
    "ne", "normal_", "numel", "ones_like", "pad", "pixel_shuffle", "pixel_unshuffle", "rand",
    "rand_like", "randint", "randn", "randn_like", "randperm", "reflection_pad1d",
    "reflection_pad2d", "reflection_pad3d", "repeat", "repeat_interleave", "replication_pad1d",
    "replication_pad2d", "replication_pad3d", "reshape_as", "scalar_tensor", "scatter",
    "scatter_", "sort", "squeeze_", "swapaxes", "tensor_split", "tile", "topk", "transpose_",
    "tril", "triu", "unflatten", "unfold", "uniform_", "upsample_nearest1d",
    "upsample_nearest2d", "upsample_nearest3d", "view_as", "where", "zero_",
)
"""What fvcore does not know to cost nothing, or counts though it only copies."""

HIDING_MACS = (
    "_sparse_mm", "_trilinear", "addbmm", "addr", "bilinear", "cdist", "chain_matmul", "conv_tbc",
    "corrcoef", "cov", "linalg_matrix_exp", "linalg_matrix_power", "linalg_multi_dot",
    "matrix_power", "quantized_lstm",
)
"""Operators whose multiply-adds neither engine sees: an error, rather than a silent zero."""
# fmt: on

PER_OUTPUT = {
    **dict.fromkeys(_ONE_PER_OUTPUT, 1),
    **dict.fromkeys(("addcdiv", "addcmul", "glu", "lerp"), 2),
    "_weight_norm": 3,  # square, sum, scale
    **dict.fromkeys(("log_softmax", "softmax"), 3),  # exponential, sum, division or difference
}
"""FLOPs per element of the output."""

PER_INPUT = {
    **dict.fromkeys(_ONE_PER_INPUT, 1),
    **dict.fromkeys(("linalg_vector_norm", "logsumexp", "norm"), 2),  # square or exp, and sum
    **dict.fromkeys(("l1_loss", "mse_loss"), 3),  # difference, magnitude, sum
    **dict.fromkeys(("std", "var"), 3),  # difference from the mean, square, sum
    # Two logarithms, their products with the targets, the sum of both, the sum over elements;
    # with logits a sigmoid more.
    "binary_cross_entropy": 6,
    "binary_cross_entropy_with_logits": 7,
}
"""FLOPs per element of the first input."""
