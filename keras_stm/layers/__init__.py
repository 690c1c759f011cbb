"""The parts of the paper as Keras layers on clips `(batch, time, height, width, channels)`."""

from keras_stm.layers.cmm import CMM
from keras_stm.layers.cstm import CSTM
from keras_stm.layers.stm_block import STMBlock
from keras_stm.layers.temporal_shift import TemporalShift

__all__ = ["CMM", "CSTM", "STMBlock", "TemporalShift"]
