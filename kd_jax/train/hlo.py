"""What a compiled program does in one step, read from its text: cycles, memory traffic, collectives, loops, kernels.

XLA prints an optimised program as computations, each a list of instructions. One training step is the body of the largest loop
where many steps run as one loop on the device, else the entry computation. TPU compilers write their own estimate of cycles beside
each instruction; no other compiler does.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

BYTES = {
    **{"f64": 8, "s64": 8, "u64": 8, "c64": 8, "f32": 4, "s32": 4, "u32": 4, "bf16": 2, "f16": 2, "s16": 2, "u16": 2},
    **{"s8": 1, "u8": 1, "pred": 1},
}
# `bf16[128,32,32,16]{0,3,2,1:T(8,128)(2,1)S(1)}`: dtype, sides, order and tiles; S(1) is memory on the chip.
ARRAY = re.compile(rf"\b({'|'.join(BYTES)})\[([\d,]*)\](?:\{{([\d,]*)(?::([^}}]*))?\}})?")
INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)$")
TILE = re.compile(r"T\((\d+),(\d+)\)")
CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
TRIPS = re.compile(r'known_trip_count":\{"n":"(\d+)"')
CALLED = re.compile(
    r"(?:body|to_apply|calls|branch_computations|true_computation|false_computation)=\{?%?([\w.\-, %]+)"
)
# Instructions that move nothing by themselves; `-done` ends what its `-start` counted.
FREE = {
    *("parameter", "get-tuple-element", "tuple", "bitcast", "constant", "after-all", "while", "conditional", "call"),
    *("copy-done", "slice-done", "all-reduce-done", "async-done", "partition-id", "replica-id"),
}
COPIES = ("copy-start", "slice-start")
PICKS = ("gather", "dynamic-slice")  # they read no more than they return
LAUNCHED = ("fusion", "custom-call", "copy", "sort", "scatter", "convolution", "dot", "all-reduce-start", "all-reduce")


class Instruction(NamedTuple):
    """One instruction of a computation.

    Attributes:
        name: its name.
        type: the type of its result, as it is printed.
        operation: what it does, such as `fusion`.
        rest: its operands and attributes, as they are printed.
    """

    name: str
    type: str
    operation: str
    rest: str

    @property
    def operands(self) -> list[str]:
        """The names of its operands."""
        depth, end = 1, len(self.rest)
        for place, sign in enumerate(self.rest):
            depth += (sign in "({") - (sign in ")}")
            if depth == 0:
                end = place
                break
        return re.findall(r"%([\w.\-]+)", self.rest[:end])

    @property
    def called(self) -> list[str]:
        """The names of the computations that it runs."""
        return [
            name.strip("% ") for found in CALLED.findall(self.rest) for name in found.split(",") if name.strip("% ")
        ]


class Program(NamedTuple):
    """A compiled program.

    Attributes:
        computations: {name: its instructions}.
        entry: the name of the one that is called.
    """

    computations: Mapping[str, list[Instruction]]
    entry: str

    @property
    def step(self) -> str:
        """The name of the computation that is one training step: the largest body of a loop, or the entry where that is larger."""
        loops = (line for lines in self.computations.values() for line in lines if line.operation == "while")
        bodies = {name for line in loops for name in _bodies(line)}
        return max([self.entry, *sorted(bodies)], key=lambda name: len(self.computations.get(name, [])))

    def instructions(self, name: str = "") -> Iterator[tuple[Instruction, int]]:
        """Yield (instruction, how often it runs) of a computation, the step's by default, and of the loops and branches in it.

        Of the branches of a conditional the most expensive is taken; a loop whose length is not known counts once.
        """
        yield from self._run(name or self.step, 1)

    def _run(self, name: str, times: int) -> Iterator[tuple[Instruction, int]]:
        for line in self.computations.get(name, []):
            yield line, times
            if line.operation == "while":
                for body in _bodies(line):
                    yield from self._run(body, times * (self.trips(line) or 1))
            elif line.operation == "conditional":
                dearest = max(line.called, key=self._weight, default=None)
                if dearest:
                    yield from self._run(dearest, times)
            elif line.operation == "call":
                for called in line.called:
                    yield from self._run(called, times)

    def _weight(self, name: str) -> tuple[int, int]:
        lines = list(self._run(name, 1))
        return sum(times * (_cycles(line) or 0) for line, times in lines), len(lines)

    def trips(self, loop: Instruction) -> int | None:
        """Return how often a loop runs; None where the text does not say."""
        found = TRIPS.search(loop.rest)
        if found:
            return int(found[1])
        # Else it counts from 0 up to a constant in its condition.
        condition = re.search(r"condition=%?([\w.\-]+)", loop.rest)
        lines = self.computations.get(condition[1], []) if condition else []
        if not any(line.operation == "compare" and "direction=LT" in line.rest for line in lines):
            return None
        constants = [line.rest.partition(")")[0] for line in lines if line.operation == "constant"]
        return int(constants[0]) if len(constants) == 1 and constants[0].isdecimal() else None

    def cycles(self) -> int | None:
        """Return the cycles of a step as the compiler estimates them; None where it does not."""
        known = [times * of for line, times in self.instructions() if (of := _cycles(line)) is not None]
        return sum(known) if known else None

    def totals(self, chosen: Callable[[Instruction], bool] = lambda line: True) -> tuple[int, int, int]:
        """Return (cycles, bytes of traffic, kernels) of the instructions of a step that `chosen` takes."""
        types, cycles, traffic, kernels = self._types(), 0, 0, 0
        for line, times in self.instructions():
            if chosen(line):
                cycles += times * (_cycles(line) or 0)
                traffic += times * self._moved(line, types)
                kernels += times * (line.operation in LAUNCHED)
        return cycles, traffic, kernels

    def cycles_of_a_call(self) -> int:
        """Return the cycles that a call takes besides its steps, such as laying data out anew; 0 where a step is a call."""
        if self.step == self.entry:
            return 0
        lines = (line for line in self.computations[self.entry] if self.step not in _bodies(line))
        return sum(_cycles(line) or 0 for line in lines)

    def traffic(self) -> int:
        """Return the bytes that a step moves to and from the device's memory, tiles filled up; what stays on the chip is free."""
        return self.totals()[1]

    def _types(self) -> dict[str, str]:
        return {line.name: line.type for lines in self.computations.values() for line in lines}

    def _moved(self, line: Instruction, types: Mapping[str, str]) -> int:
        if line.operation in FREE:
            return 0
        if line.operation in COPIES:
            # The type is (destination, source, context); a slice reads no more than it keeps.
            sides = ARRAY.findall(line.type)[:2]
            size = min((_bytes(*side[:2]) for side in sides), default=0)
            return sum(size for side in sides if "S(" not in side[3])
        operands = line.operands
        read = {name: _in_memory(types.get(name, "")) for name in operands}
        if line.operation in PICKS:
            read[operands[0]] = min(read[operands[0]], _in_memory(line.type))
        if line.operation == "fusion":
            for place, size in self._picked(line.called[0]).items():
                read[operands[place]] = min(read[operands[place]], size)
        return _in_memory(line.type) + sum(read.values())

    def _picked(self, fused: str) -> dict[int, int]:
        """{place of an operand of which a fusion reads some rows alone: the bytes of those}."""
        lines, found = self.computations.get(fused, []), {}
        for parameter in (line for line in lines if line.operation == "parameter"):
            users = [line for line in lines if parameter.name in line.operands]
            if users and all(line.operation in PICKS and line.operands[0] == parameter.name for line in users):
                found[int(parameter.rest.partition(")")[0])] = sum(_in_memory(line.type) for line in users)
        return found

    def kernels(self) -> int:
        """Return how many kernels a step launches, about."""
        return self.totals()[2]

    def all_reduces(self) -> list[tuple[int, int]]:
        """Return (arrays, bytes) of each all-reduce of a step."""
        found = []
        for line, times in self.instructions():
            if line.operation in ("all-reduce", "all-reduce-start"):
                arrays = ARRAY.findall(line.type)
                found += [(len(arrays), sum(_bytes(*array[:2]) for array in arrays))] * times
        return found

    def loops(self) -> list[tuple[str, int | None]]:
        """Return (body, trips) of the loops inside a step."""
        return [
            (body, self.trips(line))
            for line, _ in self.instructions()
            if line.operation == "while"
            for body in _bodies(line)
        ]

    def largest(self, *operations: str) -> int:
        """Return the bytes of the largest array that instructions of some kinds make anywhere in the program."""
        made = (
            _bytes(*array[:2])
            for lines in self.computations.values()
            for line in lines
            if line.operation in operations
            for array in ARRAY.findall(line.type)
        )
        return max(made, default=0)


