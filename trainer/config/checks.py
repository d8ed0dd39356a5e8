"""What no run could use: settings out of range, or that do not go together."""

import math
from dataclasses import fields
from typing import Any

from data_tools.errors import UsageError
from data_tools.mfcc import WINDOW_FRAMES
from data_tools.records import RecordError, convert
from data_tools.remote import is_remote
from trainer.config.settings import (
    FIXED_ON_RESUME,
    NO_MANIFEST,
    SECTIONS,
    Config,
    Data,
    Model,
    several,
)
from trainer.data import augment
from trainer.data.sampler import check_runs
from trainer.model.layers import frozen_layers
from trainer.model.torch_file import plain_name

MOST_TEXT = 4096  # characters, as the longest path
_MOST_SETS = 100
_MOST_FRAMES = 10**6  # a step, over all processes


def check(config: Config) -> None:
    """Refuse values that no run could use.

    Raises:
        UsageError: names the setting and what it must be.
    """
    _check_whole_numbers(config)
    _check_names(config)
    _check_sets(config.data)
    _check_amounts(config)
    augment.check(config.augment)
    _check_init(config.model)
    train, data = config.train, config.data
    check_runs(data.windows_per_run, data.pairing, train.batch_size, data.windows_per_clip)
    runs, in_runs = train.batch_size // data.windows_per_run, ""
    if data.windows_per_run > 1:
        in_runs = f" in runs of {data.windows_per_run} windows (data.windows_per_run)"
    if runs % train.accumulate:
        raise UsageError(
            f"train.batch_size {train.batch_size}{in_runs} does not make {train.accumulate} equal "
            "parts (train.accumulate)"
        )
    if runs * data.sample_frames > _MOST_FRAMES:
        raise UsageError(
            f"train.batch_size {train.batch_size}{in_runs} of {data.sample_frames} frames each is "
            f"more than {_MOST_FRAMES:,} frames a step; lower it"
        )
    if (data.decoder, data.decode_device) == ("turbo", "gpu"):
        raise UsageError(
            "data.decoder turbo decodes on the CPU, and data.decode_device gpu does not: leave one "
            "of them at auto"
        )
    if data.order == "blocks":
        _check_blocks(data, train.batch_size, in_runs)
    if config.loss.others and (config.loss.name, data.pairing) != ("infonce", "multiway"):
        raise UsageError(
            "loss.others compares runs with each other, which needs --loss.name infonce "
            "--data.pairing multiway"
        )
    if config.loss.name == "infonce" and data.pairing == "independent":
        raise UsageError(
            "loss.name infonce picks one sound among several, which data.pairing independent does "
            "not give: add --data.pairing multiway (or paired)"
        )


def _check_blocks(data: Data, batch_size: int, in_runs: str) -> None:
    runs = batch_size // data.windows_per_run
    if not data.block_gb > 0:
        raise UsageError(f"data.block_gb must be positive, not {data.block_gb}")
    if 0 < data.local_gb < 2 * data.block_gb:
        raise UsageError(
            f"data.local_gb {data.local_gb:g} must be twice data.block_gb {data.block_gb:g} or "
            "more: a block is fetched while another is trained on"
        )
    if len(data.folders) < 2 and runs % data.nodes:
        raise UsageError(
            f"train.batch_size {batch_size}{in_runs} does not make {data.nodes} equal parts "
            "(data.nodes); give another of the two"
        )


def _check_init(model: Model) -> None:
    if not 0 < model.init_lr <= 1:
        raise UsageError(f"model.init_lr must lie above 0, up to 1, not {model.init_lr}")
    if model.init is None:
        for name, given in (("freeze", model.freeze), ("init_lr", model.init_lr != 1)):
            if given is not None and given is not False:
                raise UsageError(f"model.{name} is for the layers of model.init: give that as well")
    elif model.freeze is not None:
        frozen_layers(model.freeze, model.name)


def _check_whole_numbers(config: Config) -> None:
    train, data, run = config.train, config.data, config.run
    for name, value, least, most in (
        ("train.batch_size", train.batch_size, 1, 10**6),
        ("train.accumulate", train.accumulate, 1, 10**6),
        ("train.epochs", train.epochs, 1, 10**9),
        ("train.steps", train.steps, 0, 10**12),
        ("train.val_every", train.val_every, 1, 10**9),
        ("train.warmup_steps", train.warmup_steps, 0, 10**9),
        ("train.seed", train.seed, 0, 2**63 - 1),
        ("data.ready", data.ready, 1, 1000),
        ("data.threads", data.threads, 0, 1024),
        ("data.curriculum", data.curriculum, 0, 10**9),
        ("data.windows_per_clip", data.windows_per_clip, 1, 10**6),
        ("data.max_shift", data.max_shift, 1, 10**6),
        ("data.windows_per_run", data.windows_per_run, 1, 10**4),
        ("data.nodes", data.nodes, 1, 10**4),
        ("data.run_frames", data.run_frames, WINDOW_FRAMES, 10**4),
        ("data.val_clips", data.val_clips, 1, 10**9),
        ("data.val_runs", data.val_runs, 1, 10**4),
        ("run.keep", run.keep, 0, 10**6),
        ("run.save_steps", run.save_steps, 0, 10**12),
    ):
        if value < least:
            raise UsageError(f"{name} must be at least {least}, not {in_digits(value)}")
        if value > most:
            raise UsageError(f"{name} must be at most {most}, not {in_digits(value)}")


