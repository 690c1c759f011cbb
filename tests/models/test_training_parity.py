"""Training parity with PyTorch. Inference parity covers no gradients, optimizer or updates of statistics."""

import functools

import pytest

torch = pytest.importorskip("torch")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import safetensors.numpy  # noqa: E402
import safetensors.torch  # noqa: E402

from keras_stm import STMResNet  # noqa: E402
from keras_stm.optimizers import SGD  # noqa: E402
from keras_stm.weights import load_weights, save_safetensors  # noqa: E402
from tests.reference.backend import relative_error  # noqa: E402
from tests.reference.torch_stm import (  # noqa: E402
    BiasedBatchNorm2d,
    TorchSTM,
    keep_from_kinks,
    randomize,
)

STEPS, RATE, MOMENTUM, DECAY = 20, 0.01, 0.9, 5e-4
# Relative to the largest value of a tensor. Decay alone changes every weight by 6e-4 of itself in 20 steps.
TOLERANCE = 1e-4
TINY = {"depths": (1, 1, 1, 1), "width": 16, "classes": 5}


def batches(steps):
    rng = np.random.default_rng(1)
    for _ in range(steps):
        yield rng.normal(size=(2, 4, 40, 40, 3)).astype("float32"), rng.integers(0, 5, 2)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """`start(steps)` returns the file of initial weights for a training of `steps` steps."""
    folder = tmp_path_factory.mktemp("start")

    @functools.cache
    def get(steps):
        net = randomize(TorchSTM(**TINY))
        if steps > 1:
            keep_from_kinks(net)
        path = folder / f"start{steps}.safetensors"
        safetensors.torch.save_file(net.state_dict(), path)
        return path

    return get


@functools.cache
def train_torch(path, steps, decay=DECAY, decoupled=0.0):
    """Trains in PyTorch, and returns the losses of the steps and the final weights and statistics.

    A `decoupled` decay shrinks the weights separately from the step, like `keras.optimizers.SGD`.

    BatchNorm keeps the biased variance, like Keras. See `BiasedBatchNorm2d`.
    """
    net = TorchSTM(norm=BiasedBatchNorm2d, **TINY)
    net.load_state_dict(safetensors.torch.load_file(path))
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), RATE, momentum=MOMENTUM, weight_decay=decay)
    losses = []
    for clip, labels in batches(steps):
        clip = torch.from_numpy(np.ascontiguousarray(np.moveaxis(clip, -1, 2)))
        loss = torch.nn.functional.cross_entropy(net(clip), torch.from_numpy(labels))
        optimizer.zero_grad()
        loss.backward()
        with torch.no_grad():
            for weight in net.parameters():
                weight.mul_(1 - RATE * decoupled)
        optimizer.step()
        losses.append(loss.item())
    weights = {
        name: value.numpy()
        for name, value in net.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    return losses, weights


@pytest.fixture(scope="module")
def model():
    """Our model, compiled once for all trainings because compilation is slow."""
    model = STMResNet(**TINY, dropout=0.0, classifier_activation=None)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(SGD(RATE, momentum=MOMENTUM, weight_decay=DECAY), loss)
    model.optimizer.build(model.trainable_variables)
    return model


def train_keras(model, path, steps, folder):
    """Trains our model, and returns the losses and the weights under PyTorch's names."""
    load_weights(model, path)
    for variable in model.optimizer.variables:
        if variable is not model.optimizer.learning_rate:
            variable.assign(np.zeros(variable.shape))
    losses = []
    for clip, labels in batches(steps):
        # Keras reports the mean loss since the last reset.
        model.reset_metrics()
        losses.append(float(model.train_on_batch(clip, labels)))
    path = folder / "trained.safetensors"
    save_safetensors(model, path)
    return losses, safetensors.numpy.load_file(path)


def worst_error(weights, expected):
    """Returns the largest `(relative error, name)` of all weights and statistics."""
    assert weights.keys() == expected.keys()
    return max((relative_error(weights[name], expected[name]), name) for name in expected)


@pytest.mark.every_backend
@pytest.mark.parametrize("steps", [1, STEPS])
def test_steps_of_sgd_equal_pytorch(steps, model, start, tmp_path, record_property):
    path = start(steps)
    losses, weights = train_keras(model, path, steps, tmp_path)
    torch_losses, torch_weights = train_torch(path, steps)
    loss_error = relative_error(np.array(losses), np.array(torch_losses))
    weight_error, name = worst_error(weights, torch_weights)
    record_property("loss_error", loss_error)
    record_property("weight_error", weight_error)
    print(
        f"{keras.backend.backend()} {steps} steps: losses {loss_error:.1e}, "
        f"weights {weight_error:.1e} ({name})"
    )
    assert loss_error < TOLERANCE
    assert weight_error < TOLERANCE, name


@pytest.mark.parametrize(
    "decay", [{"decay": 0.0}, {"decay": 0.0, "decoupled": DECAY}], ids=["none", "decoupled"]
)
def test_another_decay_would_be_noticed(decay, start):
    path = start(STEPS)
    error, name = worst_error(train_torch(path, STEPS, **decay)[1], train_torch(path, STEPS)[1])
    print(f"{decay}: weights {error:.1e} ({name})")
    assert error > 5 * TOLERANCE


def test_unbiased_running_variance_would_be_noticed(start):
    """The correction by `BiasedBatchNorm2d` is larger than the tolerance."""
    nets = TorchSTM(**TINY), TorchSTM(norm=BiasedBatchNorm2d, **TINY)
    clip, _ = next(batches(1))
    clip = torch.from_numpy(np.ascontiguousarray(np.moveaxis(clip, -1, 2)))
    for net in nets:
        net.load_state_dict(safetensors.torch.load_file(start(1)))
    with torch.no_grad():
        torch.testing.assert_close(*(net.train()(clip) for net in nets))
    unbiased, biased = (net.layer4[0].bn3.running_var for net in nets)
    assert relative_error(unbiased.numpy(), biased.numpy()) > 5 * TOLERANCE
