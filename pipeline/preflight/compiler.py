"""Programs compiled for a TPU that is not there, each once: what they need is kept by their digest."""

import dataclasses
import hashlib
import os
import subprocess
import tempfile

from pipeline import files
from pipeline.errors import UserError
from pipeline.preflight import environment
from pipeline.preflight.lowering import Program

COMPILE_PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "compile_program.py")


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What one core needs for a program, in bytes and operations; or why there is none."""

    arguments: int = 0    # weights, optimizer's state, the batch
    outputs: int = 0      # those that take no argument's place
    temporaries: int = 0
    code: int = 0
    flops: float = 0.0
    moved_bytes: float = 0.0  # to and from HBM
    seconds: float = 0.0      # the compiler took
    error: str = ""           # the compiler's refusal
    out_of_memory: bool = False  # the refusal, where it is that

    @property
    def memory(self) -> int:
        return self.arguments + self.outputs + self.temporaries + self.code


class Compiler:
    """Compiles for one core of `topology`; results are kept in `cache_dir`, so a second call goes on where one stopped."""

    def __init__(self, topology: str, cache_dir: str):
        self._topology = topology
        self._cache_dir = cache_dir
        with open(environment.REQUIREMENTS, "rb") as file:
            self._version = file.read()

    def compile(self, program: Program) -> Compiled:
        """Raises UserError where the compiler can't be had, or does not know the topology."""
        path = self._path(program)
        if files.exists(path):
            return Compiled(**files.read_json(path))
        compiled = self._run(program)
        if not compiled.error or compiled.out_of_memory:  # any other refusal is asked for again
            files.make_dirs(self._cache_dir)
            files.write_json(path, dataclasses.asdict(compiled))
        return compiled

    def _path(self, program: Program) -> str:
        """By all that the result depends on: the program, the TPU and the compiler."""
        digest = hashlib.sha256(program.serialized + self._topology.encode() + self._version).hexdigest()
        return os.path.join(self._cache_dir, f"{digest}.json")

    def _run(self, program: Program) -> Compiled:
        with tempfile.TemporaryDirectory() as folder:
            program_path, result_path, log_path = (os.path.join(folder, name) for name in ("program", "result", "log"))
            with open(program_path, "wb") as file:
                file.write(program.serialized)
            with open(log_path, "w") as log:
                done = subprocess.run([environment.python(), COMPILE_PROGRAM, program_path, self._topology, result_path],
                                      stdout=log, stderr=subprocess.STDOUT, check=False)
            if not os.path.exists(result_path):
                raise UserError(f"the TPU compiler ended with {done.returncode} and no result: {_last_line(log_path)}")
            answer = files.read_json(result_path)
        if "unknown_topology" in answer:
            raise UserError(f"--topology={self._topology}: the TPU compiler does not know it: {answer['unknown_topology']}")
        return Compiled(**answer)


def _last_line(path: str) -> str:
    with open(path, errors="replace") as file:
        lines = [line.strip() for line in file if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"
