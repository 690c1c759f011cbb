"""The commands of `keras-stm`, one module for each."""
