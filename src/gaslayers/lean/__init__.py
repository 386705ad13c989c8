"""Memory for training: an engine for any code, its rules, fused functions of our blocks, kernels.

Whatever runs lean has a plain twin: the layers themselves, called one after the other. Outputs and
gradients are the same, and so are gradients of gradients.
"""
