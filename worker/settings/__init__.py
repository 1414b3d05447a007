"""What the worker can be told; everybody imports the settings from here."""

from worker.settings.model import *  # noqa: F403
