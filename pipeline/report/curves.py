"""Learning curves of runs: all stages one after the other, all folds over one another."""

import os
from typing import Sequence

import pandas as pd

from pipeline import files
from pipeline.report import elements, figures
from pipeline.runs import record as run_record

_METRICS = ("f2", "accuracy")  # whichever of them a history has, beside the loss


def histories(model_dir: str) -> pd.DataFrame:
    """history.csv of every stage of every fold, one below the other, with fold (−1: none), stage and epoch.

    `epoch` counts the epochs that are done, from the run's first on: in the file it is the number of the validation from 0
    on, in each stage anew.
    """
    same, free = (run_record.read(model_dir)[part] for part in ("same", "free"))
    folds = {-1: "", **{fold: f"fold_{fold}" for fold in range(free["folds"])}}
    parts = []
    for fold, folder in folds.items():
        done = 0.0
        for stage, stage_dir in zip(same["stage_order"], free["stage_dirs"]):
            path = os.path.join(model_dir, folder, stage_dir, "history.csv")
            if files.exists(path):
                with files.open_file(path, "r") as file:
                    history = pd.read_csv(file)
                epochs = (history["epoch"] + 1) * same["stages"][stage]["validate_every"]
                parts.append(history.assign(epoch=done + epochs, stage=stage, fold=fold))
                done += epochs.max() if len(epochs) else 0
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["epoch", "stage", "fold"])


def drawn(model_dirs: Sequence[str]) -> list[elements.Section]:
    """A section for each run that has a history."""
    sections = []
    for model_dir in model_dirs:
        history = histories(model_dir)
        if len(history):
            metric = next((one for one in _METRICS if {one, f"val_{one}"} & set(history)), None)
            made = [(_drawing(history, one), f"{one}: held out solid, train dashed; a line each fold")
                    for one in ("loss", metric) if one and _has(history, one)]
            sections.append(elements.Section(f"Training: {os.path.basename(model_dir.rstrip('/'))}", [
                elements.Note(model_dir), elements.Figures(made)]))
    return sections


def _has(history: pd.DataFrame, metric: str) -> bool:
    return any(name in history and history[name].notna().any() for name in (metric, f"val_{metric}"))


def _drawing(history: pd.DataFrame, metric: str) -> str:
    from matplotlib.ticker import MaxNLocator  # late, as in figures

    figure, axes = figures.new()
    for number, (fold, one) in enumerate(history.groupby("fold")):
        colour, label = f"C{number % 10}", None if fold < 0 else f"fold {fold}"
        for name, line in ((f"val_{metric}", "-"), (metric, "--")):
            if name in one and one[name].notna().any():
                axes.plot(one["epoch"], one[name], line, marker=".", color=colour, label=label, alpha=0.85)
                label = None
    longest = history.groupby("stage", sort=False)["epoch"].agg(["min", "max"])
    for stage, (first, last) in longest.iterrows():
        if first > longest["min"].min():
            axes.axvline(longest.loc[longest["max"] <= first, "max"].max(), color=figures.INK, linewidth=0.6, linestyle=":")
        axes.text((first + last) / 2, 1.01, stage, transform=axes.get_xaxis_transform(), ha="center", fontsize=9,
                  color=figures.INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel=metric)
    figures.legend(axes, ncols=2)
    return figures.svg(figure)
