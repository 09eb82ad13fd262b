"""Many pictures, resumably: the command ``birefnet batch``, its manifest and its workers."""
