"""Counters of the server in Prometheus' text format, under TGI's names."""

from __future__ import annotations

from collections import Counter


class Metrics:
    """Counts requests, failures by kind, tokens and seconds."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._seconds = 0.0

    def started(self) -> None:
        """A request came in."""
        self._counts["tgi_request_count"] += 1

    def failed(self, kind: str) -> None:
        """A request ended in an error of this `error_type`."""
        self._failures[kind] += 1

    def succeeded(self, prompt_tokens: int, generated_tokens: int, seconds: float) -> None:
        """A request was answered."""
        self._counts["tgi_request_success"] += 1
        self._counts["tgi_request_input_length_sum"] += prompt_tokens
        self._counts["tgi_request_generated_tokens_sum"] += generated_tokens
        self._seconds += seconds

    def render(self, running: int) -> str:
        """The page that `/metrics` answers."""
        success = self._counts["tgi_request_success"]
        lines = []
        for name in ("tgi_request_count", "tgi_request_success"):
            lines += [f"# TYPE {name} counter", f"{name} {self._counts[name]}"]
        lines.append("# TYPE tgi_request_failure counter")
        lines += [f'tgi_request_failure{{err="{kind}"}} {count}' for kind, count in sorted(self._failures.items())]
        for name in ("tgi_request_input_length", "tgi_request_generated_tokens"):
            lines += [f"# TYPE {name} summary", f"{name}_sum {self._counts[name + '_sum']}", f"{name}_count {success}"]
        lines += ["# TYPE tgi_request_duration summary", f"tgi_request_duration_sum {self._seconds:.6f}"]
        lines += [f"tgi_request_duration_count {success}"]
        lines += ["# TYPE tgi_batch_current_size gauge", f"tgi_batch_current_size {running}"]
        return "\n".join(lines) + "\n"
