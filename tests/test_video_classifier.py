"""A classifier's answers equal the model's scores of the file's views, for every batch size."""

import concurrent.futures
import itertools
import pathlib
import threading

import keras
import numpy as np
import pytest

import keras_stm
from keras_stm import inference, live, model_file, preprocess_input
from keras_stm.arguments import ArgumentError
from keras_stm.data.video import VideoError
from keras_stm.data.views import load_clip, read_views
from keras_stm.data.windows import iterate_windows
from keras_stm.video_classifier import VideoClassifier
from tests.data.videos import damage, decode_all, write_audio, write_video
from tests.layers.check_layer import randomize

NAMES = ("clap", "jump", "wave")
REAL_CLIPS = pathlib.Path(__file__).parents[2] / "shared" / "real_clips"


def make_model(shape=(None, None, None, 3)):
    """Returns a small model, which compiles fast. Its scores depend on all frames and on their order."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input(shape)
    x = keras.layers.Conv3D(8, 3, padding="same", activation="relu", data_format="channels_last")(inputs)
    x = keras.layers.GlobalAveragePooling3D(data_format="channels_last")(x)
    scores = keras.layers.Dense(3, activation="softmax", kernel_initializer="he_normal")(x)
    return keras.Model(inputs, scores)


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Five videos of 3 to 27 frames."""
    folder = tmp_path_factory.mktemp("videos")
    return [write_video(folder / f"{i}.mp4", 6 * i + 3, brightness=40 * i, height=40) for i in range(5)]


@pytest.fixture(scope="module")
def classifier(model):
    return VideoClassifier(model, NAMES, num_frames=4, image_size=32)


def by_hand(model, views):
    """Returns the answer for preprocessed views: the mean of the scores of all views, best class first."""
    scores = [keras.ops.convert_to_numpy(model(view[np.newaxis], training=False))[0] for view in views]
    scores = np.mean(scores, axis=0)
    return [{"label": NAMES[i], "score": scores[i]} for i in np.argsort(-scores)]


def assert_equal(found, expected):
    assert [row["label"] for row in found] == [row["label"] for row in expected]
    np.testing.assert_allclose([row["score"] for row in found], [row["score"] for row in expected], atol=1e-5)


@pytest.mark.every_backend
def test_an_answer_is_that_of_the_model_on_the_loaded_clip(classifier, model, paths):
    answers = [classifier(path) for path in paths]
    for answer, path in zip(answers, paths, strict=True):
        assert_equal(answer, by_hand(model, load_clip(path, 4, 32)))
        assert all(type(row["score"]) is float for row in answer)
    # Without this check, a model with one answer for all clips would pass.
    scores = [row["score"] for answer in answers for row in answer]
    assert len(set(np.round(scores, 4))) > 6


def test_the_papers_protocol_is_the_mean_of_its_views(model, paths):
    classifier = VideoClassifier(model, NAMES, num_frames=4, image_size=32, protocol="paper", batch_size=7)
    for answer, path in zip(classifier(paths[2:4]), paths[2:4], strict=True):
        views = read_views(path, 4, 32, clips=10, crops=3)
        assert len(views) == 30
        assert_equal(answer, by_hand(model, views))


@pytest.fixture
def batches(model, monkeypatch):
    """Sizes of the batches that the model receives."""
    predict, sizes = inference.predict_fn(model), []

    def count(batch):
        sizes.append(len(batch))
        return predict(batch)

    monkeypatch.setattr(inference, "predict_fn", lambda model: count)
    return sizes


@pytest.mark.parametrize("protocol, sizes", [("efficient", [1, 3, 8]), ("paper", [16, 200])])
def test_the_batch_size_changes_no_answer_and_no_batch_is_larger(protocol, sizes, model, paths, batches):
    expected = None
    for size in sizes:
        batches.clear()
        answers = VideoClassifier(
            model, NAMES, num_frames=2, image_size=32, protocol=protocol, batch_size=size
        )(paths)
        # All batches except the last are full, because videos share batches.
        assert set(batches[:-1]) <= {size} and 1 <= batches[-1] <= size
        assert sum(batches) == len(paths) * {"efficient": 1, "paper": 30}[protocol]
        for answer, other in zip(answers, expected or answers, strict=True):
            assert_equal(answer, other)
        expected = answers


