"""With this folder in PYTHONPATH, `tasks.gpu.sing` answers at once: for figures of all that is not model work."""

import importlib.abc
import importlib.util
import sys
from pathlib import Path


class Stub(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != "tasks.gpu":
            return None
        return importlib.util.spec_from_file_location(name, Path(__file__).with_name("gpu.py"))


sys.meta_path.insert(0, Stub())
