"""The hosts that TF_CONFIG names; without TensorFlow, so that a mistake in it waits neither for it nor for the others."""

import json
import os
from typing import Any, Optional

from pipeline.errors import UserError

_FORM = '{"cluster": {"worker": ["HOST:PORT", …]}, "task": {"type": "worker", "index": 0}}'


def find() -> Optional[dict[str, Any]]:
    """TF_CONFIG where it names several workers; raises UserError where it can't be used."""
    text = os.environ.get("TF_CONFIG")
    if not text:
        return None
    try:
        config = json.loads(text)
        cluster, task = config["cluster"], config["task"]
        if not cluster.keys() <= {"chief", "worker"}:
            raise ValueError("it must list workers, and perhaps a chief, alone")
        if not 0 <= task["index"] < len(cluster[task["type"]]):
            raise ValueError("the task must be one of those it lists")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"TF_CONFIG in the environment is not of the form {_FORM} ({type(error).__name__}: {error}); "
                        "correct or unset it") from None
    return config if len(addresses(config)) > 1 else None


def addresses(config: dict[str, Any]) -> list[str]:
    """Of all hosts in a TF_CONFIG."""
    return [address for some in config["cluster"].values() for address in some]


def refuse(command: str) -> None:
    """Raises UserError where TF_CONFIG names several hosts: for a command that works on one."""
    if find():
        raise UserError(f"{command} works on one host: unset TF_CONFIG")


def refuse_folds() -> None:
    """Raises UserError where TF_CONFIG names several hosts: a fold is trained by one."""
    if find():
        raise several_for_folds()


def several_for_folds() -> UserError:
    return UserError("--fold works on one host: give each host folds of its own (--fold=0 here, --fold=1 there), without "
                     "TF_CONFIG")
