"""Inception blocks of bare convolutions as fewer of them."""
