"""Progress where there is no terminal."""


def test_progress_without_a_terminal_logs_rate_and_time_to_go(monkeypatch):
    from absl import logging as absl_logging

    from pipeline import progress

    clock = iter([0.0, 10.0, 40.0, 60.0, 80.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: False, raising=False)
    monkeypatch.setattr(absl_logging, "info", lambda text, *values: lines.append(text % values))
    lines = []
    with progress.progress(100, "work", "pictures") as bar:
        for _ in range(3):
            bar.update(20)
    # 10 s: too early; 40 s: 40 pictures at 1/s, 60 left; 60 s: 20 s after the last line; 80 s: the end.
    assert lines == ["work: 40/100 pictures, 1.0 pictures/s, 0:01:00 to go",
                     "work: 60/100 pictures, 0.8 pictures/s, 0:00:53 to go"]
