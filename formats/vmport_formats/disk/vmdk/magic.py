"""How ESX's own extents begin, known without the modules that read them."""

from __future__ import annotations

from typing import Final

COWD_MAGIC: Final = b"COWD"
SESPARSE_MAGIC: Final = (0xCAFE_BABE).to_bytes(8, "little")
