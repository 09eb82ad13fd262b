"""How fast is it, really? ``make bench MODEL= [WEIGHTS=] [REMBG=PYTHON] [ARGS=]``.

Latency by step, pictures per second, memory: each a record of its own, against everything that
works on this machine. ``latency.py``, ``throughput.py`` and ``memory.py`` do one of them.
"""

from __future__ import annotations

import sys

import latency
import memory
import throughput
from measuring.part import main_of

if __name__ == "__main__":
    sys.exit(main_of(__doc__, [latency.run, throughput.run, memory.run]))
