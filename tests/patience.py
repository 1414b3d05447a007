"""How long tests wait for what must come."""

HANG_S = 900.0
"""Ends a test that hangs; a machine that is merely busy comes nowhere near. What comes is never waited for longer."""
