"""Table, figure and numbers of what is recorded so far, each replaced whole."""

from __future__ import annotations

from typing import Any

from recode_rl import jsonl
from recode_rl.ablations import figures, numbers, tables
from recode_rl.ablations.config import StudyConfig


def write(study: StudyConfig) -> dict[str, Any]:
    """Leave results.json, table.md and, once there is something to draw, figure.png; returns where they are."""
    found = numbers.summarise(study)
    jsonl.write_json(study.out / "results.json", found)
    table = study.out / "table.md"
    jsonl.write_text(table, tables.markdown(study, found))
    picture = figures.png(study, found)
    if picture is not None:
        jsonl.write_bytes(study.out / "figure.png", picture)
    return {"table": str(table), "figure": str(study.out / "figure.png") if picture is not None else None}
