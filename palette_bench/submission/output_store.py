"""Where `restore` writes outputs: a file each, or one tar per shard and folder.

A tar grows under a hidden name, batch by batch, and gets its own name with its end. A crash leaves whole
members and perhaps a torn last one, which the next run cuts off.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Protocol

from palette_bench.core import atomic, tar
from palette_bench.core.journal import Shard
from palette_bench.core.png import read_regular
from palette_bench.core.tar import TarMember


class OutputStore(Protocol):
    """The outputs of one shard, by their names in the submission: outputs/ID.png, samples/K/ID.png."""

    def read(self, name: str) -> bytes:
        """Return the bytes of a stored output.

        Raises:
            OSError, PngError: there is none, or it cannot be read.
        """

    def keep(self, names: Collection[str]) -> Collection[str]:
        """Return which of these intact outputs stay; all others are to be made again."""

    def add(self, folder: str, files: Mapping[str, bytes]) -> None:
        """Store outputs of one folder; they are on the disk when the call returns.

        Raises:
            StorageError: PB802.
        """

    def finish(self) -> None:
        """Say that all outputs of the shard are stored.

        Raises:
            StorageError: PB802.
        """

    def is_whole(self) -> bool:
        """Return whether all shards have finished."""


class LooseOutputs:
    """A file for every output."""

    def __init__(self, out: Path) -> None:
        self._out = out

    def read(self, name: str) -> bytes:
        """Return the bytes of an output."""
        return read_regular(self._out / name)

    def keep(self, names: Collection[str]) -> Collection[str]:
        """Return all names: every file stands for itself."""
        return names

    def add(self, folder: str, files: Mapping[str, bytes]) -> None:
        """Write files, together."""
        with atomic.FileBatch() as batch:
            for name, data in files.items():
                batch.write(self._out / name, data)

    def finish(self) -> None:
        """Do nothing: every file is finished when it appears."""

    def is_whole(self) -> bool:
        """Return True: the journals know every file."""
        return True


class TarOutputs:
    """A tar for every folder of outputs, FOLDER/I-of-N.tar."""

    def __init__(self, out: Path, folders: Sequence[str], shard: Shard) -> None:
        """Read what an earlier run of the shard has left."""
        self._shard = shard
        self._tars = {folder: _GrowingTar(out / folder / f"{shard.name}.tar") for folder in folders}

    def read(self, name: str) -> bytes:
        """Return the bytes of an output."""
        folder, _, member = name.rpartition("/")
        return self._tars[folder].read(member)

    def keep(self, names: Collection[str]) -> Collection[str]:
        """Return the names up to the first output of each tar that is not kept: a tar is cut there."""
        for folder, growing in self._tars.items():
            growing.cut(name for name in growing.members if f"{folder}/{name}" not in names)
        return {f"{folder}/{name}" for folder, growing in self._tars.items() for name in growing.members}

    def add(self, folder: str, files: Mapping[str, bytes]) -> None:
        """Append outputs to the tar of their folder."""
        self._tars[folder].append({name.rpartition("/")[2]: data for name, data in files.items()})

    def finish(self) -> None:
        """End the tars and give them their names."""
        for growing in self._tars.values():
            growing.finish()

    def is_whole(self) -> bool:
        """Return whether the tars of all shards have their names."""
        names = [f"{Shard(index, self._shard.count).name}.tar" for index in range(self._shard.count)]
        return all((one.final.parent / name).is_file() for one in self._tars.values() for name in names)


class _GrowingTar:
    """A tar that members are appended to.

    Attributes:
        final: its path once it is finished.
        members: its members by name, in their order.
    """

    def __init__(self, final: Path) -> None:
        self.final = final
        self._hidden = atomic.growing(final)
        self.members: dict[str, TarMember] = {}
        self._finished = final.is_file()
        if self._path.is_file():
            with open(self._path, "rb") as file:
                self.members = {found.name: found for found in tar.members(file, ended=False)}

    @property
    def _path(self) -> Path:
        return self.final if self._finished else self._hidden

    def read(self, name: str) -> bytes:
        if name not in self.members:
            raise FileNotFoundError(name)
        with open(self._path, "rb") as file:
            file.seek(self.members[name].offset)
            return file.read(self.members[name].size)

    def cut(self, unwanted: Iterable[str]) -> None:
        """Forget the first unwanted member and all after it; the next append overwrites them."""
        first = next(iter(unwanted), None)
        kept = takewhile(lambda item: item[0] != first, self.members.items())
        self.members = dict(kept)

    def append(self, files: Mapping[str, bytes]) -> None:
        if self._finished:
            atomic.rename(self.final, self._hidden)
            self._finished = False
        at = self._end
        atomic.write_from(self._hidden, at, b"".join(tar.member(name, data) for name, data in files.items()))
        for name, data in files.items():
            self.members[name] = TarMember(name, at + tar.BLOCK, len(data))
            at = self.members[name].end

    def finish(self) -> None:
        """End the tar, also one that has lost its end."""
        if not self._finished or self.final.stat().st_size != self._end + len(tar.END):
            if self._finished:
                atomic.rename(self.final, self._hidden)
            atomic.write_from(self._hidden, self._end, tar.END)
            atomic.rename(self._hidden, self.final)
            self._finished = True

    @property
    def _end(self) -> int:
        """Return the offset after the last member."""
        return next(reversed(self.members.values())).end if self.members else 0
