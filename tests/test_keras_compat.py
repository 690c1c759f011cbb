"""Canary tests for the private parts of Keras that `keras_stm.keras_compat` uses, one test for each.

If a test fails under a newer Keras, its message names the part that changed.
"""

import inspect
import zipfile

import h5py
import keras
import numpy as np
import pytest

from keras_stm import keras_compat

CHANGED = f"Keras {keras.__version__} has changed "


def small_model():
    inputs = keras.Input((4,), name="inputs")
    x = keras.layers.Dense(3, name="dense")(inputs)
    x = keras.layers.BatchNormalization(name="bn")(x, training=True)
    return keras.Model(inputs, keras.layers.Add(name="add")([x, x]), name="model")


def test_flatten_layers():
    inner = small_model()
    model = keras.Sequential(
        [keras.Input((4,)), inner, keras.layers.SpectralNormalization(keras.layers.Dense(2))]
    )
    assert hasattr(model, "_flatten_layers"), CHANGED + "Layer._flatten_layers"
    found = keras_compat.flatten_layers(model)
    assert found[0] is model, CHANGED + "the first item of Layer._flatten_layers"
    assert {*inner.layers, inner, model.layers[-1].layer} <= {*found}, CHANGED + "Layer._flatten_layers"


def test_layers_of_a_layer():
    inner = keras.layers.Dense(1)
    outer = keras.layers.TimeDistributed(inner)
    assert keras_compat.children(outer) == [inner]


def test_lora():
    model = small_model()
    dense = model.get_layer("dense")
    assert not keras_compat.find_lora(model)
    dense.enable_lora(2)
    dense.lora_kernel_b.assign(np.ones((2, 3)))
    assert keras_compat.find_lora(model) == ["dense"], CHANGED + "Layer.lora_enabled"
    assert "lora_rank" in dense.get_config(), CHANGED + "`lora_rank` in the configuration of a layer"
    merged = keras_compat.merged_weights(dense)
    assert set(merged) == {"dense/kernel", "dense/bias"}, CHANGED + "the paths of the weights of LoRA"
    product = keras.ops.matmul(dense.lora_kernel_a, dense.lora_kernel_b)
    expected = keras.ops.convert_to_numpy(dense._kernel + product)
    np.testing.assert_allclose(merged["dense/kernel"], expected, err_msg=CHANGED + "Dense.kernel with LoRA")


def test_nodes_by_depth():
    model = small_model()
    assert hasattr(model, "_nodes_by_depth"), CHANGED + "Functional._nodes_by_depth"
    calls = {call.layer.name: call for call in keras_compat.find_calls(model)}
    assert set(calls) == {"inputs", "dense", "bn", "add"}, CHANGED + "Functional._nodes_by_depth"
    dense, bn, add = calls["dense"], calls["bn"], calls["add"]
    assert dense.inputs == [model.inputs[0]], CHANGED + "Node.input_tensors"
    assert bn.inputs[0] is dense.outputs[0], CHANGED + "Node.output_tensors"
    assert len(add.inputs) == 2 and add.inputs[0] is add.inputs[1] is bn.outputs[0], CHANGED + "Node"
    assert bn.kwargs.get("training") is True, CHANGED + "Node.arguments.kwargs"


class Looking(keras_compat.WithoutDecoupledDecay, keras.optimizers.SGD):
    """An optimizer that changes no weights and collects the results of `look(optimizer, variable)`."""

    def update_step(self, gradient, variable, learning_rate):
        self.found.append(self.look(self, variable))


def step(look):
    """Returns the results of `look` for two weights, and the first weight. The second must not decay."""
    weights = [keras.Variable(np.ones(2, "float32"), name=name) for name in ("kernel", "gamma")]
    optimizer = Looking(0.1, weight_decay=0.5)
    optimizer.look, optimizer.found = look, []
    optimizer.exclude_from_weight_decay(var_names=["gamma"])
    optimizer.build(weights)
    optimizer.apply([keras.ops.ones(2)] * 2, weights)
    return optimizer.found, keras.ops.convert_to_numpy(weights[0])


@pytest.mark.every_backend
def test_apply_weight_decay():
    assert hasattr(keras.optimizers.SGD, "_apply_weight_decay"), CHANGED + "Optimizer._apply_weight_decay"
    _, weight = step(lambda optimizer, variable: None)
    assert (weight == 1).all(), CHANGED + "the method that decays weights, Optimizer._apply_weight_decay"


@pytest.mark.every_backend
@pytest.mark.parametrize("name", ["_get_variable_index", "_trainable_variables"])
def test_variables_of_an_optimizer(name):
    assert hasattr(keras.optimizers.SGD(), name), CHANGED + f"Optimizer.{name}"
    paths, _ = step(keras_compat.path_of)
    assert paths == ["kernel", "gamma"], CHANGED + f"Optimizer.{name}"


