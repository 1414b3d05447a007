"""Measurements. What the worker sets before torch is loaded holds in them too, whatever they import first."""

import worker  # noqa: F401 - for that
