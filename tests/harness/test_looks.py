"""What a look makes of a contrast: decided, given up as futile, bound by its prompts, or open."""

import pytest

from harness.analysis.inference import Estimated, OverPrompts, OverSeeds
from harness.analysis.kinds import Best, Collapse, Linear
from harness.analysis.looks import AtLook, decide, needed, outcomes, prompt_bound
from harness.analysis.spending import calibrated
from harness.journal.records import Spending


@pytest.fixture(scope="module")
def spending() -> Spending:
    return calibrated(10, 0.05, 4, cells=60)


def seen(difference: float, se: float, n: int, further: float = 0.0) -> Estimated:
    """A difference over n replicates, and what prompts add to its variance."""
    prompts = OverPrompts(further, 0.0, 40.0, {"all": 41}) if further else None
    return Estimated(OverSeeds(n, difference, se, float(n - 1)), prompts)


def state(member, n: int, spending: Spending, *others) -> str:
    members = {"it": AtLook(member, n, spending)}
    members |= {f"other{i}": other for i, other in enumerate(others)}
    return outcomes(members, 0.05, len(members))["it"].state


def test_a_level_is_that_of_the_look_and_of_those_left(spending: Spending):
    """Its p just below and above the level after 5, as the first of two and once the other left."""
    first, second = spending.level(5, 0.025), spending.level(5, 0.05)
    far = AtLook(Linear(seen(100, 1, 5), None, True), 5, spending)
    for left, level, others in ((2, first, ()), (1, second, (far,))):
        for factor, wanted in ((1.05, "open"), (0.95, "decided")):
            d = _with_p(level * factor, 5)
            members = {"it": AtLook(Linear(seen(d, 1, 5), None, True), 5, spending)}
            members |= {f"far{i}": other for i, other in enumerate(others)}
            found = outcomes(members, 0.05, 2)["it"]
            assert found.state == wanted
            assert found.p == pytest.approx(level * factor)
            assert found.level == pytest.approx(spending.level(5, 0.05 / left))


def _with_p(p: float, n: int) -> float:
    from scipy.special import stdtrit

    return -float(stdtrit(n - 1, p / 2))


def test_whoever_left_once_leaves_again_though_read_with_later_ones(spending: Spending):
    early = AtLook(Linear(seen(60, 1, 4), None, True), 4, spending)
    late = AtLook(
        Linear(seen(_with_p(spending.level(8, 0.05) * 0.9, 8), 1, 8), None, True), 8, spending
    )
    alone = decide({"early": early}, 0.05, 2)["early"]
    both = decide({"early": early, "late": late}, 0.05, 2)
    assert alone.reading.leaves
    assert both["early"].reading.leaves
    assert both["late"].reading.leaves, "the share of the one that left is its own"
    assert both["late"].left == 1


@pytest.mark.parametrize(
    ("n", "difference", "margin", "wanted"),
    [
        (4, 0.1, None, "open"),  # before half of the replicates
        (5, 0.1, None, "futile"),
        (5, 1.5, None, "open"),  # p .21
        (5, 0.1, 20.0, "decided"),  # equivalent already
        (5, 0.1, 3.3, "open"),  # its interval may yet come inside the margin
        (5, 0.1, 0.5, "futile"),
    ],
)
def test_futile_is_who_has_neither_a_difference_nor_equivalence_in_sight(
    spending: Spending, n, difference, margin, wanted
):
    assert state(Linear(seen(difference, 1, n), margin, True), n, spending) == wanted


def test_an_arm_that_holds_is_not_given_up_for_having_lost_nothing(spending: Spending):
    held = Collapse({50: seen(-0.1, 1.0, 5), 100: seen(0.0, 1.0, 5)}, margin=3.4)
    assert state(held, 5, spending) == "open"
    lost = Collapse({50: seen(0.5, 1.0, 5), 100: seen(0.0, 1.0, 5)}, margin=0.6)
    assert state(lost, 5, spending) == "futile"


def test_a_set_of_best_levels_is_settled_when_one_is_left(spending: Spending):
    one = Best(("a", "b"), {("a", "b"): seen(90, 1, 6)}, True)
    two = Best(
        ("a", "b", "c"),
        {("a", "b"): seen(0.9, 1, 4), ("a", "c"): seen(90, 1, 4), ("b", "c"): seen(90, 1, 4)},
        True,
    )
    assert state(one, 6, spending) == "decided"
    assert state(two, 4, spending) == "open"


def test_prompts_bind_where_no_possible_difference_could_be_told_from_none(spending: Spending):
    """Prompts add a half-width of 2.9 or so at the last look's level."""
    assert state(Linear(seen(0.5, 0.3, 5, further=1.0), None, True), 5, spending) == "prompt-bound"
    assert state(Linear(seen(0.5, 0.3, 5, further=0.001), None, True), 5, spending) == "open"
    # seeds leave differences possible that these prompts could show
    assert state(Linear(seen(1.6, 0.9, 5, further=1.0), None, True), 5, spending) == "open"
    # equivalence may be reached inside a wide margin
    assert not prompt_bound(seen(0.5, 0.3, 5, further=1.0), 0.02, 5.0)
    assert prompt_bound(seen(0.5, 0.3, 5, further=1.0), 0.02, 2.0)
    # on exactly these prompts nothing binds
    assert not prompt_bound(seen(0.5, 0.3, 5, further=1.0), 0.02, None, narrow=True)


def test_a_difference_without_spread_stays_open(spending: Spending):
    same = Estimated(OverSeeds(6, 0.1, why="no spread"))
    assert state(Linear(same, None, True), 6, spending) == "open"


def test_p_is_corrected_for_looking(spending: Spending):
    member = AtLook(Linear(seen(_with_p(0.01, 6), 1, 6), None, True), 6, spending)
    assert member.p is not None
    assert member.p > 0.01
    assert spending.level(6, member.p) == pytest.approx(0.01, rel=1e-6)


def test_arms_go_on_for_open_contrasts_and_if_nobody_compares_them():
    arms_of = {"one": ["a", "base"], "two": ["b", "base"], "three": ["c", "d"]}
    arms = ["base", "a", "b", "c", "d", "alone"]
    assert needed(arms_of, ["two"], arms) == {"b", "base", "alone"}
    assert needed(arms_of, ["three"], arms) == {"c", "d", "alone"}
    assert needed(arms_of, [], arms) == set()
