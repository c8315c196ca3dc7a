"""How far a student follows its teacher."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_softmax


def agreement(teacher_logits: ArrayLike, student_logits: ArrayLike) -> np.ndarray:
    """Return whether both name the same class, bool [examples].

    >>> agreement([[1.0, 0.0], [1.0, 0.0]], [[2.0, 1.0], [1.0, 2.0]]).tolist()
    [True, False]

    Args:
        teacher_logits, student_logits: float [examples, classes].
    """
    return np.asarray(teacher_logits).argmax(axis=1) == np.asarray(student_logits).argmax(axis=1)


def kl(teacher_logits: ArrayLike, student_logits: ArrayLike) -> np.ndarray:
    """Return KL(p_teacher || p_student) at temperature 1, in nats, float64 [examples].

    A teacher that is sure, beside a student that spreads its probability evenly over two classes, is log 2 away from it.

    >>> kl([[1000.0, 0.0]], [[0.0, 0.0]]).round(3).tolist()
    [0.693]
    >>> kl([[1.0, 2.0]], [[4.0, 5.0]]).tolist()
    [0.0]

    Args:
        teacher_logits, student_logits: float [examples, classes].
    """
    teacher = log_softmax(np.asarray(teacher_logits, np.float64), axis=1)
    student = log_softmax(np.asarray(student_logits, np.float64), axis=1)
    return (np.exp(teacher) * (teacher - student)).sum(axis=1)
