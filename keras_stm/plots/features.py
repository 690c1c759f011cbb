"""Figures of the features, the optical flow and the Grad-CAM of a clip.

Figures need matplotlib, the optical flow needs scikit-image: `pip install matplotlib scikit-image`.

Figures are not registered with pyplot. `figure.savefig("clip.png", dpi=150)` writes a figure. A notebook
shows a figure that is the last value of a cell.
"""

import difflib
import numbers
import textwrap
import typing

import keras
import numpy as np
from keras import ops

from keras_stm.arguments import ArgumentError, keras_model, lines, one_of
from keras_stm.file_names import printable
from keras_stm.layers.per_frame import channel_axis
from keras_stm.layers.stm_block import STMBlock
from keras_stm.plots.figures import new_figure
from keras_stm.preprocessing import MEAN, STD

# Maximum number of frames in a figure. Longer clips show this number, evenly from first to last.
MAX_FRAMES = 8

# Inches.
_COLUMN = 1.5
_GAP = 0.06
_LABELS = 2.2
_COLORS = 0.14
_RIGHT = 0.95
_TOP = 0.75
_BOTTOM = 0.4
_BARS = 1.7
_EMPTY = "0.92"


class BlockFeatures(typing.NamedTuple):
    """Input of an STM block, and outputs of its modules (paper, Fig. 1 and Fig. 3).

    Attributes:
        input: float32 array `(T, height, width, channels)`.
        cstm: output of CSTM, `(T, height / strides, width / strides, filters)`; `None` in a block without
            CSTM.
        cmm: output of CMM, of the same shape; `None` in a block without CMM. It is 0 for the last frame.
    """

    input: np.ndarray
    cstm: np.ndarray | None
    cmm: np.ndarray | None


class ClassActivation(typing.NamedTuple):
    """Grad-CAM of a class: the places and frames of a clip that resemble the class.

    Attributes:
        label: index of the class.
        score: the model's score of the class.
        maps: float32 array `(T, height, width)`: contribution of each place to the class's score before
            the activation. This score is the mean of the array plus the class's bias.
        frame_scores: float32 array `(T, classes)`: scores of each frame before the activation. The model
            averages them over the frames.
    """

    label: int
    score: float
    maps: np.ndarray
    frame_scores: np.ndarray


def block_features(model, clip, block="conv2_block1"):
    """Returns the features of one clip at the input of an STM block, and after its CSTM and its CMM.

    Args:
        model: a model of this package, of either data format.
        clip: preprocessed clip `(1, T, H, W, 3)`, as `keras_stm.data.load_clip` returns it.
        block: name of the block; the default is the first block of stage 2, as in the paper's Fig. 1.

    Returns:
        `BlockFeatures`, channels last.

    Raises:
        ValueError: the model has no such block, the block has neither CSTM nor CMM, or the clip is not as
            above.
    """
    layer = _get_block(model, block)
    features = _features(model, layer.input, clip, layer.data_format)
    reduced = ops.relu(layer.reduce_bn(layer.reduce_conv(features), training=False))
    outputs = [
        _to_frames(part(reduced, training=False), layer.data_format) if name in layer.branches else None
        for name, part in (("cstm", layer.cstm), ("cmm", layer.cmm))
    ]
    return BlockFeatures(_to_frames(features, layer.data_format), *outputs)


def optical_flow(clip):
    """Returns the TV-L1 optical flow from each frame to the next, as in the paper's Fig. 1.

    The flow is computed between the frames of the clip, which may be far apart in the video.

    Args:
        clip: preprocessed clip `(1, T, H, W, 3)`, as `keras_stm.data.load_clip` returns it.

    Returns:
        float32 array `(T - 1, H, W, 2)`: pixels to the right and pixels down.

    Raises:
        ValueError: the clip is not as above.
        ImportError: scikit-image is not installed.
    """
    try:
        from skimage import color, registration
    except ImportError as error:
        raise ImportError("The optical flow needs scikit-image: pip install scikit-image") from error
    frames = color.rgb2gray(_pixels(clip))
    flow = np.zeros((len(frames) - 1, *frames.shape[1:], 2), "float32")
    for i, (frame, following) in enumerate(zip(frames, frames[1:], strict=False)):
        down, right = registration.optical_flow_tvl1(frame, following)
        flow[i] = np.stack([right, down], axis=-1)
    return flow