def _check_names(config: Config) -> None:
    for name, text in (
        *(("data.shards", shards) for shards in several(config.data.shards)),
        ("data.local", config.data.local),
        ("data.clips", config.data.clips),
        *(("data.manifest", manifest) for manifest in several(config.data.manifest)),
        ("model.init", config.model.init),
        ("model.freeze", config.model.freeze),
        ("data.cache", config.data.cache),
        ("run.dir", config.run.dir),
        ("train.device", config.train.device),
    ):
        if text == "":
            raise UsageError(f"{name} is empty; leave it out for its default")
        if text is not None and (len(text) > MOST_TEXT or "\0" in text):
            raise UsageError(f"{name} is no name: it has a NUL or over {MOST_TEXT} characters")


def _check_sets(data: Data) -> None:
    """Refuse lists of sets, weights and manifests that do not go together."""
    sets = len(data.folders)
    if data.shards == ():
        raise UsageError("data.shards is empty; leave it out for its default")
    if sets > _MOST_SETS:
        raise UsageError(f"data.shards names {sets} sets, over {_MOST_SETS}; pack some together")
    if sets > 1 and data.clips is not None:
        raise UsageError(
            "data.clips is packed into one folder of shards, but data.shards names "
            f"{sets}: pack the clips with `python -m data_tools pack` first"
        )
    if data.clips is not None and any(map(is_remote, several(data.shards))):
        raise UsageError(
            "data.clips cannot be packed into a URL by a training: pack the clips there with "
            "`python -m data_tools pack` first"
        )
    if data.weights is not None:
        wrong = [weight for weight in data.weights if not 0 < weight < math.inf]
        if wrong:
            raise UsageError(f"data.weights must be positive numbers, not {wrong[0]}")
        if len(data.weights) != max(1, sets):
            raise UsageError(
                f"data.weights has {len(data.weights)} value(s) for {max(1, sets)} set(s) of "
                "data.shards: give one for each"
            )
    if data.manifest is not None and len(several(data.manifest)) != max(1, sets):
        raise UsageError(
            f"data.manifest names {len(several(data.manifest))} file(s) for {max(1, sets)} set(s) "
            f"of data.shards: give one for each, or {NO_MANIFEST} where a set has none"
        )


def _check_amounts(config: Config) -> None:
    train, margin, load = config.train, config.loss.margin, config.data.hw_decoder_load
    for name, amount in (
        ("train.weight_decay", train.weight_decay),
        ("train.clip_grad", train.clip_grad),
        ("run.save_minutes", config.run.save_minutes),
        ("data.cache_gb", config.data.cache_gb),
        ("data.local_gb", config.data.local_gb),
    ):
        if not 0 <= amount < math.inf:
            raise UsageError(f"{name} must be a number that is not negative, not {amount}")
    if not 0 <= train.average < 1:
        raise UsageError(f"train.average must lie in 0..1, not {train.average}")
    if not 0 < train.lr < math.inf:
        raise UsageError(f"train.lr must be positive, not {train.lr}")
    if margin is not None and not 0 < margin < math.inf:
        raise UsageError(f"loss.margin must be positive, not {margin}")
    if not 0 <= config.loss.others <= 1:
        raise UsageError(f"loss.others must lie in 0..1, not {config.loss.others}")
    if not 0 <= load <= 1:
        raise UsageError(f"data.hw_decoder_load must lie in 0..1, not {load}")


def in_digits(value: int) -> str:
    """An integer for a message, short whatever it is."""
    return str(value) if abs(value) < 10**20 else "an immense number"


def from_dict(saved: object) -> Config:
    """The settings that a checkpoint holds (`Config.as_dict`); what later versions added is unset.

    Raises:
        UsageError: names the entry that is missing, not known, or of another type or size.
    """
    if not isinstance(saved, dict):
        raise UsageError("config is no table of settings")
    for name in SECTIONS:
        if not isinstance(saved.get(name), dict):
            raise UsageError(f"config has no section {name}")
        check_section(saved[name], name, f"config.{name}")
    for name in saved.keys() - SECTIONS.keys():
        raise UsageError(f"config.{plain_name(name)} is no section that this version knows")
    for name in FIXED_ON_RESUME:
        group, key = name.split(".")
        if key not in saved[group]:
            raise UsageError(f"config has no {name}")
    try:
        config = convert(saved, Config)
    except RecordError as error:
        raise UsageError(f"config.{error}") from None
    check(config)
    return config


def check_section(table: dict[Any, Any], section: str, where: str) -> None:
    """Refuse what the section has no setting for, and values of other types.

    Args:
        where: the table's place, for messages: "config.train".

    Raises:
        UsageError: names the entry.
    """
    names = {setting.name for setting in fields(SECTIONS[section])}
    for name in table:
        if name not in names:
            raise UsageError(
                f"{where} has {plain_name(name)}, which is no setting; there are "
                f"{', '.join(sorted(names))}"
            )
    try:
        convert(table, SECTIONS[section], strict=False)
    except RecordError as error:
        # of names among several, jsonargparse tells which there are
        if "invalid enum value" not in str(error):
            raise UsageError(f"{where}.{error}") from None