def test_a_list_gives_a_list_in_its_order_and_may_mix_paths_and_arrays(classifier, paths):
    clips = [paths[3], decode_all(paths[1]), pathlib.Path(paths[0])]
    answers = classifier(clips)
    for answer, path in zip(answers, (paths[3], paths[1], paths[0]), strict=True):
        assert_equal(answer, classifier(path))
    assert len(classifier(paths[:1])) == 1
    assert classifier([]) == []


def test_frames_in_a_folder_are_a_clip(classifier, model, tmp_path):
    tf = pytest.importorskip("tensorflow", reason="JPEG files are decoded by TensorFlow")
    rng = np.random.default_rng(0)
    for i in range(9):
        pixels = rng.integers(0, 255, (5, 7, 3)).repeat(8, axis=0).repeat(8, axis=1).astype("uint8")
        (tmp_path / f"{i + 1:05d}.jpg").write_bytes(tf.io.encode_jpeg(pixels).numpy())
    assert_equal(classifier(tmp_path), by_hand(model, load_clip(tmp_path, 4, 32)))


@pytest.mark.parametrize("top_k, expected", [(1, 1), (5, 3)])
def test_top_k_classes_are_named_best_first(top_k, expected, model, paths):
    answer = VideoClassifier(model, NAMES, num_frames=4, image_size=32, top_k=top_k)(paths[0])
    assert len(answer) == expected
    assert all(a["score"] >= b["score"] for a, b in itertools.pairwise(answer))
    assert_equal(answer, VideoClassifier(model, NAMES, num_frames=4, image_size=32)(paths[0])[:top_k])


@pytest.fixture
def broken(tmp_path):
    (tmp_path / "notes.mp4").write_bytes(b"no video")
    return str(tmp_path / "notes.mp4"), write_audio(tmp_path / "sound.mp4")


def test_a_broken_file_is_named(classifier, paths, broken):
    for path in (*broken, "nowhere.mp4"):
        with pytest.raises(VideoError) as found:
            classifier(path)
        assert found.value.path == path
    with pytest.raises(VideoError, match="notes.mp4: "):
        classifier([paths[0], broken[0], paths[1]])


@pytest.mark.parametrize("batch_size", [2, 8])
def test_iterating_gives_the_errors_in_their_places_and_all_other_answers(batch_size, model, paths, broken):
    classifier = VideoClassifier(model, NAMES, num_frames=4, image_size=32, batch_size=batch_size)
    clips = [broken[0], paths[0], paths[1], broken[1], paths[2], "nowhere.mp4"]
    answers = list(classifier.iterate(iter(clips)))
    for clip, answer in zip(clips, answers, strict=True):
        if clip in paths:
            assert_equal(answer, classifier(clip))
        else:
            assert isinstance(answer, VideoError) and answer.path == clip


def test_answers_come_before_the_last_clip_is_read(model, paths):
    """The input never ends, so a classifier that first read all of it would not return."""
    classifier = VideoClassifier(model, NAMES, num_frames=2, image_size=32, batch_size=2)
    answers = classifier.iterate(itertools.cycle(paths))
    assert len(list(itertools.islice(answers, 12))) == 12
    answers.close()


@pytest.mark.parametrize(
    "clips, name, received",
    [
        (np.zeros((0, 40, 40, 3), "uint8"), "source", "source of uint8 (0, 40, 40, 3)"),
        (np.zeros((4, 40, 40, 3), "float32"), "source", "source of float32 (4, 40, 40, 3)"),
        (np.zeros((40, 40, 3), "uint8"), "source", "source of uint8 (40, 40, 3)"),
        (np.zeros((1, 4, 40, 40, 3), "uint8"), "source", "source of uint8 (1, 4, 40, 40, 3)"),
        (np.zeros((4, 40, 40, 1), "uint8"), "source", "source of uint8 (4, 40, 40, 1)"),
        (7, "clips", "clips of int"),
        ([None], "clips", "clips of NoneType"),
    ],
)
def test_what_is_no_clip_is_named(clips, name, received, classifier):
    with pytest.raises(ArgumentError) as error:
        classifier(clips)
    assert error.value.name == name
    assert str(error.value).endswith(f"Received: {received}")


