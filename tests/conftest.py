"""Four CPU devices for every test: set before anything imports JAX."""

import os
from contextlib import contextmanager

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4".strip()
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import pytest


@contextmanager
def _float64():
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)


@pytest.fixture
def float64():
    """JAX in 64 bits for one test."""
    with _float64():
        yield
