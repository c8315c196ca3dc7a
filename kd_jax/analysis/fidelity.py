"""How far a student follows its teacher. Logits [examples, classes]; results per example."""

import numpy as np
from scipy.special import log_softmax


def agreement(teacher_logits, student_logits):
    """Whether both name the same class, bool [examples]."""
    return np.asarray(teacher_logits).argmax(axis=1) == np.asarray(student_logits).argmax(axis=1)


def kl(teacher_logits, student_logits):
    """KL(p_teacher || p_student) at temperature 1, in nats, float64 [examples]."""
    teacher = log_softmax(np.asarray(teacher_logits, np.float64), axis=1)
    student = log_softmax(np.asarray(student_logits, np.float64), axis=1)
    return (np.exp(teacher) * (teacher - student)).sum(axis=1)
