"""Random numbers that depend on a seed per sample only, on every backend.

`keras.random` takes Python integers or stateful generators as seeds; neither is a
function of the sample inside a `tf.data` map. Here every sample has its own integer
seed, which may be a tensor, and its numbers do not depend on its batch.
"""

import math

from keras import ops


def uniform(seeds, count, stream=0):
    """Uniform numbers in [0, 1).

    Args:
        seeds: (B,) int32 seeds.
        count: numbers per sample.
        stream: Python integer; different streams are independent.

    Returns:
        (B, count) float32.
    """
    begin = (0x3C6EF35 * (stream + 1) + 2**31) % 2**32 - 2**31
    counter = ops.arange(count, dtype="int32") + begin
    state = _hash(_hash(ops.cast(seeds, "int32"))[:, None] + counter[None, :])
    return ops.cast(ops.bitwise_and(state, 0xFFFFFF), "float32") / 2.0**24


def normal(seeds, count, stream=0):
    """Standard normal numbers (Box-Muller), (B, count) float32."""
    radius = ops.sqrt(-2 * ops.log(uniform(seeds, count, 2 * stream) + 2.0**-25))
    angle = 2 * math.pi * uniform(seeds, count, 2 * stream + 1)
    return radius * ops.cos(angle)


def _hash(x):
    """Integer hash "lowbias32" (C. Wellons), on wrapping int32."""
    x = ops.bitwise_xor(x, ops.bitwise_and(ops.right_shift(x, 16), 0xFFFF))
    x = x * 0x7FEB352D
    x = ops.bitwise_xor(x, ops.bitwise_and(ops.right_shift(x, 15), 0x1FFFF))
    x = x * (0x846CA68B - 2**32)
    return ops.bitwise_xor(x, ops.bitwise_and(ops.right_shift(x, 16), 0xFFFF))
