"""One writer a folder: a file in it tells which process on which host is at work there.

It is made where none is, touched once a minute, and removed at the end. One whose process is gone is told and taken: on the
same host at once; one of another host when nobody has touched it for ten minutes.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import socket
import sys
import threading
import time
from typing import Iterator, Optional
import uuid

from absl import logging

from pipeline import files, json_types
from pipeline.errors import UserError

LOCK_FILE = "in_use.json"
TOUCH_SECONDS = 60.0
STALE_SECONDS = 600.0  # of another host's: ten touches that did not come


@dataclasses.dataclass(frozen=True)
class Holder:
    """Who is at work in a folder."""

    host: str
    pid: int
    began: str     # of the process: the system's start and the ticks since; '' where the system does not tell
    command: str
    since: str     # UTC
    token: str     # of this lock alone


def _me() -> Holder:
    return Holder(_host(), os.getpid(), _began(os.getpid()) or "", os.path.basename(sys.argv[0]),
                  time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()), uuid.uuid4().hex)


def _host() -> str:
    """The host, and within it the container, whose processes have numbers of their own."""
    with contextlib.suppress(OSError):
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    return socket.gethostname()


def _began(pid: int) -> Optional[str]:
    """When a process of this host began, so that another one of its number is told apart; None: there is none, ''
    where the system does not tell."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:  # somebody else's
        pass
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat, open("/proc/sys/kernel/random/boot_id", "rb") as boot:
            state, *fields = stat.read().rpartition(b")")[2].split()
            return None if state == b"Z" else f"{boot.read().decode().strip()} {fields[18].decode()}"
    except OSError:
        return ""


@contextlib.contextmanager
def held(folder: str) -> Iterator[None]:
    """Makes the folder where it is missing, and holds it for the block. Raises UserError naming who else is at work in it."""
    files.make_dirs(folder)
    path = os.path.join(folder, LOCK_FILE)
    mine = _me()
    while not _taken(path, mine):
        _clear(path)
    over = threading.Event()
    touching = threading.Thread(target=_touch, args=(path, mine, over), daemon=True)
    touching.start()
    try:
        yield
    finally:
        over.set()
        touching.join()
        holder = _read(path)
        if holder and holder.token == mine.token:  # else somebody took it for stale
            files.remove(path)


def _content(holder: Holder) -> str:
    return json.dumps(dataclasses.asdict(holder), indent=1) + "\n"


def _taken(path: str, mine: Holder) -> bool:
    """Whether the lock is ours now; False: there is one."""
    if files.is_remote(path):  # no such store makes a file only where there is none: the last writer has it
        if files.exists(path):
            return False
        files.write_whole(path, _content(mine))
        return _read(path) == mine
    try:
        with files.named_in_errors(path), open(path, "x", encoding="utf-8") as file:
            try:
                file.write(_content(mine))
                file.flush()
            except OSError:
                os.remove(path)
                raise
    except FileExistsError:
        return False
    return True


def _read(path: str) -> Optional[Holder]:
    """Who holds a lock; None where it is gone, or not written yet, or no lock of ours."""
    content = files.read_if_there(path)
    if content is None:
        return None
    try:
        holder = Holder(**json.loads(content))
        json_types.check(holder)
    except (TypeError, ValueError, RecursionError):
        return None
    return holder


@contextlib.contextmanager
def _alone(folder: str) -> Iterator[None]:
    """One process of a host at a time; the system ends it with the process. Where a file system has no such locks (some
    networks', a store's) several may be in the block."""
    if files.is_remote(folder):
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _clear(path: str) -> None:
    """Removes a lock whose holder is gone. Raises UserError where it is not."""
    # Of two who find it stale the second would remove the first one's.
    with _alone(os.path.dirname(path)):
        _clear_alone(path)


def _clear_alone(path: str) -> None:
    holder, age = _read(path), _age(path)
    if age is None:  # it went in this moment
        return
    if not _is_stale(holder, age):
        who = f"{holder.command} (process {holder.pid} on {holder.host.split()[0]}, since {holder.since} UTC)" if holder else (
            "another process")
        raise UserError(f"{os.path.dirname(path)} is in use by {who}; wait until it has ended. (If it has, delete {path})")
    files.remove(path)
    logging.warning("%s was left by %s, which is gone: taken over", path,
                    f"{holder.command} (process {holder.pid} on {holder.host.split()[0]})" if holder else "a process")


def _is_stale(holder: Optional[Holder], age: float) -> bool:
    if holder and holder.host == _host():
        began = _began(holder.pid)
        return began is None or bool(began and holder.began) and began != holder.began
    return age > STALE_SECONDS


def _age(path: str) -> Optional[float]:
    """Seconds since the last touch, by the clock of whoever keeps the files; None where the lock is gone."""
    try:
        if files.is_remote(path):
            return time.time() - files.modified(path)
        probe = f"{path}.{uuid.uuid4().hex[:8]}{files.TEMPORARY}"
        try:
            files.write_whole(probe, "")
            return files.modified(probe) - files.modified(path)
        finally:
            files.remove(probe)
    except FileNotFoundError:
        return None


def _touch(path: str, mine: Holder, over: threading.Event) -> None:
    while not over.wait(TOUCH_SECONDS):
        try:
            if _read(path) == mine:
                files.touch(path, _content(mine))
        except Exception as error:  # a storage that is gone for a moment; whoever writes next tells it if it stays so
            logging.warning("can't touch %s: %s", path, error)
