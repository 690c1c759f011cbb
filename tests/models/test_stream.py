"""A causal model frame by frame: `keras_stm.stream_model`."""

import keras
import numpy as np
import pytest

import keras_stm
from keras_stm import STMResNet, TSMResNet, fold_batch_norm
from keras_stm.arguments import ArgumentError
from tests.layers.check_layer import randomize
from tests.reference.backend import compute, numpy, oriented, relative_error

FRAMES = 4
CLIP = np.random.default_rng(0).normal(size=(2, FRAMES + 3, 32, 32, 3)).astype("float32")


def causal_model(build="STMResNet", depths=(2, 1, 1, 1), **arguments):
    """Returns a small causal model with random weights, and logits: a softmax would hide errors."""
    if build != "TSNResNet":
        arguments["causal"] = True
    model = getattr(keras_stm, build)(depths, 16, classes=5, classifier_activation=None, **arguments)
    randomize(model)
    return model


def logits_of_frames(model, clip):
    """Returns the logits of each frame of a whole clip, `(batch, T, classes)`, before they are averaged."""
    return numpy(compute(keras.Model(model.input, model.get_layer("predictions").output), clip))


def step(stream, frame, state):
    """Returns scores and the next state, as arrays. Under JAX, the step is compiled once."""
    state = stream.predict_on_batch({"frame": frame, **state})
    return state.pop("scores"), state


def scores_of_steps(stream, clip):
    """Returns the scores after each frame of a clip, `(batch, T, classes)`."""
    state, scores = zeros(stream), []
    for time in range(clip.shape[1]):
        score, state = step(stream, clip[:, time], state)
        scores.append(score)
    return np.stack(scores, 1)


def zeros(stream):
    state = keras_stm.initial_state(stream, batch_size=2)
    return {name: keras.ops.convert_to_numpy(value) for name, value in state.items()}


def means_of_last(logits):
    """Returns the mean of the last `FRAMES` logits after each frame."""
    return np.stack(
        [logits[:, max(0, end - FRAMES) : end].mean(1) for end in range(1, logits.shape[1] + 1)], 1
    )


@pytest.fixture(scope="module")
def model():
    return causal_model()


@pytest.fixture(scope="module")
def stream(model):
    return keras_stm.stream_model(model, image_size=32, num_frames=FRAMES)


@pytest.mark.every_backend
def test_steps_equal_the_whole_clip(model, stream):
    logits = logits_of_frames(model, CLIP)
    scores = scores_of_steps(stream, CLIP)
    assert relative_error(scores, means_of_last(logits)) < 1e-5
    # Up to `FRAMES`, these are the scores of the model itself.
    assert relative_error(scores[:, 2], numpy(compute(model, CLIP[:, :3]))) < 1e-5


@pytest.mark.every_backend
def test_later_frames_never_change_the_past(model):
    other = CLIP.copy()
    other[:, 3:] += 1
    logits, of_other = logits_of_frames(model, CLIP), logits_of_frames(model, other)
    np.testing.assert_array_equal(logits[:, :3], of_other[:, :3])
    assert (logits[:, 3:] != of_other[:, 3:]).all()


@pytest.mark.every_backend
def test_zeros_in_a_row_reset_one_stream_and_leave_the_others(stream):
    expected = scores_of_steps(stream, CLIP)
    state = zeros(stream)
    for time in range(3):
        _, state = step(stream, CLIP[:, time], state)
    state = {
        name: value * np.array([1, 0]).reshape(-1, *[1] * (value.ndim - 1)) for name, value in state.items()
    }
    state = {name: value.astype("float32") for name, value in state.items()}
    # The first stream goes on, and the second starts with its first frame.
    score, _ = step(stream, np.stack([CLIP[0, 3], CLIP[1, 0]]), state)
    np.testing.assert_allclose(score, [expected[0, 3], expected[1, 0]], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["conv2_block2_cstm", "conv4_block1_cmm", "consensus", "frames"])
def test_every_state_matters(stream, name):
    """The scores of a stream that forgets one state are wrong: the other tests notice such an error."""
    expected = scores_of_steps(stream, CLIP)
    state = zeros(stream)
    for time in range(4):
        state[name] = np.zeros_like(state[name])
        score, state = step(stream, CLIP[:, time], state)
    assert relative_error(score, expected[:, 3]) > 1e-2


