"""Functions that our blocks run in place of several layers, each where it beats the engine."""
