"""Quick draws: the same distribution, nothing of weight 0, torch's refusals, and torch as it was afterwards."""

from __future__ import annotations

import threading

import pytest

from recode_rl.drawing import quick_draws

torch = pytest.importorskip("torch")


def test_draws_follow_the_distribution() -> None:
    """20,000 draws of 6 outcomes: Pearson's statistic stays below the 99.9 % point of χ² with 5 degrees of freedom."""
    weights = torch.tensor([0.3, 0.0, 0.02, 0.4, 0.08, 0.2, 0.0])
    torch.manual_seed(0)
    with quick_draws():
        drawn = torch.multinomial(weights.expand(20_000, -1).contiguous(), 1)
    assert drawn.shape == (20_000, 1)
    assert drawn.dtype == torch.int64
    counts = torch.bincount(drawn[:, 0], minlength=7).double()
    expected = weights.double() / weights.double().sum() * 20_000
    assert counts[expected == 0].sum() == 0
    seen = expected > 0
    assert float(((counts - expected)[seen] ** 2 / expected[seen]).sum()) < 20.5


def test_each_row_has_its_own_distribution_and_weights_need_not_sum_to_one() -> None:
    weights = torch.eye(5) * 7
    with quick_draws():
        drawn = torch.multinomial(weights, num_samples=1)
    assert drawn[:, 0].tolist() == [0, 1, 2, 3, 4]


def test_the_seed_decides() -> None:
    weights = torch.rand(8, 1000)
    with quick_draws():
        torch.manual_seed(3)
        first = torch.multinomial(weights, 1)
        torch.manual_seed(3)
        assert torch.multinomial(weights, 1).equal(first)
        assert not torch.multinomial(weights, 1).equal(first)


@pytest.mark.parametrize("bad", [[0.0, 0.0], [float("nan"), 1.0], [-1.0, 2.0], [float("inf"), 1.0]])
def test_what_is_no_distribution_is_refused_as_by_torch(bad: list[float]) -> None:
    with quick_draws(), pytest.raises(RuntimeError, match=r"probability tensor|invalid multinomial"):
        torch.multinomial(torch.tensor([bad]), 1)


def test_other_calls_are_torchs() -> None:
    """Several draws, a vector, a generator: as without."""
    weights = torch.rand(10)
    torch.manual_seed(1)
    expected = torch.multinomial(weights, 4)
    torch.manual_seed(1)
    with quick_draws():
        assert torch.multinomial(weights, 4).equal(expected)
    given = torch.multinomial(weights[None], 1, generator=torch.Generator().manual_seed(5))
    with quick_draws():
        assert torch.multinomial(weights[None], 1, generator=torch.Generator().manual_seed(5)).equal(given)


def test_torch_is_as_before_when_the_last_one_closes() -> None:
    original = torch.multinomial
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with quick_draws():
            inside.set()
            leave.wait(10)

    with pytest.raises(ZeroDivisionError), quick_draws():
        thread = threading.Thread(target=other)
        thread.start()
        assert inside.wait(10)
        raise ZeroDivisionError
    assert torch.multinomial is not original
    leave.set()
    thread.join()
    assert torch.multinomial is original
