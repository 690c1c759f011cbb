"""Our models in Keras' own tools and in other people's training loops: docs/keras.md says what goes."""

import copy
import pickle

import keras
import numpy as np
import pytest

import keras_stm
from keras_stm import STMResNet, TSMResNet, keras_compat
from keras_stm.arguments import ArgumentError
from tests.layers.check_layer import STEP, randomize
from tests.reference.backend import BACKEND, compute, numpy

pytestmark = pytest.mark.every_backend

TINY = {"depths": (1, 1, 1, 1), "width": 16, "classes": 3, "dropout": 0.0}
CLIPS = np.random.default_rng(0).normal(size=(4, 2, 32, 32, 3)).astype("float32")
LABELS = np.array([0, 1, 2, 0])
CROSS_ENTROPY = "sparse_categorical_crossentropy"


def compiled(model, loss=CROSS_ENTROPY, learning_rate=0.1, **options):
    model.compile(keras.optimizers.SGD(learning_rate, **options), loss, **STEP)
    return model


def sure(**options):
    """Returns a model whose scores differ from clip to clip."""
    model = STMResNet(**TINY, **options)
    head = model.get_layer("predictions")
    head.kernel.assign(np.random.default_rng(0).normal(0, 0.1, head.kernel.shape))
    return model


def generator():
    while True:
        yield CLIPS, LABELS


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return CLIPS[2 * index :][:2], LABELS[2 * index :][:2]


def loader():
    import torch

    data = torch.utils.data.TensorDataset(torch.from_numpy(CLIPS), torch.from_numpy(LABELS))
    return torch.utils.data.DataLoader(data, batch_size=2)


SOURCES = {
    "generator": (generator, {"steps_per_epoch": 1, "validation_steps": 1}),
    "PyDataset": (lambda: Batches(workers=2), {}),
    "DataLoader": (loader, {}),
}


@pytest.mark.parametrize("source", SOURCES)
def test_fit_takes_the_sources_of_keras(source):
    if source == "DataLoader":
        pytest.importorskip("torch")
    make, options = SOURCES[source]
    model = compiled(STMResNet(**TINY))
    history = model.fit(make(), validation_data=make(), verbose=0, **options).history
    expected = model.evaluate(CLIPS, LABELS, verbose=0)
    np.testing.assert_allclose(history["val_loss"], expected, rtol=1e-5)


@pytest.mark.parametrize("kind", ["class_weight", "sample_weight"])
def test_weights_of_classes_and_clips_scale_their_losses(kind):
    weights = {"class_weight": {0: 1.0, 1: 5.0, 2: 0.0}, "sample_weight": np.array([1.0, 5.0, 0.0, 1.0])}
    # A model that stands still has the same loss in each step.
    model = compiled(sure(), learning_rate=0.0)
    options = {"batch_size": 4, "shuffle": False, "verbose": 0}
    alone = [
        model.fit(CLIPS, LABELS, sample_weight=np.eye(4)[i], **options).history["loss"][0] for i in range(4)
    ]
    (loss,) = model.fit(CLIPS, LABELS, **{kind: weights[kind]}, **options).history["loss"]
    assert len({round(each, 5) for each in alone}) == 4
    np.testing.assert_allclose(loss, np.dot(alone, [1, 5, 0, 1]), rtol=1e-4)


def own_head(units, activation):
    base = STMResNet((1, 1, 1, 1), 16, include_top=False, pooling="avg")
    return keras.Model(base.input, keras.layers.Dense(units, activation, name="head")(base.output))


HEADS = {
    "several labels": (
        lambda: STMResNet(**TINY, classifier_activation="sigmoid"),
        np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]], "float32"),
        "binary_crossentropy",
    ),
    "a number": (
        lambda: STMResNet(**{**TINY, "classes": 1}, classifier_activation=None),
        np.array([[-1.5], [0.5], [2.0], [0.0]], "float32"),
        "mse",
    ),
    "own head": (lambda: own_head(2, None), np.arange(8).reshape(4, 2).astype("float32") / 4, "mse"),
}


@pytest.mark.parametrize("head", HEADS)
def test_other_heads_learn(head):
    build, targets, loss = HEADS[head]
    model = compiled(build(), loss, learning_rate=1e-3)
    losses = [float(model.train_on_batch(CLIPS, targets)) for _ in range(4)]
    assert losses[-1] < losses[0]


