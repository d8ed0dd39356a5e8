"""The training step alone: what it marks, learns, and saves."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from data_tools.errors import UsageError
from trainer.config.settings import Config, Data, Loss, Model, Train
from trainer.data.batch import Batch, Whole
from trainer.data.sampler import Pairing, Segments
from trainer.model.layers import layers_of
from trainer.model.syncnet import SyncNet
from trainer.model.transfer import Origin, Start
from trainer.train import checkpoint
from trainer.train import step as step_module
from trainer.train.distributed import Processes
from trainer.train.step import TrainStep, lr_factor
from trainer.train.timing import PHASES, StepClock

CPU = torch.device("cpu")


def made_batch(samples: int = 4, frames: int = 5, audio_frames: int = 5) -> Batch:
    generator = torch.Generator().manual_seed(1)
    shape = (samples, frames, 64, 64, 1)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    mfcc = torch.randn(samples, 4 * audio_frames, 13, generator=generator)
    number = np.arange(samples)
    segments = Segments(number, number, number, number, number % 2)
    return Batch(0, segments, pixels, mfcc, np.zeros((samples, audio_frames - 4), np.bool_))


@pytest.mark.parametrize(
    ("data", "loss", "frames", "audio_frames", "windows"),
    [
        (Data(), Loss(), 5, 5, (1, 1)),
        (Data(pairing="paired"), Loss("bins"), 5, 10, (1, 2)),
        (Data(pairing="multiway", run_frames=7), Loss("infonce"), 7, 7, (3, 3)),
    ],
)
def test_a_step_learns_and_marks_its_phases(
    data: Data, loss: Loss, frames: int, audio_frames: int, windows: tuple[int, int]
) -> None:
    config = Config(data, Model("small"), loss, train=Train(warmup_steps=0, average=0.9))
    step, clock = TrainStep(config, CPU, 10), StepClock(CPU)
    batch = made_batch(4, frames, audio_frames)
    lips, sound = step.embed(batch)
    assert (lips.shape[1], sound.shape[1]) == windows
    assert step.pairs(batch, 0).genuine_BKL.shape == (4, *windows)
    before = {name: value.clone() for name, value in step.model.state_dict().items()}
    clock.begin()
    clock.mark("data")
    value = step(batch, 0, clock)
    assert value.shape == () and value.isfinite() and not value.requires_grad
    times = clock.end().milliseconds()
    assert all(times[f"{phase}_ms"] > 0 for phase in PHASES)
    assert any(not torch.equal(before[k], v) for k, v in step.model.state_dict().items())
    assert step.inference_model is not step.model


@pytest.mark.parametrize("pairing", ["independent", "paired"])
def test_windows_of_a_run_are_embedded_as_if_each_were_decoded_alone(pairing: Pairing) -> None:
    sounds, count = 2 if pairing == "paired" else 1, 3
    alone = made_batch(6, 5, 5 * sounds)
    frames = made_batch(2, 5 + count - 1).frames_NRHWC
    alone = replace(alone, frames_NRHWC=frames.unfold(1, 5, 1).movedim(-1, 2).flatten(0, 1))
    alone.quiet_NA[1] = True
    steps = [
        TrainStep(Config(Data(pairing=pairing, windows_per_run=n)), CPU, 10) for n in (1, count)
    ]
    for step in steps:
        step.model.eval()
    (lips, sound), (run_lips, run_sound) = (
        step.embed(batch)
        for step, batch in zip(steps, (alone, replace(alone, frames_NRHWC=frames)), strict=True)
    )
    assert lips.shape[:2] == (6, 1) and sound.shape[:2] == (6, sounds)
    assert torch.allclose(run_lips, lips, atol=1e-4) and torch.equal(run_sound, sound)
    pairs, run_pairs = (step.pairs(alone, 0) for step in steps)
    assert torch.equal(run_pairs.false_BKL, pairs.false_BKL)
    assert torch.equal(run_pairs.genuine_BKL, pairs.genuine_BKL)


def test_runs_of_other_clips_are_false_unless_both_are_quiet() -> None:
    data, loss = Data(pairing="multiway", run_frames=7), Loss("infonce", others=0.5)
    step = TrainStep(Config(data, Model("small"), loss), CPU, 10)
    batch = made_batch(3, 7, 7)
    batch.segments.clip[:] = 5, 9, 5
    batch.quiet_NA[0, 1] = batch.quiet_NA[1, 2] = True
    across = step.pairs(batch, 0).strange_BKBL
    assert across is not None and across.shape == (3, 3, 3, 3)
    assert not across[0, :, 2].any() and not across[1, :, 1].any()
    assert not across[0, 1, 1, 2] and not across[1, 2, 0, 1]
    assert across[0, 0, 1].all() and across[2, :, 1].all()
    lips, sound = step.embed(batch)
    alone = TrainStep(Config(data, Model("small"), Loss("infonce")), CPU, 10)
    assert alone.pairs(batch, 0).strange_BKBL is None
    assert step.loss(lips, sound, step.pairs(batch, 0)) > alone.loss(
        lips, sound, alone.pairs(batch, 0)
    )


def test_a_saved_step_goes_on_to_the_bit(tmp_path: Path) -> None:
    config = Config(train=Train(epochs=1, average=0.5))
    step, clock, batch = TrainStep(config, CPU, 10), StepClock(CPU), made_batch()
    step(batch, 0, clock)
    progress = {"step": 1, "best": 0.5, "seconds": 1.0, "quarantine": {}}
    torch.save({**step.state_dict(), **progress, "config": config.as_dict()}, tmp_path / "last.pt")
    wanted = [float(step(batch, number, clock)) for number in (1, 2)]
    again = TrainStep(config, CPU, 10)
    again.load_state_dict(checkpoint.resume(tmp_path / "last.pt"))
    assert [float(again(batch, number, clock)) for number in (1, 2)] == wanted
    # an average that is asked for from now on begins with the weights
    del (state := checkpoint.load(tmp_path / "last.pt"))["average"]
    torch.save(state, tmp_path / "last.pt")
    late = TrainStep(config, CPU, 10)
    late.load_state_dict(checkpoint.resume(tmp_path / "last.pt"))
    for name, value in late.inference_model.state_dict().items():
        assert torch.equal(value, state["model"][name])


def test_a_longer_schedule_holds_from_the_first_step_after_a_resume(tmp_path: Path) -> None:
    def rates(step: TrainStep) -> list[float]:
        step.optimizer.step()
        step.schedule.step()
        return [step.optimizer.param_groups[0]["lr"], *step.schedule.get_last_lr()]

    config = Config(train=Train(warmup_steps=2, lr=1e-3))
    step = TrainStep(config, CPU, 4)
    for _ in range(4):
        last = rates(step)
    assert last == [0.0, 0.0]
    progress = {"step": 4, "best": 0.5, "seconds": 1.0, "quarantine": {}}
    torch.save({**step.state_dict(), **progress, "config": config.as_dict()}, tmp_path / "last.pt")
    for total in (4, 40):
        again = TrainStep(config, CPU, total)
        again.load_state_dict(checkpoint.resume(tmp_path / "last.pt"))
        wanted = 1e-3 * lr_factor(4, config.train, total)
        assert again.optimizer.param_groups[0]["lr"] == wanted == again.schedule.get_last_lr()[0]
        assert wanted > 9e-4 or total == 4
        assert rates(again)[0] == 1e-3 * lr_factor(5, config.train, total)


def test_the_learning_rate_rises_then_falls() -> None:
    config = Train(warmup_steps=4)
    factors = [lr_factor(step, config, 20) for step in range(21)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0] and factors[4] == 1.0
    assert factors[4:] == sorted(factors[4:], reverse=True) and factors[-1] == 0.0
    assert lr_factor(15, Train(schedule="constant"), 20) == 1.0


def test_what_a_cpu_cannot_do_is_refused() -> None:
    with pytest.raises(UsageError, match="fp16 needs a GPU"):
        TrainStep(Config(train=Train(precision="fp16")), CPU, 10)


def test_auto_is_bfloat16_where_the_device_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda", 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    for own, found in ((True, torch.bfloat16), (False, None)):
        monkeypatch.setattr(step_module, "has_bf16", lambda device, own=own: own)
        assert step_module._dtype("auto", gpu) is found
        assert step_module._dtype("auto", CPU) is found
        assert step_module._dtype("fp16", gpu) is torch.float16
    with pytest.raises(UsageError, match="bf16: Tesla T4 can only emulate it; use fp16 or fp32"):
        step_module._dtype("bf16", gpu)
    assert step_module._dtype("bf16", CPU) is torch.bfloat16


def test_a_compiled_step_is_the_same_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced, but run by torch itself: what the compiler makes of it takes a minute."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    saved, values = [], []
    for compiled in (False, True):
        torch._dynamo.reset()
        config = Config(train=Train(average=0.9, compile=compiled, warmup_steps=0))
        step = TrainStep(config, CPU, 10)
        values.append([float(step(made_batch(), number, StepClock(CPU))) for number in (0, 1)])
        saved.append(step.state_dict())
    assert values[0] == values[1]
    for part in ("model", "average"):
        plain, other = saved[0][part], saved[1][part]
        assert plain.keys() == other.keys()
        assert all(torch.equal(plain[name], other[name]) for name in plain)
    counters = torch._dynamo.utils.counters["stats"]
    assert counters["unique_graphs"] > 0


def test_what_cannot_be_compiled_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(graph: object, inputs: object) -> object:
        raise OSError("no C compiler\nat all")

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=broken))
    step = TrainStep(Config(train=Train(compile=True)), CPU, 10)
    with pytest.raises(
        UsageError,
        match=r"^train.compile: torch cannot compile this model here \(no C compiler\); leave",
    ):
        step(made_batch(), 0, StepClock(CPU))

    def never(*_: object, **__: object) -> None:
        raise RuntimeError("torch.compile is not supported on this system")

    monkeypatch.setattr(torch, "compile", never)
    with pytest.raises(UsageError, match="is not supported on this system"):
        TrainStep(Config(train=Train(compile=True)), CPU, 10)


def test_a_mistake_of_ours_is_not_the_compilers() -> None:
    step = TrainStep(Config(), CPU, 10)
    with pytest.raises(RuntimeError, match="size") as caught:
        step(made_batch(4, 5, 4), 0, StepClock(CPU))
    assert not isinstance(caught.value, UsageError)


def test_what_is_shared_is_compiled_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []

    class Shared(torch.nn.Module):
        def __init__(self, module: torch.nn.Module, device_ids: object) -> None:
            super().__init__()
            self.module = module

    monkeypatch.setattr(torch.nn.parallel, "DistributedDataParallel", Shared)
    monkeypatch.setattr(step_module, "compile_forward", compiled.append)
    step = TrainStep(
        Config(train=Train(compile=True)), CPU, 10, processes=Processes(rank=0, world=2)
    )
    (whole,) = compiled
    assert isinstance(whole, Shared) and whole.module is step.model


def parts_of(batch: Batch, parts: int) -> list[Batch]:
    """The batch as a loader with so many parts gives it."""
    whole, share = Whole(batch.segments, batch.quiet_NA), len(batch.segments) // parts
    cuts = [slice(at, at + share) for at in range(0, len(batch.segments), share)]
    return [
        Batch(
            0, batch.segments[at], batch.frames_NRHWC[at], batch.mfcc_NFC[at],
            batch.quiet_NA[at], whole,
        )
        for at in cuts
    ]  # fmt: skip


@pytest.mark.parametrize("loss", ["contrastive", "infonce", "bce", "bins"])
def test_parts_give_the_step_of_the_whole_without_batch_norm(loss: str) -> None:
    """Batch norm in evaluation mode; some windows are quiet: parts differ in their false pairs."""
    data = Data(pairing="multiway", run_frames=9)
    batch = made_batch(8, 9, 9)
    batch.quiet_NA[:3, 1:4] = True
    weights, values = [], []
    for parts in (1, 2, 4):
        train = Train(batch_size=8, accumulate=parts, warmup_steps=0, clip_grad=1.0, lr=1e-2)
        config = Config(data, Model("small"), Loss(loss), train=train)  # type: ignore[arg-type]
        step, clock = TrainStep(config, CPU, 10), StepClock(CPU)
        step.model.eval()
        # plain gradient descent: AdamW's first steps are signs, which rounding turns
        step.optimizer = torch.optim.SGD(step.optimizer.param_groups, lr=1.0)  # type: ignore[assignment]
        step.schedule = torch.optim.lr_scheduler.LambdaLR(step.optimizer, lambda _: 1.0)
        clock.begin()
        given = [batch] if parts == 1 else parts_of(batch, parts)
        values.append(float(step.take(iter(given), 0, clock)))
        times = clock.end().milliseconds()
        assert all(times[f"{phase}_ms"] > 0 for phase in PHASES)
        weights.append(torch.cat([p.detach().flatten() for p in step.model.parameters()]))
    assert values[1:] == pytest.approx([values[0]] * 2, rel=1e-5)
    moved = (weights[0] - torch.cat([p.detach().flatten() for p in fresh().parameters()])).norm()
    for other in weights[1:]:
        assert (other - weights[0]).norm() < 1e-3 * moved


def fresh() -> SyncNet:
    """The weights that a step with the default seed begins with."""
    torch.manual_seed(0)
    return SyncNet("small")


def test_batch_norm_sees_each_part() -> None:
    config = Config(train=Train(batch_size=8, accumulate=2, warmup_steps=0))
    step = TrainStep(config, CPU, 10)
    step.take(iter(parts_of(made_batch(8), 2)), 0, StepClock(CPU))
    assert int(step.model.state_dict()["netcnnlip.1.num_batches_tracked"]) == 2


def test_what_was_loaded_learns_at_its_own_rate_and_frozen_layers_not_at_all(
    tmp_path: Path,
) -> None:
    source = SyncNet("small")
    layers = tuple(name for name in layers_of("small") if name != "sound 7")
    keys = [k for k in source.state_dict() if not k.startswith("netfcaud.3")]
    start = Start(Origin("a" * 64, layers), {k: source.state_dict()[k].clone() for k in keys})
    model = Model("small", init="x.pt", freeze="lips:2", init_lr=0.1)
    train = Train(batch_size=4, warmup_steps=0, lr=1e-3, average=0.9, schedule="constant")
    config = Config(model=model, train=train)
    step, batch = TrainStep(config, CPU, 10, start=start), made_batch()
    assert all(torch.equal(step.model.state_dict()[k], v) for k, v in start.weights.items())
    before = {name: value.detach().clone() for name, value in step.model.state_dict().items()}
    step(batch, 0, StepClock(CPU))
    # the first step of Adam moves a weight by about its learning rate
    moved = {
        name: (value.detach() - before[name]).abs().max().item()
        for name, value in step.model.named_parameters()
    }
    frozen = ("netcnnlip.0.", "netcnnlip.1.", "netcnnlip.3.", "netcnnlip.4.")
    assert all((size == 0) == name.startswith(frozen) for name, size in moved.items())
    assert moved["netfcaud.3.weight"] == pytest.approx(1e-3, rel=0.05)
    assert moved["netfclip.3.weight"] == pytest.approx(1e-4, rel=0.05)
    state = step.state_dict()
    assert torch.equal(
        state["model"]["netcnnlip.1.running_mean"], before["netcnnlip.1.running_mean"]
    )
    progress = {"step": 1, "best": 0.5, "seconds": 1.0, "quarantine": {}}
    torch.save({**state, **progress, "config": config.as_dict()}, tmp_path / "last.pt")
    wanted = [float(step(batch, number, StepClock(CPU))) for number in (1, 2)]
    resumed = checkpoint.resume(tmp_path / "last.pt")
    assert resumed.progress.init == start.origin
    again = TrainStep(config, CPU, 10, start=Start(start.origin, {}))
    again.load_state_dict(resumed)
    assert [float(again(batch, number, StepClock(CPU))) for number in (1, 2)] == wanted
    # rates given anew hold for both groups
    faster = replace(config, model=replace(model, init_lr=0.5), train=replace(train, lr=2e-3))
    other = TrainStep(faster, CPU, 10, start=Start(start.origin, {}))
    other.load_state_dict(checkpoint.resume(tmp_path / "last.pt"))
    assert [group["lr"] for group in other.optimizer.param_groups] == [2e-3, 1e-3]
