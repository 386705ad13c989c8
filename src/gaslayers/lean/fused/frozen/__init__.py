"""Convolutions whose weights are frozen, which keep nothing of what they read."""