def flow_colors(flow, largest):
    """Returns optical flow as colours: hue is the direction, brightness is the distance, black is no motion.

    Args:
        flow: array `(..., 2)`, pixels to the right and down.
        largest: distance in pixels, above 0. This distance and longer distances have full brightness.

    Returns:
        RGB array `(..., 3)` from 0 to 1: red is to the right, yellow-green up, cyan to the left, violet down.

    Raises:
        ValueError: an argument is not as above.
    """
    from matplotlib import colors

    if np.shape(flow)[-1:] != (2,):
        raise ArgumentError("flow", flow, "must have shape (..., 2)", f"flow.shape={np.shape(flow)}")
    if not largest > 0:
        raise ArgumentError("largest", largest, "must be above 0")
    right, down = flow[..., 0], flow[..., 1]
    hue = np.arctan2(-down, right) / (2 * np.pi) % 1
    brightness = np.minimum(np.hypot(right, down) / largest, 1)
    return colors.hsv_to_rgb(np.stack([hue, np.ones_like(hue), brightness], axis=-1))


def plot_block(model, clip, block="conv2_block1", frame_names=None, title=None):
    """Draws the paper's Figure 1 for any clip and any STM block.

    The rows are the frames, the features at the input of the block, the output of CSTM, the output of CMM
    and the TV-L1 optical flow. A module that the block lacks has no row. The maps show the mean over the
    channels of the absolute features. Most features come after a ReLU. Those of CMM do not: they have both
    signs, and either sign is motion. All maps of a row share one colour scale, so that frames can be
    compared. The scale covers the row's 1st to 99th percentile; for CMM it starts at 0. CMM and the optical
    flow compare each frame of the clip with the next one, so the last frame has neither.

    Args:
        model: see `block_features`.
        clip: see `block_features`.
        block: see `block_features`.
        frame_names: texts above the T frames; `None` numbers the frames.
        title: title of the figure, or `None`.

    Returns:
        `matplotlib.figure.Figure` with a column for each frame. Clips of more than 8 frames show 8 frames,
        evenly from first to last.

    Raises:
        ValueError: see `block_features`; or the number of `frame_names` is not T.
        ImportError: matplotlib or scikit-image is not installed.
    """
    features = block_features(model, clip, block)
    frames, flow = _pixels(clip), optical_flow(clip)
    rows = [
        (f"input of {block}", features.input),
        ("output of CSTM", features.cstm),
        ("output of CMM", features.cmm),
    ]
    rows = [(name, maps) for name, maps in rows if maps is not None]
    aspect = frames.shape[1] / frames.shape[2]
    sheet = _Sheet(len(frames), frame_names, title, [aspect * _COLUMN] * (len(rows) + 2))
    sheet.draw_frames(frames)
    for row, (name, maps) in enumerate(rows, start=1):
        _, height, width, channels = maps.shape
        sheet.label(row, f"{name}\nmean |x| of {channels} channels\n{width} x {height}")
        maps = np.abs(maps).mean(axis=-1)
        low, high = np.percentile(maps, (1, 99))
        if name == "output of CMM":
            # The map of the last frame is 0 by construction.
            low, maps = 0, maps[:-1]
        image = sheet.draw(row, maps, cmap="magma", vmin=low, vmax=high, extent=(0, 1, 0, aspect))
        if image:
            sheet.color_bar(row, image)
    # At least one pixel: otherwise, the noise of a clip without motion fills the whole scale.
    largest = max(1, np.percentile(np.hypot(*np.moveaxis(flow, -1, 0)), 99)) if len(flow) else 1
    row = len(rows) + 1
    sheet.label(row, "TV-L1 optical flow\nto the clip's next frame\nhue: direction\nbrightness: distance")
    if sheet.draw(row, flow_colors(flow, largest)):
        sheet.wheel(row, largest)
    return sheet.figure


