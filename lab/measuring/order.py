"""In which order the arms of a block are measured, so that position and neighbours favour nobody."""

from __future__ import annotations

import numpy as np


def williams_rows(arms: int) -> list[list[int]]:
    """Return the rows of a Williams design: each arm in each position, each ordered pair of neighbours, equally often.

    Source: E. J. Williams, "Experimental designs balanced for the estimation of residual effects of treatments"
    (1949). An even number of arms needs as many rows as arms, an odd number twice as many.
    """
    first = [0]
    low, high = 1, arms - 1
    while len(first) < arms:
        first.append(low if len(first) % 2 else high)
        low, high = (low + 1, high) if len(first) % 2 == 0 else (low, high - 1)
    rows = [[(arm + shift) % arms for arm in first] for shift in range(arms)]
    return rows if arms % 2 == 0 else rows + [row[::-1] for row in rows]


def balanced_order(arms: list[str], blocks: int, seed: int) -> list[list[str]]:
    """Return the order of the arms for each block.

    Args:
        arms: the timed arms, the repeated baseline (same against same) among them.
        blocks: how many blocks.
        seed: shuffles the rows of the design, anew each time they have been used up.
    """
    generator = np.random.default_rng([seed, 0x0DE5])
    rows = williams_rows(len(arms))
    order: list[list[str]] = []
    while len(order) < blocks:
        order += [[arms[position] for position in rows[index]] for index in generator.permutation(len(rows))]
    return order[:blocks]
