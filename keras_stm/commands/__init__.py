"""The commands of `keras-stm`, one module for each.

The help of a command needs no Keras, which takes seconds to load. Functions import what does; `LOADS` names
these modules, so that they are loaded, and missing packages found, before the command begins.
"""
