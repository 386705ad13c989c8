"""Activation and pooling that keep codes in place of maps."""
