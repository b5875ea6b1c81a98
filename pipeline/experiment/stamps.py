"""Whether a step has to be done: a stamp, written after it was done, tells what it was done with and what came of it.

Digests decide, never the times of files nor the revision of the code, so that a new checkout, or files that were
copied there and back, make nothing anew.
"""

import dataclasses
import os
from typing import Any, Mapping, Optional, Sequence

from pipeline import files
from pipeline.experiment import flag_text
from pipeline.experiment.digests import Digests

FOLDER = "steps"  # of a run folder


@dataclasses.dataclass(frozen=True)
class Step:
    """One command of an experiment.

    Attributes:
      name: what people call it; its first word is its kind, and those of one kind take as long.
      script: of the command.
      arguments: its flags.
      inputs: things as digests.Digests names them, that it reads.
      outputs: those that it writes, what it is for first.
      marker: a file without which the command makes the first of them anew; empty: it looks by itself.
      needs: names of steps without which it can't be done.
      notes: what is put into its output beside what the command writes.
    """

    name: str
    script: str
    arguments: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    marker: str = ""
    needs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        return self.name.split(" ")[0]


def path(run_dir: str, step: Step) -> str:
    return os.path.join(run_dir, FOLDER, f"{step.name.replace(' ', '_')}.json")


def read(run_dir: str, step: Step) -> dict[str, Any]:
    """The stamp; empty where there is none. Raises UserError where it is no JSON."""
    where = path(run_dir, step)
    return files.read_json(where) if files.exists(where) else {}


def begin(run_dir: str, step: Step) -> None:
    """Notes the flags that a step is begun with, so that others are noticed though it never ends."""
    found = read(run_dir, step)
    write(run_dir, step, {"flags": flag_text.settled(step.arguments), **_keeping(found, "seconds")})


def end(run_dir: str, step: Step, inputs: Mapping[str, Optional[str]], digests: Digests, seconds: float) -> None:
    """Stamps a step that has been done. `inputs`: their digests of before."""
    write(run_dir, step, {"flags": flag_text.settled(step.arguments), "notes": list(step.notes), "inputs": dict(inputs),
                           "outputs": {thing: digests.of(thing) for thing in step.outputs}, "seconds": round(seconds, 1)})


def _keeping(stamp: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: stamp[name] for name in names if name in stamp}


def write(run_dir: str, step: Step, stamp: Mapping[str, Any]) -> None:
    files.make_dirs(os.path.join(run_dir, FOLDER))
    files.write_json(path(run_dir, step), stamp)


def changed_flags(stamp: Mapping[str, Any], step: Step) -> list[str]:
    """A phrase for each flag that the step was begun with otherwise; nothing where it is not known."""
    return flag_text.differences(stamp["flags"], flag_text.settled(step.arguments)) if "flags" in stamp else []


def changed_outputs(stamp: Mapping[str, Any], digests: Digests) -> list[str]:
    """The outputs that are not as the step has left them."""
    return [thing for thing, digest in stamp.get("outputs", {}).items() if digests.of(thing) != digest]


def why_stale(stamp: Mapping[str, Any], step: Step, digests: Digests) -> Optional[str]:
    """Why a step is to be done, in words; None where it is up to date."""
    if not stamp:
        there = all(digests.of(thing) for thing in step.outputs)
        return "it is not told how this was made; the command looks" if there else "not made yet"
    different = changed_flags(stamp, step)
    if different:
        return "; ".join(different)
    if "outputs" not in stamp:
        return "begun, not finished"
    gone = changed_outputs(stamp, digests)
    if gone or set(stamp["outputs"]) != set(step.outputs):
        return f"{_words(gone) or 'what it writes'} missing or changed"
    changed = [thing for thing in step.inputs if stamp["inputs"].get(thing) != digests.of(thing)]
    if changed or set(stamp["inputs"]) != set(step.inputs):
        return f"changed: {_words(changed) or 'what it reads'}"
    return "what is told beside it has changed" if stamp.get("notes", []) != list(step.notes) else None


def _words(things: Sequence[str]) -> str:
    """KIND:PATH for people."""
    return ", ".join(f"{kind} {os.path.basename(where.rstrip('/'))}".strip() for kind, _, where in
                     (thing.partition(":") for thing in things))


def seconds_before(run_dir: str, step: Step, others: Sequence[Step]) -> Optional[float]:
    """How long the step took last time, else the slowest of those of its kind; None where none has been done."""
    took = read(run_dir, step).get("seconds")
    if took is not None:
        return took
    found = [read(run_dir, other).get("seconds") for other in others if other.kind == step.kind]
    return max((one for one in found if one is not None), default=None)
