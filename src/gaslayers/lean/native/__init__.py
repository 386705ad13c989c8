"""Kernels of our own, compiled by numba where it is installed: ``pip install gaslayers[fast]``.

They do in one pass what takes several of PyTorch's operators, and give the same to the bit; without
them those operators run. They are for CPUs, and for Linux, where what numba compiles can run on the
threads of PyTorch.
"""
