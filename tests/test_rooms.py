"""Imports point one way; see BUILD.md."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "kd_jax"
FILES = sorted(PACKAGE.rglob("*.py"))
# room -> other rooms of this package that it may import
HALL = {"__version__", "config", "errors", "files", "provenance", "stopping"}  # open to all
MAY_IMPORT = {
    "config": set(),
    "errors": set(),
    "files": set(),
    "provenance": set(),
    "stopping": set(),
    "plan": set(),
    "losses": set(),
    "recipes": set(),
    "data": set(),
    "models": set(),
    "analysis": {"plan"},
    "train": {"data", "losses", "models", "plan"},
    "workdir": set(),
    "extract": {"analysis", "data", "models", "plan", "train", "workdir"},
    "report": {"analysis", "plan", "recipes", "workdir"},
    "export": {"models"},
    "studies": {"analysis", "data", "export", "extract", "models", "plan", "recipes", "report", "train", "workdir"},
    "theory": {"analysis", "data", "plan", "report", "workdir"},
    "cli": {"analysis", "data", "plan", "recipes", "report", "studies", "theory", "train", "workdir"},
    "__main__": {"cli"},
}


def room(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    """Full names of the modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        yield from imports_of(node)


def imports_of(node):
    if isinstance(node, ast.Import):
        yield from (name.name for name in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield from (f"{node.module}.{name.name}" for name in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_the_rooms_below_it(path):
    if path == PACKAGE / "__init__.py":
        return
    used = {name.split(".")[1] for name in imports(path) if name.startswith("kd_jax.")}
    assert used <= MAY_IMPORT[room(path)] | HALL | {room(path)}


def test_libraries_with_one_room_or_module_are_imported_there_alone():
    for path in FILES:
        tops = {name.split(".")[0] for name in imports(path)}
        assert "flax" not in tops or room(path) == "models"
        assert "orbax" not in tops or path.name == "checkpoints.py"
        assert "tyro" not in tops or room(path) == "cli"
        assert "grain" not in tops or path.name == "loader.py"
        assert "fsspec" not in tops or path.name == "mirror.py"
        if "jax.pmap" in path.read_text(encoding="utf-8"):
            assert path.name == "devices.py"


def test_analysis_needs_arrays_only():
    for path in (PACKAGE / "analysis").glob("*.py"):
        assert not {name.split(".")[0] for name in imports(path)} & {"jax", "flax", "optax", "orbax", "matplotlib"}


def test_what_a_process_that_only_decodes_imports_is_light():
    """It starts anew for every run and every evaluation; Grain itself imports JAX, but no network is needed."""
    for path in (PACKAGE / "data").glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        top = {name for node in tree.body for name in (imports_of(node) if path.name != "augment.py" else ())}
        assert not {name.split(".")[0] for name in top} & {
            "jax",
            "flax",
            "optax",
            "sklearn",
            "scipy",
            "tensorflow_datasets",
        }


def test_what_trains_needs_nothing_that_analyses_or_draws():
    """A job that trains one run, or lists what there is to do, never loads it; others when they come to it."""
    heavy = ("matplotlib", "sklearn", "pandas", "scipy.stats", "scipy.optimize", "scipy.special", "scipy.sparse")
    words = (
        "import sys; from kd_jax import Study, data; from kd_jax.cli import terminal;"
        " from kd_jax.studies import analyse, api, audit, batch, compare, cost, forecast, results, scoreboard, sweep, train;"
        " from kd_jax.studies import trackers;"
        " data.load(Study.from_flags(dataset='digits').data, '');"
        f" sys.exit([m for m in {heavy} if m in sys.modules] or 0)"
    )
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, cwd=PACKAGE.parent)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_a_command_line_needs_before_it_works_is_light():
    """`--help` and a mistyped flag must not wait for JAX."""
    heavy = ("jax", "flax", "optax", "orbax", "matplotlib", "tensorflow_datasets", "sklearn", "scipy", "numpy")
    words = f"import sys, kd_jax.cli, kd_jax.recipes.images; sys.exit([m for m in {heavy} if m in sys.modules] or 0)"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, cwd=PACKAGE.parent)
    assert (done.returncode, done.stderr) == (0, "")
