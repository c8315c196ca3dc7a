"""The product's own steps, compiled for accelerators that are not here; skipped where their compilers are not installed.

`pip install 'kd_jax[plan]'` brings that of TPUs, `'kd_jax[plan-gpu]'` that of an H100. One program at a time uses that of TPUs.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from kd_jax import models
from kd_jax.config import Data
from kd_jax.data import shapes
from kd_jax.errors import BadInput
from kd_jax.recipes import images
from kd_jax.train import ahead, engine, hlo

FREE = {*hlo.FREE, "optimization-barrier", "domain"}  # instructions that make no array
NETWORKS = {"mlp_256x256": (1024, (28, 28, 1)), "resnet8": (1024, (32, 32, 3))}
HAS_TPU_COMPILER = importlib.util.find_spec("libtpu") is not None
HAS_GPU_COMPILER = importlib.util.find_spec("jax_plugins") is not None and any(
    importlib.util.find_spec(f"jax_plugins.{name}") for name in ("xla_cuda12", "xla_cuda13")
)


def compiled(network, topology):
    """(the study's training set in bytes, bytes of its gradients, its distillation step as it was compiled)."""
    batch, example = NETWORKS[network]
    study = images.study("cifar_v1").replaced(
        teacher=network, student=(network,), batch_size=batch, precision="bfloat16"
    )
    data = shapes.stand_in("images", Data("made"), 50_000, 10_000, 10, example)
    there = ahead.topology(topology)
    built = engine.build("bfloat16", study.training, data, network, there.devices, engine.Teacher.of(study))
    teacher = models.build(network, 10, "bfloat16")
    variables = jax.eval_shape(teacher.init, jax.random.key(0), data.example())
    found, text = ahead.compile_lowered(ahead.lower_step(built, variables, batch, there.devices))
    gradients = sum(4 * leaf.size for leaf in jax.tree.leaves(built.shapes.params))
    return data.train.x.nbytes, gradients, len(there.devices), batch, found, text


def facts(network, topology):
    """What the tests look at, as JSON: the compilers are set up once per process, so each topology has its own."""
    size, gradients, count, batch, found, text = compiled(network, topology)
    read = hlo.parse(text)
    made = [line.operation for line in _all(read) if line.operation not in FREE and _largest(line) >= size / 2]
    return {
        "fits": found.fits,
        "doubles": text.count("f64["),
        "loops": [trips for _, trips in read.loops()],
        "share": batch // count,
        "of_the_size_of_the_data": made,
        "gradients": gradients,
        "all_reduces": [size for _, size in read.all_reduces()],
        "normalisations": network.startswith("resnet") and 7,  # of resnet8
        "cycles": found.cycles,
        "flops": found.flops,
        "count": count,
    }


def _all(read):
    return [line for lines in read.computations.values() for line in lines]


def _largest(line):
    return max((hlo._bytes(*array[:2]) for array in hlo.ARRAY.findall(line.type)), default=0)


def asked(network, topology):
    here = Path(__file__)
    code = (
        "import sys, json; sys.path.insert(0, sys.argv[1]); import test_ahead;"
        " print('FACTS', json.dumps(test_ahead.facts(*sys.argv[2:])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(here.parent), network, topology],
        capture_output=True,
        text=True,
        timeout=1200,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(here.parents[2])},
    )
    if "expected the TPU compiler to be free" in done.stderr:
        pytest.skip("another program uses the TPU compiler")
    lines = [line for line in done.stdout.splitlines() if line.startswith("FACTS ")]
    assert lines, done.stderr[-2000:]
    return json.loads(lines[0].removeprefix("FACTS "))


TOPOLOGIES = [
    pytest.param(name, marks=pytest.mark.skipif(not there, reason="its compiler is not installed"))
    for name, there in (
        ("v5e:1x1", HAS_TPU_COMPILER),
        ("v5e:4x4", HAS_TPU_COMPILER),
        ("h100", HAS_GPU_COMPILER),
        ("h100:8", HAS_GPU_COMPILER),
    )
]


@pytest.mark.long
@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("network", NETWORKS)
def test_a_step_on_an_accelerator_has_no_doubles_no_loop_over_images_no_copy_of_the_data_and_adds_gradients_once(
    network, topology
):
    found = asked(network, topology)
    assert found["fits"]
    assert found["doubles"] == 0
    assert found["share"] not in found["loops"]
    assert found["of_the_size_of_the_data"] == []
    if found["count"] == 1:
        assert found["all_reduces"] == []
    else:
        # Those of normalisation are a few hundred bytes each, one after the other: each waits for the layer before it.
        assert len([size for size in found["all_reduces"] if size >= 0.1 * found["gradients"]]) == 1
        # On GPUs the last few of them, of normalisations, may come with another.
        assert max(found["all_reduces"]) >= 0.95 * found["gradients"]
        # A layer waits for the means of the one before it: one forward, of value and square together, and one backward.
        assert len(found["all_reduces"]) <= 1 + 2 * found["normalisations"] + 2


@pytest.mark.parametrize(
    ("name", "said"),
    [("v7:1x1", "v7:1x1: expected h100"), ("h100:9", "1 to 8"), ("h100:x", "1 to 8"), ("", "expected h100")],
)
def test_a_topology_that_there_is_not_is_refused_in_one_line(name, said):
    with pytest.raises(BadInput, match=said) as refused:
        ahead.topology(name)
    assert "\n" not in str(refused.value)


@pytest.mark.skipif(HAS_TPU_COMPILER, reason="its compiler is installed")
def test_a_missing_compiler_is_named_with_the_command_that_installs_it():
    with pytest.raises(BadInput, match=r"package libtpu; pip install 'kd_jax\[plan\]'"):
        ahead.topology("v5e-8")


def test_slices_have_as_many_chips_as_their_names_say():
    for name, of in ahead.SLICES.items():
        kind, count = name.split("-")
        sides = [int(side) for side in of.partition(":")[2].split("x")]
        chips = 1
        for side in sides:
            chips *= side
        assert chips * ahead.CHIPS[kind].cores == int(count)
