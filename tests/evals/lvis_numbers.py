"""Prints the LVIS API's numbers for the toy set, which test_instances.py holds. Needs `lvis`, which nothing else does.

python -m venv /tmp/lvis && /tmp/lvis/bin/pip install numpy pillow pycocotools
/tmp/lvis/bin/pip install --no-deps lvis==0.5.3
/tmp/lvis/bin/python -m tests.evals.lvis_numbers
"""

import importlib
import json
import sys
import tempfile
import types
from pathlib import Path

import numpy as np

from tests.evals.toy_coco import Toy, results

for name in ("cv2", "matplotlib", "matplotlib.pyplot", "matplotlib.patches", "matplotlib.lines", "matplotlib.path"):
    sys.modules[name] = types.ModuleType(name)  # drawing, which is not used
for module, name, value in (
    (sys.modules["matplotlib.patches"], "Polygon", None),
    (sys.modules["matplotlib.lines"], "Line2D", None),
    (np, "float", float),  # removed in numpy 1.24, which lvis 0.5.3 does not know
):
    setattr(module, name, value)

if __name__ == "__main__":
    lvis, toy = importlib.import_module("lvis"), Toy()
    with tempfile.TemporaryDirectory() as folder:
        truth = Path(folder, "truth.json")
        truth.write_text(json.dumps(toy.lvis()))
        evaluation = lvis.LVISEval(lvis.LVIS(str(truth)), lvis.LVISResults(str(truth), results(toy)), "segm")
        evaluation.run()
    print({k: float(v) for k, v in evaluation.get_results().items() if k.startswith("AP")})
