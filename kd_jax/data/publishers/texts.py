"""AG's News (Zhang, Zhao and LeCun, NIPS 2015) and the IMDB movie reviews (Maas et al., ACL 2011) from their archives."""

import csv
import io
import re
import tarfile

from kd_jax.data.download import Remote
from kd_jax.data.prepared import Info, Label, Text
from kd_jax.data.publishers.published import Contents, Examples, Published, unpacked

REVIEW = re.compile(r"aclImdb/(train|test)/(neg|pos|unsup)/")
SENTIMENTS = ("neg", "pos")


def read_ag_news(paths) -> Contents:
    """Return what the archive holds: lines of label (from 1), title and description; see `Published.read`."""
    (path,) = paths
    splits = {}
    with tarfile.open(path, "r:gz") as archive:
        for split in ("train", "test"):
            table = unpacked(archive, f"ag_news_csv/{split}.csv")
            splits[split] = _articles(list(csv.reader(io.TextIOWrapper(io.BytesIO(table), encoding="utf-8"))))
    features = {
        "label": Label(("World", "Sports", "Business", "Sci/Tech")),
        "title": Text(),
        "description": Text(),
    }
    return Contents(features, splits)


def _articles(rows):
    def get(i):
        label, title, description = rows[i][:3]
        return {"label": int(label) - 1, "title": title, "description": description}

    return Examples(range(len(rows)), get)


def read_imdb(paths) -> Contents:
    """Return what the archive holds: a file per review, in a folder per class; see `Published.read`.

    Keys are paths in the archive. Reviews of `unsupervised` have no label.
    """
    (path,) = paths
    reviews = {"train": {}, "test": {}, "unsupervised": {}}
    with tarfile.open(path, "r|gz") as archive:
        for member in archive:
            if (match := REVIEW.match(member.name)) and member.isfile():
                split, sentiment = match.groups()
                if sentiment == "unsup":
                    if split == "test":
                        continue
                    split, label = "unsupervised", -1
                else:
                    label = SENTIMENTS.index(sentiment)
                reviews[split][member.name] = unpacked(archive, member).strip(), label
    return Contents(
        {"text": Text(), "label": Label(SENTIMENTS)}, {name: _reviews(found) for name, found in reviews.items()}
    )


def _reviews(found):
    names = list(found)

    def get(i):
        text, label = found[names[i]]
        return {"text": text, "label": label}

    return Examples(names, get)


AG_NEWS = Published(
    Info(
        name="ag_news_subset",
        version="1.0.0",
        features={},
        supervised_keys=("description", "label"),
        description="""\
AG is a collection of more than 1 million news articles. News articles have been
gathered from more than 2000 news sources by ComeToMyHead in more than 1 year of
activity. ComeToMyHead is an academic news search engine which has been running
since July, 2004. The dataset is provided by the academic comunity for research
purposes in data mining (clustering, classification, etc), information retrieval
(ranking, search, etc), xml, data compression, data streaming, and any other
non-commercial activity. For more information, please refer to the link
http://www.di.unipi.it/~gulli/AG_corpus_of_news_articles.html .

The AG's news topic classification dataset is constructed by Xiang Zhang
(xiang.zhang@nyu.edu) from the dataset above. It is used as a text
classification benchmark in the following paper: Xiang Zhang, Junbo Zhao, Yann
LeCun. Character-level Convolutional Networks for Text Classification. Advances
in Neural Information Processing Systems 28 (NIPS 2015).

The AG's news topic classification dataset is constructed by choosing 4 largest
classes from the original corpus. Each class contains 30,000 training samples
and 1,900 testing samples. The total number of training samples is 120,000 and
testing 7,600.
""",
        citation="""\
@misc{zhang2015characterlevel,
    title={Character-level Convolutional Networks for Text Classification},
    author={Xiang Zhang and Junbo Zhao and Yann LeCun},
    year={2015},
    eprint={1509.01626},
    archivePrefix={arXiv},
    primaryClass={cs.LG}
}
""",
        homepage="https://arxiv.org/abs/1509.01626",
        module="tensorflow_datasets.datasets.ag_news_subset.ag_news_subset_dataset_builder",
    ),
    (
        Remote(
            "https://drive.google.com/uc?export=download&id=0Bz8a_Dbh9QhbUDNpeUdjb0wxRms",
            11784327,
            "4e2fc37d369e6e317a8b62d0d2f11d379f8c3dde60c07c35a46b069a246498ad",
            "ag_news_csv.tar.gz",
        ),
    ),
    read_ag_news,
)
IMDB = Published(
    Info(
        name="imdb_reviews",
        config="plain_text",
        version="1.0.0",
        features={},
        supervised_keys=("text", "label"),
        description="""\
Large Movie Review Dataset. This is a dataset for binary sentiment
classification containing substantially more data than previous benchmark
datasets. We provide a set of 25,000 highly polar movie reviews for training,
and 25,000 for testing. There is additional unlabeled data for use as well.
""",
        citation="""\
@InProceedings{maas-EtAl:2011:ACL-HLT2011,
  author    = {Maas, Andrew L.  and  Daly, Raymond E.  and  Pham, Peter T.  and  Huang, Dan  and  Ng, Andrew Y.  and  Potts, Christopher},
  title     = {Learning Word Vectors for Sentiment Analysis},
  booktitle = {Proceedings of the 49th Annual Meeting of the Association for Computational Linguistics: Human Language Technologies},
  month     = {June},
  year      = {2011},
  address   = {Portland, Oregon, USA},
  publisher = {Association for Computational Linguistics},
  pages     = {142--150},
  url       = {http://www.aclweb.org/anthology/P11-1015}
}
""",  # noqa: E501
        homepage="http://ai.stanford.edu/~amaas/data/sentiment/",
        module="tensorflow_datasets.datasets.imdb_reviews.imdb_reviews_dataset_builder",
        config_description="Plain text",
        release_notes={"1.0.0": "New split API (https://tensorflow.org/datasets/splits)"},
    ),
    (
        Remote(
            "http://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",
            84125825,
            "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe",
            "aclImdb_v1.tar.gz",
        ),
    ),
    read_imdb,
)
SETS = (AG_NEWS, IMDB)
