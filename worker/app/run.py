"""The worker process: runs what the settings build until told to stop, and takes everything down in order."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from importlib.metadata import version

import structlog
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from worker.app.build import build_delivery
from worker.app.heap import settle_heap
from worker.app.stopping import (
    EXIT_DRAINED,
    EXIT_FATAL,
    EXIT_NOT_DRAINED,
    EXIT_SECOND_SIGNAL,
    STOP_SIGNALS,
    EndDeadline,
    exit_on_signals,
    keep_turning,
)
from worker.errors import FatalError, TransientError
from worker.kafka.deliver.delivery import Delivery
from worker.settings import KafkaSettings, Settings
from worker.telemetry import http, logs
from worker.telemetry.health import Health
from worker.telemetry.metrics import Metrics

logger = structlog.get_logger()

Build = Callable[[Settings, Metrics, Health, AsyncExitStack], Awaitable[Delivery]]

BEAT_S = 1.0
"""Between two looks at the threads; the loop's own heartbeat, whatever cadence the settings give to commits."""


async def run_worker(settings: Settings, build: Build = build_delivery) -> int:
    """Run what ``build`` builds until SIGTERM or SIGINT, then drain; return the exit code.

    A second signal ends the process at once. So does one that comes before the group is joined, with ``EXIT_DRAINED``:
    it does not return then.
    """
    logs.configure(settings.telemetry)
    exit_on_signals(lambda: logger.info("told to stop while starting: the worker ends"))
    metrics = _new_metrics(settings.kafka.group_id)
    health = Health(hang_timeout_s=settings.telemetry.hang_timeout_s)
    end = EndDeadline(lambda seconds: logger.error("closing took too long: the process ends", seconds=seconds))
    try:
        with http.serve(settings.telemetry, metrics.registry, health):
            async with AsyncExitStack() as parts:
                parts.callback(asyncio.create_task(keep_turning()).cancel)
                delivery = await build(settings, metrics, health, parts)
                parts.callback(health.end)
                drained = await _consume(settings.kafka, delivery, health, end)
    except (FatalError, TransientError) as error:
        # At start a dependency that stays away is as fatal as a wrong setting: the orchestrator tries again.
        logger.error("the worker ends", reason=str(error))  # noqa: TRY400 - the reason is the message, not the stack
        return EXIT_FATAL
    return EXIT_DRAINED if drained else EXIT_NOT_DRAINED


async def _consume(kafka: KafkaSettings, delivery: Delivery, health: Health, end: EndDeadline) -> bool:
    stop = asyncio.Event()

    def joining() -> None:
        _drain_on_signals(stop, kafka, health, end)
        health.starting = None
        settle_heap()
        logger.info("consuming", topic=kafka.query_topic, group=kafka.group_id)

    beating = asyncio.create_task(_beat(delivery, health))
    try:
        return await delivery.run(
            stop,
            before_joining=joining,
            # After a signal the deadline is set already; else this is the end of a worker that can't go on.
            before_closing=lambda: end.begin(kafka.close_timeout_s, EXIT_FATAL),
        )
    finally:
        beating.cancel()


async def _beat(delivery: Delivery, health: Health) -> None:
    while True:
        health.beat()
        # Only a new process has a thread that works; the queries in flight are left to it, none is blamed.
        if health.starting is None and (why := health.why_hanging()) is not None:
            # Told here too: closing may well end by its deadline now.
            logger.error("a thread hangs", reason=why)
            delivery.on_fatal(FatalError(why))
            return
        await asyncio.sleep(BEAT_S)


def _new_metrics(group: str) -> Metrics:
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    metrics = Metrics(registry, group=group)
    metrics.build.info({"version": version("rerank-worker")})
    return metrics


def _drain_on_signals(stop: asyncio.Event, kafka: KafkaSettings, health: Health, end: EndDeadline) -> None:
    def on_signal() -> None:
        if stop.is_set():
            os._exit(EXIT_SECOND_SIGNAL)
        health.draining = True
        end.begin(kafka.drain_timeout_s + kafka.close_timeout_s, EXIT_NOT_DRAINED)
        stop.set()

    for number in STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
