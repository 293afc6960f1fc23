"""What veRL loads by name in its trainer and in each reward worker.

Loading it registers our advantage estimators, in the process that needs them, and hands over the reward manager.
"""

from __future__ import annotations

from recode_rl.policy.verl import advantage, manager, settings


def __getattr__(name: str) -> type[manager.CGGRPORewardManager]:
    if name != settings.MANAGER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    advantage.register()
    return manager.CGGRPORewardManager
