"""HOST KEY PICTURE: one picture through the PyPI package removebg, as its own README does it."""

from __future__ import annotations

import importlib
import sys
from typing import Any

host, key, picture = sys.argv[1:]
removebg: Any = importlib.import_module("removebg.removebg")
removebg.API_ENDPOINT = f"{host}/v1.0/removebg"
client = removebg.RemoveBg(key, f"{picture}.log")
client.remove_background_from_img_file(picture, size="full")
