"""The model card of an export: what it is, what it has learnt from, how good it is, and what it can't."""

from typing import Any, Iterator, Mapping, Optional, Sequence

from pipeline.export.description import Description
from pipeline.records.schema import ClassInfo

_LISTED = 20  # classes by name
_FEW = 10     # pictures of a class in train


def text(told: Description) -> str:
    """Markdown."""
    sections = {"Answers": _answers(told), "Learnt from": _learnt_from(told), "Networks": _networks(told),
                "Scores": _scores(told.scores, told.on_top.get("temperature")), "Limits": _limits(told)}
    head = [f"# {told.competition}: {len(told.classes):,} classes", "",
            f"Licence: {told.license or 'not stated (export.py --license says it)'}", ""]
    body = [line for heading, lines in sections.items() for line in (f"## {heading}", "", *lines, "")]
    return "\n".join([*head, *body]).rstrip() + "\n"


def _answers(told: Description) -> Iterator[str]:
    yield (f"A picture's {told.answers} best classes" if told.exclusive else
           f"A picture's labels from a probability of {told.threshold:.4g}, {told.answers} at most") + "."
    if told.unknown_answer:
        outside = sum(not one.known for one in told.classes)
        yield (f"`{told.unknown_answer}` stands for {outside} classes that are not told apart; it is ranked by the rule "
               f"`{told.open_set}`.")
    if told.place:
        yield f"Latitude and longitude{' and the date' if told.date else ''} change the answers where they are given."
    if told.gallery:
        listed = list(told.gallery.items())[:_LISTED]
        photos = ", ".join(f"{name} ({count} photo{'s' * (count > 1)})" for name, count in listed)
        others = len(told.gallery) - len(listed)
        right, asked = told.recognized
        yield (f"Added by likeness, without training: {photos}{f' and {others:,} others' if others else ''}. No score below is of "
               "them, nor is their probability calibrated"
               + (f"; of {asked} photos of theirs {right} are recognized by the others of the same individual." if asked else "."))
    names = [one.name for one in told.classes[:_LISTED]]
    more = len(told.classes) - len(names)
    yield f"Classes: {', '.join(names)}{f' and {more:,} others' if more else ''} (all in model.json)."


def _learnt_from(told: Description) -> Iterator[str]:
    counts = [one.train_count for one in _trained(told)]
    pictures, least, most = sum(counts), min(counts), max(counts)
    yield f"Train has {pictures:,} labels, {least:,} to {most:,} a class."
    for seen in _distinct(told.seen):
        if not seen:
            yield "- A model that does not tell what it was trained on."
            continue
        yield f"- The splits {', '.join(seen['splits'])}{_ancestors(seen)}."


def _trained(told: Description) -> Sequence[ClassInfo]:
    return told.classes[:len(told.classes) - len(told.gallery)]


def _ancestors(seen: Mapping[str, Any]) -> str:
    told = [f"{one['model_dir']} ({', '.join(one['splits'] or ['unknown'])})" for one in seen.get("ancestors") or []]
    return f", started from {', '.join(told)}" if told else ""


def _distinct(seen: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({str((one.get("splits"), one.get("ancestors"))): one for one in seen}.values())


def _networks(told: Description) -> Iterator[str]:
    yield "| network | fold | views | pixels | pictures are | weight |"
    yield "|---|---|---|---|---|---|"
    for one in told.members:
        fold = "" if one["fold"] is None else one["fold"]
        yield f"| {one['model']} | {fold} | {one['views']} | {one['size']} | {one['eval_resize']} | {one['weight']:.3g} |"
    on_top = [f"{name} {', '.join(f'{one:.3f}' for one in value.values()) if isinstance(value, dict) else value}"
              for name, value in told.on_top.items() if value]
    for name, one in told.tflite.items():
        yield ""
        yield (f"`{name}` holds them by one view, without what is on top: the same first answer on "
               f"{one['same_first_answer']} of {one['pictures']} pictures, probabilities {one['mean_difference']:.4f} apart on "
               "average.")
    yield ""
    yield f"On top: {', '.join(on_top)}. Made with {', '.join(f'{name} {one}' for name, one in told.versions.items())}."


def _scores(scores: Mapping[str, Any], temperature: Optional[float]) -> Iterator[str]:
    numbers = {name: value for name, value in scores.items() if isinstance(value, float) and name != "temperature"}
    if not numbers:
        yield "None were given (export.py --scores=scores.json, which evaluate.py --out writes)."
        return
    intervals = _intervals(scores)
    yield "| score | value | 95 % interval |"
    yield "|---|---|---|"
    for name, value in numbers.items():
        bounds = intervals.get(name)
        yield f"| {name} | {value:.4f} | {'{:.4f} to {:.4f}'.format(*bounds) if bounds else ''} |"
    for last in list((scores.get("calibration") or {}).values())[-1:]:
        bounds = last.get("ece_interval")
        told = "{:.4f} to {:.4f}".format(*bounds) if bounds else ""
        yield f"| expected calibration error | {last['ece']:.4f} | {told} |"
    scored_with = scores.get("temperature")
    if scored_with != temperature:
        yield ""
        yield f"The scores are with {_temperature(scored_with)}, the model has {_temperature(temperature)}."
    for warning in scores.get("warnings") or ():
        yield ""
        yield f"Warning: {warning}."


def _temperature(value: Optional[float]) -> str:
    return f"a temperature of {value:.4g}" if value else "no temperature"


def _intervals(scores: Mapping[str, Any]) -> dict[str, list[float]]:
    """By score, those of the last step, which has everything on top."""
    steps = list((scores.get("steps") or {}).values())
    last = steps[-1] if steps else scores
    return {name.removesuffix("_interval"): value for name, value in last.items() if name.endswith("_interval")}


def _limits(told: Description) -> Iterator[str]:
    yield ("- What is none of the classes is answered as one of them." if not told.unknown_answer else
           f"- What is none of the classes may be answered as one of them, or as `{told.unknown_answer}`.")
    rare = sum(one.train_count < _FEW for one in _trained(told))
    if rare:
        yield f"- {rare:,} classes had fewer than {_FEW} pictures in train."
    yield ("- Probabilities are those of the train set's pictures and frequencies; elsewhere they may be too sure of "
           "themselves.")
    if told.place:
        yield ("- Places and dates change the answers by where and when train was recorded: what is new to a region is held "
               "unlikely there.")
