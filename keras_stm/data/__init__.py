"""Turns video files into clips.

This package depends on no model. Functions that need TensorFlow import it themselves.
"""

from keras_stm.data import arrow_of_time, augment, catalog, pipeline, segments, video
from keras_stm.data.catalog import open_dataset
from keras_stm.data.dataset import Dataset
from keras_stm.data.left_out import LeftOut
from keras_stm.data.pipeline import make_pipeline, steps_per_epoch
from keras_stm.data.video import VideoError
from keras_stm.data.views import load_clip, make_views

__all__ = [
    "Dataset",
    "LeftOut",
    "VideoError",
    "arrow_of_time",
    "augment",
    "catalog",
    "load_clip",
    "make_pipeline",
    "make_views",
    "open_dataset",
    "pipeline",
    "segments",
    "steps_per_epoch",
    "video",
]