def parse(text: str) -> Program:
    """Return a compiled program of its text.

    >>> made = parse("ENTRY %main (x: f32[2]) -> f32[2] {\\n  ROOT %y = f32[2]{0} copy(%x)\\n}\\n")
    >>> made.entry, [line.operation for line, _ in made.instructions()]
    ('main', ['copy'])
    """
    computations: dict[str, list[Instruction]] = {}
    entry, current = "", None
    for line in text.splitlines():
        if line.endswith("{") and "(" in line and not line.startswith(" "):
            words = line.split()
            name = words[1] if words[0] == "ENTRY" else words[0]
            name = name.lstrip("%")
            entry = name if words[0] == "ENTRY" else entry
            current = computations.setdefault(name, [])
        elif line.startswith("}"):
            current = None
        elif current is not None and (found := INSTRUCTION.match(line)):
            current.append(Instruction(*found.groups()))
    return Program(computations, entry)


def _bodies(line: Instruction) -> list[str]:
    return re.findall(r"body=%?([\w.\-]+)", line.rest)


def _cycles(line: Instruction) -> int | None:
    found = CYCLES.search(line.rest)
    return int(found[1]) if found else None


def _bytes(dtype: str, sides: str) -> int:
    size = BYTES[dtype]
    for side in filter(None, sides.split(",")):
        size *= int(side)
    return size


def _in_memory(type_: str) -> int:
    """The bytes of a type, its tiles filled up, that lie in the device's memory rather than on the chip."""
    total = 0
    for dtype, sides, order, rest in ARRAY.findall(type_):
        if "S(" in rest:
            continue
        shape = [int(side) for side in sides.split(",") if side]
        tile = TILE.match(rest)
        if tile and len(shape) >= 2 and order:
            first, second = (int(axis) for axis in order.split(",")[:2])
            for axis, multiple in ((first, int(tile[2])), (second, int(tile[1]))):
                shape[axis] = -(-shape[axis] // multiple) * multiple
        total += _bytes(dtype, ",".join(map(str, shape)))
    return total
