"""Which layers a stage trains, as --stage writes it; without TensorFlow, so that flags can be checked early."""

from pipeline.errors import UserError

PROBE = "probe"  # nothing step by step: the head is fitted to features that are computed once


def parse_train(train: str) -> tuple[str, str]:
    """(kind, argument) of probe, head, all, last:N or from:LAYER; raises UserError."""
    kind, _, argument = train.partition(":")
    plain = kind in (PROBE, "head", "all") and train == kind
    counted = kind == "last" and argument.isascii() and argument.isdigit() and int(argument) > 0
    if not (plain or counted or (kind == "from" and argument)):
        raise UserError(f"unknown train={train!r} in a --stage; known: probe, head, all, last:N (N = 1 or more layers), "
                        "from:LAYER")
    return kind, argument
