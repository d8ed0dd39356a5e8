"""Which samples make up step `n`: pure arithmetic, no state, no epoch boundary.

(seed, epoch, step, rank, world) decides everything: `epoch, i = divmod(step, steps_per_epoch)`, the
order of an epoch is a keyed permutation evaluated only where it is needed, and every random number
is a hash of (seed, epoch, sample). So a resume is one integer, the world size may change in
mid-epoch, and the first batch of an epoch costs no more than any other.

Where shards are many and far away, the order may be one that needs few of them at a time
(`trainer.data.blocks`).

Several sets are mixed by weights: how many samples each has given before a step is closed form
(`trainer.data.shares`), and that count is the set's place in a stream and in epochs of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal, cast

import numpy as np

from data_tools.errors import UsageError
from data_tools.mfcc import WINDOW_FRAMES
from trainer.data.blocks import Blocks
from trainer.data.draws import Ints, hash_key, mixed_with, pair, partner, shuffled, uniform
from trainer.data.shares import taken, whole_shares

Pairing = Literal["independent", "paired", "multiway"]

# streams of random numbers
_START, _SIDE, _REPLACEMENT, _KEY, _PARTNER, _PHASE = 0, 1, 2, 3, 4, 5
# Runs that are drawn at once, of so many steps, and how many of these blocks are kept.
_BLOCK_RUNS, _BLOCK_STEPS, _MOST_BLOCKS = 4096, range(16, 129), 4
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

    Several windows a run (`windows_per_run` R, not "multiway"): R samples in a row are the windows
    of R + 4 consecutive frames, each one frame after the one before. By turns they are genuine and
    false, and each false sound is drawn for itself. The run and the first of its sounds are a pair
    of runs, drawn like a pair of windows; each other sound is the same window of another such run,
    at the allowed distances from the first. So the k-th windows of all runs are, for each k, drawn
    by the very rule above, of a clip that is R - 1 windows shorter and begins at k, and no sound
    lies outside the clip.

    Several sets: after n samples each set has given its weight's share of them, to a sample or
    two, whatever n is. Each set is gone through in epochs of its own, so that a set of a large
    weight comes round more often; its samples lie anywhere in a batch, and half of the batch are
    genuine pairs as ever. An epoch is as many samples as all sets hold together.

    Attributes:
        windows: (clips,) int64, windows in each clip (`data_tools.mfcc.window_count`).
        batch_size: samples a step over all ranks; of windows in runs, whole runs.
        windows_per_clip: samples drawn from each clip an epoch; whole runs as well.
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
        windows_per_run: R, windows that one decoded run gives.
        shards: (clips,) int64, rising, the shard that each clip lies in: the order is one by blocks
            of clips. None: all samples of an epoch are shuffled.
        block_clips: of a block; with `shards`.
        nodes: equal parts of a batch whose blocks are their own; of several sets, 1.

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
    windows_per_run: int = 1
    shards: Ints | None = None
    block_clips: int = 1
    nodes: int = 1

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
        check_runs(self.windows_per_run, self.pairing, self.batch_size, self.windows_per_clip)
        self._check_sets()
        if self._runs % self.nodes:
            raise UsageError(
                f"train.batch_size {self.batch_size} does not make {self.nodes} equal parts of "
                "whole samples (data.nodes)"
            )
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
            if self.windows_per_run > 1:
                what += f" of a run of {self.windows_per_run} windows"
                setting += " or data.windows_per_run"
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
        least = self.min_shift + self.windows_per_run - 1
        if self.pairing == "multiway":
            least = self.sample_frames - WINDOW_FRAMES
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
        clips = len(self.eligible) // self.nodes * self.nodes  # parts by blocks are equal
        return clips * self.windows_per_clip

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch; the rest is dropped, another rest each epoch."""
        return self.samples_per_epoch // self.batch_size

    @cached_property
    def _blocks_of(self) -> list[Blocks]:
        """Of each set."""
        assert self.shards is not None
        counts = [np.unique(self.shards[each], return_counts=True)[1] for each in self.members]
        return [Blocks(each, self.nodes, self.block_clips) for each in counts]

    @property
    def block_steps(self) -> int:
        """Steps after which the nodes come to other blocks, about."""
        return max(1, self.block_clips * self._runs_per_clip * self.nodes // self._runs)

    @property
    def _runs(self) -> int:
        """Runs a step; a sample that is not one of several of its run is a run of its own."""
        return self.batch_size // self.windows_per_run

    @property
    def _runs_per_clip(self) -> int:
        return self.windows_per_clip // self.windows_per_run

    def batch(
        self,
        step: int,
        rank: int = 0,
        world: int = 1,
        quarantine: Mapping[int, int] | None = None,
    ) -> Segments:
        """The samples of global step `step` that belong to `rank`: batch_size / world of them.

        The windows of a run follow each other and are never divided between ranks.
        `quarantine` maps a clip to the step from which on others are drawn in its place.

        Raises:
            UsageError: batch_size cannot be shared equally, or every clip is in quarantine.
        """
        if self._runs % world:
            size, in_runs = self.batch_size, ""
            if self.windows_per_run > 1:
                in_runs = f" in runs of {self.windows_per_run} windows (data.windows_per_run)"
            raise UsageError(f"batch_size {size}{in_runs} is not divisible by {world} processes")
        share = self._runs // world
        slot = np.arange(rank * share, (rank + 1) * share)
        barred = [c for c, since in (quarantine or {}).items() if since <= step]
        least = self.min_shift_at(step)
        if len(self.members) > 1:
            return self._mixed(step, slot, least, barred)
        epoch, i = divmod(step, self.steps_per_epoch)
        # Several steps at once: numbers of one step are so few that each call costs more than they.
        many = min(max(_BLOCK_RUNS // share, _BLOCK_STEPS[0]), _BLOCK_STEPS[-1])
        begin = i - i % many
        drawn = self._blocks.get(what := (epoch, begin, rank, world, tuple(barred)))
        if drawn is None:
            steps = np.arange(begin, min(begin + many, self.steps_per_epoch))
            position = (steps[:, None] * self._runs + slot).ravel()
            kind = position
            if self._runs // self.nodes % 2:  # a node would give one kind alone, at places of it
                kind = position + position // self._runs
            drawn = self._draw(0, epoch, position, 1 - kind % 2, least, barred)
            if len(self._blocks) >= _MOST_BLOCKS:
                self._blocks.clear()
            self._blocks[what] = drawn
        samples = share * self.windows_per_run
        return drawn[(i - begin) * samples : (i - begin + 1) * samples]

    def _mixed(self, step: int, slot: Ints, least: int, barred: list[int]) -> Segments:
        """What stands at places `slot` of the batch of a step, out of several sets; in runs."""
        before, after = (taken(n * self._runs, self.shares) for n in (step, step + 1))
        quota = np.subtract(after, before)
        edge = np.cumsum([0, *quota.tolist()])
        place = self._places(step, slot)
        of = np.searchsorted(edge, place, side="right") - 1
        # where in the endless stream of its set each run stands
        stream = np.array(before)[of] + place - edge[of]
        length = np.array([len(members) for members in self.members]) * self._runs_per_clip
        epoch, position = np.divmod(stream, length[of])
        label = 1 - slot % 2
        parts, rows = [], []
        for number, turn in sorted(set(zip(of.tolist(), epoch.tolist(), strict=True))):
            at = np.flatnonzero((of == number) & (epoch == turn))
            rows.append(at)
            parts.append(self._draw(number, turn, position[at], label[at], least, barred))
        order = np.argsort(np.concatenate(rows))
        return Segments.joined(parts)[_windows_of(order, self.windows_per_run)]

    def _places(self, step: int, slot: Ints) -> Ints:
        """Which run of a batch, as the sets give them one after another, is put at each slot.

        Where slots are by turns genuine and false pairs, so are each set's runs: which of them
        begin is drawn anew each step, or a set of one sample a step would give one kind alone.
        """
        # a run of evenly many windows is half of each kind by itself
        kinds = 2 if self.pairing == "independent" and self.windows_per_run % 2 else 1
        key = hash_key(hash_key(self.seed, _SLOT), step)
        turn = hash_key(key, kinds) % kinds
        place = np.empty_like(slot)
        for kind in range(kinds):
            at = slot % kinds == kind
            # a sort of hashes: of so few, it costs less than `shuffled`
            number = np.arange(self._runs // kinds, dtype=np.uint64)
            order = np.argsort(mixed_with(number, hash_key(key, kind)), kind="stable")
            place[at] = kinds * order[slot[at] // kinds] + (kind + turn) % kinds
        return place

    def _draw(
        self, number: int, epoch: int, position: Ints, label: Ints, least: int, barred: list[int]
    ) -> Segments:
        """The windows of the runs at `position` of an epoch of a set.

        Args:
            number: of the set.
            label: which runs begin with a genuine pair (independent ones alone can be false).
            least: the smallest shift of a false pair.
            barred: clips in quarantine.
        """
        members, seed = self.members[number], self.seed
        if len(self.members) > 1:
            seed = hash_key(hash_key(self.seed, _SET), number)
        length = len(members) * self._runs_per_clip
        sample = self._order(number, position, length, hash_key(seed, epoch))
        clip = members[sample // self._runs_per_clip]
        if barred:
            allowed = np.setdiff1d(members, barred)
            if len(allowed) == 0:
                whose = f" of set {number + 1}" if len(self.members) > 1 else ""
                raise UsageError(
                    f"every clip{whose} is in quarantine: no frame of this set can be decoded"
                )
            other = uniform(seed, epoch, sample, _REPLACEMENT) * len(allowed)
            clip = np.where(np.isin(clip, barred), allowed[other.astype(np.int64)], clip)
        count = self.windows_per_run
        window = _windows_of(sample, count)
        mixed = mixed_with(window.astype(np.uint64), hash_key(hash_key(seed, epoch), _KEY))
        key = cast(Ints, mixed.view(np.int64))
        genuine = np.ones_like(window)
        if self.pairing == "multiway":
            places = self.windows[clip] - (self.sample_frames - WINDOW_FRAMES)
            start = (uniform(seed, epoch, sample, _START) * places).astype(np.int64)
            return Segments(clip, start, clip, start, genuine, key=key)
        place, side = (uniform(seed, epoch, sample, stream) for stream in (_START, _SIDE))
        runs = self.windows[clip] - (count - 1)  # a clip has
        start, shifted = pair(runs, least, self.max_shift, place, side)
        if count > 1:
            if count % 2 == 0:  # by turns, runs of one set might all begin alike
                label = (uniform(seed, epoch, sample, _PHASE) < 0.5).astype(np.int64)
            place = uniform(seed, epoch, window, _PARTNER).reshape(-1, count)
            sounds = partner(runs[:, None], start[:, None], least, self.max_shift, place)
            sounds[:, 0] = shifted
            turn = np.arange(count)
            clip, start = np.repeat(clip, count), (start[:, None] + turn).ravel()
            shifted, label = (sounds + turn).ravel(), ((label[:, None] + turn) % 2).ravel()
        if self.pairing == "paired":
            return Segments(clip, start, clip, start, genuine, shifted, key)
        return Segments(clip, start, clip, np.where(label == 1, start, shifted), label, key=key)

    def _order(self, number: int, position: Ints, length: int, key: int) -> Ints:
        """The samples at `position` of an epoch of a set, of `length`."""
        if self.shards is None:
            return shuffled(position, length, key)
        step, slot = np.divmod(position, self._runs)
        part = self._runs // self.nodes
        node, place = np.divmod(slot, part)
        if self.nodes == 1:  # of several sets, a batch holds any part of each
            node, place, step = np.zeros_like(position), position, np.zeros_like(position)
        return self._blocks_of[number].samples(step * part + place, node, self._runs_per_clip, key)

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


def check_runs(
    windows_per_run: int, pairing: Pairing, batch_size: int, windows_per_clip: int
) -> None:
    """Refuse runs that neither a batch nor a clip's samples of an epoch can be made of.

    Raises:
        UsageError: names the setting.
    """
    if windows_per_run < 1:
        raise UsageError("windows_per_run must be at least 1")
    if windows_per_run > 1 and pairing == "multiway":
        raise UsageError(
            "data.windows_per_run is for data.pairing independent and paired: a multiway sample is "
            "a run already, of data.run_frames"
        )
    for name, amount in (
        ("train.batch_size", batch_size),
        ("data.windows_per_clip", windows_per_clip),
    ):
        if amount % windows_per_run:
            raise UsageError(
                f"{name} {amount} must be a multiple of data.windows_per_run {windows_per_run}: "
                "it is made of whole runs"
            )


def _windows_of(run: Ints, count: int) -> Ints:
    """The numbers of the windows of each run, if every run has `count`."""
    return cast(Ints, (run[:, None] * count + np.arange(count)).ravel())
