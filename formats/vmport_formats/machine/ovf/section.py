"""What a hardware section will hold, while it is put together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vmport_formats.machine.ovf.markup import Item


@dataclass(slots=True)
class Hardware:
    """The items and settings so far."""

    items: list[Item] = field(default_factory=list)
    configs: dict[str, str] = field(default_factory=dict)
    """``vmw:Config``: settings by their names in the vSphere API."""
    extra: dict[str, str] = field(default_factory=dict)
    """``vmw:ExtraConfig``: keys of a VMX file."""
    networks: dict[str, None] = field(default_factory=dict)
    """The names of the networks, in order."""
    disks: dict[int, Item] = field(default_factory=dict)
    """By index into the machine's disks."""
    nics: dict[int, Item] = field(default_factory=dict)
    """By index into the machine's network cards."""

    def add(self, item: Item) -> Item:
        """Append `item`, and return it with the next id."""
        numbered = item.numbered(len(self.items) + 1)
        self.items.append(numbered)
        return numbered