def grad_cam(model, clip, label=None):
    """Returns the Grad-CAM of a class over space and time, on the output of the last block.

    Grad-CAM weights each channel by the gradient of the class's score, before the softmax, with respect to
    the features. Here, all layers after the features are linear: average pooling, dense, and average over
    time. Therefore, the gradient for class k is the same at each of the T x height x width features of a
    channel. It is the dense layer's weight from that channel to k, divided by T x height x width. No backward
    pass is needed, and Grad-CAM equals the CAM of Zhou et al. (CVPR 2016). The maps keep negative values.

    Args:
        model: a model of this package that ends in its classifier.
        clip: preprocessed clip `(1, T, H, W, 3)`, as `keras_stm.data.load_clip` returns it.
        label: index of the class; `None` is the class with the highest score.

    Returns:
        `ClassActivation`.

    Raises:
        ValueError: the model has another head, or an argument is not as above.
    """
    layers = {layer.name: layer for layer in keras_model(model).layers}
    if not {"avg_pool", "predictions", "consensus"} <= set(layers):
        raise ArgumentError(
            "model",
            model,
            "must end in the classifier of this package: average pooling, dense, average over time",
            f"model={model.name!r} with the layers {', '.join(list(layers)[-3:])} at its end",
        )
    dense = layers["predictions"]
    kernel, bias = (ops.convert_to_numpy(ops.cast(each, "float32")) for each in (dense.kernel, dense.bias))
    is_index = isinstance(label, numbers.Integral) and 0 <= label < len(bias)
    if label is not None and not is_index:
        raise ArgumentError("label", label, f"must be an integer from 0 to {len(bias) - 1}")
    data_format = layers["avg_pool"].layer.data_format
    features = _to_frames(_features(model, layers["avg_pool"].input, clip, data_format), data_format)
    frame_scores = features.mean(axis=(1, 2)) @ kernel + bias
    scores = frame_scores.mean(axis=0)
    if "scores" in layers:
        scores = ops.convert_to_numpy(layers["scores"].activation(ops.convert_to_tensor(scores[np.newaxis])))[
            0
        ]
    label = int(scores.argmax()) if label is None else label
    return ClassActivation(label, float(scores[label]), features @ kernel[:, label], frame_scores)


def plot_grad_cam(model, clip, class_names, class_name=None, frame_names=None, title=None):
    """Draws the Grad-CAM of a class, which shows where and when a clip resembles the class.

    The first row shows the frames. The second row shows the frames in grey under the positive part of the
    class's maps. The third row shows bars with the scores of each frame, before the softmax, for the class
    and for the best other class. The model averages these scores over the frames. The maps have 1/32 of
    the frames' height and width, and are drawn with interpolation.

    Args:
        model: see `grad_cam`.
        clip: see `grad_cam`.
        class_names: one name per class, in the order of the scores.
        class_name: name of the class; `None` is the class with the highest score.
        frame_names: see `plot_block`.
        title: see `plot_block`.

    Returns:
        `matplotlib.figure.Figure` with a column for each frame. Clips of more than 8 frames show 8 frames,
        evenly from first to last, but bars for all frames.

    Raises:
        ValueError: see `grad_cam`; or `class_names` has another number of names than the model has scores,
            `class_name` is not one of them, or the number of `frame_names` is not T.
        ImportError: matplotlib is not installed.
    """
    class_names = lines("class_names", class_names)
    if len(class_names) != keras_model(model).output_shape[-1]:
        raise ArgumentError(
            "class_names",
            class_names,
            f"must have one name per score of the model, {model.output_shape[-1]}",
            f"{len(class_names)} class_names",
        )
    if class_name not in (None, *class_names):
        likely = difflib.get_close_matches(str(class_name), class_names) or class_names[:3]
        raise ArgumentError(
            "class_name",
            class_name,
            f"must be one of the {len(class_names)} classes, such as {', '.join(map(repr, likely))}",
        )
    found = grad_cam(model, clip, None if class_name is None else class_names.index(class_name))
    name = class_names[found.label]
    _, height, width = found.maps.shape
    frames = _pixels(clip)
    aspect = frames.shape[1] / frames.shape[2]
    sheet = _Sheet(len(frames), frame_names, title, [aspect * _COLUMN, aspect * _COLUMN, _BARS])
    sheet.draw_frames(frames)
    sheet.label(1, f"Grad-CAM, {width} x {height}\n{_shorten(name)}\nscore {found.score:.3f}")
    grey = frames.mean(axis=-1)
    sheet.draw(1, grey, cmap="gray", vmin=-0.3, vmax=1.3, extent=(0, 1, 0, aspect))
    image = sheet.draw(
        1,
        found.maps,
        cmap=_heat(),
        vmin=0,
        vmax=max(found.maps.max(), 1e-6),
        extent=(0, 1, 0, aspect),
        interpolation="bilinear",
    )
    sheet.color_bar(1, image)
    sheet.label(2, "score of each frame\nbefore the softmax\n(line: their mean)")
    sheet.bars(2, _frame_scores(found, class_names))
    return sheet.figure


