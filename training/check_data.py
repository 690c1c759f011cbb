"""Runs `keras-stm check-data` from a checkout; see `--help`."""

import sys

import keras_stm_command

if __name__ == "__main__":
    keras_stm_command.run("check_data", sys.argv)
