"""When to stop taking records: marks on the queries in work and their pairs."""

from worker.settings import KafkaSettings


class Valve:
    """Closes at the high mark and opens again at half of it.

    The gap is what debounces: each pause throws librdkafka's prefetched records away (getsentry/snuba#4774).
    """

    def __init__(self, high: int) -> None:
        self._high = high
        self.closed = False

    def update(self, level: int) -> bool:
        """Take the present level; return whether the valve is closed now."""
        if level >= self._high:
            self.closed = True
        elif level <= self._high // 2:
            self.closed = False
        return self.closed


class Ticket:
    """One query in work."""

    def __init__(self, intake: "Intake", pairs: int) -> None:
        self._intake = intake
        self._pairs = pairs
        self._left = False

    def leave(self) -> None:
        """Stop counting it; a second call has no effect."""
        if not self._left:
            self._left = True
            self._intake.count(-1, -self._pairs)


class Intake:
    """Counts the queries whose outcome is not made yet, and their pairs. Belongs to the loop."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self.queries = 0
        self.pairs = 0
        self._queries_valve = Valve(kafka.max_in_flight)
        self._pairs_valve = Valve(kafka.max_in_flight_pairs)

    def enter(self, pairs: int) -> Ticket:
        """Count one more query."""
        self.count(1, pairs)
        return Ticket(self, pairs)

    def count(self, queries: int, pairs: int) -> None:
        """Change the levels."""
        self.queries += queries
        self.pairs += pairs
        self._queries_valve.update(self.queries)
        self._pairs_valve.update(self.pairs)

    @property
    def why_closed(self) -> str | None:
        """Why no partition should be fetched now, or None."""
        if self._queries_valve.closed:
            return f"{self.queries} queries are in work"
        if self._pairs_valve.closed:
            return f"{self.pairs} pairs are in work"
        return None
