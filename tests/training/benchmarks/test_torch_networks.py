"""The networks in plain PyTorch compute the same as those of keras_stm."""

import keras
import numpy as np
import pytest
import torch

from benchmarks import torch_networks
from benchmarks.keras_steps import KerasSteps
from benchmarks.steps import NETWORKS
from tests.reference.backend import compute, relative_error
from tests.training.benchmarks.fake_worker import STEPS


# The other networks are STM without one or both branches.
@pytest.mark.parametrize("network", ["STM", "TSM"])
def test_plain_pytorch_computes_the_same_network(network):
    model = KerasSteps(**STEPS).build(network, frames=4)
    rng = np.random.default_rng(0)
    for variable in model.weights:
        std = 0.2 if len(variable.shape) == 1 else np.sqrt(2 / np.prod(variable.shape[:-1]))
        values = rng.normal(scale=std, size=variable.shape)
        variable.assign(np.abs(1 + values) if variable.path.endswith(("gamma", "variance")) else values)
    # Softmax would hide most differences.
    logits = keras.Model(model.input, model.get_layer("consensus").output)

    plain = torch_networks.Network(network, STEPS["depths"], STEPS["width"])
    torch_networks.load(plain, model)
    clips = rng.normal(size=(2, 4, 32, 32, 3)).astype("float32")
    with torch.inference_mode():
        scores = plain.eval()(torch.from_numpy(clips)).numpy()
    assert relative_error(scores, compute(logits, clips)) < 1e-4


def test_plain_pytorch_has_the_branches_of_each_network():
    branches = {}
    for name in NETWORKS:
        state = torch_networks.Network(name, STEPS["depths"], STEPS["width"]).state_dict()
        branches[name] = [
            branch
            for branch, part in (("cstm", "shift"), ("cmm", "mb.shift"))
            if f"layer4.0.{part}.weight" in state
        ]
    assert branches == {
        **{"TSN": [], "TSM": [], "CSTM": ["cstm"], "CMM": ["cmm"]},
        "STM": ["cstm", "cmm"],
    }
