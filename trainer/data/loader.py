"""Batches without waiting: mmapped shards -> one decoder -> a feeder thread -> torch.

One pipeline, of DALI or `trainer.data.turbo`, lives as long as the run and knows no epochs; its
threads persist. Its samples are single frames, so that a batch comes out dense and becomes
(N, R, H, W, C) by a view: stacking or copying windows would cost more than decoding them. A feeder
thread owns the pipeline and keeps batches ready, because what runs inside `run()` is otherwise
data wait.
"""

import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Any

import torch

from data_tools.errors import UserError
from data_tools.mfcc import CEPSTRA, COLUMNS_PER_FRAME
from data_tools.prefetch import Prefetcher
from trainer.data.augment import picture_arguments
from trainer.data.batch import Batch, Shape, Whole, shape_of
from trainer.data.cached import Queue, Store
from trainer.data.dataset import Dataset
from trainer.data.decoding import Decoder, Decoding
from trainer.data.diagnosis import NoFrameToBlame, good_jpeg, undecodable
from trainer.data.handover import InUse, Marker, cuda_marker
from trainer.data.jobs import Asked, Augmenter, Jobs
from trainer.data.sampler import TrainSampler
from trainer.data.steps import Requests, Step, Steps
from trainer.data.turbo import BadFrames, LibraryChoice, Turbo, choose

log = logging.getLogger(__name__)

_ADVICE = (
    ". The GPU, its driver or its memory is at fault, or its decoder refuses what a CPU takes: if "
    "it happens again, try `--data.decode_device cpu`"
)


class LoaderError(UserError, RuntimeError):
    """The loader cannot go on; says why."""