@pytest.mark.every_backend
def test_channels_first_models_get_their_channels_first():
    inputs = keras.Input((4, 3, 32, 32))
    scores = keras.layers.Lambda(lambda x: keras.ops.softmax(keras.ops.mean(x, axis=(1, 3, 4))))(inputs)
    classifier = VideoClassifier(keras.Model(inputs, scores), ("red", "green", "blue"))
    for i, name in enumerate(("red", "green", "blue")):
        frames = np.zeros((5, 40, 50, 3), "uint8")
        frames[..., i] = 255
        best = classifier(frames)[0]
        pixel = preprocess_input(frames[:1, 0, 0], data_format="channels_last")[0]
        assert best["label"] == name
        assert best["score"] == pytest.approx(np.exp(pixel[i]) / np.exp(pixel).sum(), abs=1e-5)


def test_the_sizes_that_a_model_fixes_are_those_of_its_clips(model):
    fixed = make_model((4, 64, 64, 3))
    classifier = VideoClassifier(fixed, NAMES)
    assert (classifier.num_frames, classifier.image_size, classifier.sampling) == (4, 64, "segments")
    classifier = VideoClassifier(model, NAMES)
    assert (classifier.num_frames, classifier.image_size) == (8, 224)
    for name, value in (("num_frames", 4), ("image_size", 64)):
        with pytest.raises(ArgumentError, match=f"{value}.* Received: {name}=16") as error:
            VideoClassifier(fixed, NAMES, **{name: 16})
        assert (error.value.name, error.value.value) == (name, 16)


@pytest.mark.parametrize(
    "name, value",
    [
        ("class_names", None),
        ("class_names", ("a", "b")),
        ("protocol", "best"),
        ("sampling", "all"),
        ("top_k", 0),
        ("batch_size", 2.5),
        ("num_frames", 0),
        ("image_size", -1),
    ],
)
def test_wrong_arguments_are_named(name, value, model):
    with pytest.raises(ArgumentError) as error:
        VideoClassifier(model, **{"class_names": NAMES, name: value})
    assert (error.value.name, error.value.value) == (name, value)
    assert str(error.value).endswith(f"Received: {name}={value!r}")


@pytest.mark.parametrize(
    "shape, classes",
    [((32, 32, 3), 3), ((4, 32, 32, 1), 3), ((4, 32, 48, 3), 3), ((4, 32, 32, 3), None)],
)
def test_models_that_are_not_from_clips_to_scores_are_refused(shape, classes):
    inputs = keras.Input(shape)
    outputs = keras.layers.Dense(classes)(keras.layers.Flatten()(inputs)) if classes else inputs
    model = keras.Model(inputs, outputs)
    with pytest.raises(ArgumentError, match="Received: a model from") as error:
        VideoClassifier(model, NAMES)
    assert (error.value.name, error.value.value) == ("model_or_folder", model)


@pytest.fixture(scope="module")
def run(model, tmp_path_factory):
    """The folder of a run."""
    folder = tmp_path_factory.mktemp("run")
    model.save(folder / "model.keras")
    clip = model_file.ClipSettings(num_frames=4, image_size=32, sampling="dense")
    model_file.annotate(folder / "model.keras", NAMES, clip)
    return folder


def test_a_folder_tells_all_and_arguments_override_it(run, model, paths):
    long = np.concatenate([decode_all(path) for path in paths] * 2)
    classifier = VideoClassifier(run)
    assert classifier.class_names == NAMES
    assert_equal(classifier(long), by_hand(model, read_views(long, 4, 32, sampling="dense")))
    classifier = VideoClassifier(
        run / "model.keras", ("a", "b", "c"), num_frames=6, image_size=48, sampling="segments"
    )
    answer = classifier(long)
    assert {row["label"] for row in answer} == {"a", "b", "c"}
    expected = by_hand(model, read_views(long, 6, 48))
    np.testing.assert_allclose([r["score"] for r in answer], [r["score"] for r in expected], atol=1e-5)


def test_a_folder_without_class_names_is_refused_in_a_line(model, tmp_path):
    model.save(tmp_path / "model.keras")
    with pytest.raises(ArgumentError, match="class_names.txt.* Received: path=") as error:
        VideoClassifier(tmp_path)
    assert error.value.name == "path" and "\n" not in str(error.value)


