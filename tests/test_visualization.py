"""Features, optical flow and class activations against what is known of them, and what figures show."""

import io
import sys

import keras
import numpy as np
import pytest
from keras import ops
from matplotlib.colors import hsv_to_rgb

from keras_stm import preprocess_input, visualization
from keras_stm.models import STMResNet, TSMResNet, TSNResNet
from keras_stm.models.fold_batch_norm import fold_batch_norm
from keras_stm.visualization import (
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
CHANNELS = {"conv2_block1": (16, 16, 8), "conv3_block1": (64, 32, 4)}


def randomized(build=STMResNet, **arguments):
    """A tiny model whose every weight matters: those of BatchNormalization are neither 0 nor 1."""
    model = build(**{**TINY, **arguments})
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if weight.name in ("gamma", "beta", "moving_mean", "moving_variance", "bias"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif weight.path.startswith("predictions"):
            weight.assign(rng.normal(0, 0.1, weight.shape))
    return model


@pytest.fixture(scope="module")
def model():
    return randomized()


@pytest.fixture(scope="module")
def pixels():
    """Four frames of 32 x 32 pixels."""
    return np.random.default_rng(1).integers(0, 256, (1, 4, 32, 32, 3)).astype("uint8")


@pytest.fixture(scope="module")
def clip(pixels):
    return preprocess_input(pixels, "channels_last")


@pytest.mark.parametrize("block, data_format", zip(CHANNELS, DATA_FORMATS, strict=True))
def test_the_parts_of_a_block_add_up_to_its_output(block, data_format, clip):
    model = randomized(data_format=data_format)
    features = block_features(model, clip, block)
    channels, filters, size = CHANNELS[block]
    before = size * (2 if block == "conv3_block1" else 1)
    assert features.input.shape == (4, before, before, channels)
    assert features.cstm.shape == features.cmm.shape == (4, size, size, filters)

    layer = model.get_layer(block)
    model_clip = oriented(clip, data_format)
    output = numpy(compute(keras.Model(model.input, layer.output), model_clip))
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
    expected = block_features(model, clip, "conv3_block1")
    for actual, wanted in zip(
        block_features(fold_batch_norm(model), clip, "conv3_block1"), expected, strict=True
    ):
        np.testing.assert_allclose(actual, wanted, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("branch, missing", [("cstm", "cmm"), ("cmm", "cstm")])
def test_a_block_with_one_branch_has_the_features_and_the_rows_of_that_one(branch, missing, clip):
    model = randomized(branches=(branch,))
    features = block_features(model, clip)
    assert getattr(features, missing) is None
    assert getattr(features, branch).shape == (4, 8, 8, 16)
    text = " ".join(texts(plot_block(model, clip)))
    assert f"output of {branch.upper()}" in text
    assert f"output of {missing.upper()}" not in text


def test_a_block_that_does_not_exist_is_told_with_those_that_do(clip):
    model = randomized(stm_stages=(2, 4), depths=(2, 1, 1, 1), stm_blocks="first")
    with pytest.raises(ValueError) as error:
        block_features(model, clip, "conv2_block2")
    assert str(error.value) == (
        "`block` must be one of 'conv2_block1', 'conv4_block1'. Received: block='conv2_block2'"
    )


@pytest.mark.parametrize("build", [TSNResNet, TSMResNet])
def test_a_model_without_cstm_and_cmm_is_refused(build, clip):
    with pytest.raises(ValueError, match="those of TSN and TSM have neither.* Received: model='ts._resnet'"):
        block_features(build(**TINY), clip)


@pytest.mark.parametrize("shape", [(4, 32, 32, 3), (2, 4, 32, 32, 3), (1, 4, 3, 32, 32), (1, 0, 32, 32, 3)])
def test_what_is_no_clip_is_refused(shape, model):
    for function in (
        lambda clip: block_features(model, clip),
        optical_flow,
        lambda clip: grad_cam(model, clip),
    ):
        with pytest.raises(ValueError, match=r"`clip` must be one prepared clip .* Received: clip.shape=\("):
            function(np.zeros(shape, "float32"))


def moving(right, down, num_frames=3, size=64):
    """A prepared clip of smooth texture that moves by as many pixels a frame."""
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
    """The gradient of a class's score by the features, by the backend."""
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


@pytest.mark.parametrize("data_format", DATA_FORMATS)
def test_grad_cam_is_that_of_the_backends_own_gradient(data_format, clip):
    model = randomized(data_format=data_format)
    last = model.get_layer("avg_pool").input
    features = numpy(compute(keras.Model(model.input, last), oriented(clip, data_format)))
    head = keras.Model(last, model.get_layer("consensus").output)
    for label in (0, 2):
        gradients = channels_last(gradient(head, features, label), data_format)[0]
        weights = gradients.mean(axis=(0, 1, 2))
        expected = channels_last(features, data_format)[0] @ weights * gradients[..., 0].size
        maps = grad_cam(model, clip, label).maps
        assert maps.shape == (4, 1, 1)
        np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("activation", ["softmax", None])
def test_the_scores_of_frames_and_the_maps_make_up_the_models_score(activation):
    model = randomized(classifier_activation=activation)
    clip = np.random.default_rng(2).normal(size=(1, 5, 64, 96, 3)).astype("float32")
    scores = numpy(compute(model, clip))[0]
    found = grad_cam(model, clip)
    assert found.label == scores.argmax()
    np.testing.assert_allclose(found.score, scores.max(), rtol=1e-5)
    for label in (found.label, (found.label + 1) % 3):
        found = grad_cam(model, clip, label)
        assert found.label == label
        assert found.maps.shape == (5, 2, 3) and found.frame_scores.shape == (5, 3)
        np.testing.assert_allclose(found.score, scores[label], rtol=1e-4)
        bias = numpy(model.get_layer("predictions").bias)[label]
        mean = found.frame_scores[:, label].mean()
        np.testing.assert_allclose(found.maps.mean() + bias, mean, rtol=1e-4)
        if activation is None:
            np.testing.assert_allclose(mean, scores[label], rtol=1e-4)
    assert found.maps.std() > 0


def test_mixed_precision_gives_float32(clip, model):
    exact = grad_cam(model, clip)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = randomized()
    finally:
        keras.config.set_dtype_policy(policy)
    mixed.set_weights(model.get_weights())
    found = grad_cam(mixed, clip)
    assert found.maps.dtype == found.frame_scores.dtype == np.float32
    np.testing.assert_allclose(found.frame_scores, exact.frame_scores, atol=0.2)
    assert (found.frame_scores != exact.frame_scores).any()


@pytest.mark.parametrize("pooling", [None, "avg"])
def test_a_model_without_the_classifier_has_no_grad_cam(pooling, clip):
    with pytest.raises(
        ValueError, match="`model` must end in the classifier .* Received: model='stm_resnet'"
    ):
        grad_cam(STMResNet(**TINY, include_top=False, pooling=pooling), clip)


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_does_not_exist_is_refused(label, model, clip):
    with pytest.raises(ValueError, match=f"`label` must be an integer from 0 to 2. Received: label={label}"):
        grad_cam(model, clip, label)


@pytest.mark.parametrize(
    "name, likely", [("wave helo", "'wave hello'"), ("nothing", "'clap', 'jump', 'wave hello'")]
)
def test_a_class_that_does_not_exist_is_told_with_those_of_similar_names(name, likely, model, clip):
    with pytest.raises(ValueError) as error:
        plot_grad_cam(model, clip, NAMES, name)
    assert str(error.value) == (
        f"`class_name` must be one of the 3 classes, as {likely}. Received: class_name='{name}'"
    )


def test_class_names_and_frame_names_must_fit(model, clip):
    with pytest.raises(
        ValueError, match="`class_names` must be as many as the model's scores, 3. Received: 2"
    ):
        plot_grad_cam(model, clip, NAMES[:2])
    for plot in (plot_block, lambda *args, **kwargs: plot_grad_cam(*args, NAMES, **kwargs)):
        with pytest.raises(
            ValueError, match=r"`frame_names` must be .*, 4. Received: frame_names=\['first'\]"
        ):
            plot(model, clip, frame_names=["first"])


def texts(figure):
    """All that is written in a figure but numbers at scales."""
    found = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        found += [axes.get_title(), *(text.get_text() for text in axes.texts)]
        if axes.get_legend():
            found += [text.get_text() for text in axes.get_legend().get_texts()]
    return [text for text in found if text]


def rows(figure, columns):
    """The axes of each row of pictures, from the top, and those that are none."""
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
    # The scales of three rows, and the wheel.
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
    """What Grad-CAM is made to find in a clip of twelve frames."""
    rng = np.random.default_rng(0)
    maps, scores = rng.normal(size=(12, 2, 3)), rng.normal(size=(12, 3)) + (0, 2, 1)
    found = visualization.ClassActivation(1, 0.625, maps.astype("float32"), scores)
    monkeypatch.setattr(visualization, "grad_cam", lambda *args: found)
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
    # Bars lie beneath the pictures of their frames, but for rounding.
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
    """Makes blocks have features of noise, 0 for the last frame behind CMM."""

    def noise(model, clip, block):
        maps = [np.random.default_rng(i).normal(size=(clip.shape[1], 8, 8, 16)) for i in range(3)]
        maps[2][-1] = 0
        return visualization.BlockFeatures(*maps)

    monkeypatch.setattr(visualization, "block_features", noise)


def test_a_clip_of_one_frame_is_drawn_without_motion(model, clip, features):
    (frames, *_, cmm, flow), others = rows(plot_block(model, clip[:, :1]), 1)
    assert frames[0].images and not cmm[0].images and not flow[0].images
    # The scales of two rows.
    assert len(others) == 2


def test_names_are_written_as_they_are(model, clip):
    names = ["_$1", "$2$", "c$\\none$d"]
    figure = plot_grad_cam(model, clip, names, "_$1", frame_names=["$x"] * 4, title="$\\nothing$.mp4")
    figure.savefig(io.BytesIO(), format="png")
    assert {"this class: _$1", "$\\nothing$.mp4", "$x"} <= set(texts(figure))


def test_what_does_not_move_is_black(model, features):
    figure = plot_block(model, moving(0, 0))
    (*_, flow), _ = rows(figure, 3)
    assert drawn(flow[0]).max() < 0.01
    assert "rim: 1.0 px" in texts(figure)


def test_a_clip_that_speaks_against_its_class_everywhere_is_drawn_without_heat(clip):
    model = randomized()
    kernel, bias = model.get_layer("predictions").weights
    kernel.assign(-np.abs(numpy(kernel)))
    bias.assign([0, 0, 0])
    (_, heat), _ = rows(plot_grad_cam(model, clip, NAMES), 4)
    assert not any(axes.images[1].norm(axes.images[1].get_array()).filled(0).clip(0).any() for axes in heat)


def test_a_notebook_shows_a_figure_without_being_told_to(model, clip):
    for figure in (plot_block(model, clip), plot_grad_cam(model, clip, NAMES)):
        assert figure._repr_png_().startswith(b"\x89PNG")


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


def test_the_module_itself_needs_neither_package():
    source = visualization.__loader__.get_source(visualization.__name__)
    top = [line for line in source.splitlines() if line.startswith(("import ", "from "))]
    assert not any("matplotlib" in line or "skimage" in line for line in top)
