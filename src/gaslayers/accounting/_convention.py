"""What one operator costs: the counting convention, versioned, and its tables.

- A multiply-add of a convolution, linear layer, matrix product or einsum is one MAC, two FLOPs; a
  bias is the first addend of its sum and costs nothing more.
- Arithmetic on floating-point tensors costs one FLOP per element written, unless a table says
  otherwise; a pool or another reduction costs one per element read.
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

# FLOPs per element of the output.
PER_OUTPUT = {
    **dict.fromkeys(
        ("abs", "add", "ceil", "clamp", "clamp_max", "clamp_min", "cos", "div", "elu", "erf"), 1
    ),
    **dict.fromkeys(("exp", "expm1", "fmod", "gelu", "hardsigmoid", "hardswish", "hardtanh"), 1),
    **dict.fromkeys(("leaky_relu", "log", "log10", "log1p", "log2", "log_sigmoid", "maximum"), 1),
    **dict.fromkeys(("minimum", "mish", "mul", "neg", "pow", "prelu", "reciprocal", "relu"), 1),
    **dict.fromkeys(("relu6", "remainder", "round", "rrelu", "rsqrt", "rsub", "selu", "sign"), 1),
    **dict.fromkeys(("sigmoid", "silu", "sin", "softplus", "sqrt", "square", "sub", "tanh"), 1),
    **dict.fromkeys(("celu", "hardshrink", "logaddexp", "softshrink", "softsign", "trunc"), 1),
    **dict.fromkeys(("addcdiv", "addcmul", "glu", "lerp"), 2),
    **dict.fromkeys(("log_softmax", "softmax"), 3),
}

# FLOPs per element of the first input.
PER_INPUT = {
    **dict.fromkeys(("amax", "amin", "cumsum", "frobenius_norm", "max", "mean", "min"), 1),
    **dict.fromkeys(("nansum", "prod", "sum"), 1),
    **dict.fromkeys((f"adaptive_avg_pool{d}d" for d in (1, 2, 3)), 1),
    **dict.fromkeys((f"adaptive_max_pool{d}d" for d in (1, 2, 3)), 1),
    **dict.fromkeys((f"avg_pool{d}d" for d in (1, 2, 3)), 1),
    **dict.fromkeys((f"max_pool{d}d" for d in (1, 2, 3)), 1),
    **dict.fromkeys((f"max_pool{d}d_with_indices" for d in (1, 2, 3)), 1),
    **dict.fromkeys(("linalg_vector_norm", "logsumexp", "norm"), 2),  # square or exp, and add
    **dict.fromkeys(("l1_loss", "mse_loss"), 3),  # difference, its magnitude, sum
    **dict.fromkeys(("std", "var"), 3),  # difference from the mean, square, sum
    # Two logarithms and products, their sum, the sum over elements; with logits one sigmoid more.
    "binary_cross_entropy": 6,
    "binary_cross_entropy_with_logits": 7,
}

# What fvcore does not know to be free of arithmetic, or counts though it only copies.
FREE = (
    "alias alias_copy as_strided atleast_1d atleast_2d atleast_3d bernoulli bernoulli_ broadcast_to "
    "channel_shuffle clone col2im dim embedding empty_like expand_as feature_alpha_dropout fill "
    "fill_ flip full hstack im2col index_put index_select is_floating_point isfinite isinf isnan "
    "le lift lift_fresh linspace logical_and logical_not logical_or logical_xor lt masked_fill_ "
    "masked_scatter masked_select meshgrid movedim ne new_ones new_tensor normal_ numel ones_like "
    "pad pixel_shuffle pixel_unshuffle rand rand_like randint randn randn_like randperm "
    "reflection_pad1d reflection_pad2d reflection_pad3d repeat repeat_interleave replication_pad1d "
    "replication_pad2d replication_pad3d reshape_as resolve_conj resolve_neg scalar_tensor scatter "
    "scatter_ squeeze_ swapaxes swapdims T tensor_split tile transpose_ tril triu triu_ unfold "
    "unflatten uniform_ upsample_nearest1d upsample_nearest2d upsample_nearest3d view_as vstack "
    "where zero_ __or__ __xor__ argmax argmin detach_ one_hot sort topk argsort constant_pad_nd"
).split()