class Loader:
    """Iterates over batches for step `start`, start + 1, ... without end; close it when done.

    Works from construction on: build it before the model, and the first batch is ready when the
    model is.

        dataset = Dataset(Path("shards"), "train")
        sampler = TrainSampler(dataset.windows, batch_size=64)
        with Loader(dataset, sampler) as loader:
            for batch in islice(loader, 3 * sampler.steps_per_epoch):
                lips, sound = model(batch.frames_NRHWC, batch.mfcc_NFC)

    Args:
        dataset: the clips.
        requests: a sampler, or (step, quarantine) -> the segments of that step: a share of a
            sampler's batch, say, with `sampler.batch(step, rank, world, quarantine)`.
        shape: of a batch; frames of another size or colour are converted in the pipeline. Default,
            with a sampler: `shape_of` its batches.
        device: "cpu" or "cuda[:n]"; batches lie there.
        decode_device: "gpu" decodes on the GPU (mixed decoding), "cpu" on the CPU, whence frames
            are copied to the device. None: where the batches lie.
        decoder: the library that decodes: "turbo" (libjpeg-turbo in threads), "dali", or "auto",
            which takes the faster one that can (`trainer.data.turbo.choose`).
        threads, start: of decoding, 0 is one a core; the first step.
        ready: batches kept ready besides those being decoded.
        quarantine: clips already known to be bad, each with the step from which on it is left out.
        hw_decoder_load: share of the frames that a GPU's hardware decoder gets.
        pinned: copy the JPEGs into pinned memory before a GPU decodes them.
        parts: equal parts that each step's samples come in, one batch a part, so that no more
            frames are in memory than a part has.
        store: keeps decoded frames, of `dataset` at the size and colour of `shape`; stays open.
        marker: marks where the work queued on a batch ends; by default that of `device`, and none
            on a CPU, where a batch is done with when the next one is asked for.

    Attributes:
        quarantine: clip -> step from which on it is left out; grows when a frame cannot be decoded.
        store: as given.
        taken: which library decodes, and why.

    Raises:
        UsageError: libjpeg-turbo is to decode, but cannot.
    """

    def __init__(
        self,
        dataset: Dataset,
        requests: Requests | TrainSampler,
        shape: Shape | None = None,
        *,
        device: str = "cpu",
        decode_device: Decoder | None = None,
        decoder: LibraryChoice = "auto",
        threads: int = 0,
        start: int = 0,
        ready: int = 2,
        quarantine: Mapping[int, int] | None = None,
        hw_decoder_load: float = 0.65,
        pinned: bool = False,
        parts: int = 1,
        store: Store | None = None,
        marker: Marker | None = None,
    ) -> None:
        if isinstance(requests, TrainSampler):
            shape = shape or shape_of(dataset, requests)
            requests = _whole_batches(requests)
        elif shape is None:
            raise TypeError("requests that are no TrainSampler need a shape")
        self.dataset = dataset
        self.shape = shape
        self.quarantine = dict(quarantine or {})
        self._threads = threads or len(os.sched_getaffinity(0))
        where = torch.device(device)
        number = None
        if where.type == "cuda":  # asked here: the feeder thread has a current device of its own
            number = torch.cuda.current_device() if where.index is None else where.index
            marker = marker or cuda_marker(torch.device("cuda", number))
        decoding_on = decode_device or ("cpu" if number is None else "gpu")
        self._decoding = Decoding(decoding_on, number, hw_decoder_load, pinned)
        self._resize = any(
            (height, width) != (shape.size, shape.size) for height, width, _ in dataset.frame_shapes
        )
        known = (self._resize, store is not None, number is not None)
        self.taken = choose(decoder, decoding_on, shape, *known)
        if self.taken.library == "dali":
            from trainer.data import pipeline  # loads DALI: here, rather than in the feeder thread

            self._dali = pipeline
        turbo = self.taken.library == "turbo"
        self._jpegs: Callable[..., list[Any]] = dataset.buffers if turbo else dataset.jpegs
        self._in_flight: deque[Asked] = deque()
        self._parts = parts
        self._next = start * parts  # the next part to ask for, counted over all steps
        self._asked: Step | None = None  # the step whose parts are being asked for
        self._in_use: InUse[Batch] | None = None if marker is None else InUse(marker)
        self._request_failed: Exception | None = None
        self.store, self._copies = store, Queue(where)
        self._steps = Steps(dataset, requests, shape, None if store is None else store.ahead)
        self._jobs = Jobs[Asked](self._next_part, lambda asked: asked.lacks)
        self._augmenter: Augmenter | None = None
        if store is not None and shape.augment is not None and shape.augment.pictures:
            self._augmenter = Augmenter(shape, self._decoding, self._threads)
        self._batches = Prefetcher(self._make(), ready, "loader")

    @property
    def taken_in_words(self) -> str:
        """One line for people: which library decodes, and why."""
        return self.taken.in_words(self._threads)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        """The next step's batch.

        Raises:
            LoaderError: no batch can be made; what the feeder thread met is the cause.
        """
        if self._in_use is not None:
            self._in_use.retire()
        try:
            batch = next(self._batches)
        except StopIteration:
            raise LoaderError("the loader is closed") from None
        except BaseException as error:
            if error is not self._batches.error:  # Ctrl-C while waiting
                raise
            self.close()
            raise LoaderError(f"loading failed: {error}") from error
        return batch if self._in_use is None else self._in_use.hand(batch)

    def __enter__(self) -> "Loader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the feeder thread and let the pipeline go; safe to call twice."""
        self._batches.close(timeout=30.0)

    def _make(self) -> Iterator[Batch]:
        """Batch after batch; runs in the feeder thread, which owns the pipeline."""
        while True:
            with self._opened() as pipeline:
                while (batch := self._run(pipeline)) is not None:
                    yield batch

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        """What decodes: calls `_source`, and its `run` returns a batch."""
        shape = self.shape
        if self.taken.library == "turbo":
            with Turbo(self._source, shape, self._threads, self._copies) as turbo:
                yield turbo
            return
        asked = (self._source, shape, self._resize, self._decoding)
        yield self._dali.built(*asked, threads=self._threads, cached=self.store is not None)

    def _source(self) -> Any:
        """The decoder's source: called once a batch, some batches ahead of the output."""
        try:
            return self._request() if self.store is None else self._request_missing()
        except Exception as error:  # raised again by DALI, which tells it from no error of its own
            self._request_failed = error
            raise

    def _request(self) -> tuple[Any, ...]:
        """The next part: its JPEGs, its sound and how its pictures are varied."""
        asked = self._next_part()
        return self._jpegs(asked.runs, self.shape.sample_frames), *asked.arrays

    def _request_missing(self) -> list[Any]:
        """The JPEGs of those frames of a part that the store lacks."""
        asked = self._jobs.next()
        if asked is None:  # DALI has to be given something
            return [] if self.taken.library == "turbo" else [good_jpeg()]
        return self._to_decode(asked)

    def _to_decode(self, asked: Asked) -> list[Any]:
        """The JPEGs of a part's frames that the decoder is given."""
        jpegs = self._jpegs(asked.runs, self.shape.sample_frames)
        return jpegs if asked.found is None else [jpegs[at] for at in asked.found.missing]

    def _next_part(self) -> Asked:
        """Plan the next part, and find those of its frames that the store has."""
        shape, (step, part) = self.shape, divmod(self._next, self._parts)
        if self._asked is None or self._asked.step != step:
            self._asked = self._steps.plan(step, self.quarantine)
        asked = self._asked if self._parts == 1 else self._share(self._asked, part)
        self._next += 1
        runs = shape.runs(asked.whole.segments)
        arguments: tuple[Any, ...] = ()
        if shape.augment is not None:
            assert runs.key is not None  # the sampler of training gives one
            pictures = picture_arguments(shape.augment, runs.key, shape.sample_frames, shape.size)
            arguments = tuple(pictures.values())
        sound = asked.sound.reshape(-1, shape.columns_per_frame, CEPSTRA)
        found = None
        if self.store is not None:
            found = self.store.find(asked.first, shape.sample_frames)
        # DALI reads the arrays later and does not own them: they live here until the batch is out.
        part_asked = Asked(
            self._next - 1,
            step,
            asked.whole.segments,
            asked.whole.quiet_NA,
            self._asked.whole if self._parts > 1 else None,
            runs,
            (sound, *arguments),
            found,
        )
        self._in_flight.append(part_asked)
        return part_asked

    def _share(self, asked: Step, part: int) -> Step:
        """A part of a step, runs of windows undivided.

        Raises:
            ValueError: the parts are not equal.
        """
        samples = len(asked.whole.segments)
        if samples % (self._parts * self.shape.windows):
            raise ValueError(f"{samples} samples do not make {self._parts} equal parts")
        share = samples // self._parts
        rows = slice(part * share, (part + 1) * share)
        runs = slice(rows.start // self.shape.windows, rows.stop // self.shape.windows)
        whole = Whole(asked.whole.segments[rows], asked.whole.quiet_NA[rows])
        return Step(asked.step, whole, asked.sound[runs], asked.first[runs])

    def _run(self, pipeline: Any) -> Batch | None:
        """The next batch; None if the pipeline has to be built anew without a bad clip."""
        shape = self.shape
        decoded = self._decode(pipeline) if self.store is None else self._look_up(pipeline)
        if decoded is None:
            return None
        frames, sound = decoded
        asked = self._in_flight.popleft()
        n, size = len(asked.runs), shape.size
        sound = sound.view(n, -1, CEPSTRA)[:, : COLUMNS_PER_FRAME * shape.audio_frames]
        if shape.windows > 1:
            sound = sound.reshape(len(asked.segments), -1, CEPSTRA)
        return Batch(
            asked.step,
            asked.segments,
            frames.view(n, shape.sample_frames, size, size, shape.channels),
            sound,
            asked.quiet,
            asked.whole,
        )

    def _decode(self, pipeline: Any) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Frames (N R, H, W, C) and sound (N R, columns, 13) of the part asked for first.

        On the device, ready for every stream. None: a clip was found bad, nothing was decoded.
        """
        outputs = self._outputs(pipeline.run)
        return None if outputs is None else (outputs[0], outputs[1])

    def _look_up(self, pipeline: Any) -> tuple[torch.Tensor, torch.Tensor] | None:
        """As `_decode`, out of the store; what it lacks is decoded. Frames may be (N R, bytes)."""
        assert self.store is not None
        asked = self._in_flight[0] if self._in_flight else self._jobs.plan()
        assert asked.found is not None
        decoded = None
        if asked.lacks:
            outputs = self._outputs(partial(self._jobs.run, pipeline, asked))
            if outputs is None:
                return None
            decoded = outputs[0].flatten(1)
        pixels = self.store.complete(asked.found, decoded)
        sound, *arguments = asked.arrays
        if self._augmenter is not None:
            size = self.shape.size
            pixels = self._augmenter(pixels.view(-1, size, size, self.shape.channels), arguments)
        features = torch.from_numpy(sound)
        if self._decoding.device is not None:
            with self._copies.work():
                features = features.to(pixels.device)
            self._copies.wait()
        return pixels, features

    def _outputs(self, run: Callable[[], Any]) -> tuple[torch.Tensor, ...] | None:
        """The decoder's outputs, first of them frames of the right size; None as in `_decode`."""
        try:
            outputs = run()
        except BadFrames as bad:
            self._exclude(bad.faults)
            return None
        except RuntimeError as error:
            if self._request_failed is not None or not self._in_flight:
                raise
            self._find_bad_frames(error)
            return None
        if self.taken.library == "turbo":
            return tuple(outputs)
        size, frames = self.shape.size, outputs[0]
        expected = (size, size, self.shape.channels)
        if not frames.is_dense_tensor() or tuple(frames[0].shape()) != expected:
            shapes = [tuple(frame.shape()) for frame in frames]
            self._exclude(
                [
                    (at, f"is {found[1]}x{found[0]}, not {size}x{size}")
                    for at, found in enumerate(shapes)
                    if found != expected
                ]
            )
            return None
        return tuple(map(self._dali.to_torch, outputs))

    def _find_bad_frames(self, error: RuntimeError) -> None:
        """Learn which frames of the failed batch are to blame, and exclude them.

        Raises:
            LoaderError: none is.
        """
        asked = self._in_flight[0]
        jpegs = self._to_decode(asked)
        try:
            bad = undecodable(jpegs, self.shape.channels, self._threads)
        except NoFrameToBlame as reason:
            advice = "" if self._decoding.device is None else _ADVICE
            raise LoaderError(
                f"the batch of step {asked.step} failed, though not by its frames: {reason}"
                f"{advice}. It said: {error}"
            ) from error
        self._exclude([(at, "cannot be decoded") for at in bad])

    def _exclude(self, bad: list[tuple[int, str]]) -> None:
        """Quarantine the clips of bad frames and go back to the part that met them."""
        number, step = self._in_flight[0].number, self._in_flight[0].step
        segments = self._in_flight[0].runs
        known = len(self.quarantine)
        if (found := self._in_flight[0].found) is not None:
            bad = [(int(found.missing[at]), fault) for at, fault in bad]
        for at, fault in bad:
            row, frame = divmod(at, self.shape.sample_frames)
            clip = int(segments.clip[row])
            if clip not in self.quarantine:
                self.quarantine[clip] = step
                name = self.dataset.frame_name(clip, int(segments.start[row]) + frame)
                log.warning(
                    "step %d: frame %s %s; its clip is left out from here on "
                    "(`data_tools verify` names all faults)",
                    step,
                    name,
                    fault,
                )
        if len(self.quarantine) == known:
            # The requests do not heed the quarantine: going back would meet the frame for ever.
            rows = {at // self.shape.sample_frames for at, _ in bad}
            clips = {self.dataset.name(int(segments.clip[row])) for row in rows}
            raise LoaderError(
                f"clips {', '.join(sorted(clips))} have frames that cannot be decoded, but are "
                "asked for again; run `data_tools verify`"
            )
        self._in_flight.clear()
        self._jobs.clear()
        self._steps.clear()
        self._asked = None
        self._next = number


def _whole_batches(sampler: TrainSampler) -> Requests:
    return lambda step, quarantine: sampler.batch(step, quarantine=quarantine)
