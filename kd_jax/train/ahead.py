"""Compiling for accelerators that are not here: TPU topologies by libtpu, an H100 by the CUDA plugin, on a machine with neither.

A compiler's estimate is not a measurement. Peaks are what the makers publish, for a chip in dense bfloat16 (of an H100 with SXM:
float32 runs as TF32 at half of it). The clock of a TPU follows from its peak and the size of its matrix units.
"""

import os
import resource
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import jax
import numpy as np

from kd_jax.data import Dataset
from kd_jax.data.dataset import LANES as LANES
from kd_jax.errors import BadInput
from kd_jax.train import devices as parallel
from kd_jax.train import epoch, hlo
from kd_jax.train.engine import Engine

LIBTPU, PLUGIN = "libtpu", "jax-cuda12-plugin"
# Seconds between two kernels on a GPU. Measured on an H100 (26 November 2026, jax 0.11.2): 1.2 and 1.5 microseconds, steps of
# ResNet-56 -> 56 and ResNet-56 -> 20 at batch 1024.
LAUNCH = 1.3e-6


class Chip(NamedTuple):
    """An accelerator, as its maker publishes it.

    Attributes:
        name: what it is called.
        flops: dense operations per second in bfloat16.
        bandwidth: bytes per second to and from its memory.
        memory: bytes of memory that a program can have.
        clock: cycles per second of its matrix units, for the compiler's estimates; 0 where there are none.
        cores: the cores of a chip that work as one device.
        launch: seconds between two kernels, in which it does nothing; 0 where a step is one program.
    """

    name: str
    flops: float
    bandwidth: float
    memory: float
    clock: float = 0.0
    cores: int = 1
    launch: float = 0.0

    @property
    def platform(self) -> str:
        """The kind of device: `tpu` or `gpu`."""
        return "tpu" if self.clock else "gpu"


