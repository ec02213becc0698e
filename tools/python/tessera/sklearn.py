"""A HAN as a scikit-learn classifier: in pipelines, with metrics, in model selection."""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

from . import load


class HanClassifier(ClassifierMixin, BaseEstimator):
    """A trained HAN. X is a list, array or Series of str; predictions are class names.

    model       path of the model file
    device, precision, threads, max_memory    as of tessera.load

    It comes trained, so predict works at once, and fit only checks its labels: train with tessera.train_han.
    """

    def __init__(self, model: str = "", *, device: str = "auto", precision: str = "auto", threads: int = 0,
                 max_memory: int | str | None = None):
        self.model = model
        self.device = device
        self.precision = precision
        self.threads = threads
        self.max_memory = max_memory

    def fit(self, X, y=None):
        """Opens the model; the labels y, where given, must be classes of it."""
        self._open()
        if y is not None:
            unknown = sorted(set(map(str, y)) - set(self.classes_.tolist()))
            if unknown:
                raise ValueError(f"the model has the classes {', '.join(self.classes_)}, and y has {', '.join(unknown)}")
        return self

    def predict(self, X) -> np.ndarray:
        """(n,) class names."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def predict_proba(self, X) -> np.ndarray:
        """(n, classes), in the order of classes_. ValueError names documents without words."""
        answers = self._open().classify(list(X))
        failed = [i for i, answer in enumerate(answers) if answer.error]
        if failed:
            raise ValueError(f"{len(failed)} documents have no answer; number {failed[0]}: {answers[failed[0]].error}")
        if not answers:
            return np.empty((0, len(self.classes_)), np.float32)
        return np.stack([answer.probabilities for answer in answers])

    @property
    def classes_(self) -> np.ndarray:
        return np.asarray(self._open().classes)

    def _open(self):
        key = (self.model, self.device, self.precision, self.threads, self.max_memory)
        if getattr(self, "_opened", (None,))[0] != key:
            self._opened = (key, load(self.model, device=self.device, precision=self.precision, threads=self.threads,
                                      max_memory=self.max_memory))
        return self._opened[1]

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.requires_fit = False
        tags.no_validation = True
        return tags

    def __getstate__(self):
        return {name: value for name, value in super().__getstate__().items() if name != "_opened"}
