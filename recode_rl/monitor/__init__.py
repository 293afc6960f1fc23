"""The watch on reward hacking: fed with samples and step metrics by any engine, it measures, warns, and may stop a run.

    monitor = Monitor(config.monitor, statements, scorer=scorer, out=config.out)
    seen = monitor.observe(step, samples)      # once a generation batch: values for metrics.jsonl
    monitor.close_step({**record, **seen.values})   # once a step, with the engine's own metrics: alarms

Nothing here changes a reward: failing samples that are scored are scored after the rewards are settled, to be watched.
"""

from __future__ import annotations

from recode_rl.monitor.alarms import EXPLANATIONS, Explanation
from recode_rl.monitor.monitor import Monitor, Observation
from recode_rl.monitor.records import Alarm, Watched
from recode_rl.monitor.stages import StageClock

__all__ = ["EXPLANATIONS", "Alarm", "Explanation", "Monitor", "Observation", "StageClock", "Watched"]
