"""What the objects of a work folder in an object store are, by their names."""

import re

MARK, MARK_OF_ANALYSIS = "commit_success.txt", "summary.json"
RECORDS = ("study.json", "sweep.json", "tokenizer.json", "teacher_logits.npz")
STORES = ("trajectory", "repair", "resume")
STEP = re.compile(rf"(?:.*/)?runs/[^/]+/(?:{'|'.join(STORES)})/\d+(?=/|$)")
STORE = re.compile(rf"(?:.*/)?runs/[^/]+/(?:{'|'.join(STORES)})(?=/|$)")
ANALYSIS = re.compile(r"(?:.*/)?analysis(?=/)")
# A new analysis, while it takes the place of another.
STAGED = re.compile(r"(?:.*/)?\.analysis-new(?=/)")
LINK = ".link"


def analysis_of(name: str) -> str | None:
    """The folder of the analysis, staged or not, that an object belongs to; None where it belongs to none."""
    found = ANALYSIS.match(name) or STAGED.match(name)
    return f"{found[0]}/" if found else None


def stage_of(folder: str) -> str:
    """The folder in which the analysis of a folder is written before it takes its place."""
    return f"{folder.removesuffix('analysis/')}.analysis-new/"


def final_of(name: str) -> str:
    """The name of an object, or folder, of a staged analysis once that is in its place; other names as they are."""
    found = STAGED.match(name)
    return f"{found[0].removesuffix('.analysis-new')}analysis{name[found.end() :]}" if found else name


def is_record(name: str) -> bool:
    """Whether an object is one of the records of a work folder, which several programs change."""
    return name.rpartition("/")[2] in RECORDS and not ANALYSIS.match(name)
