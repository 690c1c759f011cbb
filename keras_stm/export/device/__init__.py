"""What an export for devices has besides the model.

`classify.py` and the file of one runtime are copied into the folder. They need nothing of this package.
"""

import importlib.resources
import json
import os

SETTINGS = "settings.json"
# Folder of the exports within that of a run.
EXPORTS = "exports"
_CLASSIFY = "classify.py"
_RUNTIME = "runtime.py"


def write_files(folder, settings):
    """Adds the settings, `classify.py` and `runtime.py` to a folder that contains the model.

    Args:
        folder: path of the folder.
        settings: dictionary of the settings, which `classify.py` reads.
    """
    for source, name in ((_CLASSIFY, _CLASSIFY), (f"runtime_{settings['format']}.py", _RUNTIME)):
        content = (importlib.resources.files(__name__) / source).read_bytes()
        with open(os.path.join(folder, name), "wb") as file:
            file.write(content)
    with open(os.path.join(folder, SETTINGS), "w", encoding="utf-8") as file:
        json.dump(settings, file, indent=1, ensure_ascii=False)
        file.write("\n")
