"""How likely an answer is right, from what is known of it: a logistic regression.

It is fitted to the answers of `trainer.score.answers`. What it says of a speaker in the table of
reliability was fitted without that speaker: the answers about one are alike, and would otherwise
vouch for each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from data_tools.errors import UserError
from trainer.model.calibration import TERMS, LogisticCalibration, Mode, Reliability, sigmoid
from trainer.score.answers import Answer

USED = {
    "centred": ("one", "ln_clearness", "ln_length", "ln_null_z"),
    "masked": ("one", "ln_clearness", "ln_length"),
}
# More of these never makes an answer less likely to be right.
_RISING = ("ln_clearness", "ln_null_z")
NEEDED = (0.9, 0.95, 0.97, 0.98)  # chances from which on an answer may be trusted
LEAST = (25, 38, 50, 60)  # windows below which none may be
WRONG = 0.01  # share of the trusted answers that may be wrong, at every length
_GROUPS = 20  # at most are left out in turn
_BINS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 1.0)
_PENALTY = 0.1  # on the squares of coefficients: without it none is finite where all are right
_FEWEST = 60  # answers that a calibration can rest on


class CalibrationError(UserError):
    """There is too little to calibrate with; says why in one sentence."""


@dataclass(frozen=True)
class Row:
    """What became of the answers of one length, each judged without its own speaker.

    Shares are of the weights.

    Attributes:
        length: windows.
        answers: how many, about own sound.
        right: share of those.
        trusted: share of those that are trusted.
        wrong: share of the trusted ones, about any sound, that are wrong; nan if none is.
        other_trusted: share of those about another's sound that are trusted.
    """

    length: int
    answers: int
    right: float
    trusted: float
    wrong: float
    other_trusted: float


def calibrate(
    answers: Sequence[Answer], mode: Mode, least_chance: float = NEEDED[0]
) -> tuple[LogisticCalibration, list[Row]]:
    """Fit to all answers; judge it on each group of speakers by a fit to the others.

    Which chance is needed, and how many windows, is what trusts most answers while at most WRONG of
    the trusted ones are wrong at every length; the strictest choice where none is so good.

    Args:
        mode: that the answers were scored in, "centred" or "masked".
        least_chance: below which none may be trusted, whatever the answers allow.

    Returns:
        the calibration, and a row for each length.

    Raises:
        CalibrationError: too few answers, or all right, or all wrong.
    """
    table = _Table.of(answers, mode)
    if len(answers) < _FEWEST:
        raise CalibrationError(
            f"{len(answers)} answers are too few to calibrate with: {_FEWEST} are needed; give "
            "more or longer held-out clips"
        )
    right = table.right_N.mean()
    if right in (0, 1):
        raise CalibrationError(f"{'all' if right else 'no'} answers are right: nothing to tell by")
    held_out_N = _each_without_its_group(table)
    needed, least = _choose(table, held_out_N, least_chance)
    coefficients = _fit(table, np.ones(len(answers), np.bool_))
    calibration = LogisticCalibration(
        mode="centred" if mode == "centred" else "masked",
        coefficients=tuple(np.round(coefficients, 5).tolist()),
        windows=table.windows,
        needed=needed,
        least_windows=least,
        speakers=len(set(table.speakers)),
        reliability=_reliability(table, held_out_N),
    )
    return calibration, _rows(table, _trusted(table, held_out_N, needed, least))


@dataclass(frozen=True)
class _Table:
    """Answers as columns, (N,) each; `terms_NT` has those of TERMS, nought where unused."""

    terms_NT: NDArray[np.float64]
    used_T: NDArray[np.bool_]
    length_N: NDArray[np.int64]
    edge_N: NDArray[np.bool_]
    right_N: NDArray[np.bool_]
    own_N: NDArray[np.bool_]
    weight_N: NDArray[np.float64]
    speakers: list[str]
    windows: tuple[int, int]

    @classmethod
    def of(cls, answers: Sequence[Answer], mode: Mode) -> "_Table":
        used = np.array([term in USED[mode] for term in TERMS])
        lengths = [answer.length for answer in answers] or [1]
        windows = min(lengths), max(lengths)
        terms = [answer.evidence.terms(windows) for answer in answers]
        return cls(
            np.array(terms).reshape(-1, len(TERMS)) * used,
            used,
            np.array([answer.length for answer in answers], np.int64),
            np.array([answer.at_edge for answer in answers], np.bool_),
            np.array([answer.right for answer in answers], np.bool_),
            np.array([answer.own for answer in answers], np.bool_),
            np.array([answer.weight for answer in answers]),
            [answer.speaker for answer in answers],
            windows,
        )


def _fit(table: _Table, chosen_N: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(len(TERMS),) coefficients by weighted maximum likelihood, ridge penalty but on the first."""
    terms_NT, weight_N = table.terms_NT[chosen_N], table.weight_N[chosen_N]
    right_N = table.right_N[chosen_N]

    def loss(coefficients_T: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logits_N = terms_NT @ coefficients_T
        slopes_T = coefficients_T * (np.arange(len(TERMS)) > 0)
        losses_N = np.logaddexp(0, logits_N) - right_N * logits_N
        gradient_T = terms_NT.T @ (weight_N * (sigmoid(logits_N) - right_N))
        penalty = _PENALTY / 2 * (slopes_T @ slopes_T)
        return float(weight_N @ losses_N + penalty), gradient_T + _PENALTY * slopes_T

    bounds = [
        (0.0 if term in _RISING else -np.inf, np.inf) if used else (0.0, 0.0)
        for term, used in zip(TERMS, table.used_T, strict=True)
    ]
    from scipy.optimize import minimize  # slow to import, and who measures fits nothing

    found = minimize(loss, np.zeros(len(TERMS)), jac=True, bounds=bounds, method="L-BFGS-B")
    return np.asarray(found.x, np.float64)


def _each_without_its_group(table: _Table) -> NDArray[np.float64]:
    """(N,) chances, each from a fit to the answers about other groups of speakers.

    Of one speaker there is no other: it is judged by the fit to itself.
    """
    names = sorted(set(table.speakers))
    group_of = {name: at % _GROUPS for at, name in enumerate(names)}
    group_N = np.array([group_of[name] for name in table.speakers])
    chances_N = np.empty(len(group_N))
    for group in set(group_N.tolist()):
        out_N = group_N == group
        others_N = ~out_N if not out_N.all() else out_N
        chances_N[out_N] = sigmoid(table.terms_NT[out_N] @ _fit(table, others_N))
    return chances_N


def _trusted(
    table: _Table, chance_N: NDArray[np.float64], needed: float, least: int
) -> NDArray[np.bool_]:
    trusted: NDArray[np.bool_] = (chance_N >= needed) & (table.length_N >= least) & ~table.edge_N
    return trusted


def _choose(table: _Table, chance_N: NDArray[np.float64], least_chance: float) -> tuple[float, int]:
    """The chance and the windows that are needed."""
    chances = [needed for needed in NEEDED if needed > least_chance]
    best, chosen = 0.0, (max(NEEDED[-1], least_chance), LEAST[-1])
    for needed in (least_chance, *chances):
        for least in LEAST:
            trusted_N = _trusted(table, chance_N, needed, least)
            wrong = [row.wrong for row in _rows(table, trusted_N)]
            kept = float(table.weight_N[trusted_N].sum())
            if kept > best and not any(share > WRONG for share in wrong):
                best, chosen = kept, (needed, least)
    return chosen


def _rows(table: _Table, trusted_N: NDArray[np.bool_]) -> list[Row]:
    def share(part_N: NDArray[np.bool_], whole_N: NDArray[np.bool_]) -> float:
        whole = table.weight_N[whole_N].sum()
        return float(table.weight_N[part_N & whole_N].sum() / whole) if whole else float("nan")

    rows = []
    for length in sorted(set(table.length_N.tolist())):
        here_N = table.length_N == length
        own_N, other_N = here_N & table.own_N, here_N & ~table.own_N
        rows.append(
            Row(
                length,
                int(own_N.sum()),
                share(table.right_N, own_N),
                share(trusted_N, own_N),
                share(~table.right_N, here_N & trusted_N),
                share(trusted_N, other_N),
            )
        )
    return rows


def _reliability(table: _Table, chance_N: NDArray[np.float64]) -> tuple[Reliability, ...]:
    rows = []
    for low, high in pairwise(_BINS):
        here_N = (chance_N >= low) & ((chance_N < high) | (high == 1))
        weight = float(table.weight_N[here_N].sum())
        if weight:
            stated = float(table.weight_N[here_N] @ chance_N[here_N]) / weight
            right = float(table.weight_N[here_N] @ table.right_N[here_N]) / weight
            rows.append(Reliability(round(stated, 4), round(right, 4), int(here_N.sum())))
    return tuple(rows)
