"""
Time and memory of choosing, against the size of the pool, beside small-text and scikit-activeml in the same run.

    OMP_NUM_THREADS=1 python benchmarks/selection.py
    OMP_NUM_THREADS=1 python benchmarks/selection.py --sizes 1000 100000 --only margin k_center --limit 120

Prints a Markdown table: the median of a few runs, the memory that the choice took beyond its inputs, and how many
times as long as ours the other library took. Inputs are given to all in the same arrays. Every cell is a process of
its own, so that none warms the next and the peak of memory is its own; one that exceeds `--limit` seconds or the
memory of the machine is said so.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hf_active_distill.selection import select_rows


CLASSES, PASSES, WIDTH, LABELLED = 10, 10, 384, 100
#: Half of a row's own cluster lies within it.
RADIUS = 13.9


class Data:
    """A pool: clusters of embeddings, and probabilities."""

    def __init__(self, size: int, names: set[str]):
        source = np.random.default_rng(size)
        self.size = size
        self.arrays: dict[str, np.ndarray] = {}
        if "probabilities" in names:
            self.arrays["probabilities"] = self._distributions(source, (size,))
            self.arrays["labelled_probabilities"] = self._distributions(source, (LABELLED,))
        if "mc_probabilities" in names:
            self.arrays["mc_probabilities"] = self._distributions(source, (size, PASSES))
        if "embeddings" in names:
            centers = source.standard_normal((50, WIDTH), dtype=np.float32)
            for name, rows in (("embeddings", size), ("labelled_embeddings", LABELLED)):
                noise = source.standard_normal((rows, WIDTH), dtype=np.float32)
                noise *= 0.5
                noise += centers[source.integers(0, 50, rows)]
                self.arrays[name] = noise

    @staticmethod
    def _distributions(source: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        values = source.standard_exponential((*shape, CLASSES)) ** 2
        return values / values.sum(axis=-1, keepdims=True)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def together(self) -> tuple[np.ndarray, np.ndarray]:
        """Labelled rows behind the others, and labels with NaN for none, as scikit-activeml wants it."""
        labels = np.full(self.size + LABELLED, np.nan)
        labels[self.size :] = np.arange(LABELLED) % CLASSES
        return np.concatenate([self["embeddings"], self["labelled_embeddings"]]), labels


Run = Callable[[Data, int], object]


def ours(name: str, **options: object) -> Run:
    def run(data: Data, n: int) -> object:
        return select_rows(name, n, **data.arrays, **options)

    return run


class Known:
    """A classifier of small-text that knows its answers."""

    def __init__(self, probabilities: np.ndarray):
        self.probabilities = probabilities

    def predict_proba(self, dataset: object, dropout_sampling: int = 1) -> np.ndarray:
        return self.probabilities


def small_scores(name: str, signal: str = "probabilities", **options: object) -> Run:
    def run(data: Data, n: int) -> object:
        import small_text

        rows, none = np.arange(data.size), np.array([], dtype=np.int64)
        return getattr(small_text, name)(**options).query(Known(data[signal]), data[signal], rows, none, none, n=n)

    return run


def small_embeddings(name: str, *, labelled: bool = True, **options: object) -> Run:
    def run(data: Data, n: int) -> object:
        import small_text

        points = data.together()[0] if labelled else data["embeddings"]
        rows = np.arange(len(points))
        strategy = getattr(small_text, name)(**options)
        return strategy.sample(None, points, rows[: data.size], rows[data.size :], None, n, points)

    return run


def small_badge(data: Data, n: int) -> object:
    from small_text.integrations.pytorch.query_strategies.strategies import BADGE

    rows = np.arange(data.size)
    return BADGE(CLASSES).sample(None, None, rows, rows[:0], None, n, data["embeddings"], data["probabilities"])


def active_model(data: Data) -> object:
    """A classifier of scikit-activeml that gives the probabilities of the rows it is asked about, by their number."""
    from skactiveml.base import SkactivemlClassifier

    class Given(SkactivemlClassifier):
        def __init__(self, classes=None, missing_label=np.nan, cost_matrix=None, random_state=None):
            super().__init__(classes, missing_label, cost_matrix, random_state)

        def fit(self, X, y, sample_weight=None):
            return self

        def predict_proba(self, X):
            return data["labelled_probabilities" if len(X) == LABELLED else "probabilities"].copy()

    return Given(classes=range(CLASSES))


def active_scores(method: str) -> Run:
    def run(data: Data, n: int) -> object:
        from skactiveml.pool import UncertaintySampling

        # The classifier knows the answers: the features only count rows.
        strategy = UncertaintySampling(method=method, random_state=0)
        rows = np.zeros((data.size, 1))
        return strategy.query(rows, np.full(data.size, np.nan), active_model(data), fit_clf=False, batch_size=n)

    return run


def active(name: str, *, model: bool = False, **options: object) -> Run:
    def run(data: Data, n: int) -> object:
        import skactiveml.pool

        points, labels = data.together()
        more = {"clf": active_model(data), "fit_clf": False} if model else {}
        strategy = getattr(skactiveml.pool, name)(random_state=0, **options)
        return strategy.query(points, labels, batch_size=n, **more)

    return run


def active_discriminative(data: Data, n: int) -> object:
    from skactiveml.classifier import SklearnClassifier
    from skactiveml.pool import DiscriminativeAL
    from sklearn.linear_model import LogisticRegression

    points, labels = data.together()
    points = (points - data["embeddings"].mean(axis=0)) / data["embeddings"].std(axis=0)
    inner = SklearnClassifier(LogisticRegression(class_weight="balanced", max_iter=200), classes=[0, 1])
    strategy = DiscriminativeAL(greedy_selection=True, random_state=0)
    return strategy.query(points, labels, inner, batch_size=n)


@dataclass
class Line:
    """A strategy, the arrays that it reads, and who else has it."""

    label: str
    reads: tuple[str, ...]
    ours: Run
    small_text: Run | None = None
    active: Run | None = None


P, M, E = "probabilities", "mc_probabilities", "embeddings"
LINES = [
    Line("random", (P,), ours("random"), small_scores("RandomSampling")),
    Line("stratified_random", (P,), ours("stratified_random")),
    Line(
        "least_confidence",
        (P,),
        ours("least_confidence", over="label"),
        small_scores("LeastConfidence"),
        active_scores("least_confident"),
    ),
    Line("margin", (P,), ours("margin"), small_scores("BreakingTies"), active_scores("margin_sampling")),
    Line("entropy", (P,), ours("entropy"), small_scores("PredictionEntropy"), active_scores("entropy")),
    Line("bald", (M,), ours("bald"), small_scores("BALD", M)),
    Line("llkd_gate", (P,), ours("llkd_gate")),
    Line("class_balance of entropy", (P,), ours("class_balance", strategy="entropy")),
    Line("subsample of margin", (P,), ours("subsample", strategy="margin")),
    Line("random_share of entropy", (P,), ours("random_share", strategy="entropy", share=0.1)),
    Line("easy_to_hard of margin", (P,), ours("easy_to_hard", strategy="margin", rounds=4)),
    Line("expected_gradient_length", (P, E), ours("expected_gradient_length")),
    Line("badge", (P, E), ours("badge"), small_badge, active("Badge", model=True)),
    Line(
        "k_center",
        (E,),
        ours("k_center", normalize=False),
        small_embeddings("GreedyCoreset", normalize=False),
        active("CoreSet"),
    ),
    Line("k_means", (E,), ours("k_means"), small_embeddings("EmbeddingKMeans", labelled=False)),
    Line("typicality", (E,), ours("typicality", normalize=False), None, active("TypiClust", k=20)),
    Line(
        "probcover",
        (E,),
        ours("probcover", radius=RADIUS, normalize=False),
        None,
        active("ProbCover", deltas=[RADIUS]),
    ),
    Line(
        "discriminative",
        (E,),
        ours("discriminative", batches=1, most=None),
        None,
        active_discriminative,
    ),
    Line(
        "contrastive",
        (P, E),
        ours("contrastive", normalize=False),
        None,
        active("ContrastiveAL", model=True, nearest_neighbors_dict={"n_neighbors": 10}),
    ),
    Line("uncertainty_then_coverage", (P, E), ours("uncertainty_then_coverage")),
]


def peak() -> int:
    """Most bytes that this process has held since its peak was last reset."""
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def measure(run: Run, data: Data, n: int, repeats: int, sender) -> None:
    """In a process of its own: seconds of each run, and the memory of the first beyond what was there before."""
    import warnings

    warnings.simplefilter("ignore")
    try:
        # Loads what the library loads when it is first used; small arrays, so that the memory is not touched.
        few = Data(256, {name for name in data.arrays if not name.startswith("labelled")})
        run(few, 5)
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
        before, seconds, taken = peak(), [], 0
        for _ in range(repeats):
            started = time.perf_counter()
            run(data, n)
            seconds.append(time.perf_counter() - started)
            taken = max(taken, peak() - before)
            if sum(seconds) > 20:
                break
        sender.send((statistics.median(seconds), taken))
    except MemoryError:
        sender.send("memory")
    except Exception as error:
        sender.send(f"{type(error).__name__}: {error}")


def cell(run: Run | None, data: Data, n: int, repeats: int, limit: float) -> tuple[float, int] | str:
    """Seconds and bytes, or in words why there are none."""
    if run is None:
        return ""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=measure, args=(run, data, n, repeats, sender))
    child.start()
    sender.close()
    try:
        found = receiver.recv() if receiver.poll(limit) else f"> {limit:g} s"
    except EOFError:
        found = "killed (memory)"
    child.kill()
    child.join()
    return found


def shown(found: tuple[float, int] | str, reference: tuple[float, int] | str) -> str:
    """A cell of the table; with a reference, how many times as long as it."""
    if isinstance(found, str):
        return found or "-"
    text = f"{found[0]:.3g} s, {found[1] / 2**20:.0f} MiB"
    if isinstance(reference, tuple):
        text += f", **{found[0] / reference[0]:.3g}x**"
    return text


def main() -> None:
    """The table, a line at a time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10**3, 10**4, 10**5, 10**6])
    parser.add_argument("--largest_embeddings", type=int, default=10**5, help="Largest pool of embeddings.")
    parser.add_argument("--n", type=int, default=100, help="Rows to choose.")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--limit", type=float, default=300, help="Seconds a cell may take.")
    parser.add_argument("--only", nargs="+", help="First words of the lines wanted.")
    args = parser.parse_args()
    print(
        f"{CLASSES} classes, {PASSES} passes, embeddings of {WIDTH} float32, {LABELLED} labelled rows, n = {args.n}, "
    )
    print(f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}\n")
    print("| strategy | rows | ours | small-text | scikit-activeml |\n|---|---|---|---|---|")
    for line in LINES:
        if args.only and line.label.split()[0] not in args.only:
            continue
        for size in args.sizes:
            if E in line.reads and size > args.largest_embeddings:
                continue
            data = Data(size, set(line.reads))
            own = cell(line.ours, data, args.n, args.repeats, args.limit)
            others = [cell(run, data, args.n, args.repeats, args.limit) for run in (line.small_text, line.active)]
            cells = [shown(own, ""), *(shown(other, own) for other in others)]
            print(f"| {line.label} | {size:,} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
