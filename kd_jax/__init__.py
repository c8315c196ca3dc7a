"""What did the student do differently from its teacher, and was it good?

Train a teacher, distil students, keep every trajectory as orbax checkpoints, and measure afterwards. BUILD.md maps the rooms.
"""

__version__ = "0.1.0"
