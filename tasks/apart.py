"""Readers in C that damaged files can crash: they run in a process of their own, within bounds of memory and time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SECONDS, MEMORY = 600, 4 * 2**30  # that a reader may take
CODE = "import sys; sys.path[:] = {path!r}; from aiqvit.tasks.apart import limited; limited(); " \
       "from {module} import main; main(sys.argv[1])"


def read_apart(module: str, path: Path) -> bytes:
    """What the function `main` of a module, given the path, writes to standard output.

    Raises `ValueError` when the process crashes, fails or takes too long.
    """
    code = CODE.format(path=sys.path, module=module)
    try:
        # isolated: neither a folder nor a variable adds modules
        done = subprocess.run(  # noqa: S603 -- this interpreter and our own code; the path is an argument of its own
            [sys.executable, "-I", "-c", code, str(path)], stdin=subprocess.DEVNULL, capture_output=True,
            timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ValueError(f"its reader did not end ({type(error).__name__})") from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise ValueError("its reader crashed" if done.returncode < 0 or not said else said[-1][:200])
    return done.stdout


def limited() -> None:
    """Bound the memory of this process, and let it write no core file, where the system can do that."""
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    most = MEMORY if hard == resource.RLIM_INFINITY else min(MEMORY, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
