"""What `make gpu` measures, a stage a file; see ../gpu.py."""
