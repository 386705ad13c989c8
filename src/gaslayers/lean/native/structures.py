"""The structures by which Python calls the kernels, as C has them: eight bytes a field.

Their sizes are compared when a library is loaded: one of other sources is refused. They are packed
as bytes, which takes less time than to fill in a `ctypes.Structure`.
"""

from __future__ import annotations

from struct import Struct

# Q: an address, q: a size, d: a number; as many as the figure before says.
NORM_CALL = Struct("=" + "Qq" * 6 + "10Q" + "6q" + "4d" + "5Q")
"""``struct norm_call`` of norm.c: maps, lines and codes, sizes, numbers, what it works in."""

POOL_CALL = Struct("=" + "4Q" + "6q" + "d")
"""``struct pool_call`` of pool.c."""

IMAGE_CALL = Struct("=" + "QqQ2qd" + "Q4q" + "Q" + "11q" + "2QqQQ")
"""``struct image_call`` of image_gradient.c: gradient, weight, image, sizes, what it works in."""

STAGE_CALL = Struct("=" + "2Q4q3Q" + "12q" + "d" + "q4Q3qQ")
"""``struct stage_call`` of image_stage.c: image, weight and results, sizes, what it works in."""

BITS_CALL = Struct("=" + "4Q" + "4q" + "d")
"""``struct bits_call`` of bits.c: values, bits, a table, gradients, sizes, the test, a slope."""

PLACES_CALL = Struct("=" + "4Q" + "7q")
"""``struct places_call`` of places.c: places, where windows begin, sizes."""

STRUCTURES = {
    "norm_call": NORM_CALL,
    "pool_call": POOL_CALL,
    "image_call": IMAGE_CALL,
    "stage_call": STAGE_CALL,
    "bits_call": BITS_CALL,
    "places_call": PLACES_CALL,
}
"""By the name that C has for each."""
