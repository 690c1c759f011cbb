"""Steps of the libraries that keras_stm is compared with: plain PyTorch, and runtimes of exported models."""

import numpy as np

from benchmarks.steps import Steps


class OtherSteps(Steps):
    """Steps of the kinds `torch_eager`, `torch_compile`, `torch_bfloat16`, `openvino` and `onnxruntime`."""

    def make_step(self, task, kind, network, frames, batch, path):
        """See `Steps.make_step`."""
        clips, labels = self.make_batch(frames, batch)
        if kind == "openvino":
            return load_openvino(path, clips)
        if kind == "onnxruntime":
            return load_onnx(path, clips)
        return self.make_torch(task, kind, network, clips, labels)

    def make_torch(self, task, kind, network, clips, labels):
        """Returns a step of a network in plain PyTorch, like `make_step`."""
        import torch

        from benchmarks.torch_networks import Network

        self.on_gpu = torch.cuda.is_available()
        device = torch.device("cuda" if self.on_gpu else "cpu")
        net = Network(network, self.options.depths, self.options.width).to(device)
        net.train(task == "training")
        dtype = torch.bfloat16 if kind == "torch_bfloat16" else torch.float32
        # For inference, a network of this type is faster than autocast, which casts the weights in each step.
        net = net.to(dtype)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.0, momentum=0.9)
        if kind == "torch_compile":
            net = torch.compile(net, dynamic=False)

        def compute():
            mixed = self.options.mixed_precision == "bfloat16"
            with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
                return net(torch.from_numpy(clips).to(device, dtype)).float()

        def infer():
            with torch.inference_mode():
                return compute().softmax(-1).cpu().numpy()

        def train():
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(compute(), torch.from_numpy(labels).to(device))
            loss.backward()
            optimizer.step()
            return loss.item()

        return train if task == "training" else infer

    def clear(self):
        """See `Steps.clear`."""
        # Without its kinds PyTorch is not loaded, and may not be installed.
        if any(key.startswith("torch_compile") for key in self.steps):
            import torch

            torch.compiler.reset()
        super().clear()


def load_openvino(path, clips):
    """Returns an inference step of the exported model in OpenVINO."""
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    model.reshape({"clip": clips.shape})
    # On some CPUs OpenVINO computes in bfloat16 by default.
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda: compiled({"clip": clips})["scores"]


def load_onnx(path, clips):
    """Returns an inference step of the exported model in ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=onnxruntime.get_available_providers())
    # The ONNX model preprocesses frames itself, and therefore accepts uint8.
    frames = np.random.default_rng(0).integers(0, 256, clips.shape, "uint8")
    return lambda: session.run(["scores"], {"clip": frames})[0]
