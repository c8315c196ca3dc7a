"""Write the API pages, made from the docstrings by pdoc: python -W error .ci/docs.py [FOLDER, by default site]."""

import importlib
import os
import pkgutil
import sys
from pathlib import Path

import pdoc

import kd_jax


def modules_of(package):
    """Names of the modules of a package; pdoc finds by itself those of a package without `__all__`."""
    for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if found.name.rpartition(".")[2].startswith("_"):
            continue
        yield found.name
        module = importlib.import_module(found.name)
        if found.ispkg and hasattr(module, "__all__"):
            yield from modules_of(module)


for name in kd_jax.__all__:
    getattr(kd_jax, name)  # the public names are loaded when they are used; pdoc lists what is there
pdoc.render.configure(docformat="google", show_source=False, footer_text=f"kd_jax {kd_jax.__version__}")
folder = Path(sys.argv[1] if sys.argv[1:] else "site").absolute()
os.chdir(
    Path(kd_jax.__file__).parent
)  # pdoc takes a folder of the package's name in the current one for another package
pdoc.pdoc("kd_jax", *modules_of(kd_jax), output_directory=folder)
