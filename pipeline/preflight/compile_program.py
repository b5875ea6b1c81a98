"""Compiles one XLA program for one core of a TPU, on a machine without any: a program of the compiler's own environment.

    python compile_program.py PROGRAM TOPOLOGY RESULT

PROGRAM is a serialized HloModuleProto, RESULT a JSON file with the fields of compiler.Compiled, or {"unknown_topology":
…}. Imports nothing of this project and no TensorFlow: the compiler's
packages want another ml_dtypes than TensorFlow 2.15 (see environment.py).
"""

import json
import os
import re
import sys
import time

# No metadata server tells of a TPU here, and jax itself is to compute on the CPU. All are read at the import.
os.environ["TPU_SKIP_MDS_QUERY"] = "1"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"  # there is no TPU that two processes could quarrel over

import jax
from jax.experimental import topologies
from jax.interpreters import mlir as interpreters_mlir
from jaxlib import _jax
from jaxlib import xla_client
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo

MOST_PARAMETERS = 2000  # a TPU takes some 3,000; jax changes over at this
ALIASES = "mhlo.input_output_alias"


def copies(operation: ir.Operation) -> list[ir.Operation]:
    """The mhlo.copy operations in it, at any depth."""
    found = [operation] if operation.name == "mhlo.copy" else []
    for region in operation.regions:
        for block in region.blocks:
            for inner in block.operations:
                found.extend(copies(inner.operation))
    return found


def replace_copies(module: ir.Module) -> None:
    """mhlo.copy, which the compile-only client does not know, becomes a reshape to the same shape: the identity."""
    for copy in copies(module.operation):
        with ir.InsertionPoint(copy), copy.location:
            identity = stablehlo.reshape(copy.results[0].type, copy.operands[0])
        copy.results[0].replace_all_uses_with(identity)
        copy.erase()


def read_program(path: str) -> ir.Module:
    """Reads a serialized HloModuleProto as a StableHLO module."""
    with open(path, "rb") as file:
        text = _jax.mlir.hlo_to_stablehlo(file.read())
    with interpreters_mlir.make_ir_context():
        module = ir.Module.parse(text)
        replace_copies(module)
    return module


def first_core(topology: str) -> jax.Device:
    return topologies.get_topology_desc(topology, platform="tpu").devices[0]


def parameters(module: ir.Module) -> int:
    """How many the program takes: weights, the optimizer's variables, the batch."""
    functions = {ir.StringAttr(function.attributes["sym_name"]).value: function for function in module.body.operations}
    return len(ir.FunctionType(ir.TypeAttr(functions["main"].attributes["function_type"]).value).inputs)


def take_one_tuple(module: ir.Module) -> None:
    """The outputs that take a parameter's place then take that of a part of the only one, the tuple of all."""
    with module.context:
        aliases = str(module.operation.attributes[ALIASES])
        module.operation.attributes[ALIASES] = ir.Attribute.parse(re.sub(
            r"parameter_index = array<i64>, parameter_number = (\d+)",
            r"parameter_index = array<i64: \1>, parameter_number = 0", aliases))


def compile_options(module: ir.Module) -> xla_client.CompileOptions:
    """And the module made ready for them: a program with very many parameters takes them as one tuple."""
    options = xla_client.CompileOptions()
    if parameters(module) > MOST_PARAMETERS:
        options.parameter_is_tupled_arguments = True
        take_one_tuple(module)
    return options


def compile_for(module: ir.Module, core: jax.Device) -> dict:
    """What the program takes on a core, or {"error": …, "out_of_memory": bool} where the compiler refuses it."""
    started = time.monotonic()
    try:
        executable = core.client.compile(module, _jax.DeviceList((core,)), compile_options(module))
    except jax.errors.JaxRuntimeError as error:
        return {"error": str(error).split("\n")[0], "out_of_memory": "RESOURCE_EXHAUSTED" in str(error)}
    memory = executable.get_compiled_memory_stats()
    costs = executable.cost_analysis()
    return {
        "arguments": memory.argument_size_in_bytes,
        # An output that takes an argument's place (the updated weights) needs no room of its own.
        "outputs": memory.output_size_in_bytes - memory.alias_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
        "code": memory.generated_code_size_in_bytes,
        "flops": costs.get("flops", 0.0),  # not told where there are none
        "moved_bytes": costs["bytes accessed"],
        "seconds": round(time.monotonic() - started, 1),
    }


def main() -> None:
    program, topology, result = sys.argv[1:]
    try:
        core = first_core(topology)
    except jax.errors.JaxRuntimeError as error:
        if "INVALID_ARGUMENT" not in str(error):
            raise
        answer = {"unknown_topology": str(error).split("\n")[0]}
    else:
        answer = compile_for(read_program(program), core)
    with open(result, "w") as file:
        json.dump(answer, file)


if __name__ == "__main__":
    main()
