"""File formats that are written or read here rather than by Pillow."""
