"""multi_stage_train.py on two hosts, which are two processes of this machine that TF_CONFIG brings together."""

import json
import os
import socket
import subprocess
import sys

from conftest import ROOT


def _free_ports(count: int) -> list[int]:
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in servers]
    for server in servers:
        server.close()
    return ports


def start(*flags: str, second: tuple[str, ...] = ()) -> list[subprocess.Popen]:
    """Both hosts, each with its children in a process group of its own; the second one gets the flags `second` too."""
    workers = [f"127.0.0.1:{port}" for port in _free_ports(2)]
    commands = [[sys.executable, "multi_stage_train.py", *flags, *more] for more in ((), second)]
    processes = []
    for index, command in enumerate(commands):
        config = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        processes.append(subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
            env={**os.environ, "TF_CONFIG": json.dumps(config), "PYTHONDONTWRITEBYTECODE": "1"}))
    return processes


def end_of(processes: list[subprocess.Popen], timeout: int = 600) -> list[subprocess.CompletedProcess]:
    """How each host ended."""
    try:
        told = [process.communicate(timeout=timeout) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [subprocess.CompletedProcess(process.args, process.returncode, *one) for process, one in zip(processes, told)]


def run(*flags: str, second: tuple[str, ...] = (), timeout: int = 600) -> list[subprocess.CompletedProcess]:
    """How each host ended, whatever its exit code."""
    return end_of(start(*flags, second=second), timeout)


def train(*flags: str) -> list[str]:
    """What each host logged of a run that both finish."""
    done = run(*flags)
    assert [one.returncode for one in done] == [0, 0], "\n".join(one.stderr[-3000:] for one in done)
    return [one.stderr for one in done]
