"""The tools that people run beside the gate: the work of the commands.

A tool takes paths and times, and returns values or text. `cli/` reads arguments, prints, and chooses exit codes.
"""
