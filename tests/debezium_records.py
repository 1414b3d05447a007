"""Records that a real Debezium has written; see tests/data/debezium."""

import ast
import re
from pathlib import Path

from worker.kafka.consume.offsets import Position
from worker.kafka.consume.records import Record

EVENTS = Path(__file__).parent / "data/debezium"
LINE = re.compile(r"(\S+) (\d+) K (.*?) H (\[.*?\]) V (.*)")

WRITTEN_MS = 1_795_677_600_000


def debezium_records() -> dict[tuple[str, int], Record]:
    """By topic and offset."""
    records = {}
    written = [path.read_text(encoding="utf-8") for path in sorted(EVENTS.glob("*.txt"))]
    for line in filter(None, "\n".join(written).splitlines()):
        parsed = LINE.fullmatch(line)
        assert parsed is not None, line
        topic, offset, key, headers, value = parsed.groups()
        records[topic, int(offset)] = Record(
            Position(topic, 0, int(offset)),
            key.encode() or None,
            None if value == "None" else value.encode(),
            tuple((name, text.encode()) for name, text in ast.literal_eval(headers)),
            WRITTEN_MS,
        )
    return records
