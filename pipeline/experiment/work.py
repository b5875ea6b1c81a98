"""Steps as processes: what is up to date is left alone, what fails takes along only what can't do without it."""

import logging as standard_logging
import os
import signal
import sys
import time
from typing import Callable, Mapping, Optional, Sequence

from pipeline import command, files, preemption
from pipeline.experiment import processes, stamps
from pipeline.experiment.digests import Digests
from pipeline.experiment.stamps import Step
from pipeline.progress import duration

_SAVES = ("multi_stage_train.py",)  # the commands that have --max_minutes; the others heed SIGTERM alone, and are short
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # where the commands lie
_ENDS_ALL = (command.USAGE_EXIT_CODE, command.PREEMPTED_EXIT_CODE, command.INTERRUPTED_EXIT_CODE)


class Work:
    """The steps of one run folder that are done by this process.

    Attributes:
      failures: why, by the names of the steps that could not be done.
    """

    def __init__(self, run_dir: str, digests: Digests, interpreter: str):
        self.failures: dict[str, str] = {}
        self._run_dir = run_dir
        self._digests = digests
        self._interpreter = interpreter

    def why_stale(self, step: Step) -> Optional[str]:
        """Why the step is to be done, in words; None where it is up to date."""
        return stamps.why_stale(stamps.read(self._run_dir, step), step, self._digests)

    def do(self, step: Step, finish: Callable[[], None] = lambda: None, must: bool = True, hint: str = "") -> bool:
        """Does a step unless it is up to date; whether it stands now.

        Args:
          finish: puts into its output what the command does not write.
          hint: what to do where it is begun already, and not with these flags.
          must: a mistake that it finds in flags or files ends this process with 2, as the interruption of any step ends it,
        or its preemption with the end of --max_minutes.
        """
        lost = next((name for name in step.needs if name in self.failures), None)
        if lost:
            self.failures[step.name] = f"{step.name} waits for {lost}"
            return False
        why = self.why_stale(step)
        if why is None:
            print(f"{step.name}: up to date", flush=True)
            return True
        other = stamps.changed_flags(stamps.read(self._run_dir, step), step)
        print(f"{step.name}: {why}" + (f" ({hint})" if hint and other else ""), flush=True)
        code = self._run(step, finish)
        if code in _ENDS_ALL and (must or code != command.USAGE_EXIT_CODE):
            sys.exit(code)  # its own line says why
        if code:
            self.failures[step.name] = f"{step.name}: {_told(code)}"
            standard_logging.getLogger("absl").error("%s; going on with what stands", self.failures[step.name])
        return not code

    def _run(self, step: Step, finish: Callable[[], None]) -> int:
        stamp = stamps.read(self._run_dir, step)
        if step.marker and step.outputs[0] in stamps.changed_outputs(stamp, self._digests):
            files.remove(step.marker)  # the command would take what was edited for its own
        inputs = {thing: self._digests.of(thing) for thing in step.inputs}
        command.begin_work()
        stamps.begin(self._run_dir, step)
        started = time.monotonic()
        command_line = [self._interpreter, os.path.join(ROOT, step.script), *step.arguments]
        saves = step.script in _SAVES
        code = processes.run_to_end(lambda: command_line + (preemption.flags_left() if saves else []), cwd=ROOT)
        self._digests.forget()
        if code == 0:
            finish()
            stamps.end(self._run_dir, step, inputs, self._digests, self._seconds(stamp, step, time.monotonic() - started))
        elif code == command.USAGE_EXIT_CODE and stamp:
            stamps.write(self._run_dir, step, stamp)  # nothing was done
        return code

    def _seconds(self, before: Mapping[str, object], step: Step, took: float) -> float:
        """How long it takes to do a step; of one that found all done already, what is known of before."""
        found = {thing: self._digests.of(thing) for thing in step.outputs} == before.get("outputs")
        return max(took, before.get("seconds", 0)) if found else took

    def print_plan(self, steps: Sequence[Step]) -> None:
        """A line for each step: whether it stands, or why it is to be done and how long that took before."""
        stale: dict[str, Step] = {}  # by what they write
        seconds, width = [], max(len(step.name) for step in steps)
        for step in steps:
            why = self.why_stale(step) or _after(step, stale)
            if not why:
                print(f"  {step.name:<{width}}  stands")
                continue
            stale.update(dict.fromkeys(step.outputs, step))
            before = stamps.seconds_before(self._run_dir, step, steps)
            seconds += [before] if before is not None else []
            print(f"  {step.name:<{width}}  {why}" + ("" if before is None else f" ({duration(before)} before)"))
        if stale:
            known = f"about {duration(sum(seconds))} by what such steps took before" if seconds else "never timed here"
            print(f"to do: {len(set(step.name for step in stale.values()))} of {len(steps)} steps, {known}")
        sys.stdout.flush()


def _after(step: Step, stale: Mapping[str, Step]) -> Optional[str]:
    """In words, which stale step writes what this one reads; None where none does."""
    for thing in step.inputs:
        kind, _, where = thing.partition(":")
        written = f"records:{where.rpartition(':')[0]}" if kind == "shards" else thing
        if written in stale:
            return f"after {stale[written].name}"
    return None


def _told(code: int) -> str:
    if code < 0:
        return f"killed by signal {-code}" + (" (out of memory?)" if -code == signal.SIGKILL else "")
    return "failed, as told above" if code in (command.USAGE_EXIT_CODE, command.WORK_EXIT_CODE) else f"exit code {code}"
