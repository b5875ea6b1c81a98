"""How fast a TPU core could be at best: the slower of its arithmetic and its memory (Williams et al. 2009)."""

import dataclasses
import math

from pipeline.errors import UserError, unknown

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Core:
    """What one device of a topology has, as the compiler sees devices: a core, half of a v2, v3 or v4 chip, or a v5e chip.

    Arithmetic and bandwidth: cloud.google.com/tpu/docs/v2, /v3, /v4 and /v5e, "System architecture", divided by the
    cores of a chip. Memory: what libtpu 0.0.52 itself calls available when it refuses a program that is too large.
    """

    flops: float      # a second, in bfloat16 with float32 sums: what float32 products become too, unless told otherwise
    bandwidth: float  # bytes a second, to and from HBM
    memory: int       # bytes of HBM that a program can have
    per_chip: int


CORES = {
    "v2": Core(22.5e12, 350e9, int(7.48 * GIB), 2),
    "v3": Core(61e12, 450e9, int(15.48 * GIB), 2),
    "v4": Core(137.5e12, 614e9, int(15.25 * GIB), 2),
    "v5e": Core(197e12, 819e9, int(15.75 * GIB), 1),
}
EXAMPLES = ("v2:2x2", "v3:2x2", "v4:2x2x1", "v5e:2x4")


def find(topology: str) -> tuple[Core, int]:
    """(a core, how many there are) of a topology such as v3:2x2; raises UserError."""
    kind, _, shape = topology.partition(":")
    if kind not in CORES:
        raise unknown("TPU in --topology", kind, CORES)
    sides = shape.split("x")
    if not all(side.isascii() and side.isdigit() and int(side) for side in sides):
        raise UserError(f"--topology={topology}: write a kind of TPU and its chips, e.g. {', '.join(EXAMPLES)}")
    core = CORES[kind]
    return core, math.prod(map(int, sides)) * core.per_chip


def step_seconds(core: Core, flops: float, moved_bytes: float) -> float:
    """The least time that a step of so many operations and so many bytes of memory traffic takes."""
    return max(flops / core.flops, moved_bytes / core.bandwidth)
