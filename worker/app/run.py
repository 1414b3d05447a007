"""The worker process: runs what the settings build until told to stop, and takes everything down in order."""

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from importlib.metadata import version

import structlog
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from worker.app.build import build_delivery
from worker.errors import FatalError, TransientError
from worker.settings import Settings
from worker.telemetry import http, logs
from worker.telemetry.health import Health
from worker.telemetry.metrics import Metrics

logger = structlog.get_logger()

EXIT_DRAINED = 0
EXIT_FATAL = 1
EXIT_NOT_DRAINED = 3
EXIT_SECOND_SIGNAL = 130


async def run_worker(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT, then drain; a second signal ends the process at once. Returns the exit code."""
    logs.configure(settings.telemetry)
    metrics = _new_metrics()
    health = Health()
    stop = _stop_on_signals(health)
    try:
        with http.serve(settings.telemetry, metrics.registry, health):
            async with AsyncExitStack() as parts:
                delivery = await build_delivery(settings, metrics, health, parts)
                parts.callback(health.end)
                health.starting = None
                logger.info("consuming", topic=settings.kafka.query_topic, group=settings.kafka.group_id)
                drained = await delivery.run(stop)
    except (FatalError, TransientError) as error:
        # At start a dependency that stays away is as fatal as a wrong setting: the orchestrator tries again.
        logger.error("the worker ends", reason=str(error))  # noqa: TRY400 - the reason is the message, not the stack
        return EXIT_FATAL
    return EXIT_DRAINED if drained else EXIT_NOT_DRAINED


def _new_metrics() -> Metrics:
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    metrics = Metrics(registry)
    metrics.build.info({"version": version("rerank-worker")})
    return metrics


def _stop_on_signals(health: Health) -> asyncio.Event:
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(EXIT_SECOND_SIGNAL)
        health.draining = True
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    return stop
