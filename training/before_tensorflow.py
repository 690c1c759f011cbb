"""What TensorFlow reads from the environment when it is loaded. Every command imports this module first."""

import os

# Fewer lines about the processor.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# On processors without VNNI, as AMD's before Zen 4, TensorFlow leaves oneDNN out unless told, with which
# these networks train 1.5 times as fast.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
