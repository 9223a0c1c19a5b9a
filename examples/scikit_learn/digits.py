"""A subject that has nothing to do with images made by networks: a forest reads digits."""

from pydantic import BaseModel, Field

from harness.contract import Fingerprints, MetricSpec, Outcome, Report


class Recipe(BaseModel, frozen=True, extra="forbid"):
    """What can be varied."""

    trees: int = Field(10, ge=1, le=1000, description="Trees of the forest.")
    depth: int | None = Field(None, ge=1, description="Deepest tree; null for no limit.")


metrics = {"accuracy": MetricSpec(higher_is_better=True, low=0, high=1, headline=True)}


def fingerprints(recipe, protocol):
    """What surrounds a recipe."""
    return Fingerprints(data="sklearn-digits", protocol=protocol, code="digits-1")


def run(recipe, context):
    """Fit on three quarters of the digits, score on the rest."""
    from sklearn.datasets import load_digits
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import train_test_split

    seed = context.seed("split") % 2**32
    images, labels = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(images, labels, random_state=seed)
    forest = RandomForestClassifier(recipe["trees"], max_depth=recipe["depth"], random_state=seed)
    accuracy = forest.fit(x, y).score(x_test, y_test)
    done = Outcome(state="done")
    yield Report(step=1, measured=True, metrics={"accuracy": accuracy}, outcome=done)
