"""Programs that are killed by what they have done to the disk, never by the clock."""
import os
import signal
import subprocess
from pathlib import Path

HOOK = Path(__file__).parent / "hooks/kill"


def changes(command, folder, at=0):
    "Run a command until it is about to change a file of `folder` for the `at`th time; how often it had, and its exit code."
    count = Path(f"{folder}.changes")
    count.unlink(missing_ok=True)
    path = os.pathsep.join(filter(None, [str(HOOK), os.environ.get("PYTHONPATH")]))
    env = {**os.environ, "PYTHONPATH": path, "KILL_IN": str(Path(folder).resolve()), "KILL_AT": str(at),
           "KILL_COUNT": str(count)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, start_new_session=True)
    return count.stat().st_size, done


def kill(command, folder, at):
    "Kill a command just before the `at`th change."
    n, done = changes(command, folder, at)
    assert done.returncode == -signal.SIGKILL, f"ended after {n} changes, without being killed:\n{done.stderr}"


def finish(command, folder):
    "Let a command end well; how often it changes a file."
    n, done = changes(command, folder)
    assert done.returncode == 0, done.stderr
    return n
