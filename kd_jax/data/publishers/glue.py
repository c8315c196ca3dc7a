"""Three tasks of GLUE (Wang et al., "GLUE", ICLR 2019) from its archives: SST-2, MNLI and QQP.

Labels of their test splits are hidden (-1). Rows that lack a text or a label are left out, as TFDS leaves them out.
"""

import csv
import io
import zipfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from kd_jax.data.download import Remote
from kd_jax.data.prepared import Info, Label, Tensor, Text
from kd_jax.data.publishers.published import Contents, Examples, Published

SPLITS = {"train": "train", "validation": "dev", "test": "test"}  # {split: its table}
DESCRIPTION = """\
GLUE, the General Language Understanding Evaluation benchmark
(https://gluebenchmark.com/) is a collection of resources for training,
evaluating, and analyzing natural language understanding systems.
"""
CITATION = """
@inproceedings{wang2019glue,
  title={{GLUE}: A Multi-Task Benchmark and Analysis Platform for Natural Language Understanding},
  author={Wang, Alex and Singh, Amanpreet and Michael, Julian and Hill, Felix and Levy, Omer and Bowman, Samuel R.},
  note={In the Proceedings of ICLR.},
  year={2019}
}

Note that each GLUE dataset has its own citation. Please see the source to see
the correct citation for each contained dataset."""


class Task(NamedTuple):
    """The layout of an archive.

    Attributes:
        folder: the folder in it.
        splits: {split: name of its table}.
        texts: {feature: column}.
        label: the column of the label: a name of a class, or its number.
        classes: names of the classes.
    """

    folder: str
    splits: dict[str, str]
    texts: dict[str, str]
    label: str
    classes: tuple[str, ...]


def read(task: Task, paths: Sequence[Path]) -> Contents:
    """Return what an archive holds; see `Published.read`."""
    (path,) = paths
    splits = {}
    with zipfile.ZipFile(path) as archive:
        for split, table in task.splits.items():
            stream = io.TextIOWrapper(archive.open(f"{task.folder}/{table}.tsv"), encoding="utf-8")
            rows = csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
            kept = [example for i, row in enumerate(rows) if (example := _example(task, i, row))]
            splits[split] = Examples([example["idx"] for example in kept], kept.__getitem__)
    features = {**{name: Text() for name in task.texts}, "label": Label(task.classes), "idx": Tensor((), "int32")}
    return Contents(features, splits)


def _example(task, number, row) -> dict[str, Any] | None:
    example = {name: row[column] for name, column in task.texts.items()}
    label = row.get(task.label, -1)
    if label not in task.classes:
        label = int(label) if label else None
    example |= {"label": label, "idx": number}
    return None if None in example.values() else example


def _published(config, task, remote, description, citation, homepage):
    info = Info(
        name="glue",
        config=config,
        version="2.0.0",
        features={},
        description=DESCRIPTION,
        citation=citation + CITATION,
        homepage=homepage,
        module="tensorflow_datasets.text.glue",
        config_description=description,
        release_notes={
            "1.0.0": "New split API (https://tensorflow.org/datasets/splits)",
            "1.0.1": "Update dead URL links.",
            "2.0.0": "Update data source for glue/qqp.",
        },
    )
    return Published(info, (remote,), partial(read, task))


