"""What two small trainings reach: the `summary.json` of their runs, kept in results/.

The demonstration is `python -m trainer.run`, the other `python -m trainer.run --config
grid_mouths.yaml --data.clips CLIPS`.
"""

from typing import Any

from benchmarks.markdown import table

RESULTS = {"demo": "synthetic heads", "grid_mouths": "GRID, one speaker, 238 sentences"}


def readme(results: dict[str, dict[str, Any]]) -> str:
    """Accuracy on unseen clips.

    Args:
        results: summaries by the names of `RESULTS`.
    """
    rows = [
        [
            RESULTS[name],
            f"{result['test_clips']}",
            f"{result['seconds']:.0f} s",
            f"{result['test_accuracy_k5']:.1%}",
            f"{result['test_accuracy_k15']:.1%}",
            f"{result['test_auc']:.3f}",
            f"{result['test_swapped_accuracy_k15']:.1%}",
        ]
        for name, result in results.items()
    ]
    header = ["data", "unseen clips", "training, evaluation", "K=5", "K=15", "AUC"]
    header.append("K=15, sound swapped")
    return table(header, rows) + f"\n{results['grid_mouths']['device']}; chance is 9.7 %.\n"
