"""Mutated JSON, CSV, records, manifests, predictions, checkpoints and flags through the commands: a line and 0, 2 or 3.

Each command is a process of its own, forked from one that has done the imports (see forking): no traceback, no hang, nothing
half written. What fails is kept, and told with its command line.
"""

import os
import random
import subprocess
import sys

from hypothesis import HealthCheck, given, settings, strategies as st
import pytest

import command_fuzz
import raw_data

SEED = int(os.environ.get("SOAK_SEED", 1))
# A prediction builds a network and costs ten times as much as what is told before.
KINDS = [kind for kind in command_fuzz.Fuzz.KINDS if kind != "model"]


@pytest.fixture(scope="module")
def fuzz(tmp_path_factory):
    with command_fuzz.Commands() as commands:
        yield command_fuzz.Fuzz(tmp_path_factory.mktemp("fuzz"), commands)


def fuzzed(count: int):
    return settings(max_examples=count, deadline=None, derandomize=True, database=None,
                    suppress_health_check=list(HealthCheck))


@pytest.mark.slow
@given(kind=st.sampled_from(KINDS), rng=st.randoms(use_true_random=False))
@fuzzed(94)
def test_mutated_files_and_flags(fuzz, kind, rng):
    assert not fuzz.run(kind, rng)


@pytest.mark.slow
def test_mutated_models(fuzz):
    for number in range(6):
        assert not fuzz.run("model", random.Random(f"model {number}"))


class _Shell:
    """Commands from a shell, where the imports are done each time."""

    def run(self, *command: str) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, *command], cwd=raw_data.REPOSITORY, capture_output=True, text=True, timeout=300)


@pytest.mark.soak
def test_through_the_shell(tmp_path):
    shell = command_fuzz.Fuzz(tmp_path, _Shell())
    wrong = [found for number in range(20)
             if (found := shell.run(list(command_fuzz.Fuzz.KINDS)[number % 7], random.Random(f"shell {SEED} {number}")))]
    assert not wrong


@pytest.mark.soak
def test_a_thousand(fuzz):
    """Other ones for each SOAK_SEED (1); a tenth are models."""
    counts, wrong = {}, []
    for number in range(1000):
        kind = "model" if number % 10 == 0 else KINDS[number % len(KINDS)]
        counts[kind] = counts.get(kind, 0) + 1
        found = fuzz.run(kind, random.Random(f"{kind} {SEED} {number}"))
        if found:
            wrong.append("\n".join(found))
            print(wrong[-1], flush=True)
    print(f"seed {SEED}: {counts}, wrong {len(wrong)}", flush=True)
    assert not wrong, "\n".join(wrong[:10])
