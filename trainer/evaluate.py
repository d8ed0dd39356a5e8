"""How well does a network find offsets?  `python -m trainer.evaluate --weights W --data.shards DIR`

As in the literature, the sound is moved by up to 15 frames to either side, and the shift at which
it fits the lips best must be right within one frame. K says how many frames of context there are to
tell by: from 5, a fifth of a second and one window of the network, to 15, whose K - 4 windows are
averaged. Wherever in a clip K frames begin is a start, and each start is one question.

A shift that leads beyond the clip is left out of the search, which makes starts near an end easier.
So three more columns stand beside the share of starts that are right: "inside" counts only starts
from which every shift lies inside the clip; "speech" of these only those that are louder than 20 dB
below the clip's loud parts, since nothing can be told in a pause; "zero-padded" counts all starts,
with zeros for the sound beyond the clip, as the official code does.

Then there are the AUC and the equal error rate of telling genuine pairs from false ones, and LSE-C
and LSE-D of whole clips. The 95 % intervals come from resampled sources, since clips of one source
are alike. The same command gives the same files.
"""

import re
import sys
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import NonNegativeInt
from rich.console import Console

from data_tools import cli
from data_tools.atomic import try_folder
from data_tools.errors import UsageError
from data_tools.fetch_ahead import fetching_splits, note
from data_tools.lock import locked
from data_tools.mirror import open_set, shown_name
from data_tools.names import real_path
from data_tools.remote import is_remote
from data_tools.remote_options import add_local_options, local_options, set_name
from trainer.config.crops import measured_notes
from trainer.model.device import find_device, naming_device_faults
from trainer.model.fold import fold
from trainer.model.weights import PACKAGED, find_weights, load_model
from trainer.score.evaluation import CHANCE, EvaluationOptions, evaluate, read_offsets
from trainer.score.evaluation_report import (
    CLIPS,
    JSON,
    PICTURE,
    shift_lines,
    table,
    write_report,
)
from trainer.score.intervals import Evaluation, summarise
from trainer.score.protocol import (
    PUBLISHED,
    SETS_DIFFER,
    Protocol,
    protocol_table,
    random_table,
    summarise_protocol,
)
from trainer.score.speakers import speaker_finder

_EPILOG = """\
examples:
  python -m trainer.evaluate --weights runs/x/best.pt --data.shards shards
      every clip of the test split, into evaluations/x-best-shards-test
  python -m trainer.evaluate --weights runs/x/best.pt --data.shards shards --split val --shift-test
      does the offset follow when the sound is moved?
  python -m trainer.evaluate --weights runs/x/best.pt --data.shards shards --swapped --out control
      the control: with the sound of another clip, which must score at chance
  python -m trainer.evaluate --weights runs/x/best.pt --data.shards lrs2 --protocol lrs2
      beside what is published on LRS2; for the same table of strangers of your own, pack them with
      --ratios 0:0:100, so that all of them are in the test split

exit status: 0 measured, 1 bad data or a shift test that fails, 2 wrong usage
"""


