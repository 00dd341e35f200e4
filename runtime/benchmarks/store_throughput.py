"""How fast messages are stored, by how many bots at once: SQLite compared with PostgreSQL.

`python -m benchmarks.store_throughput sqlite:////tmp/bench.db [--bots 1] [--at-once 32] [--messages 5000]`,
in `runtime/`, prints a line of JSON: messages a second, milliseconds until a message is on disk (median, 99th
of a hundred), milliseconds of the database in dealing with a message, and the memory of this process. The
password of a PostgreSQL is in `PGPASSWORD`. The database should be empty, and is not emptied.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import time
from pathlib import Path

from clawd_runtime.bot.store.backends.database import open_database
from clawd_runtime.bot.store.history import Turn
from clawd_runtime.bot.store.inbox import Task
from clawd_runtime.bot.store.store import Settlement, Store
from clawd_runtime.bot.values import ConversationKey, Inbound, Reply, reply_key


def message(event: str, chat: str) -> Inbound:
    """Return a message of ordinary length."""
    return Inbound(
        event_id=event,
        message_id=f"m{event}",
        conversation=ConversationKey("telegram", chat),
        chat_kind="private",
        user=chat,
        text="What did we agree on about the release of next week? " * 2,
        addressed=True,
        reply_to="1",
        received_at=time.time(),
    )


async def stored(stores: list[Store], messages: int, at_once: int) -> tuple[float, list[float]]:
    """Return messages per second and their latencies, with `at_once` concurrent webhooks at every bot."""
    taken: list[float] = []

    async def webhook(store: Store, bot: int, first: int) -> None:
        for number in range(first, messages, at_once):
            begun = time.perf_counter()
            assert await store.store(message(f"{bot}-{number}", f"{bot}-{number % 200}"))
            taken.append(time.perf_counter() - begun)

    begun = time.perf_counter()
    await asyncio.gather(
        *(webhook(store, bot, first) for bot, store in enumerate(stores) for first in range(at_once))
    )
    return len(stores) * messages / (time.perf_counter() - begun), taken


async def dealt_with(store: Store, count: int) -> float:
    """Return the seconds to take, recall, settle and send one message, measured sequentially."""
    queued = (await store.unfinished()).messages[:count]
    begun = time.perf_counter()
    for seq, conversation in queued:
        task = await store.take(seq)
        if not isinstance(task, Task):
            continue
        await store.recall(conversation)
        key = reply_key("telegram", task.inbound.event_id, 0)
        reply = Reply(key, task.inbound.event_id, conversation, "private", "1", "We agreed on Tuesday.")
        turns = (Turn("user", task.inbound.text), Turn("assistant", reply.text))
        sent: list[int] = []
        store.on_reply = lambda queued, sent=sent: sent.extend(id for id, _ in queued)  # type: ignore[misc]
        await store.settle(task, Settlement("answered", (reply,), turns))
        await store.delivery(sent[0])
        await store.begin_sending(sent[0])
        await store.finish(sent[0], "sent", ref="1")
    return (time.perf_counter() - begun) / len(queued)


async def measure(url: str, bots: int, messages: int, at_once: int) -> dict[str, float | int | str]:
    """Measure everything on one database."""
    databases = [open_database(url, os.environ.get("PGPASSWORD")) for _ in range(bots)]
    stores = [Store(database) for database in databases]
    for number, store in enumerate(stores):
        await store.join(number + 1, ("telegram",))
    rate, taken = await stored(stores, messages, at_once)
    alone = await stored_alone(stores[0])
    each = await dealt_with(stores[0], 300)
    for database in databases:
        database.close()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "database": url.partition(":")[0],
        "bots": bots,
        "at_once": at_once,
        "stored_a_second": round(rate),
        "median_ms": round(1000 * statistics.median(taken), 2),
        "p99_ms": round(1000 * statistics.quantiles(taken, n=100)[98], 2),
        "alone_median_ms": round(1000 * statistics.median(alone), 2),
        "dealt_with_ms": round(1000 * each, 2),
        "memory_mb": round(pages * os.sysconf("SC_PAGESIZE") / 1e6, 1),
    }


async def stored_alone(store: Store) -> list[float]:
    """Return the latencies of messages stored sequentially."""
    taken = []
    for number in range(300):
        begun = time.perf_counter()
        await store.store(message(f"alone-{number}", "alone"))
        taken.append(time.perf_counter() - begun)
    return taken


def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("database")
    parser.add_argument("--bots", type=int, default=1)
    parser.add_argument("--at-once", type=int, default=32)
    parser.add_argument("--messages", type=int, default=5000)
    options = parser.parse_args()
    found = asyncio.run(measure(options.database, options.bots, options.messages, options.at_once))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
