"""Random numbers that are functions of their place: hashes, a keyed permutation, pairs of windows.

No state and no order: whoever asks for a number gets the same, whatever was asked for before.
"""

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

# of splitmix64
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FACTORS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_SHIFTS = np.uint64(30), np.uint64(27), np.uint64(31)


def shuffled(position: Ints, length: int, key: int) -> Ints:
    """The elements at `position` of a pseudo-random permutation of range(length).

    A Feistel network on the smallest 4^b >= length, walked until it lands below length (Black and
    Rogaway 2002): a bijection that needs neither memory nor the other positions.
    """
    half = max(1, ((length - 1).bit_length() + 1) // 2)
    shift, mask = np.uint64(half), np.uint64((1 << half) - 1)

    def encrypt(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
        left, right = value >> shift, value & mask
        for turn in range(6):
            left, right = right, left ^ (mixed_with(right, hash_key(key, turn)) & mask)
        return (left << shift) | right

    result = encrypt(np.asarray(position, dtype=np.uint64))
    while (outside := result >= length).any():
        result[outside] = encrypt(result[outside])
    return result.astype(np.int64)


def uniform(seed: int, epoch: int, sample: Ints, stream: int) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1), a function of the arguments alone; shape of `sample`."""
    key = hash_key(hash_key(seed, epoch), stream)
    return (mixed_with(sample.astype(np.uint64), key) >> np.uint64(11)).astype(
        np.float64
    ) * 2.0**-53


def hash_key(key: int, value: int) -> int:
    """A 64-bit key from a key and another integer."""
    # In Python's integers: numpy would take 20 times as long for one number, 20 times a batch.
    mixed, word = value % 2**64, 2**64 - 1
    for add in (key % 2**64, 0x9E3779B97F4A7C15):
        mixed = (mixed + add) & word
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & word
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & word
        mixed ^= mixed >> 31
    return mixed


def mixed_with(value: NDArray[np.uint64], key: int) -> NDArray[np.uint64]:
    """splitmix64 of (value, key): the finaliser of Steele, Lea and Flood 2014, applied twice."""
    mixed = value + np.uint64(key)
    shifted = np.empty_like(mixed)
    # In place, with constants made once: of a batch's few numbers calls cost more than sums.
    for turn in range(2):
        if turn:
            mixed += _GOLDEN
        mixed ^= np.right_shift(mixed, _SHIFTS[0], out=shifted)
        mixed *= _FACTORS[0]
        mixed ^= np.right_shift(mixed, _SHIFTS[1], out=shifted)
        mixed *= _FACTORS[1]
        mixed ^= np.right_shift(mixed, _SHIFTS[2], out=shifted)
    return mixed


def pair(
    windows: Ints,
    least: int,
    most: int,
    place: NDArray[np.float64],
    side: NDArray[np.float64],
) -> tuple[Ints, Ints]:
    """Two windows of each clip, least..most apart, uniform over all ordered pairs.

    Args:
        windows: in each clip.
        place, side: uniform numbers in [0, 1) that decide.
    """
    widest = np.minimum(most, windows - 1)
    # a clip too short for the curriculum's shift gives the widest that it has
    nearest_shift = np.minimum(least, widest)
    # A distance of d frames leaves windows - d places for the earlier window: the pairs are
    # numbered by distance, then place, and one number is drawn.
    nearest = windows - nearest_shift
    distances = widest - nearest_shift + 1
    pairs = _pairs_before(distances, nearest)
    number = (place * pairs).astype(np.int64)
    # solve pairs_before(k) <= number < pairs_before(k + 1), then mend what rounding did
    b = 2 * nearest + 1
    k = ((b - np.sqrt((b * b - 8 * number).astype(np.float64))) / 2).astype(np.int64)
    k -= _pairs_before(k, nearest) > number
    k += _pairs_before(k + 1, nearest) <= number
    earlier = number - _pairs_before(k, nearest)
    later = earlier + nearest_shift + k
    forward = side < 0.5
    return np.where(forward, earlier, later), np.where(forward, later, earlier)


def partner(windows: Ints, first: Ints, least: int, most: int, place: NDArray[np.float64]) -> Ints:
    """For each window of a clip another, least..most away, uniform over all that the clip has.

    If `first` is one of two that `pair` drew with these limits, so are `first` and the partner:
    uniform over all ordered pairs. Arguments broadcast.

    Args:
        windows: in each clip.
        first: a window that has a partner.
        place: uniform numbers in [0, 1) that decide.
    """
    widest = np.minimum(most, windows - 1)
    nearest = np.minimum(least, widest)
    before = np.maximum(np.minimum(widest, first) - nearest + 1, 0)
    after = np.maximum(np.minimum(widest, windows - 1 - first) - nearest + 1, 0)
    number = (place * (before + after)).astype(np.int64)
    found: Ints = first + np.where(number < before, -nearest - number, nearest + number - before)
    return found


def _pairs_before(k: Ints, nearest: Ints) -> Ints:
    """nearest + (nearest - 1) + ... over k terms."""
    return k * nearest - k * (k - 1) // 2
