"""Uploads a run to the Hugging Face Hub, with a model card.

  keras-stm push saved_models/RUN user/name
  keras-stm push saved_models/RUN user/name --license=apache-2.0

Evaluate the run first: its card then shows the accuracies, which `keras-stm evaluate` writes into the run's
folder. Everyone loads the model by hf://user/name. Log in before with `hf auth login`, or set HF_TOKEN.
"""

from absl import flags

from keras_stm.commands.main import run
from keras_stm.progress import tell

# See `keras_stm.commands`.
LOADS = ("keras_stm.train.pushing",)
_STOPPED = "stopped. The model on the Hub may be incomplete."


def define_flags(values):
    """Defines the flags of the command."""
    flags.DEFINE_string(
        "license",
        None,
        "Licence of the model, by the Hub's identifier, such as apache-2.0. Default: none is stated.",
        flag_values=values,
    )


def main(argv):
    """Runs the command; returns its exit status."""
    return run(argv, define_flags, _push, __doc__, takes_paths=True, stopped=_STOPPED)


def _push(values, paths):
    from keras_stm.train.pushing import push

    if len(paths) != 2:
        raise ValueError("pass the folder of a run and the name of the model: keras-stm push RUN user/name")
    tell(f"{push(*paths, licence=values.license)}: load it by hf://{paths[1]}")
