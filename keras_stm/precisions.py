"""The types that a model can compute its scores in, see `keras_stm.models.precision`."""

PRECISIONS = ("float32", "bfloat16")
