"""An order of samples that needs few shards at a time, for sets larger than a disk.

An epoch's shards come in a keyed order, and their clips, one shard's after another's, are cut into
equal parts, one a node. A node goes through its part in blocks of so many clips, and the samples of
a block are shuffled. Nodes are virtual: each gives an equal part of every batch, always the same
places of it, so that whatever processes there are, the samples of a step are the same, and a
machine needs the shards of those nodes alone whose places its processes are given.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from trainer.data.draws import Ints, hash_key, shuffled


@dataclass(frozen=True)
class Blocks:
    """How the clips of a set are cut.

    Attributes:
        counts: (shards,) int64, clips of each shard that samples are drawn from; the clips are
            numbered through the shards.
        nodes: equal parts of every batch.
        clips: of a block.
    """

    counts: Ints
    nodes: int
    clips: int

    @cached_property
    def _first(self) -> Ints:
        """(shards + 1,) the number of each shard's first clip."""
        return np.cumsum([0, *self.counts.tolist()])

    @property
    def least(self) -> int:
        """Clips of the smallest part."""
        return int(self._first[-1]) // self.nodes

    def samples(self, position: Ints, node: Ints, per_clip: int, key: int) -> Ints:
        """The samples at places of the nodes' parts of an epoch.

        Args:
            position: (N,) int64, from 0 on, below `least` * per_clip.
            node: (N,) int64, whose part.
            per_clip: samples of each clip.
            key: of the epoch.

        Returns:
            (N,) int64, clip * per_clip + which of the clip's samples: each place another one.
        """
        turn = shuffled(np.arange(len(self.counts)), len(self.counts), key)
        begin = np.cumsum([0, *self.counts[turn].tolist()])  # of each shard, in the epoch's order
        edge = np.arange(self.nodes + 1) * begin[-1] // self.nodes
        block, within = np.divmod(position, self.clips * per_clip)
        low = edge[node] + block * self.clips
        size = np.minimum(self.clips, edge[node + 1] - low) * per_clip
        place = np.empty_like(within)
        for first in np.unique(low).tolist():
            rows = np.flatnonzero(low == first)
            length = int(size[rows[0]])
            place[rows] = shuffled(within[rows], length, hash_key(hash_key(key, -1), first))
        clip, sample = np.divmod(place, per_clip)
        at = low + clip
        shard = np.searchsorted(begin, at, side="right") - 1
        return np.asarray((self._first[turn[shard]] + at - begin[shard]) * per_clip + sample)
