"""How products are taken is part of a study, and reaches the compiler."""

import re

import jax
import jax.numpy as jnp
import pytest

from kd_jax import config, models
from kd_jax.config import BadInput, Study
from kd_jax.plan import arms
from kd_jax.plan.runs import run_key
from kd_jax.studies import arithmetic

STUDY = Study.from_flags(dataset="digits", student=("resnet8",))


@pytest.fixture(autouse=True)
def as_before():
    yield
    arithmetic.set_precision(STUDY.networks)


@pytest.mark.parametrize(
    ("asked", "shown"),
    [("default", {"DEFAULT"}), ("high", {"HIGH"}), ("highest", {"HIGHEST"})],
)
def test_every_product_and_convolution_is_handed_to_the_compiler_as_the_study_asks(asked, shown):
    arithmetic.set_precision(STUDY.replaced(matmul_precision=asked).networks)
    model = models.build("resnet8", 10)
    x = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    run = jax.jit(jax.grad(lambda params, state, x: model.apply(models.Variables(params, state), x).logits.sum()))
    program = run.trace(*variables, x).lower(lowering_platforms=("tpu",)).as_text()
    lines = [line for line in program.splitlines() if "stablehlo.convolution" in line or "dot_general" in line]
    assert len(lines) > 14
    found = {word for line in lines for word in re.findall(r"\b(DEFAULT|HIGHEST|HIGH)\b", line)}
    assert found == shown


def test_it_decides_bits_of_a_run_and_studies_from_before_it_keep_theirs():
    arm = arms(STUDY)[0]
    keys = [
        run_key(STUDY.replaced(matmul_precision=asked), arm, 0, None, None) for asked in ("default", "high", "highest")
    ]
    assert len(set(keys)) == 3
    record = config.to_json(STUDY)
    assert record.pop("matmul_precision") == "default"
    before = config.from_json(record)
    assert run_key(before, arm, 0, None, None) == keys[0]
    assert before.identity() == STUDY.identity()
    assert STUDY.replaced(matmul_precision="high").identity() != STUDY.identity()
    assert run_key(STUDY.replaced(batch_norm="global"), arm, 0, None, None) == keys[0]
    assert run_key(STUDY.replaced(batch_norm="local"), arm, 0, None, None) not in keys


def test_another_word_is_refused():
    with pytest.raises(BadInput, match=r"matmul_precision.*lowest"):
        config.from_json(config.to_json(STUDY) | {"matmul_precision": "lowest"})
