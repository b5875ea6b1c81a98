"""A training that is told to end after its second step, as SIGTERM would tell it: python tests/preempted.py SCRIPT FLAGS…"""

import pathlib
import runpy
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pipeline import preemption

LOOKS = 3  # before the first stage, after each of two steps

looks = []
preemption.asked = lambda: looks.append(1) or ("the test" if len(looks) >= LOOKS else "")
del sys.argv[0]
runpy.run_path(str(ROOT / sys.argv[0]), run_name="__main__")
