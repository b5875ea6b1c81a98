"""Shards in, probabilities out. Knows no competition and never imports dataset_tools."""

import importlib.util
import os
import sys
import warnings

from pipeline import quiet_import

__version__ = "0.1.0.dev0"

# A user's mistake must end in one line of ours, so TensorFlow's C++ log is off unless asked for
# (TF_CPP_MIN_LOG_LEVEL=0 brings it back); it has to be set before tensorflow is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
quiet_import.install()
# The networks are Keras 2's. TensorFlow 2.16 and later bring Keras 3; tf-keras is Keras 2 for them, and what tf.keras
# shall be is settled when tensorflow is first imported.
if "tensorflow" not in sys.modules and importlib.util.find_spec("tf_keras"):
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
# tensorflow-addons announces its end of life at import; requirements.txt already says why it is here.
warnings.filterwarnings("ignore", message="(?s).*TensorFlow Addons.*", category=UserWarning)
# What NumPy says of the header of a .npy that is old, or damaged: what is wrong with it is told in our one line.
warnings.filterwarnings("ignore", message="Reading `.npy` or `.npz` file required additional header parsing", category=UserWarning)
