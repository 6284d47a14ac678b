"""Which heads combine into hypotheses."""


def pair_indices(num_heads, combine=True):
    """Head pairs (i, j), j <= i, whose averages are the hypotheses, in order.

    Args:
        num_heads: number of head images K.
        combine: which pairs.
            True: all, (i, i) included. The order is the lower triangle row by row,
            (0, 0), (1, 0), (1, 1), (2, 0), ..., so that the pair (i, j) has index
            `i * (i + 1) // 2 + j`.
            False: (i, i) only, every head by itself.
            "axes": every head of the second half with every head of the first, for
            networks with two decoders (`networks.XYDeblur`).

    Returns:
        List of tuples: K(K+1)/2, K or (K/2)^2 of them.
    """
    triangle = [(i, j) for i in range(num_heads) for j in range(i + 1)]
    if combine == "axes":
        half = num_heads // 2
        return [(i, j) for i, j in triangle if j < half <= i]
    return triangle if combine else [(i, i) for i in range(num_heads)]
