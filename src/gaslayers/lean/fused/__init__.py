"""Functions that our blocks run in place of several layers."""
