"""Loads models that `keras_stm.export.save_device` wrote, each in its own runtime."""

import importlib
import json
import os

import numpy as np

from keras_stm import inference, preprocessing
from keras_stm.arguments import ArgumentError, absolute_path
from keras_stm.export import device
from keras_stm.formats import MODELS


def is_export(path):
    """Returns whether a path is a folder that `keras_stm.export.save_device` wrote."""
    return _read_settings(path) is not None


def load(path):
    """Loads an exported model.

    Args:
        path: folder that `keras_stm.export.save_device` wrote. `runtime.py` and `classify.py` in it are not
            run.

    Returns:
        `keras_stm.inference.Trained`, whose `model` is an `ExportedModel`. Its folder is that of the run
        where the export lies in the folder `exports` of a run.

    Raises:
        ValueError: there is no such export, or the runtime cannot read it.
        ImportError: the runtime is not installed.
    """
    path = absolute_path("path", path)
    settings = _read_settings(path)
    if settings is None:
        raise ArgumentError("path", path, "must be a folder that `keras-stm export` wrote for devices")
    runtime = importlib.import_module(f"{device.__name__}.runtime_{settings['format']}")
    try:
        file = os.path.join(path, settings["model"])
        model = ExportedModel(os.path.basename(path), *runtime.load(file), settings)
    except Exception as error:  # each runtime has errors of its own
        raise ArgumentError("path", path, f"contains no model that can be loaded ({error})") from error
    parent, name = os.path.split(os.path.dirname(path))
    # OpenVINO keeps the weights in a file of their own.
    weights = os.path.splitext(file)[0] + ".bin"
    return inference.Trained(
        model,
        tuple(settings["class_names"]),
        settings["num_frames"],
        settings["image_size"],
        settings["sampling"],
        settings["rate"],
        weights if os.path.isfile(weights) else file,
        parent if name == device.EXPORTS else path,
    )


def _read_settings(path):
    try:
        with open(os.path.join(path, device.SETTINGS), encoding="utf-8") as file:
            settings = json.load(file)
        return settings if settings["format"] in MODELS else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


class ExportedModel:
    """A function from preprocessed clips to scores by an exported model.

    Args:
        name: name of the export.
        run: function from `{name: input}` to `{name: output}`.
        shapes: `{name: shape}` of the inputs.
        settings: dictionary of the settings of the export.
    """

    def __init__(self, name, run, shapes, settings):
        self.name = name
        self._run = run
        self._shapes = shapes
        self._settings = settings

    def __call__(self, clips):
        """Returns float32 scores `(batch, classes)` of clips `(batch, T, H, W, 3)`.

        Raises:
            ValueError: clips have other numbers of frames or another size than the model.
        """
        self._check(clips[0].shape[:3])
        return np.concatenate([self._score(pixels[np.newaxis]) for pixels in map(_to_pixels, clips)])

    def step_fn(self, num_frames, image_size, streams):
        """Returns a function like `keras_stm.inference.step_fn`.

        Raises:
            ValueError: the export is not a step, or has another number of frames or another size.
        """
        if not self._settings["stream"]:
            raise ArgumentError("model", self.name, "must be exported as a step, with `stream`")
        self._check((num_frames, image_size, image_size))
        states = [self._start()] * streams

        def step(frames, starts):
            scores = []
            for index, frame in enumerate(_to_pixels(frames)):
                state = self._start() if starts[index] else states[index]
                found, states[index] = self._step(frame[np.newaxis], state)
                scores.append(found)
            return np.concatenate(scores)

        return step

    def _check(self, shape):
        size = self._settings["image_size"]
        wanted = (self._settings["num_frames"], size, size)
        if tuple(shape) != wanted:
            raise ArgumentError(
                "num_frames",
                shape[0],
                f"and `image_size` must be those of the export {self.name}, {wanted[0]} and {size}",
                f"num_frames={shape[0]}, image_size={shape[1]}",
            )

    def _score(self, clip):
        if not self._settings["stream"]:
            return self._run({"clip": clip})["scores"]
        state = self._start()
        for frame in np.moveaxis(clip, 1, 0):
            scores, state = self._step(frame, state)
        return scores

    def _start(self):
        return {name: np.zeros(shape, "float32") for name, shape in self._shapes.items() if name != "frame"}

    def _step(self, frame, state):
        outputs = self._run({"frame": frame, **state})
        return outputs["scores"], {name: outputs[f"next_{name}"] for name in state}


def _to_pixels(clip):
    """Returns the pixels from 0 to 255 of a preprocessed clip."""
    mean, std = (np.array(value, "float32") * 255 for value in (preprocessing.MEAN, preprocessing.STD))
    return np.asarray(clip, "float32") * std + mean
