"""Which samples make up step `n`: pure arithmetic, no state, no epoch boundary.

(seed, epoch, step, rank, world) decides everything: `epoch, i = divmod(step, steps_per_epoch)`, the
order of an epoch is a keyed permutation evaluated only where it is needed, and every random number
is a hash of (seed, epoch, sample). So a resume is one integer, the world size may change in
mid-epoch, and the first batch of an epoch costs no more than any other.

Several sets are mixed by weights: how many samples each has given before a step is closed form
(`trainer.data.shares`), and that count is the set's place in a stream and in epochs of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from data_tools.errors import UsageError
from data_tools.mfcc import WINDOW_FRAMES
from trainer.data.shares import taken, whole_shares

Ints = NDArray[np.int64]
Pairing = Literal["independent", "paired", "multiway"]

_START, _SIDE, _REPLACEMENT, _KEY = 0, 1, 2, 3  # streams of random numbers
_BLOCK, _MOST_BLOCKS = 16, 4  # steps that are drawn at once, and how many of these are kept
_SET, _SLOT = -1, -2  # keys of several sets: no epoch has such a number


@dataclass(frozen=True)
class Segments:
    """A request: for each of N samples a run of consecutive frames and where its sound begins.

    Attributes:
        clip, start: (N,) int64, the clip and the first frame of the run.
        audio_clip, audio_start: (N,) int64, the clip and the frame at which the sound begins; it
            may lie outside the clip, where the features are zero.
        label: (N,) int64, 1 for a genuine pair, 0 for a false one.
        false_start: (N,) int64, where a second, false sound of the same clip begins; it follows the
            first one in the features. None where each sample has one sound.
        key: (N,) int64, what a sample's augmentation is drawn from; None where there is none.
    """

    clip: Ints
    start: Ints
    audio_clip: Ints
    audio_start: Ints
    label: Ints
    false_start: Ints | None = None
    key: Ints | None = None

    def __len__(self) -> int:
        return len(self.clip)

    def __getitem__(self, rows: Any) -> "Segments":
        # Written out: it is done several times a step, and a loop over fields costs twice as much.
        return Segments(
            self.clip[rows],
            self.start[rows],
            self.audio_clip[rows],
            self.audio_start[rows],
            self.label[rows],
            None if self.false_start is None else self.false_start[rows],
            None if self.key is None else self.key[rows],
        )

    @staticmethod
    def joined(parts: "Sequence[Segments]") -> "Segments":
        """All rows of several requests of one kind, one after another."""
        columns: list[Any] = []
        for field in fields(Segments):
            values = [getattr(part, field.name) for part in parts]
            columns.append(None if values[0] is None else np.concatenate(values))
        return Segments(*columns)


@dataclass(frozen=True)
class TrainSampler:
    """The global order of training samples.

    Pairing "independent": a sample is a window with one sound, half of every batch genuine pairs.
    For a false pair the sound of the same clip is taken `min_shift`..`max_shift` frames away, to
    either side, never outside the clip. The pair (window, shifted window) is drawn uniformly among
    all such pairs of the clip and a genuine pair uses the same draw's window: so neither the
    picture's nor the sound's position tells a genuine pair from a false one.

    "paired": every window comes with its genuine sound and a false one of the same draw: two pairs
    for one decode. "multiway": a sample is a run of `sample_frames` frames with its sound, whose
    windows are each other's false pairs.

    Several sets: after n samples each set has given its weight's share of them, to a sample or
    two, whatever n is. Each set is gone through in epochs of its own, so that a set of a large
    weight comes round more often; its samples lie anywhere in a batch, and half of the batch are
    genuine pairs as ever. An epoch is as many samples as all sets hold together.

    Attributes:
        windows: (clips,) int64, windows in each clip (`data_tools.mfcc.window_count`).
        batch_size: samples a step over all ranks.
        windows_per_clip: samples drawn from each clip an epoch.
        min_shift, max_shift: frames.
        seed: any integer >= 0.
        pairing: what a sample is.
        sample_frames: frames of a sample ("multiway" only; else 5).
        curriculum: epochs over which the smallest shift falls from half of the largest to
            `min_shift`, easy pairs first; 0: none.
        sets: (clips,) int64, the number of the set, 0 on, that each clip belongs to; None: all
            clips are one set.
        weights: one a set, positive; only their ratio counts. None: by the samples that each set
            holds, as if all clips were one set.

    Raises:
        UsageError: settings under which no batch can be made.
    """

    windows: Ints
    batch_size: int
    windows_per_clip: int = 5
    min_shift: int = 3
    max_shift: int = 50
    seed: int = 0
    pairing: Pairing = "independent"
    sample_frames: int = WINDOW_FRAMES
    curriculum: int = 0
    sets: Ints | None = None
    weights: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if self.pairing == "independent" and (self.batch_size < 2 or self.batch_size % 2):
            raise UsageError(f"batch_size {self.batch_size} must be even: half are genuine pairs")
        if self.batch_size < 1:
            raise UsageError(f"batch_size must be at least 1, not {self.batch_size}")
        if self.pairing == "multiway" and self.sample_frames - WINDOW_FRAMES < self.min_shift:
            raise UsageError(
                f"run_frames {self.sample_frames} must exceed min_shift {self.min_shift} by "
                f"{WINDOW_FRAMES} or more: a window's false pairs are the others of its run"
            )
        if not 1 <= self.min_shift <= self.max_shift:
            raise UsageError(
                f"min_shift {self.min_shift} and max_shift {self.max_shift} must satisfy "
                "1 <= min_shift <= max_shift"
            )
        if self.windows_per_clip < 1:
            raise UsageError("windows_per_clip must be at least 1")
        self._check_sets()
        if self.steps_per_epoch == 0:
            raise UsageError(
                f"batch_size {self.batch_size} exceeds the {self.samples_per_epoch} samples of an "
                f"epoch ({len(self.eligible)} clips x {self.windows_per_clip}); lower "
                "train.batch_size or raise data.windows_per_clip"
            )

    def _check_sets(self) -> None:
        """Refuse a set that no sample can be drawn from."""
        for number, members in enumerate(self.members):
            if len(members):
                continue
            what, setting = f"a shift of {self.min_shift} frames", "data.min_shift"
            if self.pairing == "multiway":
                what, setting = f"a run of {self.sample_frames} frames", "data.run_frames"
            of_set, windows = "", self.windows
            if self.sets is not None and len(self.members) > 1:
                of_set, windows = f" of set {number + 1}", self.windows[self.sets == number]
            raise UsageError(
                f"no clip{of_set} is long enough for {what} "
                f"(longest: {max(windows, default=0)} windows); lower {setting}"
            )

    @cached_property
    def _blocks(self) -> dict[tuple[Any, ...], Segments]:
        """The samples of a few steps, by what they were drawn for; those drawn last."""
        return {}

    @cached_property
    def eligible(self) -> Ints:
        """Clips long enough for a sample."""
        least = self.min_shift if self.pairing != "multiway" else self.sample_frames - WINDOW_FRAMES
        return cast(Ints, np.flatnonzero(self.windows > least))

    @cached_property
    def members(self) -> list[Ints]:
        """The eligible clips of each set."""
        if self.sets is None:
            return [self.eligible]
        count = len(self.weights) if self.weights is not None else int(self.sets.max(initial=0)) + 1
        of = self.sets[self.eligible]
        return [cast(Ints, self.eligible[of == number]) for number in range(count)]

    @cached_property
    def shares(self) -> tuple[int, ...]:
        """Whole numbers in the ratio of the sets' weights."""
        weights = self.weights
        return whole_shares([len(each) for each in self.members] if weights is None else weights)

    @property
    def samples_per_epoch(self) -> int:
        """Samples in an epoch before the last partial batch is dropped."""
        return len(self.eligible) * self.windows_per_clip

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch; the rest is dropped, another rest each epoch."""
        return self.samples_per_epoch // self.batch_size

    def batch(
        self,
        step: int,
        rank: int = 0,
        world: int = 1,
        quarantine: Mapping[int, int] | None = None,
    ) -> Segments:
        """The samples of global step `step` that belong to `rank`: batch_size / world of them.

        `quarantine` maps a clip to the step from which on others are drawn in its place.

        Raises:
            UsageError: batch_size cannot be shared equally, or every clip is in quarantine.
        """
        if self.batch_size % world:
            raise UsageError(f"batch_size {self.batch_size} is not divisible by {world} processes")
        share = self.batch_size // world
        slot = np.arange(rank * share, (rank + 1) * share)
        barred = [c for c, since in (quarantine or {}).items() if since <= step]
        least = self.min_shift_at(step)
        if len(self.members) > 1:
            return self._mixed(step, slot, least, barred)
        epoch, i = divmod(step, self.steps_per_epoch)
        # Several steps at once: numbers of one step are so few that each call costs more than they.
        begin = i - i % _BLOCK
        drawn = self._blocks.get(what := (epoch, begin, rank, world, tuple(barred)))
        if drawn is None:
            steps = np.arange(begin, min(begin + _BLOCK, self.steps_per_epoch))
            position = (steps[:, None] * self.batch_size + slot).ravel()
            drawn = self._draw(0, epoch, position, 1 - position % 2, least, barred)
            if len(self._blocks) >= _MOST_BLOCKS:
                self._blocks.clear()
            self._blocks[what] = drawn
        return drawn[(i - begin) * share : (i - begin + 1) * share]

    def _mixed(self, step: int, slot: Ints, least: int, barred: list[int]) -> Segments:
        """What stands at places `slot` of the batch of a step, out of several sets."""
        before, after = (taken(n * self.batch_size, self.shares) for n in (step, step + 1))
        quota = np.subtract(after, before)
        edge = np.cumsum([0, *quota.tolist()])
        place = self._places(step, slot)
        of = np.searchsorted(edge, place, side="right") - 1
        # where in the endless stream of its set each sample stands
        stream = np.array(before)[of] + place - edge[of]
        length = np.array([len(members) for members in self.members]) * self.windows_per_clip
        epoch, position = np.divmod(stream, length[of])
        label = 1 - slot % 2
        parts, rows = [], []
        for number, turn in sorted(set(zip(of.tolist(), epoch.tolist(), strict=True))):
            at = np.flatnonzero((of == number) & (epoch == turn))
            rows.append(at)
            parts.append(self._draw(number, turn, position[at], label[at], least, barred))
        return Segments.joined(parts)[np.argsort(np.concatenate(rows))]

    def _places(self, step: int, slot: Ints) -> Ints:
        """Which sample of a batch, as the sets give them one after another, is put at each slot.

        Where slots are by turns genuine and false pairs, so are each set's samples: which of them
        begin is drawn anew each step, or a set of one sample a step would give one kind alone.
        """
        kinds = 2 if self.pairing == "independent" else 1
        key = hash_key(hash_key(self.seed, _SLOT), step)
        turn = hash_key(key, kinds) % kinds
        place = np.empty_like(slot)
        for kind in range(kinds):
            at = slot % kinds == kind
            # a sort of hashes: of so few, it costs less than `shuffled`
            number = np.arange(self.batch_size // kinds, dtype=np.uint64)
            order = np.argsort(_mix(number, hash_key(key, kind)), kind="stable")
            place[at] = kinds * order[slot[at] // kinds] + (kind + turn) % kinds
        return place

    def _draw(
        self, number: int, epoch: int, position: Ints, label: Ints, least: int, barred: list[int]
    ) -> Segments:
        """The samples at `position` of an epoch of a set.

        Args:
            number: of the set.
            label: which of them are genuine pairs (independent ones alone can be false).
            least: the smallest shift of a false pair.
            barred: clips in quarantine.
        """
        members, seed = self.members[number], self.seed
        if len(self.members) > 1:
            seed = hash_key(hash_key(self.seed, _SET), number)
        length = len(members) * self.windows_per_clip
        sample = shuffled(position, length, hash_key(seed, epoch))
        clip = members[sample // self.windows_per_clip]
        if barred:
            allowed = np.setdiff1d(members, barred)
            if len(allowed) == 0:
                whose = f" of set {number + 1}" if len(self.members) > 1 else ""
                raise UsageError(
                    f"every clip{whose} is in quarantine: no frame of this set can be decoded"
                )
            other = uniform(seed, epoch, sample, _REPLACEMENT) * len(allowed)
            clip = np.where(np.isin(clip, barred), allowed[other.astype(np.int64)], clip)
        mixed = _mix(sample.astype(np.uint64), hash_key(hash_key(seed, epoch), _KEY))
        key = cast(Ints, mixed.view(np.int64))
        genuine = np.ones_like(clip)
        if self.pairing == "multiway":
            places = self.windows[clip] - (self.sample_frames - WINDOW_FRAMES)
            start = (uniform(seed, epoch, sample, _START) * places).astype(np.int64)
            return Segments(clip, start, clip, start, genuine, key=key)
        place, side = (uniform(seed, epoch, sample, stream) for stream in (_START, _SIDE))
        start, shifted = _pair(self.windows[clip], least, self.max_shift, place, side)
        if self.pairing == "paired":
            return Segments(clip, start, clip, start, genuine, shifted, key)
        return Segments(clip, start, clip, np.where(label == 1, start, shifted), label, key=key)

    def min_shift_at(self, step: int) -> int:
        """The smallest shift of false pairs at a step: the curriculum's, then `min_shift`."""
        epoch = step // self.steps_per_epoch
        if epoch >= self.curriculum:
            return self.min_shift
        left = 1 - epoch / self.curriculum
        easy = self.max_shift
        if self.pairing == "multiway":
            easy = min(easy, self.sample_frames - WINDOW_FRAMES)
        return self.min_shift + round(max(0, easy // 2 - self.min_shift) * left)


def fixed_segments(windows: Ints, sample_frames: int, reach: int, per_clip: int) -> Segments:
    """Segments for validation, the same each time: up to `per_clip` of each clip, evenly spaced.

    Where the clip is long enough every shift within +-reach stays inside it. The sound begins
    `reach` frames before the run, so it must span sample_frames + 2 reach frames. Clips shorter
    than a run give none.
    """
    clips, starts = [], []
    for number, count in enumerate(windows.tolist()):
        last = count - (sample_frames - 4)
        if last < 0:
            continue
        low, high = (reach, last - reach) if last >= 2 * reach else (last // 2, last // 2)
        chosen = np.unique(np.linspace(low, high, per_clip).round().astype(np.int64))
        starts.append(chosen)
        clips.append(np.full(len(chosen), number))
    clip = np.concatenate([*clips, np.empty(0)]).astype(np.int64)
    start = np.concatenate([*starts, np.empty(0)]).astype(np.int64)
    return Segments(clip, start, clip, start - reach, np.ones_like(clip))


def swap_audio(segments: Segments) -> Segments:
    """The same pictures with the sound of the next clip: the control that must score at chance."""
    clips = np.unique(segments.clip)
    other = np.roll(clips, -1)[np.searchsorted(clips, segments.clip)]
    return replace(segments, audio_clip=other)


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
            left, right = right, left ^ (_mix(right, hash_key(key, turn)) & mask)
        return (left << shift) | right

    result = encrypt(np.asarray(position, dtype=np.uint64))
    while (outside := result >= length).any():
        result[outside] = encrypt(result[outside])
    return result.astype(np.int64)


def uniform(seed: int, epoch: int, sample: Ints, stream: int) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1), a function of the arguments alone; shape of `sample`."""
    key = hash_key(hash_key(seed, epoch), stream)
    return (_mix(sample.astype(np.uint64), key) >> np.uint64(11)).astype(np.float64) * 2.0**-53


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


def _mix(value: NDArray[np.uint64], key: int) -> NDArray[np.uint64]:
    """splitmix64 of (value, key): the finaliser of Steele, Lea and Flood 2014, applied twice."""
    mixed = value
    for add in (key, 0x9E3779B97F4A7C15):
        mixed = mixed + np.uint64(add)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed = mixed ^ (mixed >> np.uint64(31))
    return mixed


def _pair(
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


def _pairs_before(k: Ints, nearest: Ints) -> Ints:
    """nearest + (nearest - 1) + ... over k terms."""
    return k * nearest - k * (k - 1) // 2