@pytest.mark.parametrize(
    "arguments",
    [
        {"data_format": "channels_first"},
        {"temporal_conv": "ordinary"},
        {"temporal_conv": "ordinary", "data_format": "channels_first"},
        {"fusion": "concat"},
        {"fusion": "concat", "data_format": "channels_first"},
        {"fusion": "mean"},
        {"stm_stages": (3, 5)},
        {"stm_blocks": "first"},
        {"branches": ("cmm",)},
        {"build": "TSMResNet"},
        {"build": "TSMResNet", "data_format": "channels_first"},
        {"build": "TSNResNet"},
        {"input_shape": (8, 32, None, 3)},
    ],
    ids=str,
)
def test_steps_equal_the_whole_clip_with_each_option(arguments):
    model = causal_model(**arguments)
    clip = oriented(CLIP[:, :5], arguments.get("data_format", "channels_last"))
    stream = keras_stm.stream_model(model, image_size=32, num_frames=FRAMES)
    whole = clip
    if "input_shape" in arguments:
        whole = np.concatenate([clip, clip[:, :3]], 1)
    expected = means_of_last(logits_of_frames(model, whole)[:, :5])
    assert relative_error(scores_of_steps(stream, clip), expected) < 1e-5


def test_a_folded_model_streams_too(model):
    stream = keras_stm.stream_model(fold_batch_norm(model), image_size=32, num_frames=FRAMES)
    expected = means_of_last(logits_of_frames(model, CLIP[:, :3]))
    assert relative_error(scores_of_steps(stream, CLIP[:, :3]), expected) < 1e-4


def test_mixed_precision_is_close_and_scores_are_float32(model):
    mixed = causal_model(dtype="mixed_bfloat16")
    mixed.set_weights(model.get_weights())
    stream = keras_stm.stream_model(mixed, image_size=32, num_frames=FRAMES)
    state = keras_stm.initial_state(stream, batch_size=2)
    assert keras.backend.standardize_dtype(state["conv2_block1_cstm"].dtype) == "bfloat16"
    for time in range(3):
        state = stream({"frame": CLIP[:, time], **state})
        scores = state.pop("scores")
    assert keras.backend.standardize_dtype(scores.dtype) == "float32"
    assert relative_error(numpy(scores), numpy(compute(model, CLIP[:, :3]))) < 0.1


def test_a_step_shares_the_weights_and_leaves_the_model_as_it_is(model, stream):
    weights = {id(weight) for weight in model.weights}
    assert {id(weight) for weight in stream.weights} == weights
    # A layer that is called twice has no single output.
    for layer in model.layers:
        assert layer.output is not None


def test_states_have_at_most_four_dimensions_and_the_names_of_their_outputs(stream):
    inputs, outputs = stream.input, stream.output
    assert inputs.keys() - {"frame"} == outputs.keys() - {"scores"}
    for name in inputs.keys() - {"frame"}:
        assert inputs[name].shape == outputs[name].shape and len(inputs[name].shape) <= 4, name
    assert inputs["conv3_block1_cstm"].shape == (None, 8, 8, 2 * 32)
    assert inputs["conv3_block1_cmm"].shape == (None, 8, 8, 2)


def test_a_step_costs_what_a_frame_of_the_clip_costs_and_the_state_of_stm_resnet50_has_16_megabytes():
    with keras.StatelessScope(initialize_variables=False):
        model = keras_stm.STMResNet50(causal=True)
        stream = keras_stm.stream_model(model)
    assert 8 * keras_stm.count_macs(stream, (224, 224, 3)) == keras_stm.count_macs(model, (8, 224, 224, 3))
    sizes = [np.prod(each.shape[1:]) for name, each in stream.input.items() if name != "frame"]
    assert 4 * sum(sizes) == 15_742_980


def test_a_saved_stream_gives_the_same_scores(stream, tmp_path):
    stream.save(tmp_path / "stream.keras")
    loaded = keras.models.load_model(tmp_path / "stream.keras")
    np.testing.assert_allclose(scores_of_steps(loaded, CLIP), scores_of_steps(stream, CLIP), rtol=1e-5)


@pytest.mark.parametrize(
    "make_model, arguments, name",
    [
        (lambda: STMResNet((1, 1, 1, 1), 16), {}, "model"),
        (lambda: TSMResNet((1, 1, 1, 1), 16), {}, "model"),
        (lambda: STMResNet((1, 1, 1, 1), 16, causal=True, include_top=False), {}, "model"),
        (lambda: keras.Sequential([keras.Input((4, 32, 32, 3)), keras.layers.Conv3D(2, 3)]), {}, "model"),
        (lambda: STMResNet((1, 1, 1, 1), 16, causal=True, input_shape=(8, 64, 64, 3)), {}, "image_size"),
        (lambda: STMResNet((1, 1, 1, 1), 16, causal=True), {"num_frames": 0}, "num_frames"),
        (lambda: STMResNet((1, 1, 1, 1), 16, causal=True), {"image_size": (32, 32)}, "image_size"),
    ],
)
def test_a_wrong_argument_is_named(make_model, arguments, name):
    with pytest.raises(ArgumentError) as error:
        keras_stm.stream_model(make_model(), **{"image_size": 32, **arguments})
    assert error.value.name == name
