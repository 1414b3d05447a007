"""Runs one command and ends it when its owner goes, however the owner goes. Short: a process of its own.

``python -m worker.local.guard COMMAND …`` reads its standard input: the owner holds the other end of that pipe and
never writes. End of file means that the owner has closed it or has died, even by ``kill -9``. Linux's parent-death
signal alone would not do: it fires when the *thread* that started the process ends (prctl(2), PR_SET_PDEATHSIG).
"""

import contextlib
import os
import subprocess
import sys
import threading

# A broker writes its clean-shutdown marker within a second or two; beyond this it hangs.
TERMINATE_TIMEOUT_S = 10.0


def main() -> None:
    """Run the command of the arguments; exit as it does, or end it when standard input ends."""
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)  # noqa: S603 - the owner's own command
    watcher = threading.Thread(target=_end_with_owner, args=(child,), daemon=True)
    watcher.start()
    returncode = child.wait()
    # The watcher may sit in a read of standard input: don't wait for it at interpreter shutdown.
    os._exit(returncode if returncode >= 0 else 128 - returncode)


def _end_with_owner(child: "subprocess.Popen[bytes]") -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    child.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(TERMINATE_TIMEOUT_S)
        return
    child.kill()


if __name__ == "__main__":
    main()