@pytest.mark.parametrize("protocol, crops", [("efficient", 1), ("paper", 3)])
def test_a_timeline_is_the_answers_to_its_windows(protocol, crops, run, model, paths):
    classifier = VideoClassifier(run, protocol=protocol, sampling="segments", batch_size=2)
    found = list(classifier.timeline(paths[4], window=1, stride=0.5))
    windows = list(iterate_windows(paths[4], 1, 0.5, 4, 32, crops))
    assert len(found) == len(windows) == 5
    for answer, window in zip(found, windows, strict=True):
        assert (answer["start"], answer["end"]) == (window.start, window.end)
        assert_equal(answer["predictions"], by_hand(model, window.views))


def test_windows_overlap_by_half_unless_said_otherwise(classifier, paths):
    starts = [answer["start"] for answer in classifier.timeline(paths[4], window=1)]
    assert starts == pytest.approx([0, 0.5, 1, 1.5, 1.7])


def test_what_is_wrong_with_a_timeline_shows_at_once(classifier, paths):
    with pytest.raises(ArgumentError, match="Received: stride=3") as error:
        classifier.timeline(paths[0], window=2, stride=3)
    assert (error.value.name, error.value.value) == ("stride", 3)
    with pytest.raises(VideoError, match="nowhere.mp4: "):
        classifier.timeline("nowhere.mp4", window=2)


def test_damage_met_on_the_way_ends_a_timeline_with_an_error(classifier, tmp_path):
    path = write_video(tmp_path / "video.mp4", 200, options={"g": "1", "bf": "0"})
    damage(path, 195)
    timeline = classifier.timeline(path, window=1, stride=1)
    found = []
    with pytest.raises(VideoError, match="video.mp4: "):
        for answer in timeline:
            found.append(answer["start"])
    # The damage is in the third batch of eight windows.
    assert found == pytest.approx(range(16), abs=0.01)


@pytest.mark.skipif(not REAL_CLIPS.is_dir(), reason="no real clips next to the checkout")
def test_real_clips_are_answered(classifier, model):
    for path in sorted(REAL_CLIPS.iterdir()):
        assert_equal(classifier(path), by_hand(model, load_clip(path, 4, 32)))


@pytest.mark.every_backend
def test_several_threads_may_share_a_model():
    """Also for the first call, which compiles, and with several classifiers of one model."""
    model = make_model()
    classifiers = [VideoClassifier(model, NAMES, num_frames=2, image_size=32, top_k=3) for _ in range(2)]
    frames = np.random.default_rng(0).integers(0, 256, (8, 4, 40, 40, 3)).astype("uint8")

    def classify(i):
        return [[row["score"] for row in classifiers[i % 2](frames[i])] for _ in range(3)]

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        found = list(threads.map(classify, range(8)))
    for i, scores in enumerate(found):
        expected = [row["score"] for row in classifiers[0](frames[i])]
        np.testing.assert_allclose(scores, [expected] * 3, rtol=1e-5)


CAUSAL_CLIP = np.random.default_rng(0).integers(0, 255, (9, 40, 52, 3), "uint8")


def timed(frames, rate=10):
    return ((number / rate, frame) for number, frame in enumerate(frames))


@pytest.fixture(scope="module")
def causal():
    """A classifier of a causal model with random weights, and logits: a softmax would hide errors."""
    model = keras_stm.STMResNet((1, 1, 1, 1), 16, causal=True, classes=3, classifier_activation=None)
    randomize(model)
    return VideoClassifier(model, NAMES, num_frames=4, image_size=32)


def assert_same(found, expected):
    """Compares logits, which may be of any size."""
    found, expected = ({row["label"]: row["score"] for row in each} for each in (found, expected))
    largest = float(max(map(abs, expected.values())))
    assert found == pytest.approx(expected, abs=1e-5 * largest)


def scores_of(answers):
    return [{row["label"]: row["score"] for row in answer["predictions"]} for answer in answers]


