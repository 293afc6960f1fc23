"""The advantage of a completion in its group, as veRL computes it, brought in line with TRL.

    A_i = (R_i − mean of the group) / (deviation + 1e-4)

The sums are veRL's own (`compute_grpo_outcome_advantage`). Two things differ from its plain `grpo`:

- ε is TRL's 1e-4, not 1e-6.
- A group of which one sample alone has a reward earns nothing. veRL would take the reward itself as the advantage, so
  that a wrong program could be reinforced because our infrastructure failed its siblings.

`recode_batch` divides by the deviation over the whole batch, `recode_none` by nothing.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

from recode_rl.extras import need

EPSILON = 1e-4
SCALES = ("group", "batch", "none")


def register() -> None:
    """Tell veRL of the estimators `recode_group`, `recode_batch` and `recode_none`; more than once does no harm."""
    algorithms = need("verl.trainer.ppo.core_algos", "verl")
    for scale in SCALES:
        name = f"recode_{scale}"
        if name not in algorithms.ADV_ESTIMATOR_REGISTRY:
            algorithms.register_adv_est(name)(partial(estimate, scale))


def estimate(
    scale: str, token_level_rewards: Any, response_mask: Any, index: Any, config: Any = None, **unused: Any
) -> tuple[Any, Any]:
    """Advantages and returns, both of shape [samples, tokens], from rewards of the same shape.

    `index` has the group of each sample. Rows without a token of their own are veRL's padding and count nowhere.
    """
    torch = need("torch", "verl")
    algorithms = need("verl.trainer.ppo.core_algos", "verl")
    sizes = Counter(index)
    alone = torch.tensor([sizes[group] == 1 for group in index], device=response_mask.device)
    advantages, _ = algorithms.compute_grpo_outcome_advantage(
        token_level_rewards=token_level_rewards,
        response_mask=response_mask,
        index=index,
        epsilon=EPSILON,
        norm_adv_by_std_in_grpo=scale == "group",
    )
    if scale == "batch":
        real = response_mask.sum(-1) > 0
        advantages = advantages / (token_level_rewards.sum(-1)[real].std() + EPSILON)
    advantages = advantages.masked_fill(alone.unsqueeze(-1), 0.0)
    return advantages, advantages
