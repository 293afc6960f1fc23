"""Runs untrusted programs behind walls; knows nothing of problems or rewards.

A `Cell` is built once and runs one confined process at a time; `level()` says how strong the walls are here. What is
trusted: the host and the cell's init. What is not: the process a program runs in, and every byte that comes from it.
"""

from __future__ import annotations

from recode_rl.sandbox.cell import Bounds, Cell, Child, Exit, Interpreter, SandboxLevel, Walls, interpreter_at, level

__all__ = ["Bounds", "Cell", "Child", "Exit", "Interpreter", "SandboxLevel", "Walls", "interpreter_at", "level"]