def _frame_scores(activation, class_names):
    """Returns a dictionary from legend text to scores `(T,)`, of the class and of the best other class."""
    label, scores = activation.label, activation.frame_scores
    named = {f"this class: {class_names[label]}": scores[:, label]}
    others = [other for other in np.argsort(-scores.mean(axis=0)) if other != label]
    if others:
        named[f"best other class: {class_names[others[0]]}"] = scores[:, others[0]]
    return named


def stm_blocks(model):
    """Returns `{name: block}` of the blocks with CSTM or CMM, in order. TSN and TSM have none."""
    layers = keras_model(model).layers
    return {layer.name: layer for layer in layers if isinstance(layer, STMBlock) and layer.branches}


def _get_block(model, name):
    """Returns the STM block with a name; raises `ValueError` if the model has no such block."""
    blocks = stm_blocks(model)
    if not blocks:
        raise ArgumentError(
            "model",
            model.name,
            "must have blocks with CSTM or CMM. TSN and TSM have no such blocks; `plot_grad_cam` accepts "
            "these models",
        )
    return blocks[one_of("block", name, tuple(blocks))]


def _features(model, tensor, clip, data_format):
    """Returns the features of a clip at a tensor inside a model, in the model's data format."""
    _check_clip(clip)
    clip = np.asarray(clip, "float32")
    if data_format == "channels_first":
        clip = np.moveaxis(clip, -1, 2)
    until = keras.Model(model.input, tensor)
    # For a single clip, compiling takes longer than running.
    until.compile(run_eagerly=True)
    return until.predict_on_batch(clip)


def _to_frames(features, data_format):
    """Returns features `(1, T, ...)` as a float32 array `(T, height, width, channels)`."""
    features = ops.convert_to_numpy(ops.cast(features, "float32"))
    return np.moveaxis(features, channel_axis(data_format), -1)[0]


def _check_clip(clip):
    shape = np.shape(clip)
    if len(shape) != 5 or shape[0] != 1 or shape[-1] != 3 or 0 in shape:
        raise ArgumentError(
            "clip",
            clip,
            "must be one preprocessed clip (1, T, H, W, 3), as `keras_stm.data.load_clip` returns it",
            f"clip.shape={shape}",
        )


def _pixels(clip):
    """Returns the frames of a preprocessed clip as RGB from 0 to 1; the inverse of `preprocess_input`."""
    _check_clip(clip)
    return np.clip(np.asarray(clip[0], "float32") * np.float32(STD) + np.float32(MEAN), 0, 1)


def _shorten(text, length=24):
    return "\n".join(textwrap.wrap(text, length, max_lines=3, placeholder=" ..."))


def _heat():
    """Returns a colour map from transparent, so that the frame is visible, to yellow."""
    from matplotlib import colormaps, colors

    rgba = colormaps["inferno"](np.linspace(0.25, 1, 256))
    rgba[:, 3] = np.linspace(0, 0.8, 256)
    return colors.ListedColormap(rgba)


