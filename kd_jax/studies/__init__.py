"""Whole studies: train, analyse, sweep. This room joins the others."""
