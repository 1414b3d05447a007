"""What every command shares: where it prints, and its exit code for an error. Short: nothing else is shared."""

from rich.console import Console

out = Console()
err = Console(stderr=True)

EXIT_ERROR = 1
