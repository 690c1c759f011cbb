"""Several exports of a run: what is written, measured and refused."""

import json
import os
import shutil

import pytest

from keras_stm.arguments import ArgumentError
from keras_stm.train import evaluate, exports

pytest.importorskip("onnxruntime")
pytest.importorskip("tf2onnx")


@pytest.fixture
def run(trained_run, tmp_path):
    """A run on clips that are still there."""
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("model.keras", "config.json"):
        shutil.copy(trained_run / name, folder)
    return folder


def write(run, *formats, output=None, precisions=("float32",), **arguments):
    return exports.write_exports(str(run), output, formats, precisions, **arguments)


def test_each_export_is_measured_on_the_clips_of_the_run(run, capsys):
    kept, refused = write(run, "onnx", precisions=("float16", "int8"), calibration_clips=4)
    assert refused == []
    assert [(row.format, row.precision) for row in kept] == [("onnx", "float16"), ("onnx", "int8")]
    assert sorted(os.listdir(run / "exports")) == ["exports.json", "onnx-float16", "onnx-int8"]
    rows = json.loads((run / "exports" / "exports.json").read_text())
    half, _ = rows
    assert 0 < half["score_difference"] < 0.05 and half["agreement"] > 0.8
    model = (run / "exports" / "onnx-float16" / "model.onnx").stat().st_size
    assert model < half["bytes"] < model + 20_000
    for row in rows:
        assert evaluate.evaluate(row["path"])["results"]["ordered"]["top1"] == pytest.approx(row["top1"])
        assert row["top1"] + row["top1_drop"] == pytest.approx(half["top1"] + half["top1_drop"])
        assert row["ratio"] > 0 and row["clips_per_second"] > 0
    assert f"onnx    float16    {half['bytes'] / 2**20:.1f}" in capsys.readouterr().out

    # Rows of earlier exports stay, unless the export is gone.
    shutil.rmtree(run / "exports" / "onnx-int8")
    write(run, "onnx")
    rows = json.loads((run / "exports" / "exports.json").read_text())
    assert [row["precision"] for row in rows] == ["float16", "float32"]


def test_an_export_is_evaluated_like_a_run(run):
    ((row,), _) = write(run, "onnx")
    result = evaluate.evaluate(row.path, clips=2, crops=3)
    assert result["results"]["ordered"]["videos"] > 0
    assert result["settings"]["export"] == "onnx-float32"
    (name,) = os.listdir(run / "evaluation")
    assert name.endswith("2x3-onnx-float32")
    with pytest.raises(ArgumentError, match="Received: num_frames=5"):
        evaluate.evaluate(row.path, num_frames=5)


def test_what_loses_too_much_is_not_written(run, monkeypatch):
    def compare(scores, expected, labels):
        return {"top1": 0.5, "top1_drop": 0.02}

    monkeypatch.setattr(exports, "_compare", compare)
    kept, refused = write(run, "onnx", max_drop=1.9)
    assert kept == [] and [row.precision for row in refused] == ["float32"]
    assert os.listdir(run / "exports") == ["exports.json"]
    kept, _ = write(run, "onnx", max_drop=2.1)
    assert [os.path.basename(row.path) for row in kept] == ["onnx-float32"]


def test_without_data_there_is_no_accuracy_and_no_int8(run, capsys):
    os.remove(run / "config.json")
    (row,), _ = write(run, "onnx")
    assert row.top1 is None and row.score_difference is None and row.clips_per_second > 0
    assert "no accuracy, because the model is not in the folder of its run" in capsys.readouterr().out
    for arguments in ({"precisions": ("int8",)}, {"max_drop": 1.0}):
        with pytest.raises(ArgumentError, match="needs clips, but the model is not in the folder of its run"):
            write(run, "onnx", output=str(run / "other"), **arguments)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"formats": ("saved_model",), "precisions": ("int8",)}, "is for onnx, openvino, litert. Received"),
        ({"formats": ("onnx", "web")}, "must be made with causal=True"),
        ({"data_dir": "nowhere"}, "nowhere"),
    ],
)
def test_a_wrong_request_writes_nothing(run, arguments, message):
    with pytest.raises(ValueError, match=message):
        exports.write_exports(str(run), **arguments)
    assert not (run / "exports").exists()


def test_existing_exports_are_kept(run):
    (run / "exports" / "onnx-float32").mkdir(parents=True)
    with pytest.raises(ArgumentError, match="must not exist. Remove it"):
        write(run, "onnx")
