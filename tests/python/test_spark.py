"""Documents of a Spark DataFrame, in processes of Spark's own: each row once, in the bytes that one process gives."""

import os
import shutil
import sys

import numpy as np
import pytest
import tessera
from test_tessera import HAN, REVIEWS

pyspark = pytest.importorskip("pyspark", reason="the extra [spark] is not installed")
if shutil.which("java") is None:
    pytest.skip("apt-get install openjdk-17-jre-headless", allow_module_level=True)


@pytest.fixture(scope="module")
def spark():
    from pyspark.sql import SparkSession
    os.environ["PYSPARK_PYTHON"] = sys.executable  # of the executors
    session = (SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
               .config("spark.driver.host", "127.0.0.1").config("spark.driver.bindAddress", "127.0.0.1").getOrCreate())
    yield session
    session.stop()


def test_rows_keep_their_columns_and_get_their_answers(spark):
    import tessera.spark
    texts = [REVIEWS[i % 2] + f" Number {i}." for i in range(200)] + ["...", None]
    frame = spark.createDataFrame(list(enumerate(texts)), "id long, text string").repartition(5)
    rows = tessera.spark.classify(frame, str(HAN), device="cpu").collect()
    assert sorted(row.id for row in rows) == list(range(202))
    expected = tessera.load(HAN, device="cpu", threads=1).classify(texts[:200])
    for row in rows:
        if row.id < 200:
            one = expected[row.id]
            assert (row.text, row.label, row.error) == (texts[row.id], one.label, None)
            np.testing.assert_array_equal(np.float32(row.probabilities), one.probabilities)
        else:
            assert row.label is None and row.probabilities is None and "no words" in row.error


def test_a_column_that_is_not_there_is_named(spark):
    import tessera.spark
    with pytest.raises(KeyError, match="'text', only id"):
        tessera.spark.classify(spark.range(3), str(HAN))
