"""Convolution units in a row, as of separable convolutions, some of their maps computed again."""