def test_lora_trains_in_convolutions_and_the_head_and_is_in_every_file(tmp_path):
    # Logits show what a softmax that is sure of one class would hide.
    model = sure(classifier_activation=None)
    plain = scores(model)
    for layer in keras_compat.flatten_layers(model):
        if hasattr(layer, "enable_lora"):
            layer.enable_lora(2)
            layer.lora_kernel_b.assign(np.random.default_rng(0).normal(0, 0.02, layer.lora_kernel_b.shape))
    trained = {weight.path for weight in model.trainable_weights}
    assert {"predictions/lora_kernel_a", "conv3_block1/cstm/conv/conv/lora_kernel_b"} <= trained
    assert not {"predictions/kernel", "conv3_block1/cstm/conv/conv/kernel"} & trained
    before = {weight.path: numpy(weight) for weight in model.trainable_weights}
    compiled(model, "mse", learning_rate=1e-3).train_on_batch(CLIPS, np.eye(3, dtype="float32")[LABELS])
    assert all((numpy(weight) != before[weight.path]).any() for weight in model.trainable_weights)

    expected = scores(model)
    assert np.abs(expected - plain).max() > 1e-2
    model.save(tmp_path / "model.keras")
    keras_stm.weights.save_safetensors(model, tmp_path / "model.safetensors")
    others = [keras.models.load_model(tmp_path / "model.keras"), keras_stm.fold_batch_norm(model)]
    for end in ("keras", "safetensors"):
        options = {**TINY, "weights": tmp_path / f"model.{end}"}
        others.append(STMResNet(**options, classifier_activation=None))
    for other in others:
        np.testing.assert_allclose(scores(other), expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(ArgumentError, match="`model` must get LoRA after its weights. Received: LoRA in"):
        keras_stm.weights.load_weights(model, tmp_path / "model.safetensors")


def scores(model):
    return numpy(compute(model, CLIPS))


def test_int8_quantizes_the_head_alone_and_is_not_saved_under_published_names(tmp_path):
    model = sure()
    expected = scores(model)
    model.quantize("int8")
    quantized = [
        layer.name for layer in keras_compat.flatten_layers(model) if "int8" in layer.dtype_policy.name
    ]
    assert quantized == ["predictions"]
    np.testing.assert_allclose(scores(model), expected, atol=0.02)
    with pytest.raises(ArgumentError, match="Received: a weight 'predictions/kernel_scale'"):
        keras_stm.weights.save_safetensors(model, tmp_path / "model.safetensors")


def test_averaged_weights_of_the_optimizer_take_their_place():
    model = compiled(sure(), use_ema=True, ema_momentum=0.5)
    first, second = (model.train_on_batch(CLIPS, LABELS) and model.get_weights() for _ in range(2))
    model.optimizer.finalize_variable_values(model.trainable_variables)
    index = [weight.path for weight in model.weights].index("predictions/bias")
    one, two, mean = (each[index] for each in (first, second, model.get_weights()))
    assert (one != two).any()
    np.testing.assert_allclose(mean, (one + two) / 2, atol=1e-6)


def cloned(model):
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    return clone


@pytest.mark.parametrize("build", [STMResNet, TSMResNet])
def test_copies_give_the_same_scores(build):
    model = build(**TINY)
    randomize(model)
    for other in (cloned(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert [weight.path for weight in other.weights] == [weight.path for weight in model.weights]
        np.testing.assert_allclose(scores(other), scores(model), atol=1e-6)


def loop_of_tensorflow(model, optimizer, loss_of):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = loss_of(LABELS, model(CLIPS, training=True))
    optimizer.apply(tape.gradient(loss, model.trainable_weights), model.trainable_weights)
    return loss


def loop_of_jax(model, optimizer, loss_of):
    import jax

    @jax.jit
    def step(trained, others, state):
        def loss_and_others(trained):
            predicted, updated = model.stateless_call(trained, others, CLIPS, training=True)
            return loss_of(LABELS, predicted), updated

        (loss, updated), gradients = jax.value_and_grad(loss_and_others, has_aux=True)(trained)
        return loss, (*optimizer.stateless_apply(state, gradients, trained), updated)

    optimizer.build(model.trainable_variables)
    variables = model.trainable_variables, model.non_trainable_variables, optimizer.variables
    loss, (trained, state, others) = step(*([each.value for each in group] for group in variables))
    for group, values in zip(variables, (trained, others, state), strict=True):
        for variable, value in zip(group, values, strict=True):
            variable.assign(value)
    return loss


def loop_of_torch(model, optimizer, loss_of):
    import torch

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = loss_of(LABELS, model(torch.from_numpy(CLIPS), training=True))
    loss.backward()
    optimizer.step()
    return loss


LOOPS = {"tensorflow": loop_of_tensorflow, "jax": loop_of_jax, "torch": loop_of_torch}


def test_a_loop_of_the_frameworks_own_trains_as_fit_does():
    model, other = STMResNet(**TINY), STMResNet(**TINY)
    randomize(model)
    other.set_weights(model.get_weights())
    loss = LOOPS[BACKEND](model, keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy())
    expected = compiled(other).train_on_batch(CLIPS, LABELS)
    np.testing.assert_allclose(float(loss), float(expected), rtol=1e-5)
    for one, two in zip(model.weights, other.weights, strict=True):
        np.testing.assert_allclose(numpy(one), numpy(two), atol=1e-5, err_msg=one.path)


@pytest.mark.skipif(BACKEND != "jax", reason="jax.vmap needs the jax backend")
def test_vmap_over_clips_is_the_batch():
    import jax

    model = sure()
    one_by_one = jax.jit(jax.vmap(lambda clip: model(clip[None])[0]))(CLIPS)
    np.testing.assert_allclose(np.asarray(one_by_one), scores(model), atol=1e-6)


def test_callbacks_keep_the_best_model(tmp_path):
    model = compiled(STMResNet(**TINY), learning_rate=50.0)
    best = tmp_path / "best.keras"
    callbacks = [
        keras.callbacks.ModelCheckpoint(best, save_best_only=True),
        keras.callbacks.EarlyStopping(patience=1, restore_best_weights=True),
    ]
    history = model.fit(
        CLIPS, LABELS, epochs=9, validation_data=(CLIPS, LABELS), callbacks=callbacks, verbose=0
    ).history
    assert len(history["loss"]) < 9
    np.testing.assert_allclose(scores(keras.models.load_model(best, compile=False)), scores(model), atol=1e-6)


@pytest.mark.skipif(BACKEND != "torch", reason="the format needs the torch backend")
def test_torchs_own_export_gives_the_scores(tmp_path):
    import torch

    model = STMResNet(**TINY, input_shape=CLIPS.shape[1:])
    signature = [keras.InputSpec(shape=CLIPS.shape, dtype="float32")]
    model.export(tmp_path / "model.pt2", format="torch", input_signature=signature, verbose=False)
    program = torch.export.load(tmp_path / "model.pt2").module()
    np.testing.assert_allclose(numpy(program(torch.from_numpy(CLIPS))), scores(model), atol=1e-6)
