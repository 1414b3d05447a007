"""Two workers and what an orchestrator does for them: whoever ends is started again."""

import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.hanging_worker import HANG_SIGNAL
from tests.patience import HANG_S
from tests.worker_process import WorkerProcess
from worker.local.process import await_condition

RESTART_PAUSE_S = 0.5


@dataclass
class Member:
    """One worker's place in the group, whichever process fills it."""

    name: str
    worker: WorkerProcess
    exits: list[int] = field(default_factory=list)
    """How its processes ended so far."""
    frozen: bool = False

    @property
    def is_ready(self) -> bool:
        return not self.frozen and not self.worker.ended and self.worker.is_ready

    def await_ready(self) -> None:
        assert await_condition(lambda: self.is_ready, timeout_s=HANG_S), f"{self.name} did not become ready"

    def kill(self) -> None:
        self.worker.process.kill()

    def terminate(self) -> None:
        self.worker.process.terminate()

    def hang(self) -> None:
        self.worker.process.send_signal(HANG_SIGNAL)

    def freeze(self) -> None:
        self.frozen = True
        self.worker.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.worker.process.send_signal(signal.SIGCONT)
        self.frozen = False


class Supervisor:
    """Keeps workers running until it is closed, in a thread of its own."""

    def __init__(self, start: Callable[[str], WorkerProcess], names: tuple[str, ...]) -> None:
        self._start = start
        self.members = [Member(name, start(name)) for name in names]
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._tend, name="supervisor", daemon=True)
        self._thread.start()

    def await_ready(self) -> None:
        for member in self.members:
            member.await_ready()

    def describe(self) -> str:
        """What the workers say of themselves, for whoever must find out why something was lost."""
        return "\n".join(f"{member.name}: {member.worker.describe()}" for member in self.members)

    @property
    def exits(self) -> list[int]:
        return [code for member in self.members for code in member.exits]

    def stop(self) -> list[int]:
        """End the workers as an orchestrator does and return their exit codes."""
        self._stopping.set()
        self._thread.join(HANG_S)
        for member in self.members:
            member.terminate()
        return [member.worker.process.wait(HANG_S) for member in self.members]

    def close(self) -> None:
        """Kill the workers."""
        self._stopping.set()
        self._thread.join(HANG_S)
        for member in self.members:
            member.worker.kill()

    def _tend(self) -> None:
        while not self._stopping.wait(RESTART_PAUSE_S):
            for member in self.members:
                if member.worker.ended:
                    member.exits.append(member.worker.process.returncode)
                    member.worker = self._start(member.name)
