"""A libvirt domain as the rules look at it, and how they point into it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vmport_converters.machine.rules.model import Catalogue, Dialect

if TYPE_CHECKING:
    from vmport_formats.xml import XmlDocument

RULES: Final = Catalogue["DomainView"](Dialect.LIBVIRT)


@dataclass(frozen=True)
class DomainView:
    """The document."""

    document: XmlDocument