def _parser() -> ArgumentParser:
    parser = cli.command("python -m trainer.evaluate", __doc__ or "", _EPILOG)
    add = parser.add_argument
    add(
        "--weights",
        type=find_weights,
        required=True,
        help=f"best.pt of a run, any SyncNet's weights, or of the package: {', '.join(PACKAGED)}",
    )
    add(
        "--data.shards",
        type=set_name,
        required=True,
        metavar="DIR",
        help="shards that `data_tools pack` wrote, or their URL; the clips must be in sync, or "
        "see --offsets",
    )
    add_local_options(parser, "data")
    add(
        "--out",
        type=cli.file_name,
        help="folder for the files; default evaluations/<weights>-<shards>-<split>, with the run's "
        "name before its best, last or step-*",
    )
    cli.add_options(parser, EvaluationOptions)
    add(
        "--offsets",
        type=cli.file_name,
        metavar="CSV",
        help="by how much clips are off themselves, which is then right instead of 0 (columns clip "
        "and offset_frames: truth.csv of `data_tools synth`, or clips.csv of another network here)",
    )
    add("--device", type=str, default="auto", help="auto (a GPU if there is one), cpu or cuda[:n]")
    add("--threads", type=NonNegativeInt, default=0, help="of decoding; 0 is one per core")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Command line; 0 measured, 1 bad data or a shift test that fails, 2 wrong usage."""
    return cli.exit_status(
        "evaluate", lambda: _run(argv), "interrupted; files it had written are whole"
    )


def _run(argv: list[str] | None) -> int:
    args = cli.parse(_parser(), argv)
    options = cli.read_options(EvaluationOptions, args)
    if options.swapped and (options.shift_test or args.offsets):
        option = "--shift-test" if options.shift_test else "--offsets"
        raise UsageError(f"{option} needs each clip's own sound: leave out --swapped")
    speaker_finder(options.speakers)  # a mistake is told before hours of measuring
    device = find_device(args.device, "--device")
    out = args.out or default_folder(args.weights, args.data.shards, options)
    try:
        try_folder(out)
    except OSError as error:
        raise UsageError(f"--out: {error}") from None
    with locked(out, "evaluate"), naming_device_faults():
        evaluation, protocol, left_out = _measure(args, options, device, out)
    return _show(evaluation, protocol, left_out, options, out)


def default_folder(weights: Path, shards: str, options: EvaluationOptions) -> Path:
    """Where the files go unless it is said: by another name for each network and each set.

    Args:
        weights: their file; all runs call theirs alike, so that of one is named by its folder.
        shards: folder or URL of the set.
    """
    network, of = weights.stem, real_path(weights).parent.name
    if re.fullmatch(r"best|last|step-\d+", network) and of:
        network = f"{of}-{network}"
    name = shown_name(shards).rstrip("/") if is_remote(shards) else str(real_path(shards))
    held = re.sub(r"[^\w.-]+", "_", name.rpartition("/")[2]) or "shards"
    kind = "-swapped" if options.swapped else ""
    return Path("evaluations") / f"{network}-{held}-{options.split}{kind}"


def _measure(
    args: Namespace, options: EvaluationOptions, device: str, out: Path
) -> tuple[Evaluation, Protocol | None, dict[str, str]]:
    """Measure and write all files; returns the figures, and what was left out and why."""
    model = fold(load_model(args.weights)).to(device)
    own = read_offsets(args.offsets) if args.offsets else None
    shards = open_set(args.data.shards, local_options(args.data))
    for told in measured_notes(args.weights, [shards]):
        print(told)
    with fetching_splits([(shards, options.split)], note):
        measured, left_out = evaluate(
            shards, model, options, own=own, device=device, threads=args.threads
        )
    evaluation = summarise(measured, options)
    protocol = summarise_protocol(measured, options) if options.protocol else None
    write_report(
        out,
        evaluation,
        measured,
        left_out,
        options=options,
        weights=args.weights,
        model=model.name,
        own_offsets=args.offsets,
        protocol=protocol,
    )
    return evaluation, protocol, left_out


def _show(
    evaluation: Evaluation,
    protocol: Protocol | None,
    left_out: dict[str, str],
    options: EvaluationOptions,
    out: Path,
) -> int:
    """Print what was found; returns the exit status."""
    console = Console(
        width=None if sys.stdout.isatty() else 120, markup=False, highlight=False, emoji=False
    )

    def say(text: str) -> None:
        console.print(text, soft_wrap=True)

    console.print(table(evaluation))
    if protocol is not None:
        console.print(protocol_table(evaluation, "this network"))
        say(SETS_DIFFER)
        for row in PUBLISHED:
            say(f"{row.network}: {row.paper}")
        console.print(random_table(protocol))
    if options.swapped:
        say(f"every clip had another clip's sound: chance is {CHANCE:.1%}")
    for clip, reason in left_out.items():
        say(f"left out: {clip}: {reason}")
    faults = []
    if evaluation.shift_test is not None:
        rows = evaluation.shift_test
        for line in shift_lines(rows):
            say(line)
        if not all(row.follows for row in rows if row.clips):
            faults.append("the offset does not follow the moved sound")
        if not any(row.clips for row in rows):
            faults.append("no clip has room for the shift test")
    for fault in faults:
        print(f"evaluate: {fault}", file=sys.stderr)
    say(f"wrote {out / JSON}: these figures")
    say(f"wrote {out / CLIPS}: one row per clip")
    say(f"wrote {out / PICTURE}: histograms of the offsets")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
