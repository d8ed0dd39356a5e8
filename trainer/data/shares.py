"""How many samples of each set a training has taken after so many: exact shares, no state.

Weights are taken as the decimal numbers that were written, so that 0.1 + 0.2 + 0.7 are tenths and
no rounding adds up over the steps of weeks.
"""

import math
from collections.abc import Sequence
from fractions import Fraction


def whole_shares(weights: Sequence[float]) -> tuple[int, ...]:
    """Whole numbers in the ratio of the weights, without a common divisor: (0.5, 1.5) -> (1, 3).

    Args:
        weights: one a set, each positive and finite.
    """
    exact = [Fraction(repr(weight)) for weight in weights]
    common = math.lcm(*(each.denominator for each in exact))
    whole = [int(each * common) for each in exact]
    divisor = math.gcd(*whole)
    return tuple(each // divisor for each in whole)


def taken(samples: int, shares: Sequence[int]) -> list[int]:
    """How many of the first `samples` samples come from each set; they sum to `samples`.

    The first set gets its share of all, rounded down; the next its share of the rest among the
    sets that are left, and so on. So no set's count ever falls as samples come in (rounding to the
    largest remainders would let it, with three sets: the Alabama paradox), and none is further from
    its share than the number of sets.

    Args:
        shares: positive whole numbers, one a set.
    """
    counts, rest, total = [], samples, sum(shares)
    for share in shares:
        count = rest * share // total
        counts.append(count)
        rest, total = rest - count, total - share
    return counts
