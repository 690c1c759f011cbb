"""Runs `keras-stm push` from a checkout; see `--help`."""

import sys

import keras_stm_command

if __name__ == "__main__":
    keras_stm_command.run("push", sys.argv)
