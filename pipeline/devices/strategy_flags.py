"""The flags of every command that runs a network: what it computes on."""

from absl import flags


def define() -> None:
    flags.DEFINE_string("tpu", "none", "none, local, a TPU's name, or grpc://…; none uses all GPUs, else the CPU.")
    flags.DEFINE_integer("virtual_replicas", 0, "Divide this machine's CPU into so many replicas, to try out what depends "
                         "on their number; 0: don't. Not with --jit.", 0)
