"""The process reward: `score([(problem, reasoning)])` → values in [0, 1], in this process or over HTTP.

`encode` is the one function that builds the token ids of a problem with a reasoning, for training and for scoring.
"""

from __future__ import annotations

from recode_rl.errors import ConfigError
from recode_rl.scorer.encoding import Encoded, distinct_pad_token, encode
from recode_rl.scorer.groups import TOKENS_PER_BATCH
from recode_rl.scorer.local import DEFAULT_LENGTH, Loaded, RewardModelScorer, Score
from recode_rl.scorer.remote import Patience, RemoteScorer, is_url

__all__ = [
    "DEFAULT_LENGTH",
    "TOKENS_PER_BATCH",
    "Encoded",
    "Loaded",
    "Patience",
    "RemoteScorer",
    "RewardModelScorer",
    "Score",
    "distinct_pad_token",
    "encode",
    "is_url",
    "open_scorer",
]


def open_scorer(
    model_or_url: str, max_length: int | None = None, patience: Patience | None = None
) -> RewardModelScorer | RemoteScorer:
    """The scorer of a folder, a hub id, or a server of `serve-rm` given by its http(s) address.

    `max_length` is tokens of a problem with its reasoning. A server has one of its own: ConfigError where it takes less
    than is asked for here; InfrastructureError where it cannot be reached. `patience` is for a server.
    """
    if not is_url(model_or_url):
        return RewardModelScorer(model_or_url, max_length)
    scorer = RemoteScorer(model_or_url, patience=patience)
    if max_length is not None and scorer.max_length < max_length:
        raise ConfigError(
            f"max_length {max_length}: the reward model at {model_or_url} cuts at {scorer.max_length} tokens; "
            f"start serve-rm with --max-length {max_length}, or lower it here"
        )
    return scorer
