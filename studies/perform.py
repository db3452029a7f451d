"""Does the job that a folder describes: `python -m polyrefuse_studies.perform FOLDER`.

Every executor starts this module, on this machine or another, and it needs only the folder. Its
last step is to write into the folder how the job ended. It locks the folder while it works: if a
job outlives the process that started it, the next run waits for the job and does not do it twice.
The lock lasts until the job's command has ended, even if this process is killed before it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from polyrefuse_studies.environment import of_a_job
from polyrefuse_studies.folder import FAILED, FINISHED, JOB, LOG, read

from polyrefuse_shared.drafts import locked
from polyrefuse_shared.errors import UserError, first_line
from polyrefuse_shared.writing import write_whole

KEPT = (JOB, LOG)
CACHE = "cache"
"""The beginning of the names of files from which a repeated job continues."""

LAST_LINES = 20


def perform(folder: Path) -> bool:
    """Do a job unless it is finished.

    Returns:
        Whether the job is finished now.
    """
    with locked(folder, patience=float("inf")) as lock:
        if (folder / FINISHED).exists():
            return True
        job = read(folder / JOB)
        if job["kind"] != "judging":  # judging continues from the labels that exist
            _clear(folder)
        started = time.time()
        code = _run(job["command"], Path(job["in"]), folder / LOG, lock)
        ended: dict[str, Any] = {
            "key": job["key"],
            "started": started,
            "seconds": time.time() - started,
            "machine": os.uname().nodename,
        }
        if code == 0:
            write_whole(folder / FINISHED, json.dumps(ended) + "\n")
            return True
        said = _last_lines(folder / LOG)
        if code < 0:
            said = "\n".join(filter(None, (said, how_it_ended(code))))
        write_whole(folder / FAILED, json.dumps(ended | {"exit": code, "said": said}) + "\n")
        return False


def how_it_ended(code: int) -> str:
    """Describe the exit code of a process, as `subprocess` gives it."""
    if code >= 0:
        return f"its process ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    why = ", which the system also sends when memory runs out" if name == "SIGKILL" else ""
    return f"its process was ended by {name}{why}"


def _clear(folder: Path) -> None:
    """Remove what an unfinished attempt left, except for its cache."""
    for path in folder.iterdir():
        if path.name not in KEPT and not path.name.startswith((CACHE, ".")):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _run(command: list[str], folder: Path, log: Path, lock: int | None) -> int:
    if sys.platform == "linux":
        command = [sys.executable, "-m", "polyrefuse_studies.guard", str(os.getpid()), *command]
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=of_a_job(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=() if lock is None else (lock,),
        )

        def stop(number: int, _frame: Any) -> None:
            with suppress(ProcessLookupError):
                process.send_signal(number)

        in_main = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGTERM, stop) if in_main else None
        try:
            return process.wait()
        finally:
            if before is not None:
                signal.signal(signal.SIGTERM, before)


def _last_lines(log: Path) -> str:
    """Return the end of what a process printed."""
    text = log.read_bytes()[-4096:].decode(errors="replace")
    # A progress bar overwrites its own line.
    lines = [line.rsplit("\r", 1)[-1].strip() for line in text.splitlines()]
    return "\n".join([line for line in lines if line][-LAST_LINES:])


if __name__ == "__main__":
    try:
        sys.exit(0 if perform(Path(sys.argv[1])) else 1)
    except (UserError, OSError) as error:
        sys.exit(f"{sys.argv[1]}: {first_line(error)}")
