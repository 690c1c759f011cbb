"""A worker of the benchmark without a process."""

STEPS = {
    "depths": [1, 1, 1, 1],
    "width": 16,
    "image_size": 32,
    "mixed_precision": "none",
    "jit_compile": None,
    "least_seconds": 0,
}


class FakeWorker:
    """Answers at once with fixed seconds for each network, and records all calls."""

    asked = []
    seconds = {"TSN": 1.0, "STM": 1.25}
    mib = {"TSN": 64.0, "STM": 80.0}
    # `{(method, key): error to raise}`
    failing = {}
    # A test's hook, called with the name of every method.
    on_call = staticmethod(lambda method: None)

    def __init__(self, name, options):
        self.name = name
        self.options = options
        self.process = "running"

    def call(self, method, key=None, network=None, **arguments):
        self.asked.append((method, self.name, key, self))
        self.on_call(method)
        if (method, key) in self.failing:
            raise self.failing[method, key]
        answers = {"count": {"macs": 10**9, "parameters": 10**6}, "is_on_gpu": False}
        if method == "time":
            return self.seconds[key.split()[1]]
        if method == "memory":
            return self.mib[network]
        return answers.get(method)

    def stop(self):
        self.process = None
