"""Distil on texts: the same story with RoBERTa encoders, a teacher and a student of one size or of two.

Without pre-trained weights small networks start at random, and reports say so. On SST-2, the default, a RoBERTa of
two layers of width 128 teaches itself for three epochs. With --init_from the recipe is the paper's fine-tuning.
--dataset takes any TFDS set of classified texts or pairs of texts. On GLUE the validation split serves as the test
set, for the labels of its test split are hidden.

    python experiments/text_kd.py --platform=cpu
    python experiments/text_kd.py --platform=cpu --small
    python experiments/text_kd.py --platform=gpu --dataset=glue/mnli --init_from=roberta-base
    python experiments/text_kd.py --platform=gpu --dataset=glue/mnli --student=roberta_small --init_from roberta-base roberta-small

The first command took 62 minutes on two CPU cores shared with other work, for three seeds. The second takes about a
minute. The others are for an accelerator, and have not been run.

What came out on SST-2 from scratch: test accuracy 0.799 for the teacher, 0.786 on labels alone and 0.794 for the
student, so neither a gain nor exaggerated confidence that three seeds can show. Intervals and conditions are in
experiments/RESULTS.md.
"""

from kd_jax.cli import leave, run_study

if __name__ == "__main__":
    leave(run_study("text_kd", description=__doc__))