GIB = 2**30
# cloud.google.com/tpu/docs; the clocks are flops / (2 multiply-adds per cycle of all matrix units: 128 x 128, v6e 256 x 256).
CHIPS = {
    "v4": Chip("TPU v4", 275e12, 1228e9, 32 * GIB, 1.05e9, 2),
    "v5e": Chip("TPU v5e", 197e12, 819e9, 16 * GIB, 1.5e9),
    "v5p": Chip("TPU v5p", 459e12, 2765e9, 95 * GIB, 1.75e9, 2),
    "v6e": Chip("TPU v6e", 918e12, 1640e9, 32 * GIB, 1.75e9),
    # JAX takes three quarters of a GPU's memory unless XLA_PYTHON_CLIENT_MEM_FRACTION says otherwise.
    "h100": Chip("H100 (SXM)", 989e12, 3352e9, 0.75 * 84929347584, launch=LAUNCH),
}
SLICES = {  # names that clouds give to slices: of v4 and v5p they count cores, two to a chip
    **{
        f"v5e-{n}": f"v5e:{side}"
        for n, side in ((1, "1x1"), (4, "2x2"), (8, "2x4"), (16, "4x4"), (32, "4x8"), (64, "8x8"))
    },
    **{
        f"v6e-{n}": f"v6e:{side}"
        for n, side in ((1, "1x1"), (4, "2x2"), (8, "2x4"), (16, "4x4"), (32, "4x8"), (64, "8x8"))
    },
    **{
        f"v4-{n}": f"v4:{side}"
        for n, side in ((8, "2x2x1"), (16, "2x2x2"), (32, "2x2x4"), (64, "2x4x4"), (128, "4x4x4"))
    },
    **{f"v5p-{n}": f"v5p:{side}" for n, side in ((8, "2x2x1"), (16, "2x2x2"), (32, "2x2x4"), (64, "2x4x4"))},
}
EXPECTED = "h100, h100:8, v5e:1x1, v5e:2x4, v4:2x2x1, v5p:2x2x1, v6e:2x4, or a slice such as v5e-8 or v4-32"
H100 = """gpu_device_info { threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
  shared_memory_per_core: 233472 threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128 block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535 block_dim_limit_z: 65535 memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98
  device_memory_size: 84929347584 shared_memory_per_block_optin: 232448 cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536 registers_per_block_limit: 65536 }
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
runtime_version { major: 12 minor: 9 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


class Topology(NamedTuple):
    """Accelerators that are not here.

    Attributes:
        name: as it was asked for.
        chip: the kind of each.
        devices: what JAX calls them, for `pmap`.
        hosts: the number of machines that they belong to.
        compiler: the package of their compiler, with its version.
    """

    name: str
    chip: Chip
    devices: list[Any]
    hosts: int
    compiler: str


class Compiled(NamedTuple):
    """What a compiler says of a program for one device. A step is one training step, or one batch of evaluation.

    Attributes:
        fits: whether it fits into the memory of the device.
        peak_bytes: the largest memory that it holds, its arguments included.
        argument_bytes: what its arguments take there.
        flops: operations of a step, as XLA counts them; None where it does not.
        traffic_bytes: what a step moves to and from the device's memory.
        cycles: of a step, by a TPU compiler's own estimate; None for others.
        call_cycles: what every call takes besides, which may be many steps.
        kernels: the instructions of a step that a GPU launches one by one.
        all_reduces: those of a step.
        all_reduce_bytes: what they add up over the devices.
        seconds: what compiling took here.
        cpu_seconds: the same in CPU time.
        problem: why there is no program; empty where there is one.
    """

    fits: bool
    peak_bytes: int = 0
    argument_bytes: int = 0
    flops: float | None = None
    traffic_bytes: int = 0
    cycles: int | None = None
    call_cycles: int = 0
    kernels: int = 0
    all_reduces: int = 0
    all_reduce_bytes: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    problem: str = ""

    def limits(self, chip: Chip, precision: str, steps: int = 1) -> dict[str, float]:
        """Return {what limits: seconds of a step by it alone}.

        The keys are `FLOPs`, `memory`, and `cycles` by the compiler's estimate, or `launches` on a GPU.

        Args:
            chip: the accelerator.
            precision: the arithmetic, `Networks.precision`.
            steps: the steps of a call.
        """
        peak = chip.flops if precision == "bfloat16" or chip.clock else chip.flops / 2  # TF32
        found = {"FLOPs": (self.flops or 0.0) / peak, "memory": self.traffic_bytes / chip.bandwidth}
        if self.cycles is not None and chip.clock:
            found["cycles"] = (self.cycles + self.call_cycles / steps) / chip.clock
        if chip.launch:
            found["launches"] = self.kernels * chip.launch
        return found


def topology(name: str) -> Topology:
    """Return accelerators by name, as the compilers know them. To be called before JAX is used for anything else.

    Args:
        name: a chip of `CHIPS` with the sides of its slice, such as `v5e:2x4`, with a number of GPUs of one machine, such as
            `h100:8`, or a key of `SLICES`.

    Raises:
        BadInput: for a name that is not known, or where the compiler is missing or busy.
    """
    full = SLICES.get(name, name)
    kind, _, sides = full.partition(":")
    wrong = f"--topology={name}: expected {EXPECTED}"
    if kind not in CHIPS:
        raise BadInput(f"{wrong}; pass one of them")
    if kind == "h100":
        if sides and not (sides.isdecimal() and 1 <= int(sides) <= 8):
            raise BadInput(f"{wrong}; a machine has 1 to 8 of them")
        devices = _gpus(name, int(sides or 1))
    else:
        devices = _tpus(name, kind, sides or ("1x1" if CHIPS[kind].cores == 1 else "2x2x1"), wrong)
    package = PLUGIN if kind == "h100" else LIBTPU
    hosts = len({device.process_index for device in devices})
    return Topology(name, CHIPS[kind], devices, hosts, f"{package} {version(package)}")


def _tpus(name: str, kind: str, sides: str, wrong: str) -> list[Any]:
    _need(LIBTPU, name)
    # Without these libtpu asks a cloud's metadata server, which is not there, and waits for its answer.
    for variable, value in {
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_ACCELERATOR_TYPE": "v5litepod-1",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_MIN_LOG_LEVEL": "3",
    }.items():
        os.environ.setdefault(variable, value)
    more = {"chip_config_name": "megacore"} if kind == "v4" else {}  # as JAX finds them on a machine that has them
    return _devices("tpu", wrong, topology_name=f"{kind}:{sides}", **more)


def _gpus(name: str, count: int) -> list[Any]:
    _need(PLUGIN, name)
    # There is no device on which to try kernels.
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_autotune_level=0".strip()
    return _devices("cuda", f"--topology={name}: the CUDA plugin", target_config=H100, topology=f"1x1x{count}")


def _need(package: str, name: str) -> None:
    try:
        version(package)
    except PackageNotFoundError:
        extra = "plan" if package == LIBTPU else "plan-gpu"
        raise BadInput(
            f"--topology={name}: expected the compiler in the package {package}; pip install 'kd_jax[{extra}]'"
        ) from None


def _devices(platform: str, wrong: str, **settings: Any) -> list[Any]:
    from jax.experimental import topologies

    try:
        return list(topologies.get_topology_desc(platform=platform, **settings).devices)
    except Exception as error:  # of a type that is not public
        said = " ".join(str(error).split())
        if "lockfile" in said:
            raise BadInput(
                "--topology: expected the TPU compiler to be free, another program on this machine uses it; one at a time can:"
                " wait until it has ended"
            ) from None
        if "INVALID_ARGUMENT" in said or "NOT_FOUND" in said:
            raise BadInput(f"{wrong}; the compiler says: {said[:160]}") from None
        raise


def lower_step(engine: Engine, teacher: Any, batch_size: int, devices: Sequence[Any]) -> Any:
    """Return a training step of an engine, lowered for its devices: the very function that training calls.

    Args:
        engine: an `Engine` that was built for the devices of a `Topology`.
        teacher: the shapes of what the teacher of a run reads, such as its variables; None for a run on one-hot labels.
        batch_size: the examples of a run's step, over all devices.
        devices: those of the topology.
    """
    dataset, count = engine.dataset, len(devices)
    key = jax.eval_shape(lambda: jax.random.key(0))
    of_runs = engine.shapes_of((key, teacher))
    constants = epoch.Constants(_shapes(dataset.resident(dataset.train)), *of_runs)
    totals = engine.shapes_of(jax.eval_shape(lambda: epoch.zero_totals(_dtype(engine))))
    state = _shapes(engine.shapes)
    share = batch_size // count
    if engine.on_device_loop:
        steps = len(dataset.train.y) // batch_size
        lanes = [engine.lanes] if engine.lanes else []
        rows = jax.ShapeDtypeStruct((count, steps, share, *lanes), np.int32)
        at = jax.ShapeDtypeStruct((), np.int32)
        return engine.advance.program.lower(state, totals, constants, rows, at, at)
    item = _item(dataset, (count, share))
    return engine.advance.program.lower(state, totals, constants, item)


def lower_evaluation(engine: Engine, devices: Sequence[Any]) -> tuple[Any, int]:
    """Return (the evaluation of a batch, lowered for the devices of an engine; the number of examples in it)."""
    dataset, count = engine.dataset, len(devices)
    size = parallel.evaluation_batch(devices, dataset.evaluation_size)
    share = (count, size // count)
    weights = jax.ShapeDtypeStruct(share, np.float32)
    variables, resident = _shapes(engine.shapes.variables), _shapes(dataset.resident(dataset.test))
    return engine.evaluate.program.lower(variables, resident, _item(dataset, share), weights), size


def _item(dataset: Dataset, share: tuple[int, int]) -> Any:
    """The shapes of what a step is given: row numbers, and where nothing lies on the devices examples and labels too."""
    rows = jax.ShapeDtypeStruct(share, np.int32)
    if dataset.is_resident:
        return rows
    return rows, jax.ShapeDtypeStruct((*share, *dataset.train.x.shape[1:]), dataset.train.x.dtype), rows


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


def _dtype(engine: Engine) -> Any:
    return jax.tree.leaves(engine.shapes.params)[0].dtype


def compile_lowered(lowered: Any) -> tuple[Compiled, str]:
    """Return what the compiler says of a lowered program, and the text of the optimised one, empty where it does not fit.

    Args:
        lowered: what `lower_step` or `lower_evaluation` returned.
    """
    began, used = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_utime
    try:
        program = lowered.compile()
    except Exception as error:
        said = " ".join(str(error).split())
        if "RESOURCE_EXHAUSTED" not in said:
            raise
        return Compiled(False, seconds=time.monotonic() - began, problem=said[:400]), ""
    seconds = time.monotonic() - began
    text = program.as_text() or ""
    read, memory = hlo.parse(text), program.memory_analysis()
    reduced = read.all_reduces()
    return (
        Compiled(
            fits=True,
            peak_bytes=_peak(memory),
            argument_bytes=memory.argument_size_in_bytes,
            flops=flops(lowered) or flops(program),
            traffic_bytes=read.traffic(),
            cycles=read.cycles(),
            call_cycles=read.cycles_of_a_call(),
            kernels=read.kernels(),
            all_reduces=len(reduced),
            all_reduce_bytes=sum(size for _, size in reduced),
            seconds=seconds,
            cpu_seconds=resource.getrusage(resource.RUSAGE_SELF).ru_utime - used,
        ),
        text,
    )


def flops(program: Any) -> float | None:
    """Return the operations of a lowered or compiled program, a loop's body counted once; None where XLA does not count them.

    A program compiled for a GPU calls cuDNN for its convolutions, and XLA does not count those: ask the lowered one.
    """
    try:
        found = program.cost_analysis()
    except Exception:  # some backends have none
        return None
    found = found[0] if isinstance(found, list) else found
    counted = (found or {}).get("flops", -1)
    return float(counted) if counted > 0 else None


def _peak(memory: Any) -> int:
    """The largest memory of a program; older versions of JAX do not say, and its parts are added up."""
    parts = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
    whole = parts - memory.alias_size_in_bytes
    return getattr(memory, "peak_memory_in_bytes", 0) or whole