@pytest.mark.every_backend
def test_use_weight_decay():
    assert hasattr(keras.optimizers.SGD, "_use_weight_decay"), CHANGED + "Optimizer._use_weight_decay"
    decayed, _ = step(keras_compat.decays)
    assert decayed == [True, False], CHANGED + "Optimizer._use_weight_decay"


class OneSeed(keras_compat.SeedsWithoutVariable):
    def next(self, ordered=True):
        import tensorflow as tf

        return tf.constant([1, 2])


@pytest.mark.every_backend
def test_seed_generator_without_init():
    seeds = OneSeed()
    assert not hasattr(seeds, "state"), CHANGED + "when SeedGenerator creates its variable"
    layer = keras.layers.RandomHue(0.5, value_range=(0, 1), data_format="channels_last", dtype="float32")
    layer = keras_compat.compute_with_tensorflow(layer)
    for _ in range(2):
        drawn = layer.get_random_transformation(np.ones((1, 4, 4, 3), "float32"), seed=seeds)
    assert drawn is not None, CHANGED + "what layers use of a SeedGenerator, in addition to next()"


@pytest.mark.every_backend
def test_backend_of_augmenting_layers():
    layer = keras.layers.RandomBrightness(0.5, value_range=(0, 1), data_format="channels_last")
    assert hasattr(layer.backend, "set_backend"), CHANGED + "DynamicBackend.set_backend of augmenting layers"
    layer = keras_compat.compute_with_tensorflow(layer)
    images = np.zeros((1, 4, 4, 3), "float32")
    drawn = layer.get_random_transformation(images, seed=OneSeed())
    found = layer.transform_images(images, drawn)
    assert type(found).__module__.startswith("tensorflow"), CHANGED + "DynamicBackend of augmenting layers"


@pytest.mark.parametrize(
    "name",
    [
        "RandomBrightness",
        "RandomContrast",
        "RandomSaturation",
        "RandomHue",
        "RandomErasing",
        "MixUp",
        "CutMix",
    ],
)
def test_methods_of_augmenting_layers(name):
    """These methods count as public only because their names have no leading underscore."""
    layer_class = getattr(keras.layers, name)
    for method, arguments in (
        ("get_random_transformation", ["self", "data", "training", "seed"]),
        ("transform_images", ["self", "images", "transformation"]),
        ("transform_labels", ["self", "labels", "transformation"]),
    ):
        assert hasattr(layer_class, method), CHANGED + f"{name}.{method}"
        found = list(inspect.signature(getattr(layer_class, method)).parameters)
        assert found[: len(arguments)] == arguments, CHANGED + f"the arguments of {name}.{method}"


def test_layout_of_hdf5(tmp_path):
    model = small_model()
    model.save_weights(tmp_path / "model.weights.h5")
    with h5py.File(tmp_path / "model.weights.h5") as file:
        group = file.get("layers/dense/vars")
        assert group is not None, CHANGED + "the groups layers/<class of the layer>/vars of .weights.h5 files"
        assert group.attrs.get("name") == "dense", CHANGED + "the attribute `name` of groups of weights"
        arrays = {
            name: keras_compat.read_dataset(dataset)
            for name, dataset in keras_compat.find_datasets(file).items()
        }
        classes = keras_compat.layers_of_class(file, "batch_normalization")
    assert classes == {"bn"}, CHANGED + "the names of the groups of a class in .weights.h5 files"
    names = {"dense/0", "dense/1", "bn/0", "bn/1", "bn/2", "bn/3"}
    assert set(arrays) == names, CHANGED + "how weights are numbered in .weights.h5 files"
    for index, weight in enumerate(model.get_layer("bn").weights):
        found = arrays[f"bn/{index}"]
        np.testing.assert_array_equal(found, keras.ops.convert_to_numpy(weight), CHANGED + "weight order")


def test_layout_of_bfloat16_in_hdf5(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, name="dense", dtype="bfloat16")])
    model.save_weights(tmp_path / "model.weights.h5")
    with h5py.File(tmp_path / "model.weights.h5") as file:
        kernel = keras_compat.read_dataset(keras_compat.find_datasets(file)["dense/0"])
    assert kernel.dtype.name == "bfloat16", CHANGED + "how .weights.h5 files mark bfloat16"
    np.testing.assert_array_equal(
        kernel.astype("float32"), keras.ops.convert_to_numpy(keras.ops.cast(model.weights[0], "float32"))
    )


def test_parts_of_a_keras_file(tmp_path):
    small_model().save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        names = set(archive.namelist())
    assert keras_compat.WEIGHTS_OF_ARCHIVE in names, CHANGED + "the name of the weights in a .keras file"
