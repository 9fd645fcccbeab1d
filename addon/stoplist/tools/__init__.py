"""The tools that people run beside the gate."""
