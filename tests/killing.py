"""Programs that are killed by what they have done to the disk, never by the clock."""
import os
import signal
import subprocess
import tempfile
from pathlib import Path

HOOK = Path(__file__).parent / "hooks/kill"


def changes(command, folder, at=0, alone=False):
    "Run a command until it is about to change a file of `folder` for the `at`th time; how often it had, and how it ended."
    count = Path(f"{folder}.changes")
    count.unlink(missing_ok=True)
    path = os.pathsep.join(filter(None, [str(HOOK), os.environ.get("PYTHONPATH")]))
    env = {**os.environ, "PYTHONPATH": path, "KILL_IN": str(Path(folder).resolve()), "KILL_AT": str(at),
           "KILL_COUNT": str(count), **({"KILL_ALONE": "1"} if alone else {})}
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                                   start_new_session=True)
        process.wait()
        said.seek(0)
        return count.stat().st_size, process, said.read()


def kill(command, folder, at, alone=False):
    "Kill a command just before the `at`th change, with all that it started, or `alone` and in a worker's change; its group."
    n, process, said = changes(command, folder, at, alone)
    assert process.returncode == -signal.SIGKILL, f"ended after {n} changes, without being killed:\n{said}"
    return process.pid


def finish(command, folder):
    "Let a command end well; how often it changes a file."
    n, process, said = changes(command, folder)
    assert process.returncode == 0, said
    return n
