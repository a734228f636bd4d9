"""Caps on what a run may spend. Reserved before a call at a bound that holds, settled after it."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from ..errors import BudgetExhaustedError, ConfigurationError
from ..records import Usage


MILLION = Decimal(1_000_000)


@dataclass(frozen=True)
class Prices:
    """
    What a teacher charges, in money per million tokens.

    Args:
        input (`float`): Price of prompt tokens.
        output (`float`): Price of completion tokens, hidden reasoning included.
        cached_input (`float`, *optional*): Price of prompt tokens that the server read from its cache. `None` charges
            them like any other prompt token.
    """

    input: float
    output: float
    cached_input: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("input", self.input), ("output", self.output), ("cached_input", self.cached_input)):
            if value is not None and not 0 <= value < float("inf"):
                raise ConfigurationError(f"The price {name!r} is {value}: give money per million tokens, 0 or more.")

    @functools.cached_property
    def _a_token(self) -> tuple[Decimal, Decimal, Decimal]:
        """Prices of one prompt token, one cached prompt token and one completion token."""
        # str() first: Decimal(0.1) would be the binary neighbour of what the user wrote.
        plain, output = Decimal(str(self.input)), Decimal(str(self.output))
        cached = plain if self.cached_input is None else Decimal(str(self.cached_input))
        return plain / MILLION, cached / MILLION, output / MILLION

    def exact_cost(self, usage: Usage) -> Decimal:
        """The cost without rounding, so that a cap written in decimals is compared as it is written."""
        plain, cached, output = self._a_token
        uncached_tokens = usage.prompt_tokens - usage.cached_prompt_tokens
        return uncached_tokens * plain + usage.cached_prompt_tokens * cached + usage.completion_tokens * output

    def cost(self, usage: Usage) -> float:
        """The cost of `usage`."""
        return float(self.exact_cost(usage))

    def worst_cost(self, bound: Usage) -> Decimal:
        """The cost of a bound: every prompt token at the dearer of the two prompt prices."""
        plain, cached, output = self._a_token
        return bound.prompt_tokens * max(plain, cached) + bound.completion_tokens * output


@dataclass(eq=False)
class Reservation:
    """A share of the budget held for one call. `bound` is the most it can cost."""

    bound: Usage
    cost: Decimal


class Budget:
    """
    Hard caps on what the teacher may cost. `None` is no cap.

    A call is let through only if everything spent, everything reserved for calls in flight and its own bound stay
    within every cap together, so no cap is exceeded by even one call, whatever the concurrency.

    Args:
        max_calls (`int`, *optional*): Calls that reach the model.
        max_tokens (`int`, *optional*): Prompt and completion tokens together, hidden reasoning included.
        max_cost (`float`, *optional*): Money. Needs `prices`.
        prices ([`Prices`], *optional*): What the teacher charges.
        max_prompt_tokens (`int`, *optional*): Prompt tokens alone.
        max_completion_tokens (`int`, *optional*): Completion tokens alone, hidden reasoning included.
        max_seconds (`float`, *optional*): Time spent asking. A call in flight at the end of it still lands.
    """

    def __init__(
        self,
        max_calls: int | None = None,
        max_tokens: int | None = None,
        max_cost: float | None = None,
        prices: Prices | None = None,
        *,
        max_prompt_tokens: int | None = None,
        max_completion_tokens: int | None = None,
        max_seconds: float | None = None,
    ):
        self.max_calls = max_calls
        self.max_tokens = max_tokens
        self.max_cost = max_cost
        self.prices = prices
        self.max_prompt_tokens = max_prompt_tokens
        self.max_completion_tokens = max_completion_tokens
        self.max_seconds = max_seconds
        if max_cost is not None and prices is None:
            raise ConfigurationError(
                "max_cost needs the teacher's prices: pass prices=Prices(input=..., output=...), money per million "
                "tokens, or cap tokens with max_tokens instead."
            )
        caps = (max_calls, max_tokens, max_cost, max_prompt_tokens, max_completion_tokens, max_seconds)
        if any(cap is not None and not cap >= 0 for cap in caps):
            raise ConfigurationError(f"A cap must be 0 or more, got {self}.")
        self.spent = Usage()
        self.seconds = 0.0
        self._cost = Decimal(0)
        self._reserved = Usage()
        self._reserved_cost = Decimal(0)
        self._in_flight: set[Reservation] = set()
        self._restored = False

    def __repr__(self) -> str:
        names = ("max_calls", "max_tokens", "max_prompt_tokens", "max_completion_tokens", "max_cost", "max_seconds")
        caps = ", ".join(f"{name}={getattr(self, name)}" for name in names if getattr(self, name) is not None)
        return f"Budget({caps or 'no cap'})"

    @property
    def cost(self) -> float | None:
        """Money spent, `None` where no prices are known."""
        return None if self.prices is None else float(self._cost)

    @property
    def reserved(self) -> Usage:
        """What is held for calls in flight."""
        return self._reserved

    @property
    def capped(self) -> bool:
        """Whether tokens or money are capped, so that the size of a bound matters."""
        caps = (self.max_tokens, self.max_prompt_tokens, self.max_completion_tokens, self.max_cost)
        return any(cap is not None for cap in caps)

    def restore(self, spent: Usage, seconds: float = 0.0) -> None:
        """Takes over what earlier processes of the same run spent, once."""
        if not self._restored:
            self._restored = True
            self.seconds += seconds
            self._book(spent)

    def price(self, usage: Usage) -> float | None:
        """The cost of `usage`, `None` where no prices are known."""
        return None if self.prices is None else self.prices.cost(usage)

    def fits(self, bound: Usage) -> bool:
        """Whether a call with this bound could be let through now."""
        worst = self.spent + self._reserved + bound
        return self._exceeded(worst, self._cost + self._reserved_cost + self._worst_cost(bound)) is None

    def reserve(self, bound: Usage) -> Reservation | None:
        """
        Holds `bound` for one call. `None` means: not now, but calls in flight may turn out cheaper, so ask again when
        one of them has landed. Raises [`~errors.BudgetExhaustedError`] when even that could not help.
        """
        cost = self._worst_cost(bound)
        if self.max_seconds is not None and self.seconds >= self.max_seconds:
            raise BudgetExhaustedError(f"{self.seconds:.0f} s of asking have reached max_seconds={self.max_seconds}.")
        exceeded = self._exceeded(self.spent + bound, self._cost + cost)
        if exceeded is not None:
            raise BudgetExhaustedError(exceeded)
        worst = self.spent + self._reserved + bound
        if self._exceeded(worst, self._cost + self._reserved_cost + cost) is not None:
            return None
        reservation = Reservation(bound, cost)
        self._in_flight.add(reservation)
        self._reserved = self._reserved + bound
        self._reserved_cost += cost
        return reservation

    def settle(self, reservation: Reservation, usage: Usage | None) -> None:
        """Books what the call used; `None` books its bound. A reservation is settled once, later calls are ignored."""
        if reservation not in self._in_flight:
            return
        self._in_flight.discard(reservation)
        bound = reservation.bound
        self._reserved = _minus(self._reserved, bound)
        self._reserved_cost -= reservation.cost
        self._book(bound if usage is None else usage)

    def _book(self, usage: Usage) -> None:
        self.spent = self.spent + usage
        if self.prices is not None:
            self._cost += self.prices.exact_cost(usage)

    def _worst_cost(self, bound: Usage) -> Decimal:
        return Decimal(0) if self.prices is None else self.prices.worst_cost(bound)

    def _exceeded(self, usage: Usage, cost: Decimal) -> str | None:
        """The cap that `usage` and `cost` would break, in words."""
        for name, amount, cap in self._caps(usage, cost):
            if amount > cap:
                spent = {n: a for n, a, _ in self._caps(self.spent, self._cost)}[name]
                return (
                    f"The next call could bring {name[4:]} to {amount} over {name}={cap} ({spent} spent). Raise "
                    f"{name}, or lower max_new_tokens so that the bound of a call is smaller."
                )
        return None

    def _caps(self, usage: Usage, cost: Decimal) -> Iterator[tuple[str, int | Decimal, int | Decimal]]:
        if self.max_calls is not None:
            yield "max_calls", usage.calls, self.max_calls
        if self.max_tokens is not None:
            yield "max_tokens", usage.total_tokens, self.max_tokens
        if self.max_prompt_tokens is not None:
            yield "max_prompt_tokens", usage.prompt_tokens, self.max_prompt_tokens
        if self.max_completion_tokens is not None:
            yield "max_completion_tokens", usage.completion_tokens, self.max_completion_tokens
        if self.max_cost is not None:
            yield "max_cost", cost, Decimal(str(self.max_cost))


def _minus(total: Usage, part: Usage) -> Usage:
    return Usage(
        total.calls - part.calls,
        total.prompt_tokens - part.prompt_tokens,
        total.completion_tokens - part.completion_tokens,
        total.reasoning_tokens - part.reasoning_tokens,
        total.cached_prompt_tokens - part.cached_prompt_tokens,
        total.estimated,
    )
