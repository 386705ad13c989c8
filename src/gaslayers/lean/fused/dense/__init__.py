"""Dense blocks and what stands in front of a convolution, norms and activations computed again."""
