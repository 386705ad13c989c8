"""The learning rates that a run can be given."""

SMALLEST_RATE = 1e-30
"""A step at a smaller rate is rounded to none in float32."""

LARGEST_RATE = 1e30
"""Far beyond what trains. One step of every optimiser at this rate still fits into float32."""
