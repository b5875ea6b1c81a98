"""report.html: one page, with nothing outside it, that tells how a model did and where it goes wrong."""

import collections
import html
import io
import os
from typing import Mapping, Sequence

import pandas as pd

from pipeline import files
from pipeline.records import dataset as datasets
from pipeline.runs import record as run_record

LISTED = 20  # classes and confusions

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: #222; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #ddd; }
th { border-bottom: 2px solid #999; } th:first-child, td:first-child { text-align: left; }
svg { max-width: 100%; height: auto; } p.note { color: #666; } p.warning { color: #a40; font-weight: 600; }
"""


def confusion_counts(predicted, labels: dict[str, int]) -> collections.Counter:
    """How often each (label, top-1 answer) pair of class indices occurs among the labelled examples."""
    counts: collections.Counter = collections.Counter()
    for ids, log_probabilities in predicted.chunks():
        answers = log_probabilities.argmax(axis=1)
        counts.update((labels[one], int(answer)) for one, answer in zip(ids, answers) if one in labels)
    return counts


def class_table(counts: collections.Counter, data: datasets.Dataset) -> pd.DataFrame:
    """The classes that occur, worst first: class, train, examples, top1, and what it is most often taken for."""
    names = [one.name for one in data.manifest.classes]
    answers_of: dict[int, dict[int, int]] = collections.defaultdict(dict)  # in one pass: there may be 10,000 classes
    for (label, answer), count in counts.items():
        answers_of[label][answer] = count
    rows = []
    for label, answers in sorted(answers_of.items()):
        wrong = {answer: count for answer, count in answers.items() if answer != label}
        examples = sum(answers.values())
        taken_for = max(wrong, key=lambda answer: (wrong[answer], -answer)) if wrong else None
        rows.append({
            "class": names[label], "in train": data.manifest.classes[label].train_count, "examples": examples,
            "top-1": answers.get(label, 0) / examples,
            "most often taken for": "" if taken_for is None else f"{names[taken_for]} ({wrong[taken_for]})"})
    return pd.DataFrame(rows).sort_values(["top-1", "class"], kind="stable").reset_index(drop=True)


def confusion_table(counts: collections.Counter, data: datasets.Dataset) -> pd.DataFrame:
    """Pairs of classes taken for each other, in either direction, most frequent first."""
    pairs: collections.Counter = collections.Counter()
    for (label, answer), count in counts.items():
        if label != answer:
            pairs[min(label, answer), max(label, answer)] += count
    names = [one.name for one in data.manifest.classes]
    return pd.DataFrame([{"class": names[one], "and": names[other], "mistaken": count}
                         for (one, other), count in sorted(pairs.items(), key=lambda item: (-item[1], item[0]))],
                        columns=["class", "and", "mistaken"])


def histories(model_dir: str) -> dict[str, pd.DataFrame]:
    """history.csv of every stage (of every fold) of a model directory, by the stage's path in it.

    Its `epoch`, in the file the number of the validation from 0, becomes the epochs done.
    """
    same, free = (run_record.read(model_dir)[part] for part in ("same", "free"))
    folders = ["", *(f"fold_{fold}" for fold in range(free["folds"]))]
    found = {}
    for folder in folders:
        for stage, stage_dir in zip(same["stage_order"], free["stage_dirs"]):
            path = os.path.join(model_dir, folder, stage_dir, "history.csv")
            if files.exists(path):
                with files.open_file(path, "r") as file:
                    history = pd.read_csv(file)
                history["epoch"] = (history["epoch"] + 1) * same["stages"][stage]["validate_every"]
                found[os.path.join(folder, stage_dir)] = history
    return found


def drawing(figure) -> str:
    """A matplotlib figure as inline SVG."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg"):]


def _curves(history: pd.DataFrame, title: str) -> str:
    """Loss and accuracy (or F2) over the epochs, as inline SVG."""
    from matplotlib.figure import Figure  # not pyplot: no window system, no global state
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9, 2.8), layout="constrained")
    for axes, metric in zip(figure.subplots(1, 2), ("loss", "f2" if {"f2", "val_f2"} & set(history) else "accuracy")):
        for column, label in ((metric, "train"), (f"val_{metric}", "held out")):
            if column in history and history[column].notna().any():
                axes.plot(history["epoch"], history[column], marker=".", label=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="epoch", ylabel=metric)
        axes.grid(alpha=0.3)
        if axes.lines:  # a probe has no accuracy where nothing is held out
            axes.legend(frameon=False)
    return f"<h3>{html.escape(title)}</h3>{drawing(figure)}"


def training(model_dirs: Sequence[str]) -> list[str]:
    """The curves of runs, with their headings."""
    parts = []
    for model_dir in model_dirs:
        parts.append(f"<h2>Training: {html.escape(model_dir)}</h2>")
        parts += [_curves(history, name) for name, history in histories(model_dir).items()]
    return parts


def table(frame: pd.DataFrame, index: bool = False) -> str:
    return frame.to_html(index=index, border=0, float_format=lambda value: f"{value:.4f}")


def notes(warnings: Sequence[str]) -> list[str]:
    """A paragraph each."""
    return [f"<p class=warning>warning: {html.escape(one)}</p>" for one in warnings]


def write_page(path: str, competition: str, split: str, parts: Sequence[str]) -> None:
    """The page around its parts (HTML)."""
    title = html.escape(competition)
    files.write_whole(path, "<!doctype html><html lang=en><meta charset=utf-8>"
                      f"<title>{title}, {html.escape(split)}</title><style>{_STYLE}</style>"
                      f"<h1>{title}: {html.escape(split)}</h1>{''.join(parts)}</html>\n")


def write(path: str, tables: Mapping[str, pd.DataFrame], predicted, labels: dict[str, int], data: datasets.Dataset,
          model_dirs: Sequence[str], warnings: Sequence[str] = ()) -> None:
    """Writes the page.

    Args:
      tables: heading → scores, a line each row of the frame.
      predicted: the predictions whose mistakes are listed.
      model_dirs: runs whose curves are drawn.
      warnings: what takes worth from the scores.
    """
    counts = confusion_counts(predicted, labels)
    write_page(path, data.manifest.competition, predicted.meta["split"], [
        f"<p class=note>{sum(counts.values())} labelled examples of {len(data.manifest.classes)} classes</p>", *notes(warnings),
        *(f"<h2>{html.escape(heading)}</h2>{table(frame, index=True)}" for heading, frame in tables.items()),
        f"<h2>Hardest classes (at most {LISTED})</h2>", table(class_table(counts, data).head(LISTED)),
        f"<h2>Classes taken for each other (at most {LISTED} pairs)</h2>",
        table(confusion_table(counts, data).head(LISTED)),
        *training(model_dirs),
    ])
