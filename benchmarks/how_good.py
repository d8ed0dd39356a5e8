"""The README's one table of accuracy: every kind of video, with chance and limits.

Its figures are those of `benchmarks.real_speech` and of the demonstration.
"""

from typing import Any

from benchmarks.markdown import Row, table

SHIPPED = "multiway, seed 0"  # the network that comes with the package
_CHANCE = ["9.7%"] * 3  # 3 of 31 shifts


def readme(real: dict[str, Any], demo: dict[str, Any]) -> str:
    """The table and what it counts.

    Args:
        real: result of `benchmarks.real_speech`.
        demo: result of the demonstration.
    """
    heads = [f"{demo['test_clips']} synthetic heads (the demonstration's network)"]
    heads += [f"{demo[f'test_accuracy_k{context}']:.1%}" for context in (5, 15)]
    rows = [[*heads, "", "drawn heads"], *_rows(real), ["chance", *_CHANCE, ""]]
    return (
        table(["never seen in training", "5 frames", "15 frames", "whole clip", "limits"], rows)
        + "\nShare of offsets found within one frame (40 ms) of the truth, among 31 candidates, "
        "from 5 frames of video, from 15, and from the whole clip. Of real speech, where it is "
        "not silent.\n"
    )


def _rows(real: dict[str, Any]) -> list[Row]:
    same, studio = real["unseen_clips"][SHIPPED], real["unseen_studio_speakers"]
    known = [row for row in real["unseen_speakers"] if row["listed"] is not None]
    errors = [abs(row["offset"] - row["listed"]) for row in known]
    sure = [error for error, row in zip(errors, known, strict=True) if row["trusted"]]
    return [
        [
            f"{same['clips']} new sentences of the speaker it was trained on",
            *_shares(same),
            "one speaker, one studio",
        ],
        [
            f"{studio['clips']} clips of other speakers in a studio",
            *_shares(studio),
            "few clips; weak from few frames",
        ],
        [
            f"{len(known)} videos of other speakers, these among them",
            "",
            "",
            f"{sum(error <= 1 for error in errors)} of {len(known)}",
            f"sure of {len(sure)}, {sum(error > 2 for error in sure)} of them off by over 2; "
            "the truth is another network's",
        ],
    ]


def _shares(measured: dict[str, Any]) -> Row:
    speech = measured["accuracy_speech"]
    shares = speech["k5"], speech["k15"], measured["accuracy"]["clip"]
    return [f"{share['value']:.1%}" for share in shares]
