"""Whole stages: what is in front of an activation and pooling, too."""