SETS = (
    _published(
        "sst2",
        Task("SST-2", SPLITS, {"sentence": "sentence"}, "label", ("negative", "positive")),
        Remote(
            "https://dl.fbaipublicfiles.com/glue/data/SST-2.zip",
            7439277,
            "d67e16fb55739c1b32cdce9877596db1c127dc322d93c082281f64057c16deaa",
            "glue/SST-2.zip",
        ),
        """\
The Stanford Sentiment Treebank consists of sentences from movie reviews and
human annotations of their sentiment. The task is to predict the sentiment of a
given sentence. We use the two-way (positive/negative) class split, and use only
sentence-level labels.""",
        """\
@inproceedings{socher2013recursive,
  title={Recursive deep models for semantic compositionality over a sentiment treebank},
  author={Socher, Richard and Perelygin, Alex and Wu, Jean and Chuang, Jason and Manning, Christopher D and Ng, Andrew and Potts, Christopher},
  booktitle={Proceedings of the 2013 conference on empirical methods in natural language processing},
  pages={1631--1642},
  year={2013}
}""",  # noqa: E501
        "https://nlp.stanford.edu/sentiment/index.html",
    ),
    _published(
        "mnli",
        Task(
            "MNLI",
            {
                "train": "train",
                "validation_matched": "dev_matched",
                "validation_mismatched": "dev_mismatched",
                "test_matched": "test_matched",
                "test_mismatched": "test_mismatched",
            },
            {"premise": "sentence1", "hypothesis": "sentence2"},
            "gold_label",
            ("entailment", "neutral", "contradiction"),
        ),
        Remote(
            "https://dl.fbaipublicfiles.com/glue/data/MNLI.zip",
            312783507,
            "e7c1d896d26ed6caf700110645df426cc2d8ebf02a5ab743d5a5c68ac1c83633",
            "glue/MNLI.zip",
        ),
        """\
The Multi-Genre Natural Language Inference Corpus is a crowdsourced
collection of sentence pairs with textual entailment annotations. Given a premise sentence
and a hypothesis sentence, the task is to predict whether the premise entails the hypothesis
(entailment), contradicts the hypothesis (contradiction), or neither (neutral). The premise sentences are
gathered from ten different sources, including transcribed speech, fiction, and government reports.
We use the standard test set, for which we obtained private labels from the authors, and evaluate
on both the matched (in-domain) and mismatched (cross-domain) section. We also use and recommend
the SNLI corpus as 550k examples of auxiliary training data.""",
        """\
@InProceedings{N18-1101,
  author = "Williams, Adina
            and Nangia, Nikita
            and Bowman, Samuel",
  title = "A Broad-Coverage Challenge Corpus for
           Sentence Understanding through Inference",
  booktitle = "Proceedings of the 2018 Conference of
               the North American Chapter of the
               Association for Computational Linguistics:
               Human Language Technologies, Volume 1 (Long
               Papers)",
  year = "2018",
  publisher = "Association for Computational Linguistics",
  pages = "1112--1122",
  location = "New Orleans, Louisiana",
  url = "http://aclweb.org/anthology/N18-1101"
}
@article{bowman2015large,
  title={A large annotated corpus for learning natural language inference},
  author={Bowman, Samuel R and Angeli, Gabor and Potts, Christopher and Manning, Christopher D},
  journal={arXiv preprint arXiv:1508.05326},
  year={2015}
}""",
        "http://www.nyu.edu/projects/bowman/multinli/",
    ),
    _published(
        "qqp",
        Task(
            "QQP",
            SPLITS,
            {"question1": "question1", "question2": "question2"},
            "is_duplicate",
            ("not_duplicate", "duplicate"),
        ),
        Remote(
            "https://dl.fbaipublicfiles.com/glue/data/QQP.zip",
            41696084,
            "40e7c862c04eb26ee04b67fd900e76c45c6ba8e6d8fab4f8f1f8072a1a3fbae0",
            "glue/QQP.zip",
        ),
        """\
The Quora Question Pairs2 dataset is a collection of question pairs from the
community question-answering website Quora. The task is to determine whether a
pair of questions are semantically equivalent.""",
        """\
@online{WinNT,
  author = {Iyer, Shankar and Dandekar, Nikhil and Csernai, Kornel},
  title = {First Quora Dataset Release: Question Pairs},
  year = 2017,
  url = {https://data.quora.com/First-Quora-Dataset-Release-Question-Pairs},
  urldate = {2019-04-03}
}""",
        "https://data.quora.com/First-Quora-Dataset-Release-Question-Pairs",
    ),
)
