"""Features of clips: what a trained network knows of a clip before its classifier."""

import csv
import os

import keras
import numpy as np

from keras_stm import inference
from keras_stm.arguments import ArgumentError, functional_model, positive_int
from keras_stm.data.parallel import in_order
from keras_stm.data.video import VideoError
from keras_stm.data.views import PROTOCOLS, read_views
from keras_stm.file_names import open_text
from keras_stm.progress import Progress
from keras_stm.replacing import replacing

FEATURES, PATHS = "features.npy", "paths.csv"


def feature_model(model):
    """Returns a model from clips to the input of a model's classifier, averaged over time.

    The classifier is the last `Dense` layer. The returned model shares the weights of `model`.

    Args:
        model: a functional `keras.Model`, or a `Sequential` with a known input shape, from clips to scores.

    Returns:
        `keras.Model` from clips to float32 features `(batch, features)`.

    Raises:
        ValueError: `model` is not as above, or has no `Dense` layer after its features.
    """
    model = functional_model(model)
    for layer in reversed(model.layers):
        if isinstance(layer, keras.layers.Dense):
            break
    else:
        raise ArgumentError(
            "model", model, "must end in a Dense layer, its classifier", f"model={model.name!r}"
        )
    # A Dropout in front of the classifier changes nothing outside of training.
    features = layer.input
    if len(features.shape) not in (2, 3):
        raise ArgumentError(
            "model",
            model,
            "must have a classifier of features (batch, T, features) or (batch, features)",
            f"a classifier of {features.shape}",
        )
    if len(features.shape) == 3:
        pool = keras.layers.GlobalAveragePooling1D(data_format="channels_last", dtype="float32")
        features = pool(features)
    return keras.Model(model.input, features, name=f"{model.name}_features")


def embed(
    clips,
    trained,
    output,
    *,
    protocol="efficient",
    batch_size=8,
    workers=None,
    on_error=None,
):
    """Writes the features of clips: `features.npy` and `paths.csv`, if at least one clip can be read.

    `features.npy` is float32 `(clips, features)`. `paths.csv` has a row of `path,label` for each of its rows,
    with an empty label if it is not known. Unreadable clips are in neither.

    Args:
        clips: list of `(path, label)`; the label is a str or `None`.
        trained: the model, the result of `inference.load`.
        output: folder to write into. Existing files of these names are replaced.
        protocol: views of a clip, whose features are averaged; see `keras_stm.data.make_views`.
        batch_size: number of views that the model processes at a time.
        workers: clips read at the same time. `None` is the number of processors.
        on_error: function that is called with each `VideoError`.

    Returns:
        The features, `(clips, features)`.

    Raises:
        ValueError: an argument is not as above.
        OSError: a file cannot be written.
    """
    positive_int("batch_size", batch_size)
    predict = inference.predict_fn(feature_model(trained.model))
    num_clips, crops = PROTOCOLS[protocol]

    def read(clip):
        path, _ = clip
        try:
            return read_views(
                path, trained.num_frames, trained.image_size, num_clips, crops, trained.sampling
            )
        except VideoError as error:
            return error

    features, rows, waiting = [], [], []

    def flush():
        if waiting:
            found = predict(np.concatenate(waiting))
            features.extend(part.mean(axis=0) for part in np.split(found, len(waiting)))
            waiting.clear()

    progress = Progress(len(clips), "clip", lines=True)
    found = in_order(read, clips, workers or os.cpu_count())
    for number, (clip, views) in enumerate(zip(clips, found, strict=True), 1):
        if isinstance(views, VideoError):
            progress.clear()
            if on_error:
                on_error(views)
        else:
            rows.append(clip)
            waiting.append(views)
            if len(waiting) * len(views) >= batch_size:
                flush()
        progress.update(number)
    flush()
    progress.close()
    features = np.array(features, "float32")
    if rows:
        os.makedirs(output, exist_ok=True)
        with replacing(os.path.join(output, FEATURES)) as partial, open(partial, "wb") as file:
            np.save(file, features)
        _write_paths(os.path.join(output, PATHS), rows)
    return features


def _write_paths(path, rows):
    with replacing(path) as partial, open_text(partial, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows((("path", "label"), *((name, label or "") for name, label in rows)))
