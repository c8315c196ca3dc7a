"""Programs of a few lines, of which cycles, traffic, loops and collectives are known by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax.train import ahead, hlo

TEXT = """HloModule jit_f

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  ROOT %s = f32[] add(%x, %y)
}

%fused_gather (p0: u8[1000,48], p1: s32[16]) -> u8[16,48] {
  %p0 = u8[1000,48]{1,0} parameter(0)
  %p1 = s32[16]{0} parameter(1)
  ROOT %g = u8[16,48]{1,0} gather(%p0, %p1), offset_dims={1}
}

%inner_body (c: (s32[])) -> (s32[]) {
  %c = (s32[]) parameter(0)
  %i = s32[] fusion(%c), kind=kLoop, calls=%add, backend_config={"estimated_cycles":"100"}
  ROOT %t = (s32[]) tuple(%i)
}

%inner_condition (c: (s32[])) -> pred[] {
  %c.1 = (s32[]) parameter(0)
  %n = s32[] constant(7)
  %at = s32[] get-tuple-element(%c.1), index=0
  ROOT %less = pred[] compare(%at, %n), direction=LT
}

%step (p: (f32[8,128], u8[1000,48])) -> (f32[8,128], u8[1000,48]) {
  %p = (f32[8,128]{1,0}, u8[1000,48]{1,0}) parameter(0)
  %w = f32[8,128]{1,0} get-tuple-element(%p), index=0
  %data = u8[1000,48]{1,0} get-tuple-element(%p), index=1
  %rows = s32[16]{0} constant({...})
  %picked = u8[16,48]{1,0} fusion(%data, %rows), kind=kCustom, calls=%fused_gather
  %padded = bf16[3,200]{1,0:T(8,128)(2,1)} fusion(%w), kind=kLoop, calls=%add, backend_config={"estimated_cycles":"1000"}
  %near = f32[8,128]{1,0:T(8,128)S(1)} fusion(%w), kind=kLoop, calls=%add, backend_config={"estimated_cycles":"10"}
  %loop = (s32[]) while(%c), condition=%inner_condition, body=%inner_body
  %sum = (f32[8,128]{1,0}, f32[4]{0}) all-reduce(%w, %b), to_apply=%add
  ROOT %out = (f32[8,128]{1,0}, u8[1000,48]{1,0}) tuple(%w, %data)
}

ENTRY %main (a: f32[8,128], d: u8[1000,48]) -> f32[8,128] {
  %a = f32[8,128]{1,0} parameter(0)
  %d = u8[1000,48]{1,0} parameter(1)
  %d2 = u8[1000,48]{0,1} copy(%d), backend_config={"estimated_cycles":"5000"}
  %t0 = (f32[8,128]{1,0}, u8[1000,48]{1,0}) tuple(%a, %d2)
  %w0 = (f32[8,128]{1,0}, u8[1000,48]{1,0}) while(%t0), condition=%outer, body=%step
  ROOT %r = f32[8,128]{1,0} get-tuple-element(%w0), index=0
}
"""


def test_cycles_count_a_loop_as_often_as_it_runs_and_what_a_call_takes_apart_from_its_steps():
    read = hlo.parse(TEXT)
    assert (read.entry, read.step) == ("main", "step")
    assert read.loops() == [("inner_body", 7)]
    assert read.cycles() == 1000 + 10 + 7 * 100
    assert read.cycles_of_a_call() == 5000


def test_traffic_fills_tiles_up_leaves_out_the_chip_and_reads_of_a_gather_only_its_rows():
    weights = 8 * 128 * 4
    gathered = 16 * 48 + 16 * 48 + 16 * 4  # written, read, row numbers
    padded = 8 * 256 * 2 + weights  # 3 x 200 in tiles of 8 x 128
    near = weights  # read from memory, written on the chip
    reduced = 2 * weights + 4 * 4
    inner = 7 * (4 + 4)
    assert hlo.parse(TEXT).traffic() == gathered + padded + near + reduced + inner


def test_all_reduces_and_copies_are_found_with_their_bytes():
    read = hlo.parse(TEXT)
    assert read.all_reduces() == [(2, 8 * 128 * 4 + 4 * 4)]
    assert read.largest("copy") == 1000 * 48


def test_the_program_that_xla_makes_here_reads_as_it_was_written():
    """A loop of 5 turns over a matrix product, compiled for the CPU of this machine."""

    def loop(x):
        return jax.lax.fori_loop(0, 5, lambda i, x: jnp.tanh(x @ x), x)

    compiled = jax.jit(loop).lower(jnp.zeros((64, 64))).compile()
    read = hlo.parse(compiled.as_text())
    assert read.step != read.entry
    assert read.cycles() is None
    (loop_line,) = [line for line in read.computations[read.entry] if line.operation == "while"]
    assert read.trips(loop_line) == 5


def test_what_limits_a_step_is_what_takes_longest_by_itself():
    chip = ahead.CHIPS["v5e"]
    found = ahead.Compiled(True, flops=197e9, traffic_bytes=819_000_000 * 2, cycles=4_500_000, call_cycles=3_000_000)
    limits = found.limits(chip, "bfloat16", 2)
    np.testing.assert_allclose([limits["FLOPs"], limits["memory"], limits["cycles"]], [1e-3, 2e-3, 4e-3])
    with_launches = found._replace(cycles=None, kernels=1000).limits(ahead.CHIPS["h100"], "float32")
    assert with_launches["FLOPs"] == pytest.approx(197e9 / (989e12 / 2))
    assert with_launches["launches"] == pytest.approx(1000 * ahead.LAUNCH)


def test_clocks_are_those_at_which_the_matrix_units_reach_the_published_peak():
    units = {"v4": 8 * 128 * 128, "v5e": 4 * 128 * 128, "v5p": 8 * 128 * 128, "v6e": 4 * 256 * 256}
    for name, per_cycle in units.items():
        assert 2 * per_cycle * ahead.CHIPS[name].clock == pytest.approx(ahead.CHIPS[name].flops, rel=0.01)
