"""Files of the web page that recognises what a camera or a video file shows."""

import base64
import hashlib
import importlib.resources
import json
import os
import shutil

from keras_stm.arguments import ArgumentError, absolute_path

# Names that the page's script knows as well.
MODEL = "model.onnx"
_SETTINGS = "settings.json"
_RUNTIME = "runtime"
_PAGE = ("index.html", "page.js")
# The parts of ONNX Runtime Web that compute on the processor: its functions, and its machine code.
_SCRIPT = "ort.wasm.bundle.min.mjs"
_BINARY = "ort-wasm-simd-threaded.wasm"
CDN = "https://cdn.jsdelivr.net/npm/onnxruntime-web@1.30.0/dist/"
# Hashes of the files of this version: the browser refuses others.
CDN_HASHES = {
    _SCRIPT: "sha384-PLWz+nHEVHpjwBsO0YVdvQj6n5814Iv8E3b8FG0Rp/uIAtjFMCKOpP66iPzedrIG",
    _BINARY: "sha384-vjBJ1z7qrhkTyYsNqKeF6c7N+nOJSU94czEo+tvZcu8G75JparGq9kB+kTnEUNVM",
}


def runtime_files(folder):
    """Returns the paths of the parts of ONNX Runtime Web, or `None` for a `folder` of `None`.

    Raises:
        ValueError: `folder` is not `node_modules/onnxruntime-web` of `npm install onnxruntime-web`.
    """
    if folder is None:
        return None
    folder = absolute_path("runtime", folder)
    files = [os.path.join(folder, "dist", name) for name in CDN_HASHES]
    for file in files:
        if not os.path.isfile(file):
            raise ArgumentError(
                "runtime",
                folder,
                "must be the folder node_modules/onnxruntime-web of `npm install onnxruntime-web`, which "
                f"contains dist/{os.path.basename(file)}",
            )
    return files


def write_page(folder, class_names, rate, runtime):
    """Adds the page and its settings to a folder that contains the model.

    Args:
        folder: path of the folder.
        class_names: one name per class, in the order of the scores.
        rate: number of frames that the page takes from a second of video.
        runtime: paths from `runtime_files`, which are copied; `None` for a public server.
    """
    for name in _PAGE:
        source = importlib.resources.files("keras_stm.export") / "page" / name
        with open(os.path.join(folder, name), "wb") as file:
            file.write(source.read_bytes())
    if runtime is None:
        base, hashes = CDN, CDN_HASHES
    else:
        base, hashes = f"{_RUNTIME}/", {os.path.basename(file): _hash(file) for file in runtime}
        os.mkdir(os.path.join(folder, _RUNTIME))
        for file in runtime:
            shutil.copy(file, os.path.join(folder, _RUNTIME))
    settings = {
        "class_names": list(class_names),
        "rate": rate,
        "runtime": {
            name: {"url": base + file, "integrity": hashes[file]}
            for name, file in (("script", _SCRIPT), ("binary", _BINARY))
        },
    }
    with open(os.path.join(folder, _SETTINGS), "w", encoding="utf-8") as file:
        json.dump(settings, file, indent=1, ensure_ascii=False)
        file.write("\n")


def _hash(path):
    """Returns the hash of a file in the form of the `integrity` attribute of HTML."""
    with open(path, "rb") as file:
        return "sha384-" + base64.b64encode(hashlib.file_digest(file, "sha384").digest()).decode()
