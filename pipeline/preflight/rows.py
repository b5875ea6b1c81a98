"""A recipe's steps, compiled one after the other: a row of the table for each."""

import dataclasses
from typing import Callable, Iterator, Optional

from absl import logging

from pipeline.errors import UserError
from pipeline.preflight import host_rate, roofline, steps
from pipeline.preflight.compiler import Compiled, Compiler
from pipeline.preflight.lowering import Fault
from pipeline.records.dataset import Dataset
from pipeline.runs import run as runs
from pipeline.runs.run import Run

LARGEST_BATCH = 4096  # a core; --fit asks for no more


@dataclasses.dataclass(frozen=True)
class Row:
    """What is known of one step of a recipe; a step that was not reached has neither result nor problem."""

    recipe: str
    stage: str
    step: str
    size: Optional[int] = None      # pixels
    batch: Optional[int] = None     # pictures a core
    views: int = 1                  # of a picture
    assumed_classes: Optional[int] = None  # where nobody said how many there are
    result: Optional[Compiled] = None
    problem: str = ""               # why it can't run on this TPU
    largest_batch: Optional[int] = None  # a core, that fits; 0: not even one picture
    asked: Optional[float] = None   # pictures a second that all cores together take at most
    given: Optional[float] = None   # pictures a second that this machine's input pipeline makes


@dataclasses.dataclass(frozen=True)
class Request:
    """What preflight.py was asked for, beside the recipe."""

    topology: str
    cache_dir: str
    fit: bool = False


def planned(run: Run, competition: steps.Competition, recipe: str, topology: str) -> list[Row]:
    """A row for each step, of which nothing is known yet; raises UserError for a global batch that cores can't share."""
    _, cores = roofline.find(topology)
    assumed = competition.class_count if competition.assumed else None
    for stage in run.stages:
        if stage.batch_size % (cores * stage.accumulate):
            times = f" times --accumulate={stage.accumulate}" if stage.accumulate > 1 else ""
            raise UserError(f"--batch_size={stage.batch_size} is not divisible by the {cores} cores of {topology}{times}")
    return [Row(recipe, step.stage.name, step.kind, step.stage.size, step.batch, step.views.total, assumed)
            for step in steps.plan(run, cores)]


def compiled(run: Run, recipe: str, data: Optional[Dataset], request: Request) -> Iterator[list[Row]]:
    """All rows, again and again: each time with one more step compiled."""
    _, cores = roofline.find(request.topology)
    competition = steps.Competition.of(run, data)
    run = runs.for_task(run, competition.task)
    programs = steps.Programs(run, competition, cores)
    compiler = Compiler(request.topology, request.cache_dir)
    rows = planned(run, competition, recipe, request.topology)
    yield rows
    for number, step in enumerate(steps.plan(run, cores)):
        logging.info("%s, stage %s, %s: %d pictures a core", recipe, step.stage.name, step.kind, step.batch)
        rows[number] = _compile(rows[number], step, programs, compiler, request)
        if data is not None:
            part = runs.training_part(run, data)
            rows[number] = dataclasses.replace(rows[number], given=host_rate.measure(step, part, step.batch * cores))
        yield rows


def _compile(row: Row, step: steps.Step, programs: steps.Programs, compiler: Compiler, request: Request) -> Row:
    core, cores = roofline.find(request.topology)
    try:
        result = compiler.compile(programs.make(step, step.batch))
    except Fault as fault:
        return dataclasses.replace(row, problem=f"{fault.operation} {fault.problem}: {fault.origin}")
    # The compiler counts the loop over them as one. (What stands outside of it, the update, is then counted too often.)
    result = dataclasses.replace(result, flops=result.flops * step.parts, moved_bytes=result.moved_bytes * step.parts)
    row = dataclasses.replace(row, result=result, problem=_problem(result, core))
    if not result.error:
        seconds = roofline.step_seconds(core, result.flops, result.moved_bytes)
        row = dataclasses.replace(row, asked=cores * step.batch / seconds)
    if request.fit and (result.out_of_memory or not result.error):
        row = dataclasses.replace(row, largest_batch=step.parts * largest(
            lambda part: not _problem(compiler.compile(programs.make(step, step.parts * part)), core),
            step.batch // step.parts))
    return row


def _problem(result: Compiled, core: roofline.Core) -> str:
    if result.error:
        return result.error
    if result.memory > core.memory:
        return f"needs {result.memory / roofline.GIB:.2f} GiB, and a core has {core.memory / roofline.GIB:.2f}"
    return ""


def largest(fits: Callable[[int], bool], start: int) -> int:
    """The largest number from 1 to LARGEST_BATCH that fits, by bisection around `start`; 0 where none does."""
    low, high = 0, start
    while high <= LARGEST_BATCH and fits(high):
        low, high = high, 2 * high
    high = min(high, LARGEST_BATCH + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