class _Sheet:
    """Figure with a column for each chosen frame, labels of rows at the left, and colour scales at the right.

    Args:
        num_frames: number of frames of the clip; at most `MAX_FRAMES` of them are shown.
        frame_names: one name per frame, or `None`.
        title: title of the figure, or `None`.
        heights: heights of the rows in inches.
    """

    def __init__(self, num_frames, frame_names, title, heights):
        if frame_names is None:
            frame_names = [f"frame {i}" for i in range(num_frames)]
        if len(frame_names) != num_frames:
            raise ArgumentError(
                "frame_names", frame_names, f"must have one name per frame of the clip, {num_frames}"
            )
        self.num_frames = num_frames
        self.chosen = np.linspace(0, num_frames - 1, min(num_frames, MAX_FRAMES)).round().astype(int)
        self.heights = heights
        self.width = _LABELS + len(self.chosen) * (_COLUMN + _GAP) + _RIGHT
        self.height = _TOP + sum(heights) + _GAP * len(heights) + _BOTTOM
        self.figure = new_figure(self.width, self.height)
        self._cells = {}
        if title:
            self.figure.suptitle(
                printable(title), y=1 - 0.12 / self.height, va="top", fontsize=13, parse_math=False
            )
        self._names = [frame_names[i] for i in self.chosen]

    def label(self, row, text):
        """Writes the label of a row at its left."""
        middle = self._bottom(row) + self.heights[row] / 2
        self.figure.text(
            (_LABELS - 0.12) / self.width,
            middle / self.height,
            printable(text),
            ha="right",
            va="center",
            fontsize=10,
            parse_math=False,
        )

    def draw_frames(self, frames):
        """Draws the frames and their names in the first row."""
        count, height, width, _ = frames.shape
        some = f"\n{len(self.chosen)} of {count}" if len(self.chosen) < count else ""
        self.label(0, f"frames\n{width} x {height}{some}")
        self.draw(0, frames)
        for column, name in enumerate(self._names):
            self._cell(0, column).set_title(name, fontsize=10, parse_math=False)

    def draw(self, row, images, **options):
        """Draws the images of the chosen frames; frames without an image show the text "none".

        Args:
            row: index of the row.
            images: array of one image per frame, possibly without the last frame.
            **options: arguments of `imshow`.

        Returns:
            The last result of `imshow`, or `None` if there is no image to draw.
        """
        drawn = None
        for column, frame in enumerate(self.chosen):
            axes = self._cell(row, column)
            if frame < len(images):
                drawn = axes.imshow(images[frame], aspect="auto", **{"interpolation": "nearest", **options})
            else:
                axes.set_facecolor(_EMPTY)
                axes.text(
                    0.5, 0.5, "none: no\nnext frame", transform=axes.transAxes, ha="center", va="center"
                )
            axes.set(xticks=[], yticks=[])
        return drawn

    def color_bar(self, row, image):
        """Draws the colour scale of an image at the right of a row."""
        axes = self._axes(row, self._right(), _COLORS)
        bar = self.figure.colorbar(image, cax=axes)
        bar.ax.tick_params(labelsize=8)
        bar.ax.locator_params(nbins=4)

    def wheel(self, row, largest):
        """Draws the colours of all directions and of distances up to `largest` pixels."""
        side = min(self.heights[row], _RIGHT) - 0.2
        down, right = np.mgrid[-1:1:101j, -1:1:101j]
        flow = np.stack([right, down], axis=-1)
        disc = np.hypot(right, down) <= 1
        bottom = self._bottom(row) + (self.heights[row] - side) / 2
        axes = self._axes(row, self._right(), side, bottom, side)
        axes.imshow(np.dstack([flow_colors(flow, 1), disc]))
        axes.set_axis_off()
        axes.set_title(f"rim: {largest:.1f} px", fontsize=8, y=-0.3)

    def bars(self, row, values):
        """Draws bars of `{name: (T,) values}` over time; bars of a chosen frame are below its picture."""
        axes = self._axes(row, _LABELS, len(self.chosen) * (_COLUMN + _GAP) - _GAP)
        pitch = (self.num_frames - 1) / max(len(self.chosen) - 1, 1) or 1
        places = np.arange(self.num_frames)
        width = 0.8 / len(values)
        for i, (name, heights) in enumerate(values.items()):
            color = f"C{i}"
            offset = (i - (len(values) - 1) / 2) * width
            axes.bar(places + offset, heights, width, color=color, label=printable(name))
            axes.axhline(heights.mean(), color=color, linewidth=1)
        axes.axhline(0, color="black", linewidth=0.8)
        axes.set_xlim(-pitch / 2, self.num_frames - 1 + pitch / 2)
        axes.set_xticks(self.chosen, [""] * len(self.chosen))
        axes.yaxis.tick_right()
        axes.tick_params(axis="y", labelsize=8)
        legend = axes.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.04), ncols=len(values), frameon=False
        )
        for text in legend.get_texts():
            text.set_parse_math(False)

    def _cell(self, row, column):
        if (row, column) not in self._cells:
            self._cells[row, column] = self._axes(row, _LABELS + column * (_COLUMN + _GAP), _COLUMN)
        return self._cells[row, column]

    def _axes(self, row, left, width, bottom=None, height=None):
        bottom = self._bottom(row) if bottom is None else bottom
        height = self.heights[row] if height is None else height
        return self.figure.add_axes(
            (left / self.width, bottom / self.height, width / self.width, height / self.height)
        )

    def _bottom(self, row):
        return _BOTTOM + sum(height + _GAP for height in self.heights[row + 1 :])

    def _right(self):
        return _LABELS + len(self.chosen) * (_COLUMN + _GAP) + 0.04
