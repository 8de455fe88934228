"""The local copy of a partition's rows: RocksDB, never ahead of what is committed.

It only saves reading the changelogs again. Whatever is odd about it, it is thrown away and rebuilt.
"""

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import msgspec
from rocksdict import (
    BlockBasedIndexType,
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    Options,
    Rdict,
    WriteBatch,
    WriteOptions,
)

from streams.engine.settings import EngineSettings

__all__ = ["Memory", "Reached", "Store"]

_META = b"\0meta"
_UNLOGGED = WriteOptions()
_UNLOGGED.disable_wal = True  # pyright: ignore[reportAttributeAccessIssue] - a property


class Reached(msgspec.Struct):
    """How far a store is."""

    changelogs: dict[str, int] = {}
    """Table -> offset of its changelog from which to read on."""
    ids: dict[str, str] = {}
    """Table -> the topic's id: a changelog made anew under the old name is another one."""
    vector: dict[str, dict[str, int]] = {}
    """Agent -> source topic -> offset up to which the rows know it."""
    at_s: float = 0.0
    """Wall clock of the last write, only to see how old a copy is."""


class Memory:
    """Block cache that all stores of a process share."""

    def __init__(self, settings: EngineSettings) -> None:
        self.cache = Cache(settings.block_cache_bytes)
        self.write_buffer_bytes = settings.write_buffer_bytes

    def options(self) -> Options:
        blocks = BlockBasedOptions()
        blocks.set_block_cache(self.cache)
        blocks.set_bloom_filter(10, False)  # a new key is the usual case; saves 3 of 4 us
        blocks.set_cache_index_and_filter_blocks(True)
        # In parts: a whole index of a large file fits into no shard of the cache, and would be read
        # anew for every row (0.15 ms each with a quarter of a million people a partition).
        blocks.set_index_type(BlockBasedIndexType.two_level_index_search())
        blocks.set_partition_filters(True)
        blocks.set_metadata_block_size(4096)
        blocks.set_pin_top_level_index_and_filter(True)
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_block_based_table_factory(blocks)
        options.set_write_buffer_size(self.write_buffer_bytes)
        options.set_max_write_buffer_number(2)
        options.set_compression_type(DBCompressionType.lz4())
        options.set_keep_log_file_num(2)
        return options


def _address(table: str, key: bytes) -> bytes:
    return table.encode() + b"\0" + key


class Store:
    """Rows of all tables of one partition. Reads and writes may come from two threads."""

    def __init__(self, path: Path, memory: Memory) -> None:
        """Opens or creates. Raises where another process has it open."""
        self.path, self._memory = path, memory
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._open()
        except Exception as error:
            if "lock" in str(error).lower():  # in use: a second worker with this data_dir
                raise
            shutil.rmtree(path)  # damaged; Kafka has it all
            self._open()

    def _open(self) -> None:
        self._db = Rdict(str(self.path), self._memory.options())
        data = self._db.get(_META)
        self.reached = msgspec.msgpack.decode(data, type=Reached) if data else Reached()
        self._unlogged = False

    def get(self, table: str, key: bytes) -> bytes | None:
        return self._db.get(_address(table, key))

    def write(
        self, rows: Mapping[str, Mapping[bytes, bytes | None]], reached: Reached,
        *, logged: bool = True,
    ) -> None:  # fmt: skip
        """Rows (None: delete) and how far they reach, in one piece.

        Not `logged`, it costs two thirds, and a crash may lose the latest of such writes, though
        never one from between: what is lost is read again.
        """
        if logged:
            self.flush()  # else what is logged would survive what came before it
        self._unlogged |= not logged
        batch = WriteBatch(raw_mode=True)
        for table, changed in rows.items():
            prefix = table.encode() + b"\0"
            for key, data in changed.items():
                if data is None:
                    batch.delete(prefix + key)
                else:
                    batch.put(prefix + key, data)
        reached.at_s = time.time()
        batch.put(_META, msgspec.msgpack.encode(reached))
        self._db.write(batch, None if logged else _UNLOGGED)
        self.reached = reached

    def flush(self) -> None:
        """Put on disk what was written without a log."""
        if self._unlogged:
            self._db.flush()
            self._unlogged = False

    def wipe(self) -> None:
        """Begin anew, empty."""
        self.close()
        shutil.rmtree(self.path)
        self._open()

    def rows(self, table: str) -> dict[bytes, bytes]:
        """All rows of a table, for tests and inspection: reads everything."""
        prefix = _address(table, b"")
        return {
            cast(bytes, key)[len(prefix) :]: value
            for key, value in self._db.items()
            if cast(bytes, key).startswith(prefix)
        }

    def close(self) -> None:
        self._db.close()
