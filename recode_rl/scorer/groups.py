"""Which rows of a batch run on one prompt prefix, and which run together: plans over token ids alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from recode_rl.scorer.encoding import Encoded

TOKENS_PER_BATCH = 4096


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that begin with the same token ids; `prefix` is shorter than each of them."""

    prefix: list[int]
    rows: list[int]


def shared_groups(rows: Sequence[Encoded], *, whole_reasonings: bool = False) -> list[Group]:
    """Groups of two rows and more with the same prompt; what is in none has a prompt of its own.

    Rows belong together where the ids of their prompts are equal, not where the problems are: a prompt that was cut to
    make room for a long reasoning is another one. The prefix reaches as far as all rows agree, so that reasonings which
    begin alike share that too; with `whole_reasonings` it ends before the last token of the prompt.
    """
    by_prompt: dict[tuple[int, ...], list[int]] = {}
    for index, row in enumerate(rows):
        by_prompt.setdefault(tuple(row.ids[: row.prompt]), []).append(index)
    groups = []
    for prompt, members in by_prompt.items():
        if len(members) > 1 and prompt:
            shared = common_length([rows[index].ids for index in members])
            if whole_reasonings:
                shared = min(shared, len(prompt) - 1)
            if shared:
                groups.append(Group(rows[members[0]].ids[:shared], members))
    return groups


def common_length(rows: Sequence[list[int]]) -> int:
    """How many ids all rows begin with, at least one less than the shortest has: its last token is scored."""
    first, last = min(rows), max(rows)  # in their order, what these two share is shared by all between them
    most = min(map(len, rows)) - 1
    return next((n for n in range(most) if first[n] != last[n]), most)


def batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Indices in the order of length, in batches that stay within `budget` tokens when padded to their longest."""
    found: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if found and (len(found[-1]) + 1) * lengths[index] <= budget:
            found[-1].append(index)
        else:
            found.append([index])
    return found
