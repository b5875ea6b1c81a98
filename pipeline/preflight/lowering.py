"""A step as the XLA program that a TPU would be given; or what in it no TPU can be given, and where that comes from."""

import dataclasses
import re
from typing import Any, Callable, Iterator, Optional, Sequence

import tensorflow as tf
from tensorflow.compiler.xla.service import hlo_pb2

_UNSUPPORTED = re.compile(r"unsupported operations[^:]*: (\w+)")
_ORIGIN = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')
_LIBRARIES = ("/tensorflow/python/", "/keras/src/", "<frozen ")


class Fault(Exception):
    """Why a step is no program for a TPU: `operation` at fault, `problem`, and the line that it comes from."""

    def __init__(self, operation: str, problem: str, origin: str):
        super().__init__(f"{operation} {problem}, from {origin}")
        self.operation, self.problem, self.origin = operation, problem, origin


@dataclasses.dataclass(frozen=True)
class Program:
    """A serialized HloModuleProto, without the names and paths that tell where each instruction comes from."""

    serialized: bytes


def lower(step: Callable, specs: Sequence[Any]) -> Program:
    """The program of step(*specs), whose specs are nests of tf.TensorSpec of static shape.

    Raises Fault for an operation of the host, such as tf.py_function, and for one whose result has a size that is known
    only as it runs, such as tf.where with a condition alone.
    """
    # The compiler is asked with flat arguments alone.
    function = tf.function(lambda *flat: step(*tf.nest.pack_sequence_as(specs, flat)), jit_compile=True)
    flat_specs = tf.nest.flatten(specs)
    try:
        serialized = function.experimental_get_compiler_ir(*flat_specs)(stage="hlo_serialized")
    except ValueError as error:  # what TensorFlow makes of every failure on the way
        raise _host_fault(str(error)) from error
    module = hlo_pb2.HloModuleProto.FromString(serialized)
    dynamic = _first_dynamic(module)
    if dynamic is not None:
        raise _dynamic_fault(dynamic, function.get_concrete_function(*flat_specs).graph)
    return Program(_anonymous(module))


def _host_fault(message: str) -> Exception:
    unsupported = _UNSUPPORTED.search(message)
    if not unsupported:
        return RuntimeError(message)
    frames = [f"{path}:{line} in {name}" for path, line, name in _ORIGIN.findall(message)
              if not any(library in f"/{path}" for library in _LIBRARIES)]
    return Fault(unsupported.group(1), "has no form that a TPU can run (work for the host, inside the step)",
                 frames[-1] if frames else "an unknown place")


def _first_dynamic(module: hlo_pb2.HloModuleProto) -> Optional[hlo_pb2.HloInstructionProto]:
    for computation in module.computations:
        for instruction in computation.instructions:
            if any(instruction.shape.is_dynamic_dimension):
                return instruction
    return None


def _dynamic_fault(instruction: hlo_pb2.HloInstructionProto, graph: tf.Graph) -> Fault:
    shape = ", ".join(f"<={size}" if dynamic else str(size) for size, dynamic in
                      zip(instruction.shape.dimensions, instruction.shape.is_dynamic_dimension))
    name = instruction.metadata.op_name.rsplit("/", 1)[-1]
    # The name begins with the calls that lead there, so the operation is looked for by its own part, and by its type.
    found = [operation for operation in _operations(graph) if operation.type == instruction.metadata.op_type]
    found = [operation for operation in found if operation.name.rsplit("/", 1)[-1] == name] or found
    return Fault(instruction.metadata.op_type, f"gives a shape that is known only as it runs, [{shape}]",
                 _origin(found[0]) if found else instruction.metadata.op_name)


def _operations(graph: tf.Graph) -> Iterator[tf.Operation]:
    """The operations of a graph and of all functions that it may call."""
    yield from graph.get_operations()
    for function in graph._functions.values():
        if getattr(function, "graph", None) is not None:
            yield from function.graph.get_operations()


def _origin(operation: tf.Operation) -> str:
    """The innermost line that made it, outside of the libraries."""
    frames = [frame for frame in operation.traceback if not any(library in frame.filename for library in _LIBRARIES)]
    return f"{frames[-1].filename}:{frames[-1].lineno} in {frames[-1].name}" if frames else operation.name


def _anonymous(module: hlo_pb2.HloModuleProto) -> bytes:
    """The same program for the same computation, whenever it was traced and wherever this and TensorFlow are installed."""
    module.name = "step"
    module.id = 0  # else how many were made before in this process
    module.ClearField("stack_frame_index")
    for number, computation in enumerate(module.computations):
        if computation.id == module.entry_computation_id:
            module.entry_computation_name = f"computation.{number}"
        computation.name = f"computation.{number}"  # they are called by their ids
        for instruction in computation.instructions:
            instruction.ClearField("metadata")
    return module.SerializeToString(deterministic=True)