@pytest.mark.every_backend
def test_a_causal_models_stream_is_its_answers_to_all_frames_so_far(causal, caplog):
    stream = causal.stream(timed(CAUSAL_CLIP[:4]), rate=10)
    answers = list(stream)
    assert [answer["time"] for answer in answers] == pytest.approx([0, 0.1, 0.2, 0.3])
    assert not stream.recomputes and caplog.records == []
    # Under JAX, each length takes seconds to compile.
    for end in (2, 4):
        views = read_views(CAUSAL_CLIP[:end], end, 32)
        assert_same(answers[end - 1]["predictions"], by_hand(causal.model, views))


def test_two_streams_of_a_classifier_do_not_mix(causal):
    one, other = (causal.stream(timed(clip), rate=10) for clip in (CAUSAL_CLIP, CAUSAL_CLIP[::-1]))
    mixed = [next(each) for _ in range(9) for each in (one, other)]
    for answers, clip in ((mixed[::2], CAUSAL_CLIP), (mixed[1::2], CAUSAL_CLIP[::-1])):
        for found, expected in zip(answers, causal.stream(timed(clip), rate=10), strict=True):
            assert_same(found["predictions"], expected["predictions"])


def test_another_model_computes_its_window_again_and_says_so(classifier, caplog):
    stream = classifier.stream(timed(CAUSAL_CLIP), rate=10, every=3)
    answers = list(stream)
    assert stream.recomputes and [record.getMessage() for record in caplog.records] == [
        "The model is not causal: each answer computes its last 4 frames again."
    ]
    assert [answer["time"] for answer in answers] == pytest.approx([0.2, 0.5, 0.8])
    for end, answer in zip((3, 6, 9), answers, strict=True):
        assert_equal(answer["predictions"], classifier(CAUSAL_CLIP[max(end - 4, 0) : end]))


def test_smoothed_scores_are_the_exponential_mean_over_time(causal):
    plain = scores_of(causal.stream(timed(CAUSAL_CLIP), rate=10))
    smooth = scores_of(causal.stream(timed(CAUSAL_CLIP), rate=10, smooth=0.2))
    keep, mean = np.exp(-0.1 / 0.2), plain[0]
    for scores, found in zip(plain[1:], smooth[1:], strict=True):
        mean = {label: keep * mean[label] + (1 - keep) * scores[label] for label in NAMES}
        assert found == pytest.approx(mean, rel=1e-5)
    assert smooth[0] == plain[0]


def test_a_stream_begins_anew_after_a_reconnection(causal, monkeypatch):
    class Reconnected:
        dropped, reconnections = 0, 1

        def __init__(self):
            self.frames = enumerate(CAUSAL_CLIP[:6])

        def __iter__(self):
            return self

        def __next__(self):
            number, frame = next(self.frames)
            return live.Frame(number / 10, frame, 0.0, number in (0, 3))

        def close(self):
            pass

    monkeypatch.setattr(live, "open_source", lambda *arguments: Reconnected())
    answers = list(causal.stream("rtsp://camera", rate=10, smooth=5))
    expected = list(causal.stream("rtsp://camera", rate=10))[3]
    assert_same(answers[3]["predictions"], expected["predictions"])
    assert_same(expected["predictions"], by_hand(causal.model, read_views(CAUSAL_CLIP[3:4], 1, 32)))


def test_the_rate_of_a_stream_is_that_of_the_training(causal, tmp_path, model):
    assert (causal.rate, causal.stream([]).rate) == (None, 4 / 3)
    model.save(tmp_path / "model.keras")
    model_file.annotate(tmp_path / "model.keras", NAMES, model_file.ClipSettings(4, 32, "segments", 7.5))
    trained = VideoClassifier(tmp_path / "model.keras")
    assert (trained.rate, trained.stream([]).rate, trained.stream([], rate=3).rate) == (7.5, 7.5, 3)


def test_a_stream_that_is_left_is_closed(causal, paths):
    for leave in (lambda stream: stream.close(), lambda stream: stream.__exit__(), lambda stream: None):
        stream = causal.stream(paths[4], rate=10, realtime=True)
        assert next(stream)["time"] == 0 and stream.image.shape == (40, 48, 3)
        name = f"frames of {paths[4]}"
        assert any(thread.name == name for thread in threading.enumerate())
        leave(stream)
        del stream
        assert not any(thread.name == name for thread in threading.enumerate())
