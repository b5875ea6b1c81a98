"""Every format that Pillow writes, damaged, through the command: as Pillow's first decode, or set aside with a reason."""

import collections
import os
import time

import pytest

import picture_fuzz


def check(outcome):
    assert not outcome.wrong, "\n".join(outcome.wrong[:30])
    assert not {"lost", "twice"} & set(outcome.counts)


@pytest.mark.slow
def test_every_format_mode_and_orientation(tmp_path):
    files = {f"{number}_{one.format}_{one.mode.replace(';', '')}_{one.orientation}.jpg": one.encoded
             for number, one in enumerate(picture_fuzz.whole_files()) if one.orientation in (1, 6, 7) or one.mode == "RGB"}
    assert len({one.format for one in picture_fuzz.whole_files()}) > 15
    outcome = picture_fuzz.compare(tmp_path, files)
    check(outcome)
    assert outcome.counts["taken"] > 0.9 * len(files) and outcome.counts["taken byte for byte"] > 5, outcome.counts


@pytest.mark.slow
def test_damaged_files(tmp_path):
    outcome = picture_fuzz.compare(tmp_path, dict(picture_fuzz.fuzz(1, 600)))
    check(outcome)
    assert outcome.counts["taken"] > 100 and outcome.counts["set aside"] > 100, outcome.counts


@pytest.mark.soak
def test_many_damaged_files(tmp_path):
    """Other files in every round, from SOAK_SEED (1) on."""
    until = time.monotonic() + 60 * float(os.environ.get("SOAK_MINUTES", 20))
    seed, counts, wrong = int(os.environ.get("SOAK_SEED", 1)), collections.Counter(), []
    while time.monotonic() < until:
        size = ((56, 40), (160, 120), (31, 17))[seed % 3]
        outcome = picture_fuzz.compare(tmp_path / str(seed), dict(picture_fuzz.fuzz(seed, 3000, size)))
        counts += outcome.counts
        wrong += outcome.wrong
        print(f"seed {seed}: {sum(counts.values())} files, {dict(counts)}, wrong {len(wrong)}", flush=True)
        picture_fuzz.remove(tmp_path / str(seed))
        seed += 1
    assert not wrong, "\n".join(wrong[:30])
