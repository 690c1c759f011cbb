"""Makes the pictures of README.md and docs/ again, from the embedded data set.

python docs/make_pictures.py                  # after `python training/fit.py`
python docs/make_pictures.py FOLDER_OF_A_RUN
"""

import configparser
import io
import os
import pathlib
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"
# GitHub and a slow connection show pictures of this size at once.
MAX_BYTES = 300_000
# Of 24: the same six when they are counted from the end.
_FRAMES = (1, 5, 9, 14, 18, 22)
_SEED = 15
_CLIP = os.path.join("val", "move_right", "00003.mp4")

_BADGE = """<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20" role="img">
<title>{label}: {text}</title>
<rect width="{width}" height="20" rx="3" fill="#555"/>
<rect x="{middle}" width="{right}" height="20" rx="3" fill="#1f6feb"/>
<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle">
<text x="{label_x}" y="14">{label}</text>
<text x="{text_x}" y="14">{text}</text>
</g>
</svg>
"""


def make_badges():
    """Returns `{file name: SVG text}` with the licence and the versions of `setup.cfg`."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    requirements = config["options"]["install_requires"].split()
    (keras,) = (line.removeprefix("keras") for line in requirements if line.startswith("keras"))
    texts = {
        "licence": config["metadata"]["license"],
        "python": config["options"]["python_requires"],
        "keras": keras,
    }
    return {f"badge-{name}.svg": _badge(name, text) for name, text in texts.items()}


def _badge(label, text):
    middle, right = (10 + 7 * len(part) for part in (label, text))
    return _BADGE.format(
        label=label,
        text=text.replace("<", "&lt;").replace(">", "&gt;"),
        middle=middle,
        right=right,
        width=middle + right,
        label_x=middle / 2,
        text_x=middle + right / 2,
    )


def draw_pairs(file):
    """Draws the frames of one clip of each class, both classes of a pair one above the other."""
    from keras_stm.data import arrow_of_time
    from keras_stm.plots.figures import new_figure, save_figure

    figure = new_figure(8.5, 3.7, layout="constrained")
    pairs = sorted({tuple(sorted(pair)) for pair in arrow_of_time.REVERSED.items()})
    for part, pair in zip(figure.subfigures(2, 2, hspace=0.02, wspace=0.03).flat, pairs, strict=True):
        axes = part.subplots(2, 6)
        for row, class_name in zip(axes, pair, strict=True):
            frames = arrow_of_time.make_clip(class_name, seed=_SEED).frames[list(_FRAMES)]
            for axis, frame in zip(row, frames, strict=True):
                axis.imshow(frame)
                axis.set(xticks=[], yticks=[])
            row[0].set_title(class_name, loc="left", fontsize=9)
    save_figure(figure, file)


def save_small(content, name):
    """Writes a PNG as small as possible without loss, and stops if it is too large."""
    from PIL import Image

    file = PICTURES / name
    Image.open(io.BytesIO(content)).convert("RGB").save(file, optimize=True)
    size = file.stat().st_size
    if size > MAX_BYTES:
        sys.exit(f"{file} has {size} bytes, more than {MAX_BYTES}")
    print(f"{file.relative_to(ROOT)}: {size / 1000:.0f} kB")


def main(run):
    """Makes all pictures.

    Args:
        run: folder of a run on the embedded data set.
    """
    from keras_stm.drawing import draw
    from keras_stm.train.data import open_splits
    from keras_stm.train.evaluate import evaluate
    from keras_stm.train.presets import PRESETS

    for name, text in make_badges().items():
        (PICTURES / name).write_text(text)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (validation,) = open_splits(PRESETS["small"], ["validation"])
        (clip,) = (path for path, _ in validation.records if path.endswith(_CLIP))
        features, grad_cam = draw(clip, run, folder / "drawn")
        evaluate(run, str(folder / "evaluated"))
        draw_pairs(folder / "pairs.png")
        files = {
            "features.png": features,
            "grad_cam.png": grad_cam,
            "confusion.png": folder / "evaluated" / "confusion.png",
            "curves.png": pathlib.Path(run) / "curves.png",
            "pairs.png": folder / "pairs.png",
        }
        for name, file in files.items():
            save_small(pathlib.Path(file).read_bytes(), name)


if __name__ == "__main__":
    main(*sys.argv[1:2] or [str(ROOT / "saved_models" / "small-stm_small")])
