"""Features, optical flow and class activations against known values, and the contents of figures."""

import functools
import sys

import keras
import numpy as np
import pytest
from keras import ops
from matplotlib.colors import hsv_to_rgb

from keras_stm import preprocess_input
from keras_stm.arguments import ArgumentError
from keras_stm.layers import STMBlock
from keras_stm.layers.per_frame import PerFrame
from keras_stm.models import STMResNet, TSMResNet, TSNResNet
from keras_stm.models.fold_batch_norm import fold_batch_norm
from keras_stm.plots.features import (
    BlockFeatures,
    ClassActivation,
    block_features,
    flow_colors,
    grad_cam,
    optical_flow,
    plot_block,
    plot_grad_cam,
)
from tests.reference.backend import BACKEND, DATA_FORMATS, channels_last, compute, numpy, oriented

TINY = {"depths": (1, 1, 1, 1), "width": 16, "classes": 3}
NAMES = ["clap", "jump", "wave hello"]


def randomized(model):
    """Randomizes and returns the model, so that BatchNormalization has no weights of 0 and 1."""
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if weight.name in ("gamma", "beta", "moving_mean", "moving_variance", "bias"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif weight.path.startswith("predictions"):
            weight.assign(rng.normal(0, 0.1, weight.shape))
    return model


@pytest.fixture(scope="module")
def model():
    return randomized(STMResNet(**TINY, data_format="channels_last"))


@functools.cache
def one_block_and_head(data_format, strides):
    """Returns a model of one block, which JAX compiles faster than the whole network."""
    shape = (None, None, None, 3) if data_format == "channels_last" else (None, 3, None, None)
    clip = keras.Input(shape)
    x = STMBlock(16, strides, data_format=data_format, name="conv2_block1")(clip)
    x = PerFrame(keras.layers.GlobalAveragePooling2D(data_format=data_format), name="avg_pool")(x)
    x = keras.layers.Dense(3, name="predictions")(x)
    x = keras.layers.GlobalAveragePooling1D(data_format="channels_last", name="consensus")(x)
    return randomized(keras.Model(clip, keras.layers.Activation("softmax", name="scores")(x)))


each_data_format = pytest.mark.parametrize(
    "data_format, strides", list(zip(DATA_FORMATS, (1, 2), strict=True))
)


def model_of_blocks(**branches):
    """Returns a model of consecutive blocks. `branches` maps the name of each block to its branches."""
    x = clip = keras.Input((None, None, None, 3))
    for name, each in branches.items():
        x = STMBlock(16, branches=each, data_format="channels_last", name=name)(x)
    return keras.Model(clip, x, name="blocks")


def until(model, layer):
    """Returns a model that ends after a layer of `model`."""
    return keras.Model(model.input, model.get_layer(layer).output, name=model.name)


@pytest.fixture(scope="module")
def pixels():
    """Four frames of 32 x 32 pixels."""
    return np.random.default_rng(1).integers(0, 256, (1, 4, 32, 32, 3)).astype("uint8")


@pytest.fixture(scope="module")
def clip(pixels):
    return preprocess_input(pixels, "channels_last")


@pytest.mark.every_backend
@each_data_format
def test_the_parts_of_a_block_add_up_to_its_output(data_format, strides, clip):
    model = one_block_and_head(data_format, strides)
    features = block_features(model, clip)
    np.testing.assert_array_equal(features.input, clip[0])
    assert features.cstm.shape == features.cmm.shape == (4, 32 // strides, 32 // strides, 16)

    layer = model.get_layer("conv2_block1")
    output = numpy(compute(until(model, "conv2_block1"), oriented(clip, data_format)))
    given = ops.convert_to_tensor(oriented(features.input[np.newaxis], data_format))
    fused = ops.convert_to_tensor(oriented((features.cstm + features.cmm)[np.newaxis], data_format))
    shortcut = layer.shortcut_bn(layer.shortcut_conv(given), training=False)
    restored = layer.restore_bn(layer.restore_conv(fused), training=False)
    scale = np.abs(output).max()
    np.testing.assert_allclose(numpy(ops.relu(restored + shortcut)) / scale, output / scale, atol=1e-5)
    assert output.std() > 0


def test_cmm_is_0_for_the_last_frame_alone(model, clip):
    motion = block_features(model, clip).cmm
    assert not motion[-1].any()
    assert all(frame.any() for frame in motion[:-1])


def test_a_folded_model_has_the_same_features(model, clip):
    model = until(model, "conv3_block1")
    features = [block_features(each, clip, "conv3_block1") for each in (fold_batch_norm(model), model)]
    for actual, wanted in zip(*features, strict=True):
        np.testing.assert_allclose(actual, wanted, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("branch, missing", [("cstm", "cmm"), ("cmm", "cstm")])
def test_a_block_with_one_branch_has_the_features_and_the_rows_of_that_one(branch, missing, clip):
    model = model_of_blocks(conv2_block1=(branch,))
    features = block_features(model, clip)
    assert getattr(features, missing) is None
    assert getattr(features, branch).shape == (4, 32, 32, 16)
    text = " ".join(texts(plot_block(model, clip)))
    assert f"output of {branch.upper()}" in text
    assert f"output of {missing.upper()}" not in text


def test_a_block_that_does_not_exist_is_told_with_those_that_do(clip):
    model = model_of_blocks(conv2_block1=("cstm",), conv3_block1=(), conv4_block1=("cstm", "cmm"))
    for name in ("conv2_block2", "conv3_block1"):
        with pytest.raises(ArgumentError, match=f"Received: block='{name}'") as error:
            block_features(model, clip, name)
        assert (error.value.name, error.value.value) == ("block", name)
        assert "'conv2_block1', 'conv4_block1'" in str(error.value)


@pytest.mark.parametrize("build", [TSNResNet, TSMResNet])
def test_a_model_without_cstm_and_cmm_is_refused(build, clip):
    with pytest.raises(ArgumentError, match="TSN and TSM.* Received: model='ts._resnet'") as error:
        block_features(build(**TINY), clip)
    assert error.value.name == "model"


@pytest.mark.parametrize("shape", [(4, 32, 32, 3), (2, 4, 32, 32, 3), (1, 4, 3, 32, 32), (1, 0, 32, 32, 3)])
def test_what_is_no_clip_is_refused(shape, model):
    for function in (
        lambda clip: block_features(model, clip),
        optical_flow,
        lambda clip: grad_cam(model, clip),
    ):
        with pytest.raises(ArgumentError) as error:
            function(np.zeros(shape, "float32"))
        assert error.value.name == "clip" and str(error.value).endswith(f"Received: clip.shape={shape}")


def moving(right, down, num_frames=3, size=64):
    """Returns a preprocessed clip of a smooth texture that moves `right` and `down` pixels per frame."""
    x, y = np.meshgrid(np.arange(size), np.arange(size))
    clip = [
        128 + 60 * np.sin((x - i * right) / 5) + 60 * np.sin((y - i * down) / 7 + (x - i * right) / 11)
        for i in range(num_frames)
    ]
    return preprocess_input(np.stack([clip] * 3, axis=-1)[np.newaxis], "channels_last")


@pytest.mark.parametrize("right, down", [(2, 0), (-2, 0), (0, 2), (1, -2)])
def test_optical_flow_is_the_pixels_that_a_texture_moves(right, down):
    flow = optical_flow(moving(right, down))
    assert flow.shape == (2, 64, 64, 2) and flow.dtype == np.float32
    inner = flow[:, 16:-16, 16:-16]
    np.testing.assert_allclose(np.median(inner, axis=(1, 2)), [[right, down]] * 2, atol=0.15)


def test_a_clip_of_one_frame_has_no_flow():
    assert optical_flow(moving(1, 1, num_frames=1)).shape == (0, 64, 64, 2)


def test_flow_has_the_hue_of_its_direction_and_the_brightness_of_its_distance():
    right, up, left, down = hsv_to_rgb([[0, 1, 1], [0.25, 1, 1], [0.5, 1, 1], [0.75, 1, 1]])
    flow = np.array([[4, 0], [0, -4], [-4, 0], [0, 4], [2, 0], [9, 0], [0, 0]], "float32")
    expected = [right, up, left, down, right / 2, right, [0, 0, 0]]
    np.testing.assert_allclose(flow_colors(flow, 4), expected, atol=1e-6)


def gradient(head, features, label):
    """Returns the backend's gradient of a class's score with respect to the features."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        features = tf.constant(features)
        with tf.GradientTape() as tape:
            tape.watch(features)
            score = head(features, training=False)[0, label]
        return tape.gradient(score, features).numpy()
    if BACKEND == "jax":
        import jax

        state = [
            [variable.value for variable in group]
            for group in (head.trainable_variables, head.non_trainable_variables)
        ]

        def score(features):
            return head.stateless_call(*state, features, training=False)[0][0, label]

        return np.asarray(jax.grad(score)(features))
    import torch

    features = torch.tensor(features, requires_grad=True)
    head(features, training=False)[0, label].backward()
    return features.grad.numpy()


@pytest.mark.every_backend
@each_data_format
def test_grad_cam_is_that_of_the_backends_own_gradient(data_format, strides, clip):
    model = one_block_and_head(data_format, strides)
    last = model.get_layer("avg_pool").input
    features = numpy(compute(until(model, "conv2_block1"), oriented(clip, data_format)))
    head = keras.Model(last, model.get_layer("consensus").output)
    for label in (0, 2):
        gradients = channels_last(gradient(head, features, label), data_format)[0]
        weights = gradients.mean(axis=(0, 1, 2), dtype="float64")
        expected = channels_last(features, data_format)[0] @ weights * gradients[..., 0].size
        maps = grad_cam(model, clip, label).maps
        assert maps.shape == (4, 32 // strides, 32 // strides)
        np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("end", ["scores", "consensus"], ids=["softmax", "no activation"])
def test_the_scores_of_frames_and_the_maps_make_up_the_models_score(end, model):
    bias = numpy(model.get_layer("predictions").bias)
    model = until(model, end)
    clip = np.random.default_rng(2).normal(size=(1, 5, 64, 96, 3)).astype("float32")
    scores = numpy(compute(model, clip))[0]
    best = scores.argmax()
    for label in (None, (best + 1) % 3):
        found = grad_cam(model, clip, label)
        assert found.label == (best if label is None else label)
        assert found.maps.shape == (5, 2, 3) and found.frame_scores.shape == (5, 3)
        np.testing.assert_allclose(found.score, scores[found.label], rtol=1e-5 if label is None else 1e-4)
        mean = found.frame_scores[:, found.label].mean()
        np.testing.assert_allclose(found.maps.mean() + bias[found.label], mean, rtol=1e-4)
        if end == "consensus":
            np.testing.assert_allclose(mean, scores[found.label], rtol=1e-4)
        assert found.maps.std() > 0


def test_mixed_precision_gives_float32(clip, model):
    exact = grad_cam(model, clip)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = STMResNet(**TINY, data_format="channels_last")
    finally:
        keras.config.set_dtype_policy(policy)
    mixed.set_weights(model.get_weights())
    found = grad_cam(mixed, clip)
    assert found.maps.dtype == found.frame_scores.dtype == np.float32
    np.testing.assert_allclose(found.frame_scores, exact.frame_scores, atol=0.2)
    assert (found.frame_scores != exact.frame_scores).any()


@pytest.mark.parametrize("end", ["conv5_block1", "avg_pool"])
def test_a_model_without_the_classifier_has_no_grad_cam(end, model, clip):
    with pytest.raises(ArgumentError, match="Received: model='stm_resnet'") as error:
        grad_cam(until(model, end), clip)
    assert error.value.name == "model"


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_does_not_exist_is_refused(label, model, clip):
    with pytest.raises(ArgumentError, match=f"Received: label={label}") as error:
        grad_cam(model, clip, label)
    assert (error.value.name, error.value.value) == ("label", label)


@pytest.mark.parametrize(
    "name, likely", [("wave helo", "as 'wave hello'\\."), ("nothing", "'clap', 'jump', 'wave hello'")]
)
def test_a_class_that_does_not_exist_is_told_with_those_of_similar_names(name, likely, model, clip):
    with pytest.raises(ArgumentError, match=f"{likely}.* Received: class_name='{name}'") as error:
        plot_grad_cam(model, clip, NAMES, name)
    assert (error.value.name, error.value.value) == ("class_name", name)


def test_class_names_and_frame_names_must_fit(model, clip):
    with pytest.raises(ArgumentError, match="3.* Received: ") as error:
        plot_grad_cam(model, clip, NAMES[:2])
    assert error.value.name == "class_names"
    with pytest.raises(ArgumentError, match=r"4\. Received: frame_names=\['first'\]") as error:
        plot_grad_cam(model, clip, NAMES, frame_names=["first"])
    assert (error.value.name, error.value.value) == ("frame_names", ["first"])


def texts(figure):
    """Returns all texts of a figure except the numbers of its scales."""
    found = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        found += [axes.get_title(), *(text.get_text() for text in axes.texts)]
        if axes.get_legend():
            found += [text.get_text() for text in axes.get_legend().get_texts()]
    return [text for text in found if text]


def rows(figure, columns):
    """Returns the axes of each row of pictures, from the top, and the axes that are no pictures."""
    cells = [
        axes
        for axes in figure.axes
        if round(axes.get_position().width * figure.get_figwidth(), 3) == 1.5 and not axes.patches
    ]
    others = [axes for axes in figure.axes if axes not in cells]
    cells.sort(key=lambda axes: (-axes.get_position().y0, axes.get_position().x0))
    return [cells[i : i + columns] for i in range(0, len(cells), columns)], others


def test_figure_1_has_a_row_for_each_thing_and_a_column_for_each_frame(model, clip, pixels):
    figure = plot_block(model, clip, frame_names=["a", "b", "c", "d"], title="my clip")
    (frames, given, cstm, cmm, flow), others = rows(figure, 4)
    # The others are the scales of three rows and the colour wheel of the flow.
    assert len(others) == 4
    assert [axes.get_title() for axes in frames] == ["a", "b", "c", "d"]
    written = texts(figure)
    for text in (
        "my clip",
        "frames\n32 x 32",
        "input of conv2_block1\nmean |x| of 16 channels\n8 x 8",
        "output of CSTM\nmean |x| of 16 channels\n8 x 8",
        "output of CMM\nmean |x| of 16 channels\n8 x 8",
        "TV-L1 optical flow\nto the clip's next frame\nhue: direction\nbrightness: distance",
    ):
        assert text in written
    assert any(text.startswith("rim: ") and text.endswith(" px") for text in written)

    features = block_features(model, clip)
    for i in range(4):
        np.testing.assert_allclose(drawn(frames[i]), pixels[0, i] / 255, atol=1e-5)
        for row, maps in ((given, features.input), (cstm, features.cstm)):
            np.testing.assert_allclose(drawn(row[i]), np.abs(maps[i]).mean(axis=-1), rtol=1e-5)
    for row in (cmm, flow):
        assert [len(axes.images) for axes in row] == [1, 1, 1, 0]
        assert [text.get_text() for text in row[3].texts] == ["none: no\nnext frame"]
    for row in (given, cstm, cmm[:3]):
        assert len({axes.images[0].get_clim() for axes in row}) == 1
    assert cmm[0].images[0].get_clim()[0] == 0


def drawn(axes):
    return np.asarray(axes.images[0].get_array())


@pytest.fixture
def activation(monkeypatch):
    """Patches Grad-CAM to return these random maps of a clip of twelve frames."""
    rng = np.random.default_rng(0)
    maps, scores = rng.normal(size=(12, 2, 3)), rng.normal(size=(12, 3)) + (0, 2, 1)
    found = ClassActivation(1, 0.625, maps.astype("float32"), scores)
    monkeypatch.setattr("keras_stm.plots.features.grad_cam", lambda *args: found)
    return found


def test_of_a_long_clip_eight_frames_are_drawn_and_all_have_bars(model, activation):
    figure = plot_grad_cam(model, moving(1, 1, num_frames=12), NAMES)
    (frames, heat), others = rows(figure, 8)
    chosen = (0, 2, 3, 5, 6, 8, 9, 11)
    assert [axes.get_title() for axes in frames] == [f"frame {i}" for i in chosen]
    written = texts(figure)
    for text in ("frames\n64 x 64\n8 of 12", "Grad-CAM, 3 x 2\njump\nscore 0.625"):
        assert text in written
    assert {"this class: jump", "best other class: wave hello"} <= set(written)
    (bars,) = (axes for axes in others if axes.patches)
    heights = [bar.get_height() for bar in bars.patches]
    np.testing.assert_allclose(heights, activation.frame_scores[:, [1, 2]].T.ravel())
    for axes, frame in zip(heat, chosen, strict=True):
        grey, warm = axes.images
        np.testing.assert_array_equal(warm.get_array(), activation.maps[frame])
        assert warm.get_clim() == (0, pytest.approx(activation.maps.max()))
    # The bars of a frame lie below the picture of this frame, within rounding.
    for axes, frame in zip(frames, chosen, strict=True):
        box = axes.get_position()
        place = bars.transData.transform((frame, 0))[0] / figure.bbox.width
        assert box.x0 < place < box.x1


def test_the_class_of_the_grad_cam_can_be_chosen(model, clip):
    scores = numpy(compute(model, clip))[0]
    for label in (0, 2):
        written = texts(plot_grad_cam(model, clip, NAMES, NAMES[label]))
        assert f"Grad-CAM, 1 x 1\n{NAMES[label]}\nscore {scores[label]:.3f}" in written
        assert f"this class: {NAMES[label]}" in written
        assert f"best other class: {NAMES[label]}" not in written


@pytest.fixture
def features(monkeypatch):
    """Patches `block_features` to return noise, with 0 for the last frame of CMM's output."""

    def noise(model, clip, block):
        maps = [np.random.default_rng(i).normal(size=(clip.shape[1], 8, 8, 16)) for i in range(3)]
        maps[2][-1] = 0
        return BlockFeatures(*maps)

    monkeypatch.setattr("keras_stm.plots.features.block_features", noise)


def test_a_clip_of_one_frame_is_drawn_without_motion(model, clip, features):
    (frames, *_, cmm, flow), others = rows(plot_block(model, clip[:, :1]), 1)
    assert frames[0].images and not cmm[0].images and not flow[0].images
    # The others are the scales of two rows.
    assert len(others) == 2


def test_a_notebook_shows_a_figure_without_being_told_to_and_names_as_they_are(model, clip):
    names = ["_$1", "$2$", "c$\\none$d"]
    figure = plot_grad_cam(model, clip, names, "_$1", frame_names=["$x"] * 4, title="$\\nothing$.mp4")
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert {"this class: _$1", "$\\nothing$.mp4", "$x"} <= set(texts(figure))


def test_what_does_not_move_is_black(model, features):
    figure = plot_block(model, moving(0, 0))
    (*_, flow), _ = rows(figure, 3)
    assert drawn(flow[0]).max() < 0.01
    assert "rim: 1.0 px" in texts(figure)


def test_a_clip_that_speaks_against_its_class_everywhere_is_drawn_without_heat(
    model, activation, monkeypatch
):
    found = activation._replace(maps=-np.abs(activation.maps))
    monkeypatch.setattr("keras_stm.plots.features.grad_cam", lambda *args: found)
    (_, heat), _ = rows(plot_grad_cam(model, moving(1, 1, num_frames=12), NAMES), 8)
    assert len(heat) == 8
    assert not any(axes.images[1].norm(axes.images[1].get_array()).filled(0).clip(0).any() for axes in heat)


@pytest.mark.parametrize(
    "module, package, plot",
    [
        ("skimage", "scikit-image", lambda model, clip: optical_flow(clip)),
        ("matplotlib.figure", "matplotlib", lambda model, clip: plot_grad_cam(model, clip, NAMES)),
    ],
)
def test_a_missing_package_is_named(module, package, plot, model, clip, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=f"pip install {package}"):
        plot(model, clip)
