"""What a model answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from . import _engine


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Of one image.

    mask           (H, W) uint8: index into `classes`
    probabilities  (H, W, outputs) float32, or None if not asked for; a sigmoid model of two classes has one output,
                   the second class's
    """

    mask: np.ndarray
    probabilities: np.ndarray | None
    classes: tuple[str, ...]
    min_area: int = field(default=1, repr=False)  # of objects, as the model was trained

    def labels(self, *, min_area: int | None = None, connectivity: int = 8) -> np.ndarray:
        """(H, W) uint32: the object of each pixel, 0 for background; objects count from 1 in reading order."""
        return self._find(min_area, connectivity)[0]

    def objects(self, *, min_area: int | None = None, connectivity: int = 8):
        """A pandas DataFrame with a row for each connected component of each class but the first.

        Columns are named as by skimage.measure.regionprops_table: label, class, area, bbox-0 (top), bbox-1 (left),
        bbox-2 (bottom, exclusive), bbox-3 (right, exclusive), centroid-0 (row), centroid-1 (column). Pixels.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError("objects() gives a pandas table: pip install 'tessera-engine[objects]'") from error
        found = self._find(min_area, connectivity)[1]

        def column(name, dtype):
            return np.fromiter((getattr(one, name) for one in found), dtype, len(found))
        top, left = column("y", np.int64), column("x", np.int64)
        return pandas.DataFrame({
            "label": column("label", np.int64),
            "class": [self.classes[one.class_id] for one in found],
            "area": column("area", np.int64),
            "bbox-0": top, "bbox-1": left,
            "bbox-2": top + column("height", np.int64), "bbox-3": left + column("width", np.int64),
            "centroid-0": column("centroid_y", np.float64), "centroid-1": column("centroid_x", np.float64),
        })

    def _find(self, min_area: int | None, connectivity: int):
        return _engine.find_objects(self.mask, connectivity, self.min_area if min_area is None else min_area)


@dataclass(frozen=True)
class Word:
    text: str
    begin: int  # characters of the document
    end: int
    weight: float  # words of a sentence sum to 1
    known: bool  # in the model's vocabulary


@dataclass(frozen=True)
class Sentence:
    text: str
    begin: int
    end: int
    weight: float  # sentences of a document sum to 1
    words: tuple[Word, ...]


class Classification:
    """Of one document: its label, and what the label rests on."""

    def __init__(self, text: str, raw, classes: tuple[str, ...]):
        self.text = text
        self.error: str | None = raw.error or None  # why it has no answer
        self.index: int | None = None if self.error else raw.label
        self.label: str | None = None if self.error else classes[raw.label]
        self.probabilities = np.asarray(raw.probabilities, np.float32)  # by class; empty with an error
        self.unknown_words: int = raw.unknown_words
        self.words_dropped: int = raw.words_dropped  # beyond the model's limits
        self.sentences_dropped: int = raw.sentences_dropped
        self._raw = raw

    def __repr__(self) -> str:
        if self.error:
            return f"<tessera.Classification error={self.error!r}>"
        return f"<tessera.Classification {self.label!r} {self.probabilities[self.index]:.3f}>"

    @cached_property
    def sentences(self) -> tuple[Sentence, ...]:
        """Attention on sentences and words, in the order of the text."""
        encoded = self.text.encode()
        if len(encoded) == len(self.text):
            at = range(len(encoded) + 1)
        else:  # the character that each byte belongs to
            starts = np.frombuffer(encoded, np.uint8) & 0xC0 != 0x80
            at = np.append(np.cumsum(starts) - 1, len(self.text)).tolist()

        def place(part):
            begin, end = at[part.begin], at[part.end]
            return {"text": self.text[begin:end], "begin": begin, "end": end, "weight": part.weight}
        return tuple(Sentence(**place(sentence), words=tuple(Word(**place(word), known=word.known)
                                                              for word in sentence.words))
                     for sentence in self._raw.sentences)

    def __reduce__(self):
        raw = _Copy(self._raw)
        return _remake, (self.text, raw, self.label)


class _Copy:
    """A Classification of the engine that can be pickled."""

    def __init__(self, raw):
        for name in ("error", "label", "probabilities", "unknown_words", "words_dropped", "sentences_dropped"):
            setattr(self, name, getattr(raw, name))
        self.sentences = [_Part(one, [_Part(word) for word in one.words]) for one in raw.sentences]


class _Part:
    def __init__(self, part, words=None):
        self.begin, self.end, self.weight = part.begin, part.end, part.weight
        self.known = getattr(part, "known", True)
        self.words = words


def _remake(text, raw, label):
    classes = [""] * (raw.label + 1)
    classes[raw.label] = label
    return Classification(text, raw, tuple(classes))
