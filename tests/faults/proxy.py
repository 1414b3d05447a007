"""A TCP proxy whose wire can be cut, slowed and reset: the network between a worker and one broker."""

import asyncio
import contextlib
import ssl
import threading

CHUNK_BYTES = 65_536
END_TIMEOUT_S = 10.0


class Proxy:
    """Listens on a free port of the loopback address, in a thread of its own. Methods may be called from any thread."""

    def __init__(self, target_port: int, tls: ssl.SSLContext | None = None) -> None:
        """``tls``: what clients speak with it, and the target does not."""
        self._target_port = target_port
        self._tls = tls
        self._delay_s = 0.0
        self._open = asyncio.Event()
        self._open.set()
        self._stop = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop: asyncio.AbstractEventLoop
        self._started = threading.Event()
        self.port = 0
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="proxy", daemon=True)
        self._thread.start()
        assert self._started.wait(END_TIMEOUT_S)

    def cut(self) -> None:
        """Let nothing through, and tell nobody: as a cable that is pulled."""
        self._loop.call_soon_threadsafe(self._open.clear)

    def slow(self, delay_s: float) -> None:
        """Delay everything by this long, each way."""
        self._delay_s = delay_s

    def heal(self) -> None:
        """Let everything through at once again, what was held back too."""
        self._delay_s = 0.0
        self._loop.call_soon_threadsafe(self._open.set)

    def reset(self) -> None:
        """End every connection; new ones are taken."""
        self._loop.call_soon_threadsafe(self._abort_all)

    def close(self) -> None:
        """End every connection, and join the thread."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(END_TIMEOUT_S)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0, ssl=self._tls)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stop.wait()
        self._abort_all()
        server.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, far_writer}
        self._writers |= both
        pumps = [asyncio.create_task(self._pump(*way)) for way in ((reader, far_writer), (far_reader, writer))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            for each in both:
                each.transport.abort()
            self._writers -= both

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(CHUNK_BYTES):
                await asyncio.sleep(self._delay_s)
                await self._open.wait()
                writer.write(chunk)
                await writer.drain()

    def _abort_all(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
