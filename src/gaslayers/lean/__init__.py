"""Autograd functions that keep less for the backward pass, one a file.

Each has its plain twin in the block that uses it: same outputs, same gradients. A backward pass
that is itself differentiated (gradient penalties) goes through differentiable operations alone.
"""
