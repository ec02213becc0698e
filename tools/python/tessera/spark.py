"""Documents of a Spark DataFrame: the model runs where the rows are, in one process of Python an executor's core.

    import tessera.spark
    answers = tessera.spark.classify(reviews, "/models/han.safetensors", "text")     # reviews with label, probabilities, error

The model's path is one that every executor sees, and the wheel is installed there.
"""

from __future__ import annotations

from typing import Any

from ._images import extra


def classify(frame, model: str, column: str = "text", *, threads: int = 1, **options: Any):
    """Adds to each row `label`, `probabilities` (an array by class) and `error`; a row without an answer has its reason there.

    frame    pyspark.sql.DataFrame with the texts in `column`
    threads  of a process; Spark counts one core for it
    options  of tessera.load
    """
    try:
        from pyspark.sql import types
    except ImportError as error:
        raise extra("spark", "a Spark DataFrame", error) from error
    if column not in frame.columns:
        raise KeyError(f"there is no column {column!r}, only {', '.join(frame.columns)}")

    def answers(batches):
        from . import load
        han = load(model, threads=threads, **options)
        for batch in batches:
            texts = batch[column]
            found = han.classify([text if isinstance(text, str) else "" for text in texts])
            yield batch.assign(label=[one.label for one in found],
                               probabilities=[None if one.error else one.probabilities.tolist() for one in found],
                               error=[one.error for one in found])

    added = types.StructType([types.StructField("label", types.StringType()),
                              types.StructField("probabilities", types.ArrayType(types.FloatType())),
                              types.StructField("error", types.StringType())])
    return frame.mapInPandas(answers, types.StructType(frame.schema.fields + added.fields))
