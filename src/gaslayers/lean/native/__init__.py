"""Kernels of our own, compiled when the package is built where there is a C compiler.

They do in one pass what takes several of PyTorch's operators, and give the same to the bit; without
them those operators run. They are for CPUs, and for Linux, where they can run on the threads of
PyTorch.
"""
