"""Classifiers by name, with the defaults of their libraries, as the paper uses them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from sklearn.base import ClassifierMixin

Name = Literal["rf", "xgb", "logistic"]


def make(classifier: Name | ClassifierMixin, seed: int) -> ClassifierMixin:
    """Return a new, seeded classifier: one of the names, or a copy of the caller's."""
    from sklearn.base import clone

    if isinstance(classifier, str):
        return _named(classifier, seed)
    copy = clone(classifier)
    return copy.set_params(random_state=seed) if "random_state" in copy.get_params() else copy


def _named(name: str, seed: int) -> ClassifierMixin:
    if name == "rf":
        from sklearn.ensemble import RandomForestClassifier

        return RandomForestClassifier(random_state=seed)
    if name == "logistic":
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    if name == "xgb":
        try:
            from xgboost import XGBClassifier
        except ImportError as error:
            msg = "classifier='xgb' needs xgboost: pip install 'cellhermes[metrics]'. classifier='rf' needs nothing."
            raise ImportError(msg) from error
        return XGBClassifier(random_state=seed)
    msg = f"classifier={name!r}; expected 'rf', 'xgb', 'logistic', or a classifier of scikit-learn."
    raise ValueError(msg)
